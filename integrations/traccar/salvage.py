"""A page of Traccar's that has something bad in it: keep every good position, set aside only what is bad.

A position that is bad in its place, time or id is lost; one that is bad in an attribute, its speed or its course loses
only that.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from integrations.aside import decoder, rejected
from integrations.bounds import BROKEN, Limits
from integrations.telematics import Rejected
from integrations.traccar.decode import Decoded, doubt, map_positions
from integrations.traccar.options import Options
from integrations.traccar.wire import Attributes, Position

_decode_page = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_position = msgspec.json.Decoder(Position).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

# How a reason names a field: `time_missing`, `fuel_percent_out_of_range`.
_WORDS = {
    "id": "position_id",
    "deviceId": "device_id",
    "fixTime": "time",
    "deviceTime": "time",
    "course": "heading",
    "hours": "engine_hours",
    "fuelLevel": "fuel_percent",
    "batteryLevel": "battery_percent",
    "obdOdometer": "odometer",
    "totalDistance": "odometer",
}
_TIMES = ("fixTime", "deviceTime")


def salvage_positions(body: bytes, devices: Collection[int], limits: Limits, options: Options) -> Decoded:
    """Return what can be believed of a page, and the rest with its reasons.

    A position of a device that is not one of `devices` is another account's: it is kept aside, and nothing else.

    Raises:
        One of `bounds.BROKEN`: not even the outline of a page can be made out.
    """
    aside: list[Rejected] = []
    good: list[Position] = []
    for raw in map(bytes, _decode_page(body)):
        position = _read(raw, aside)
        if position is None:
            continue
        foreign = None if position.device_id in devices else "foreign_device"
        reason = foreign or doubt(position, limits, options)
        if reason:
            aside.append(rejected(reason, _field(reason), raw, str(position.device_id)))
        else:
            good.append(position)
    decoded = map_positions(good, devices, limits, options)
    decoded.rejected += aside
    return decoded


def _field(reason: str) -> str:
    if reason.startswith("time_"):
        return "fixTime"
    return {"foreign_device": "deviceId", "fix_invalid": "valid"}.get(reason, "latitude")


def _read(raw: bytes, aside: list[Rejected]) -> Position | None:
    try:
        return _decode_position(raw)
    except BROKEN:
        pass
    try:
        members = _decode_object(raw)
    except BROKEN:
        aside.append(rejected("wrong_type", "position", raw))
        return None
    parts = _Parts(raw, _device_id(members), aside)
    values = parts.read(Position, members, "")
    if values is None:
        return None
    if "attributes" in values:
        inner: dict[str, msgspec.Raw] = values["attributes"]
        values["attributes"] = Attributes(**(parts.read(Attributes, inner, "attributes.") or {}))
    return Position(**values)


def _device_id(members: dict[str, msgspec.Raw]) -> str | None:
    try:
        return str(decoder(int)(members["deviceId"]))
    except (KeyError, *BROKEN):
        return None


class _Parts:
    """One position, field by field; what is wrong with one is noted."""

    def __init__(self, raw: bytes, device_id: str | None, aside: list[Rejected]) -> None:
        self._raw = raw
        self._device_id = device_id
        self._aside = aside

    def read(self, kind: type[msgspec.Struct], members: dict[str, msgspec.Raw], prefix: str) -> dict[str, Any] | None:
        """Return the fields that are good; None when one that cannot be done without is not."""
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(kind):
            key = field.encode_name
            text = bytes(members.get(key, b"null"))
            word = _WORDS.get(key, field.name)
            reason = f"{word}_missing" if field.required else None
            if text != b"null":
                expected = dict[str, msgspec.Raw] if field.type is Attributes else field.type
                try:
                    values[field.name] = decoder(expected)(text)
                    reason = None
                except BROKEN:
                    reason = _reason(key, word, text)
            if reason:
                # What is always bad, as of a sensor that was never fitted, is one record and not one a message.
                told = self._raw if field.required else b'{"%s":%s}' % (key.encode(), text)
                self._aside.append(rejected(reason, prefix + key, told, self._device_id))
                if field.required:
                    return None
        return values


def _reason(key: str, word: str, text: bytes) -> str:
    """Name what is wrong with a field from how its JSON begins."""
    if key in _TIMES and text[:1] == b'"':
        return "time_unreadable"
    is_number = text[:1] in b"-0123456789" and key not in (*_TIMES, "valid", "ignition", "motion", "alarm", "dtcs")
    return f"{word}_out_of_range" if is_number else "wrong_type"
