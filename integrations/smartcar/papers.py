"""Whose papers (VIN, make, model, year) are known, in the words of a cursor that outlives the listing."""

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

_REMEMBERED_DAYS = 30


class _Written(msgspec.Struct, omit_defaults=True):
    """`g` the day on which remembering began, `k` whose papers are known, `w` who waits, `p` the next page."""

    g: int = 0
    k: list[str] = []
    w: list[Device] = []
    p: int | None = None


_decode = msgspec.json.Decoder(_Written).decode


class Papers:
    """A cursor of the list of vehicles, taken apart."""

    def __init__(self, cursor: str | None, now: datetime) -> None:
        """Raises: CursorRefused where it is none of ours."""
        today = now.date().toordinal()
        try:
            written = _Written(g=today) if cursor is None else _decode(cursor.encode())
            self.known = dict.fromkeys(unpack_id(each) for each in written.k)
        except (msgspec.DecodeError, ValueError, UnicodeEncodeError, RecursionError) as error:
            raise CursorRefused(f"not a list of papers: {type(error).__name__}") from None
        self.page = written.p
        self._began = written.g
        self._waiting = written.w
        if not self.has_more and not self._began <= today < self._began + _REMEMBERED_DAYS:
            self._began, self.known = today, {}

    @property
    def has_more(self) -> bool:
        """Whether the listing goes on at once."""
        return bool(self._waiting) or self.page is not None

    def next_waiting(self) -> Device | None:
        """Return whose papers are asked for next."""
        return self._waiting[0] if self._waiting else None

    def take_page(self, devices: Sequence[Device], next_page: int | None) -> None:
        """Take a page of the list: those that are new wait for their papers."""
        self._waiting = [device for device in devices if device.device_id not in self.known]
        self.page = next_page if len(self.known) < MOST_VEHICLES else None

    def settle(self, device: Device, *, is_known: bool) -> None:
        """Have done with a vehicle; one whose papers could not be had is asked for them at the next listing."""
        if is_known:
            self.known[device.device_id] = None
        self._waiting = [each for each in self._waiting if each.device_id != device.device_id]

    def write(self) -> str:
        """Return the cursor."""
        return msgspec.json.encode(
            _Written(self._began, [pack_id(each) for each in self.known], self._waiting, self.page)
        ).decode()


def of_batch(body: bytes, known: Device, aside: list[Rejected]) -> Device:
    """Return a vehicle with what `/` and `/vin` of a v2.0 batch say."""
    try:
        told = read_attributes(body)
    except BROKEN:
        aside.append(rejected("wrong_type", "vehicle", body, known.device_id))
        return known
    if told.get("id") not in (None, known.device_id):
        aside.append(rejected("foreign_device", "id", body, known.device_id))
        return known
    return device_of(known.device_id, told, body, aside)


def of_signal(body: bytes, known: Device, aside: list[Rejected]) -> Device:
    """Return a vehicle with the VIN that a v3 signal says."""
    try:
        return msgspec.structs.replace(known, vin=read_vin(body))
    except BROKEN:
        aside.append(rejected("wrong_type", "vin", body, known.device_id))
        return known
