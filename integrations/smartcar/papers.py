"""Whose papers (VIN, make, model, year) are known, in the words of a cursor that outlives the listing.

A VIN never changes: it is asked for once.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from integrations.aside import rejected
from integrations.bounds import BROKEN
from integrations.errors import CursorRefused
from integrations.smartcar.batch import read_attributes
from integrations.smartcar.listing import device_of
from integrations.smartcar.schedule import MOST_VEHICLES, pack_id, unpack_id
from integrations.smartcar.signals import read_vin
from integrations.telematics import Device, Rejected

_REFUSED_FOR_DAYS = 30
"""After so many days a vehicle that did not give its papers is asked for them again."""


class _Written(msgspec.Struct, omit_defaults=True):
    """`t` when the list was last complete, `k` whose papers are known, `r` who refused them, since the day `g`, `w` who
    waits, `p` the next page.
    """

    t: int = 0
    g: int = 0
    k: list[str] = []
    r: list[str] = []
    w: list[Device] = []
    p: int | None = None


_decode = msgspec.json.Decoder(_Written).decode


class Papers:
    """A cursor of the list of vehicles, taken apart."""

    def __init__(self, cursor: str | None, now: datetime, list_every_s: int) -> None:
        """Raises: CursorRefused where it is none of ours."""
        today, self._now_s = now.date().toordinal(), int(now.timestamp())
        try:
            written = _Written(g=today) if cursor is None else _decode(cursor.encode())
            self.known = dict.fromkeys(unpack_id(each) for each in written.k)
            self._refused = dict.fromkeys(unpack_id(each) for each in written.r)
        except (msgspec.DecodeError, ValueError, UnicodeEncodeError, RecursionError) as error:
            raise CursorRefused(f"not a list of papers: {type(error).__name__}") from None
        self._list_every_s = list_every_s
        self._listed_s = written.t
        self._page = written.p
        self._waiting = written.w
        self._refused_since = written.g
        if not written.g <= today < written.g + _REFUSED_FOR_DAYS:
            self._refused_since, self._refused = today, {}

    @property
    def next_page(self) -> int | None:
        """Which page of the list is to be read now; None where it is the turn of a vehicle's papers, or of nothing."""
        if self._waiting:
            return None
        if self._page is not None:
            return self._page
        return 0 if self._listed_s + self._list_every_s <= self._now_s else None

    @property
    def next_waiting(self) -> Device | None:
        """Whose papers are asked for next."""
        return self._waiting[0] if self._waiting else None

    def take_page(self, devices: Sequence[Device], next_page: int | None) -> None:
        """Take a page of the list: those that are new wait for their papers."""
        told = self.known | self._refused
        self._waiting = [device for device in devices if device.device_id not in told]
        self._page = next_page if len(told) < MOST_VEHICLES else None
        if self._page is None:
            self._listed_s = self._now_s

    def settle(self, device: Device, *, is_known: bool, is_refused: bool = False) -> None:
        """Have done with a vehicle; one whose papers could not be had is asked for them at the next listing."""
        if is_known:
            self.known[device.device_id] = None
        elif is_refused:
            self._refused[device.device_id] = None
        self._waiting = [each for each in self._waiting if each.device_id != device.device_id]

    def write(self) -> str:
        """Return the cursor."""
        written = _Written(
            t=self._listed_s,
            g=self._refused_since,
            k=[pack_id(each) for each in self.known],
            r=[pack_id(each) for each in self._refused],
            w=self._waiting,
            p=self._page,
        )
        return msgspec.json.encode(written).decode()


def of_batch(body: bytes, known: Device, aside: list[Rejected]) -> Device:
    """Return a vehicle with what `/` and `/vin` of a v2.0 batch say."""
    try:
        told = read_attributes(body)
    except BROKEN:
        aside.append(rejected("wrong_type", "vehicle", body, known.device_id))
        return known
    if told.get("id") not in (None, known.device_id):
        aside.append(rejected("foreign_device", "id", b"", known.device_id))
        return known
    return device_of(known.device_id, told, body, aside)


def of_signal(body: bytes, known: Device, aside: list[Rejected]) -> Device:
    """Return a vehicle with the VIN that a v3 signal says."""
    try:
        return msgspec.structs.replace(known, vin=read_vin(body))
    except BROKEN:
        aside.append(rejected("wrong_type", "vin", body, known.device_id))
        return known
