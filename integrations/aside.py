"""Setting one bad record aside, with a constant word that says what is wrong with it."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgspec

from integrations.bounds import BROKEN
from integrations.telematics import Rejected

_PAYLOAD_BYTES = 4096
_MOST_ITEMS = 10_000
_NUL = re.compile(r"\x00|\\u0000")


def rejected(reason: str, field: str, raw: bytes, device_id: str | None = None) -> Rejected:
    """Set a record aside; its payload is cut to 4 KiB and free of NUL, which PostgreSQL cannot store."""
    payload = _NUL.sub("\N{REPLACEMENT CHARACTER}", raw[:_PAYLOAD_BYTES].decode("utf-8", "replace"))
    return Rejected(reason, field, payload.encode()[:_PAYLOAD_BYTES].decode("utf-8", "ignore"), device_id)


def reason_of(word: str, raw: bytes) -> str:
    """Name what is wrong with a field from how its JSON begins."""
    is_text = raw[:1] == b'"'
    is_number = raw[:1] in b"-0123456789"
    if word == "time" and is_text:
        return "time_unreadable"
    if (word == "engine_state" and is_text) or (word == "charging_state" and is_number):
        return f"{word}_unknown"
    return f"{word}_out_of_range" if is_number and word not in ("time", "engine_state") else "wrong_type"


@cache
def decoder(kind: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    """Return what decodes JSON text as a type."""
    return msgspec.json.Decoder(kind).decode


class Members:
    """The members of one JSON object; what is wrong with one is noted, and costs only that one."""

    def __init__(
        self, raw: bytes, path: str, device_id: str | None, aside: list[Rejected], *, whole: bytes | None = None
    ) -> None:
        """Raises: one of `BROKEN` where `raw` is no object. `whole` is the record that is set aside for a member."""
        self._members: dict[str, msgspec.Raw] = decoder(dict[str, msgspec.Raw])(raw)
        self._whole = raw if whole is None else whole
        self._path = path
        self._aside = aside
        self.device_id = device_id

    def read(self, key: str, kind: Any, word: str | None = None, *, required: bool = False) -> Any:
        """Return a member as a type; None where it is missing or null, or not of that type, which is noted.

        `word` is how a reason names it.
        """
        if not self.has(key):
            if required:
                self.refuse(f"{word or key}_missing", key)
            return None
        raw = bytes(self._members[key])
        try:
            return decoder(kind)(raw)
        except BROKEN:
            self.refuse(reason_of(word, raw) if word else "wrong_type", key)
            return None

    def has(self, key: str) -> bool:
        """Say whether a member is there and not null."""
        return key in self._members and bytes(self._members[key]) != b"null"

    def within(self, key: str) -> "Members | None":
        """Return the members of a member; None where it is missing, null or no object."""
        if not self.has(key):
            return None
        try:
            raw = bytes(self._members[key])
            return Members(raw, f"{self._path}{key}.", self.device_id, self._aside, whole=self._whole)
        except BROKEN:
            self.refuse("wrong_type", key)
            return None

    def each(self, key: str) -> "Iterator[Members | None]":
        """Yield the objects of a list, and None for what is none; what is bad in one sets aside that one."""
        listed: list[msgspec.Raw] | None = self.read(key, list[msgspec.Raw])
        if listed is None and self.has(key):
            yield None
        for item in (listed or ())[:_MOST_ITEMS]:
            raw = bytes(item)
            try:
                yield Members(raw, f"{self._path}{key}.", self.device_id, self._aside)
            except BROKEN:
                self._aside.append(rejected("wrong_type", f"{self._path}{key}", raw, self.device_id))
                yield None
        if listed and len(listed) > _MOST_ITEMS:
            self.refuse("too_many", key)
            yield None

    def text(self, key: str, length: int) -> str | None:
        """Return a text without NUL and surrounding space, cut to a length; None when empty."""
        value: str | None = self.read(key, str)
        return value.replace("\0", "").strip()[:length] or None if value else None

    def identity(self, key: str, word: str, length: int) -> str | None:
        """Return an id, which is never cut; None where it is missing, empty, too long or has a NUL."""
        if not self.has(key):
            self.refuse(f"{word}_missing", key)
            return None
        value: str | None = self.read(key, str)
        if value is None:
            return None
        if "\0" in value:
            self.refuse("nul_in_text", key)
        elif not 0 < len(value) <= length:
            self.refuse(f"{word}_out_of_range", key)
        else:
            return value
        return None

    def refuse(self, reason: str, key: str = "") -> None:
        """Set the record aside for a member, or for itself."""
        self._aside.append(rejected(reason, f"{self._path}{key}".rstrip("."), self._whole, self.device_id))
