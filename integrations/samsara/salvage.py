"""A page of Samsara's that has something bad in it: keep every good reading, set aside only what is bad.

The page is taken apart step by step: vehicle, stat, reading, field. A bad position, value or instant costs
its reading; a bad heading or speed costs only itself.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, get_args

import msgspec

from integrations.aside import decoder, reason_of, rejected
from integrations.bounds import BROKEN, Limits, UnbelievableError, is_null_island
from integrations.samsara.decode import Decoded, decoded, map_vehicles
from integrations.samsara.health import ev_readings
from integrations.samsara.wire import DeviceId, Envelope, FeedVehicle, SnapshotVehicle
from integrations.telematics import Rejected

# The lenient parser holds everything as objects, some twenty times the size of the text.
_LENIENT_BYTES = 4 * 1024 * 1024

_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_feed_vehicle = msgspec.json.Decoder(FeedVehicle).decode
_decode_snapshot_vehicle = msgspec.json.Decoder(SnapshotVehicle).decode

# How a reason names a field: `latitude_missing`, `fuel_percent_out_of_range`.
_WORDS = {
    "headingDegrees": "heading",
    "speedMilesPerHour": "speed",
    "obd_odometer_meters": "odometer",
    "gps_odometer_meters": "odometer",
    "obd_engine_seconds": "engine_hours",
    "fuel_percents": "fuel_percent",
    "ev_state_of_charge_milli_percent": "battery_percent",
    "engine_states": "engine_state",
    "ev_charging_status": "charging_state",
}


def salvage_page(body: bytes, limits: Limits, *, is_snapshot: bool) -> Decoded:
    """Return what can be believed of a page, and the rest with its reasons.

    Raises:
        One of `BROKEN`: not even the outline of a page can be made out.
    """
    envelope = open_envelope(body)
    salvage = _Salvage(limits, is_snapshot)
    vehicles = [vehicle for raw in envelope.data if (vehicle := salvage.vehicle(bytes(raw)))]
    return decoded(vehicles, salvage.rejected, envelope.pagination, limits)


def open_envelope(body: bytes) -> Envelope:
    """Return the outline of a page.

    NaN, control characters or half a surrogate pair are no JSON, but some writers emit them inside one
    record: the lenient parser then reads on, so that the other records are not lost.
    """
    try:
        return _decode_envelope(body)
    except msgspec.ValidationError:
        raise
    except BROKEN:
        if len(body) > _LENIENT_BYTES:
            raise
        return _decode_envelope(_mended(body))


def _mended(body: bytes) -> bytes:
    try:
        page = json.loads(body.decode("utf-8", "replace"), strict=False, parse_constant=str)
    except ValueError as error:
        raise msgspec.DecodeError(type(error).__name__) from None
    return json.dumps(page, ensure_ascii=False).encode("utf-8", "replace")


class _Salvage:
    """The work on one page: what was set aside so far, and what instants are believed."""

    def __init__(self, limits: Limits, is_snapshot: bool) -> None:
        self.rejected: list[Rejected] = []
        self._limits = limits
        self._is_snapshot = is_snapshot

    def vehicle(self, raw: bytes) -> FeedVehicle | None:
        """Return a vehicle with its good readings, None when not even its id can be read."""
        try:
            vehicle = self._decode(raw)
            map_vehicles([vehicle], self._limits)
            ev_readings(vehicle, self._limits)
        except (*BROKEN, UnbelievableError):
            return self._in_parts(raw)
        return vehicle

    def _decode(self, raw: bytes) -> FeedVehicle:
        return _decode_snapshot_vehicle(raw).as_feed() if self._is_snapshot else _decode_feed_vehicle(raw)

    def _in_parts(self, raw: bytes) -> FeedVehicle | None:
        members = self._object(raw, "vehicle", None)
        device_id = self._device_id(members, raw) if members is not None else None
        if members is None or device_id is None:
            return None
        vehicle = FeedVehicle(device_id)
        for stat, key in (_SNAPSHOT_KEYS if self._is_snapshot else _FEED_KEYS).items():
            if _is_given(members, key):
                records = self._records(device_id, stat, key, bytes(members[key]))
                setattr(vehicle, stat, tuple(records))
        return vehicle

    def _device_id(self, members: dict[str, msgspec.Raw], raw: bytes) -> str | None:
        if not _is_given(members, "id"):
            self.rejected.append(rejected("device_id_missing", "id", raw))
            return None
        try:
            device_id: str = decoder(DeviceId)(members["id"])
        except BROKEN:
            self.rejected.append(rejected("wrong_type", "id", raw))
            return None
        if "\0" in device_id:
            self.rejected.append(rejected("nul_in_text", "id", raw))
            return None
        return device_id

    def _records(self, device_id: str, stat: str, key: str, raw: bytes) -> Iterator[Any]:
        try:
            items = [raw] if self._is_snapshot else [bytes(item) for item in _decode_array(raw)]
        except BROKEN:
            self.rejected.append(rejected("wrong_type", key, raw, device_id))
            return
        if stat == "fault_codes":  # taken apart where they are read
            yield from map(msgspec.Raw, items)
            return
        for item in items:
            record = self._record(device_id, stat, key, item)
            if record is not None:
                yield record

    def _record(self, device_id: str, stat: str, key: str, raw: bytes) -> Any:
        """Return one record with its good fields, None when a field it cannot do without is bad."""
        members = self._object(raw, key, device_id)
        if members is None:
            return None
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(_RECORDS[stat]):
            word = _WORDS.get(stat if field.name == "value" else field.encode_name, field.name)
            if _is_given(members, field.encode_name):
                text = bytes(members[field.encode_name])
                reason = self._read(field, word, text, values)
            else:
                reason = f"{word}_missing" if field.required else None
            if reason:
                self.rejected.append(rejected(reason, f"{key}.{field.encode_name}", raw, device_id))
                if field.required:
                    return None
        if stat == "gps" and is_null_island(values["latitude"], values["longitude"]):
            self.rejected.append(rejected("null_island", key, raw, device_id))
            return None
        return _RECORDS[stat](**values)

    def _read(self, field: msgspec.structs.FieldInfo, word: str, raw: bytes, values: dict[str, Any]) -> str | None:
        """Read one field into `values`; return the reason when it cannot be."""
        try:
            value = values[field.name] = decoder(field.type)(raw)
        except BROKEN:
            return reason_of(word, raw)
        if isinstance(value, datetime):
            return self._limits.doubt(value)
        return None

    def _object(self, raw: bytes, field: str, device_id: str | None) -> dict[str, msgspec.Raw] | None:
        try:
            return _decode_object(raw)
        except BROKEN:
            self.rejected.append(rejected("wrong_type", field, raw, device_id))
            return None


_FEED_KEYS = {field.name: field.encode_name for field in msgspec.structs.fields(FeedVehicle)[1:]}
_SNAPSHOT_KEYS = {field.name: field.encode_name for field in msgspec.structs.fields(SnapshotVehicle)[1:]}
_RECORDS = {field.name: get_args(field.type)[0] for field in msgspec.structs.fields(FeedVehicle)[1:]}


def _is_given(members: dict[str, msgspec.Raw], key: str) -> bool:
    return key in members and bytes(members[key]) != b"null"
