"""Files of maintenance schedules, CSV or JSON: read row by row, each taken or refused with its reason; and written."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from typing import Any

import msgspec

from db.queries.schedule_files import BLANK, COLUMNS

MOST_BYTES = 32 * 1024 * 1024
MOST_ROWS = 100_000
_MOST_CHECKS = 200
_LONGEST_DESCRIPTION_BYTES = 10_000
_LONGEST_CHECKLIST_BYTES = 60_000  # of 65,536 as the database stores them, each text with some bytes of its own
_LONGEST_NAME = 200
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_BEYOND = 10**15  # more than any bound, and still a float
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula where a cell begins with it; such a text is written behind an apostrophe."""


class UnreadableFile(ValueError):  # noqa: N818 - named for the caller, as its siblings are
    """It is no file of schedules at all."""


class _ValueRefused(ValueError):  # noqa: N818 - as above
    """A value that cannot be; the message says its shape, not what it is."""


@dataclass
class Read:
    """What a file brings: rows for the database, and by line (of JSON: item) why others are refused."""

    place: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)


def read_schedules(content: bytes) -> Read:
    """Read CSV with a header row, its cells apart by comma, semicolon or tab; or a JSON list of objects.

    What a row does not mention stays as it is, or is the default; what it leaves empty is none, or the default.

    Raises:
        UnreadableFile: it is neither, has a column that no schedule has, or is larger than what is read at once.
    """
    if len(content) > MOST_BYTES:
        raise UnreadableFile(f"is larger than {MOST_BYTES // 1024**2} MB")
    is_json = content.lstrip()[:1] in (b"[", b"{")
    read = Read("item" if is_json else "line")
    for number, said in _items(content) if is_json else _lines(content):
        if len(read.rows) + len(read.refused) == MOST_ROWS:
            raise UnreadableFile(f"has more than {MOST_ROWS:,} schedules")
        try:
            if isinstance(said, str):
                raise _ValueRefused(said)
            read.rows.append({"line": number} | _row(said))
        except _ValueRefused as problem:
            read.refused[number] = str(problem)
    return read


def write_schedules(schedules: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Return schedules as lines of CSV that `read_schedules` reads again."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for cells in (COLUMNS, *([_cell(schedule[name]) for name in COLUMNS] for schedule in schedules)):
        writer.writerow(cells)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _items(content: bytes) -> Iterator[tuple[int, dict[str, Any] | str]]:
    try:
        told = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnreadableFile(f"is no JSON: {str(error)[:200]}") from None
    if not isinstance(told, list):
        raise UnreadableFile(f"expected a list of objects, got {_shape(told)}")
    for number, item in enumerate(told, 1):
        if not isinstance(item, dict):
            yield number, f"expected an object, got {_shape(item)}"
        elif unknown := next((name for name in item if name not in COLUMNS), None):
            yield number, _no_column(unknown)
        else:
            yield number, item


def _lines(content: bytes) -> Iterator[tuple[int, dict[str, Any] | str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(f"line {line}: is not UTF-8: save it as CSV UTF-8") from None
    csv.field_size_limit(MOST_BYTES)
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_header(header)
        before = reader.line_num
        for cells in reader:
            number, before = before + 1, reader.line_num
            if len(cells) == len(header):
                said = {name: _text_of(cell) for name, cell in zip(header, cells, strict=True)}
                if any(said.values()):
                    yield number, said
            elif any(cells):
                yield number, f"has {len(cells)} cells, where the header has {len(header)}"
    except csv.Error as error:
        raise UnreadableFile(f"line {reader.line_num}: is no CSV: {error}") from None


def _check_header(header: list[str]) -> None:
    if not any(header):
        raise UnreadableFile(f"has no header row: expected {', '.join(COLUMNS)}, or some of them")
    for number, name in enumerate(header):
        if name not in COLUMNS:
            raise UnreadableFile(f"line 1: {_no_column(name) if name else f'column {number + 1} has no name'}")
        if name in header[:number]:
            raise UnreadableFile(f"line 1: {name}: is there twice")
    if "name" not in header or not {"vehicle", "vehicle_type"} & set(header):
        raise UnreadableFile("line 1: expected a column name, and vehicle or vehicle_type")


def _no_column(name: str) -> str:
    close = get_close_matches(name, COLUMNS, 1, 0.5)
    meant = f"did you mean {close[0]}?" if close else f"expected some of {', '.join(COLUMNS)}"
    return f"{name[:50]}: a schedule has no such column: {meant}"


def _text_of(cell: str) -> str | None:
    text = cell[1:] if cell.startswith("'") and cell[1:].startswith(("'", *_FORMULA)) else cell
    return text if text.strip(BLANK) else None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value).removesuffix(".0")
    if isinstance(value, list):
        plain = all(each.strip() == each != "" and not set(each) & set(";\r\n") for each in value)
        value = "; ".join(value) if plain and not "".join(value[:1]).startswith("[") else _json(value)
    text = str(value)
    return f"'{text}" if text.startswith(("'", *_FORMULA)) else text


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _row(said: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the database takes it."""
    read: dict[str, Any] = {}
    for name, value in said.items():
        try:
            read[name] = None if value is None else _READERS[name](value)
        except _ValueRefused as problem:
            raise _ValueRefused(f"{name}: {problem}") from None
    vehicle, vehicle_type, name = (read.pop(key, None) for key in ("vehicle", "vehicle_type", "name"))
    if name is None:
        raise _ValueRefused("name: missing")
    if (vehicle is None) == (vehicle_type is None):
        raise _ValueRefused(f"vehicle, vehicle_type: expected one of them, got {'none' if vehicle is None else 'both'}")
    return {"vehicle": vehicle, "vehicle_type": vehicle_type, "name": name, "said": read}


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value.strip(BLANK):
        raise _ValueRefused(f"expected a text, got {_shape(value)}")
    if "\0" in value:
        raise _ValueRefused("holds a character that no text holds")
    return value


def _description(value: Any) -> str:
    size = len(_word(value).encode())
    if size > _LONGEST_DESCRIPTION_BYTES:
        raise _ValueRefused(f"longer than {_LONGEST_DESCRIPTION_BYTES} bytes: {size}")
    return str(value)


def _name(value: Any) -> str:
    name = _word(value).strip(BLANK)
    if len(name) > _LONGEST_NAME:
        raise _ValueRefused(f"longer than {_LONGEST_NAME} characters: {len(name)}")
    return name


def _number(least: float, most: float, *, whole: bool = False) -> Callable[[Any], float]:
    kind = f"expected a {'whole ' if whole else ''}number from {least:,} to {most:,}"

    def read(value: Any) -> float:
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _ValueRefused(f"{kind}, got {_shape(value)}")
        value = float(value) if abs(value) < _BEYOND else math.inf
        if not math.isfinite(value) or not least <= value <= most or (whole and value != int(value)):
            raise _ValueRefused(f"{kind}, got {value:.10g}")
        return int(value) if whole else value

    return read


def _choice(*known: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        found = value.strip().lower() if isinstance(value, str) else None
        if found not in known:
            raise _ValueRefused(f"expected {', '.join(known[:-1])} or {known[-1]}, got {_shape(value)}")
        return found

    return read


def _day(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    try:
        found = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None or not 1950 <= found.year < 2200:
        raise _ValueRefused(f"expected a day such as 2026-04-30, got {_shape(value)}")
    return found.isoformat()


def _truth(value: Any) -> bool:
    found = value if isinstance(value, bool) else _TRUTHS.get(str(value).strip().lower())
    if found is None:
        raise _ValueRefused(f"expected true or false, got {_shape(value)}")
    return found


def _checklist(value: Any) -> list[str]:
    """Return the texts of a list; in a cell they are apart by semicolons, or a JSON list."""
    texts = value
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            texts = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            raise _ValueRefused(f"expected texts with `;` between them, or a JSON list, got {_shape(value)}") from None
    elif isinstance(value, str):
        texts = [each.strip() for each in value.split(";") if each.strip()]
    if not isinstance(texts, list) or not all(isinstance(each, str) and "\0" not in each for each in texts):
        raise _ValueRefused(f"expected texts, got {_shape(texts)}")
    if len(texts) > _MOST_CHECKS:
        raise _ValueRefused(f"more than {_MOST_CHECKS} texts: {len(texts)}")
    size = len(json.dumps(texts, ensure_ascii=False).encode())  # as the database writes it
    if size > _LONGEST_CHECKLIST_BYTES:
        raise _ValueRefused(f"longer than {_LONGEST_CHECKLIST_BYTES} bytes in all: {size}")
    return texts


def _shape(value: Any) -> str:
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else _json(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "vehicle": _name,
    "vehicle_type": _name,
    "name": _name,
    "description": _description,
    "interval_days": _number(1, 36_525, whole=True),
    "interval_months": _number(1, 1_200, whole=True),
    "interval_distance": _number(1, 10_000_000),
    "distance_unit": _choice("km", "mi"),
    "interval_engine_hours": _number(1, 1_000_000),
    "anchor": _choice("completion", "schedule"),
    "start_on": _day,
    "start_km": _number(0, 10_000_000),
    "start_engine_hours": _number(0, 1_000_000),
    "soon_days": _number(0, 3_660, whole=True),
    "soon_km": _number(0, 1_000_000),
    "soon_engine_hours": _number(0, 100_000),
    "tolerance_days": _number(0, 3_660, whole=True),
    "tolerance_km": _number(0, 1_000_000),
    "tolerance_engine_hours": _number(0, 100_000),
    "checklist": _checklist,
    "priority": _choice("low", "medium", "high", "critical"),
    "vendor": _name,
    "facility": _name,
    "is_active": _truth,
}
"""The bounds are the table's: a test holds the two together."""
