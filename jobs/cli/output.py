"""What the command prints: tables and lines for people, JSON for programs. Colours only on a terminal."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

STYLES = {
    "pending": "yellow",
    "running": "cyan",
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "magenta",
    "skipped": "dim",
    "active": "green",
    "paused": "yellow",
    "reconnect": "bold red",
    "ok": "green",
    "warn": "yellow",
    "fail": "bold red",
}
"""The colour of a word that is a state."""

_WIDE = 100_000  # not a terminal: nothing is cut or folded
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def console() -> Console:
    """Return where tables go. What is printed is data: no markup, no emoji, no guessed highlights."""
    printing = Console(markup=False, emoji=False, highlight=False)
    return printing if printing.is_terminal else Console(markup=False, emoji=False, highlight=False, width=_WIDE)


def clean(value: object) -> str:
    """Return a value as text that cannot command a terminal: names and payloads are others' words."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(value))


def cell(value: object) -> Text:
    """Return a value as a cell: nothing for None, a state in its colour."""
    shown = "" if value is None else clean(value).replace("\n", " ")
    return Text(shown, style=STYLES.get(shown, ""))


def say(line: str) -> None:
    """Print one line for people."""
    typer.echo(clean(line))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print rows below their headings; `right` names the columns of numbers. The first column is never folded."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if column in right else "left", no_wrap=number == 0)
    for row in rows:
        table.add_row(*map(cell, row))
    _print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one a line; those that are None or empty are left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value is not None and value != "":
            table.add_row(name, cell(value))
    _print(table)


def _print(table: Table) -> None:
    printing = console()
    if printing.is_terminal:
        printing.print(table)
        return
    with printing.capture() as captured:
        printing.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def print_json(value: Any) -> None:
    """Print one JSON value on one line; times are ISO, ids are strings."""
    typer.echo(msgspec.json.encode(value).decode())


def words(counts: Mapping[str, object] | None) -> str:
    """Return counts as `pages=3 stored=120`."""
    return " ".join(f"{name}={value}" for name, value in (counts or {}).items())


def at(moment: datetime | None) -> str | None:
    """Return an instant to the second, UTC."""
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def ago(moment: datetime | None, now: datetime) -> str | None:
    """Return how long ago an instant was, or in how long it will be."""
    if moment is None:
        return None
    seconds = (now - moment).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """Return a duration in the one or two units that matter: `0.2 s`, `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, small_size, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"
