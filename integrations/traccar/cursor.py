"""Where a feed of positions is: which round, which devices of it, and up to when each device has been read.

Stored as text: columns of small numbers, packed and compressed, some ten bytes a device.
"""

import base64
import zlib
from typing import Annotated

import msgspec
from msgspec import Meta

from integrations.bounds import BROKEN
from integrations.errors import CursorRefused

_VERSION = 1
_LONGEST_TEXT = 1024 * 1024
_LONGEST_PACKED = 8 * 1024 * 1024
_Seconds = Annotated[int, Meta(ge=0, le=2**40)]
_Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class Mark(msgspec.Struct, array_like=True, gc=False):
    """Up to when a device has been read, in Unix minutes: its newest position now, and as of the last two sweeps.

    `is_new` is one that a round sees for the first time.
    """

    device: int
    newest: int
    swept: int
    swept_before: int
    is_new: bool


class Cursor(msgspec.Struct):
    """One round through the devices of an account, or the one that is over.

    The first `due` of `marks` are read in it, from their mark up to `until`, a block of `size` devices at a time; the
    block that begins at `next` has been read up to `since`. All in Unix seconds. `span_s` is how much time the next
    request asks for and `most_s` how much it may, `pace` how many positions a second a device has lately had.
    """

    began: _Seconds
    swept: _Seconds
    until: _Seconds
    is_sweep: bool
    due: _Count
    next: _Count
    size: _Count
    since: _Seconds
    span_s: _Seconds
    most_s: _Seconds
    pace: float
    marks: list[Mark]

    @property
    def is_over(self) -> bool:
        """Whether every device of the round has been read."""
        return self.next >= self.due

    def from_s(self, mark: Mark) -> int:
        """Return from when a device is read in this round: a sweep goes back to the one before last. Unix seconds."""
        return (mark.swept_before if self.is_sweep else mark.newest) * 60

    def order(self, mark: Mark) -> tuple[int, int]:
        """Return what the devices of a round are sorted by: those that are furthest behind come first."""
        return self.from_s(mark), mark.device


class _Packed(msgspec.Struct, array_like=True):
    """A cursor as it is stored: instants and ids as differences to the one before, which are small."""

    version: int
    round: tuple[int, int, int, bool, int, int, int, int, int, int, float]
    devices: list[int]
    ages: list[int]
    since_sweep: list[int]
    since_sweep_before: list[int]
    are_new: list[bool]


_decode = msgspec.msgpack.Decoder(_Packed).decode


def write_cursor(cursor: Cursor) -> str:
    """Return a cursor as text."""
    c = cursor
    told = (c.began, c.swept, c.until, c.is_sweep, c.due, c.next, c.size, c.since, c.span_s, c.most_s, c.pace)
    packed = _Packed(_VERSION, told, [], [], [], [], [])
    before, until = 0, c.until // 60
    for mark in c.marks:
        packed.devices.append(mark.device - before)
        packed.ages.append(until - mark.newest)
        packed.since_sweep.append(mark.newest - mark.swept)
        packed.since_sweep_before.append(mark.swept - mark.swept_before)
        packed.are_new.append(mark.is_new)
        before = mark.device
    return base64.b85encode(zlib.compress(msgspec.msgpack.encode(packed))).decode()


def read_cursor(text: str) -> Cursor:
    """Read a cursor back.

    Raises:
        CursorRefused: it is none that `write_cursor` wrote.
    """
    try:
        packed = _decode(_unpacked(text))
        return _cursor(packed)
    except (*BROKEN, zlib.error, ValueError) as error:
        raise CursorRefused(f"traccar: the cursor cannot be read: {type(error).__name__}") from None


def _unpacked(text: str) -> bytes:
    if len(text) > _LONGEST_TEXT:
        raise ValueError
    return zlib.decompressobj().decompress(base64.b85decode(text), _LONGEST_PACKED)


def _cursor(packed: _Packed) -> Cursor:
    if packed.version != _VERSION:
        raise ValueError
    p = packed
    columns = zip(p.devices, p.ages, p.since_sweep, p.since_sweep_before, p.are_new, strict=True)
    marks, before, until = [], 0, packed.round[2] // 60
    for device, age, since_sweep, since_sweep_before, is_new in columns:
        before += device
        newest = until - age
        swept = newest - since_sweep
        marks.append(Mark(before, newest, swept, swept - since_sweep_before, is_new))
        if not (before > 0 and min(newest, swept, marks[-1].swept_before) >= 0):
            raise ValueError
    names = Cursor.__struct_fields__[:-1]
    cursor = msgspec.convert(dict(zip(names, packed.round, strict=True)) | {"marks": marks}, Cursor)
    if cursor.next + cursor.size > cursor.due or cursor.due > len(marks):
        raise ValueError
    return cursor
