"""When each vehicle may be asked again, in the words of a cursor: it survives every restart, and fits five thousand.

An id that is a UUID takes 22 characters, a time is in seconds since the list was read.
"""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from integrations.errors import CursorRefused

MOST_VEHICLES = 5000
_OTHER = "~"

_Ids = Annotated[list[Annotated[str, Meta(max_length=65)]], Meta(max_length=2 * MOST_VEHICLES)]


class _Written(msgspec.Struct, omit_defaults=True):
    """`t` when the list was last complete, `m` the month (year * 12 + month), `i` ids, `d` when each is due, `n` which
    paths each never answers, `p` the next page of a list being read, `f` the ids that it has brought, `s` whose signals
    go on, at `q`, `a` who was missing in the last list.
    """

    t: int = 0
    m: int = 0
    i: _Ids = []
    d: Annotated[list[int], Meta(max_length=2 * MOST_VEHICLES)] = []
    n: dict[str, int] = {}
    p: int | None = None
    f: _Ids = []
    s: str | None = None
    q: dict[str, str] = {}
    a: _Ids = []


_decode = msgspec.json.Decoder(_Written).decode


class Schedule:
    """A cursor, taken apart. Instants are seconds of the epoch."""

    def __init__(self, cursor: str | None) -> None:
        """Raises: CursorRefused where it is none of ours."""
        try:
            written = _Written() if cursor is None else _decode(cursor.encode())
            self.due = dict(zip(map(unpack_id, written.i), (written.t + d for d in written.d), strict=True))
            self.found = [unpack_id(each) for each in written.f]
            self.never = {unpack_id(name): bits for name, bits in written.n.items()}
            self.missing = {unpack_id(each) for each in written.a}
        except (msgspec.DecodeError, ValueError, UnicodeEncodeError, RecursionError) as error:
            raise CursorRefused(f"not a schedule: {type(error).__name__}") from None
        self.listed_s = written.t
        self.month = written.m
        self.page = written.p
        self.going_on: tuple[str, dict[str, str]] | None = (written.s, written.q) if written.s and written.q else None

    def write(self) -> str:
        """Return the cursor."""
        written = _Written(
            t=self.listed_s,
            m=self.month,
            i=[pack_id(each) for each in self.due],
            d=[due_s - self.listed_s for due_s in self.due.values()],
            n={pack_id(each): bits for each, bits in self.never.items() if bits and each in self.due},
            p=self.page,
            f=[pack_id(each) for each in self.found],
            a=[pack_id(each) for each in self.due if each in self.missing],
        )
        if self.going_on is not None:
            written.s, written.q = self.going_on
        return msgspec.json.encode(written).decode()

    @property
    def is_empty(self) -> bool:
        """Whether the last list named no vehicle at all: an account that is new, or an answer that is not believed."""
        return self.missing.issuperset(self.due)

    def next_due(self, now_s: int) -> str | None:
        """Return the vehicle that has waited longest, None while it is nobody's turn."""
        vehicle_id = min(self.due, key=self.due.__getitem__, default=None)
        return vehicle_id if vehicle_id is not None and self.due[vehicle_id] <= now_s else None

    def begin_month(self, now: datetime) -> None:
        """Forget with the month what a vehicle never answers: it may have learnt."""
        month = now.year * 12 + now.month
        if self.month != month:
            self.month, self.never = month, {}

    def take_list(self, now_s: int) -> None:
        """Take over a complete list: new vehicles are due at once, those missing twice in a row are forgotten."""
        known, self.due = self.due, {each: self.due.get(each, now_s) for each in dict.fromkeys(self.found)}
        gone = [each for each in known if each not in self.due and each not in self.missing]
        self.missing = set(gone[: MOST_VEHICLES - len(self.due)])
        self.due |= {each: known[each] for each in known if each in self.missing}
        self.listed_s, self.page, self.found = now_s, None, []


def next_month(now: datetime) -> int:
    """Return when the next month begins (UTC), as seconds of the epoch."""
    year, month = divmod(now.year * 12 + now.month, 12)
    return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp())


def pack_id(vehicle_id: str) -> str:
    """Return an id as it is written: a UUID in 22 characters, any other behind a tilde."""
    try:
        known = UUID(vehicle_id)
    except ValueError:
        return _OTHER + vehicle_id
    if str(known) != vehicle_id:
        return _OTHER + vehicle_id
    return base64.urlsafe_b64encode(known.bytes).decode().rstrip("=")


def unpack_id(written: str) -> str:
    """Return an id that `pack_id` wrote. Raises: ValueError."""
    if written.startswith(_OTHER):
        return written[1:]
    try:
        return str(UUID(bytes=base64.urlsafe_b64decode(written + "==")))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
