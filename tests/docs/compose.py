"""`compose.yaml`, read without a library: as much YAML as the file uses, and an error for anything else."""

import re
from pathlib import Path
from typing import Any

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[\[\]{},]|[^\s,\[\]{}"][^,\[\]{}"]*)')
_KEY = re.compile(r"([\w<.-]+):(?: (.*))?")


def read(path: Path) -> dict[str, Any]:
    """Return the file as Compose sees it before it fills in variables."""
    lines = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        if text.strip():
            lines.append((number, len(text) - len(text.lstrip()), text.strip()))
    found = _Reader(lines).block(0)
    assert isinstance(found, dict)
    return found


class _Reader:
    def __init__(self, lines: list[tuple[int, int, str]]) -> None:
        self._lines = lines
        self._anchors: dict[str, Any] = {}

    def block(self, indent: int) -> Any:
        """Read the mapping or list that begins here, with all its lines at one depth."""
        return self._list(indent) if self._lines[0][2].startswith("- ") else self._mapping(indent)

    def _list(self, indent: int) -> list[Any]:
        items = []
        while self._lines and self._lines[0][1] == indent and self._lines[0][2].startswith("- "):
            number, _, text = self._lines.pop(0)
            items.append(self._value(number, text[2:]))
        return items

    def _mapping(self, indent: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while self._lines and self._lines[0][1] == indent:
            number, _, text = self._lines.pop(0)
            found = _KEY.fullmatch(text)
            assert found, f"line {number}: not understood: {text}"
            key, rest = found[1], (found[2] or "").strip()
            assert key not in own, f"line {number}: {key} is there twice"
            anchor = re.match(r"&(\w+)\s*", rest)
            rest = rest[anchor.end() :] if anchor else rest
            value = self._value(number, rest) if rest else self._nested(indent)
            if anchor:
                self._anchors[anchor[1]] = value
            if key == "<<":
                merged |= value
            else:
                own[key] = value
        assert not self._lines or self._lines[0][1] < indent, f"line {self._lines[0][0]}: not understood"
        return merged | own

    def _nested(self, indent: int) -> Any:
        return self.block(self._lines[0][1]) if self._lines and self._lines[0][1] > indent else None

    def _value(self, number: int, text: str) -> Any:
        if text.startswith("*"):
            return self._anchors[text[1:]]
        if text[0] not in '"[{':
            return _plain(text)
        tokens = [token.strip() for token in _TOKEN.findall(text)]
        assert "".join(tokens).replace(" ", "") == text.replace(" ", ""), f"line {number}: not understood: {text}"
        value = _flow(tokens)
        assert not tokens, f"line {number}: not understood: {text}"
        return value


def _flow(tokens: list[str]) -> Any:
    token = tokens.pop(0)
    if token == "[":
        items = []
        while tokens[0] != "]":
            items.append(_flow(tokens))
            if tokens[0] == ",":
                tokens.pop(0)
        tokens.pop(0)
        return items
    if token == "{":
        members = {}
        while tokens[0] != "}":
            key, _, rest = tokens.pop(0).partition(":")
            members[key] = _plain(rest.strip()) if rest.strip() else _flow(tokens)
            if tokens[0] == ",":
                tokens.pop(0)
        tokens.pop(0)
        return members
    if token.startswith('"'):
        return token[1:-1].replace('\\"', '"')
    return _plain(token)


def _plain(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdigit() else text
