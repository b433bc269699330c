"""Samsara's list of vehicles into devices: only the id is certain, `year` is text.

Source: developers.samsara.com/reference/listvehicles, read 2026-11.
"""

from typing import NamedTuple

import msgspec

from integrations.aside import rejected
from integrations.bounds import BROKEN
from integrations.samsara.salvage import open_envelope
from integrations.samsara.wire import Pagination
from integrations.telematics import Device, Rejected

_TEXT_LENGTH = 200
_YEARS = range(1900, 2101)

_decode_vehicle = msgspec.json.Decoder(dict[str, object]).decode


class Devices(NamedTuple):
    """A page of the list in our records."""

    devices: list[Device]
    rejected: list[Rejected]
    pagination: Pagination


def decode_devices(body: bytes) -> Devices:
    """Return the devices of a page.

    Raises:
        One of `bounds.BROKEN`: not even the outline of a page can be made out.
    """
    envelope = open_envelope(body)
    page = Devices([], [], envelope.pagination)
    for raw in map(bytes, envelope.data):
        device = _device(raw, page.rejected)
        if device:
            page.devices.append(device)
    return page


def _device(raw: bytes, set_aside: list[Rejected]) -> Device | None:
    try:
        vehicle = _decode_vehicle(raw)
    except BROKEN:
        set_aside.append(rejected("wrong_type", "vehicle", raw))
        return None
    device_id = vehicle.get("id")
    if not isinstance(device_id, str) or not 0 < len(device_id) <= 64 or "\0" in device_id:
        reason = "device_id_missing" if device_id is None else "wrong_type"
        set_aside.append(rejected(reason, "id", raw))
        return None
    fields = _Fields(vehicle, device_id, raw, set_aside)
    return Device(
        device_id,
        fields.text("name"),
        fields.text("vin"),
        fields.text("licensePlate"),
        fields.text("make"),
        fields.text("model"),
        fields.year(),
    )


class _Fields(NamedTuple):
    """The optional fields of one vehicle; what is wrong with one is noted, and costs only that one."""

    vehicle: dict[str, object]
    device_id: str
    raw: bytes
    set_aside: list[Rejected]

    def text(self, key: str) -> str | None:
        """Return a text without NUL and surrounding space, cut to 200 characters; None when empty."""
        value = self.vehicle.get(key)
        if value is not None and not isinstance(value, str):
            self.set_aside.append(rejected("wrong_type", key, self.raw, self.device_id))
            return None
        return value.replace("\0", "").strip()[:_TEXT_LENGTH] or None if value else None

    def year(self) -> int | None:
        """Return the model year, which Samsara sends as text."""
        year = self.vehicle.get("year")
        if year in (None, ""):
            return None
        text = str(year).strip()
        if text.isascii() and text.isdigit() and len(text) == 4 and int(text) in _YEARS:
            return int(text)
        self.set_aside.append(rejected("year_out_of_range", "year", self.raw, self.device_id))
        return None
