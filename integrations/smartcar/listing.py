"""An account's vehicles: of v3 with make, model and year, of v2.0 their ids only.

Source: smartcar.com/docs/api-reference (List Connections; All Vehicles), read 2026-11. Neither counts as a request of a
vehicle; the VIN does, and is asked for once.
"""

import re
from typing import Any, NamedTuple

import msgspec

from integrations.aside import rejected
from integrations.telematics import Device, Rejected

PAGE_SIZE_V3 = 100
PAGE_SIZE_V2 = 50
_MOST_PAGES = 200
_ID = re.compile(r"[!-~]{1,64}")
_TEXT_LENGTH = 200
_YEARS = range(1900, 2101)


class Listed(NamedTuple):
    """A page of the list; `next` is the number of the next page or its offset, None after the last."""

    devices: list[Device]
    rejected: list[Rejected]
    next: int | None


class _Links(msgspec.Struct):
    next: str | None = None


class _Connections(msgspec.Struct):
    data: list[msgspec.Raw]
    links: _Links | None = None


class _Paging(msgspec.Struct):
    count: int = 0
    offset: int = 0


class _Ids(msgspec.Struct):
    vehicles: list[msgspec.Raw]
    paging: _Paging = msgspec.field(default_factory=_Paging)


_decode_connections = msgspec.json.Decoder(_Connections).decode
_decode_ids = msgspec.json.Decoder(_Ids).decode
_decode_any = msgspec.json.Decoder().decode


def read_connections(body: bytes, page: int, user_id: str | None) -> Listed:
    """Read a page of v3. A connection of another owner than ours is set aside. Raises: one of `BROKEN`."""
    answer = _decode_connections(body)
    goes_on = answer.links and answer.links.next and answer.data and page < _MOST_PAGES
    listed = Listed([], [], page + 1 if goes_on else None)
    for raw in map(bytes, answer.data[: 2 * PAGE_SIZE_V3]):
        entry = _decode_any(raw)
        device_id = _at(entry, "relationships", "vehicle", "data", "id")
        if not is_id(device_id):
            listed.rejected.append(rejected("wrong_type", "relationships.vehicle.data.id", raw))
            continue
        owner = _at(entry, "relationships", "user", "data", "id")
        if user_id and isinstance(owner, str) and owner != user_id:
            listed.rejected.append(rejected("foreign_device", "relationships.user.data.id", b""))
            continue
        listed.devices.append(device_of(device_id, _at(entry, "attributes", "vehicle"), raw, listed.rejected))
    return listed


def read_ids(body: bytes, offset: int) -> Listed:
    """Read a page of v2.0. Raises: one of `BROKEN`."""
    answer = _decode_ids(body)
    reached = offset + len(answer.vehicles)
    goes_on = answer.vehicles and reached < min(answer.paging.count, _MOST_PAGES * PAGE_SIZE_V2)
    listed = Listed([], [], reached if goes_on else None)
    for raw in map(bytes, answer.vehicles[: 2 * PAGE_SIZE_V2]):
        device_id = _decode_any(raw)
        if is_id(device_id):
            listed.devices.append(Device(device_id))
        else:
            listed.rejected.append(rejected("wrong_type", "vehicles", raw))
    return listed


def device_of(device_id: str, told: object, raw: bytes, aside: list[Rejected]) -> Device:
    """Return a vehicle with what can be believed of it; what is wrong with a field costs only that field."""
    fields = told if isinstance(told, dict) else {}
    texts: dict[str, str | None] = {}
    for name in ("make", "model", "vin"):
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            aside.append(rejected("wrong_type", name, raw, device_id))
        texts[name] = value.replace("\0", "").strip()[:_TEXT_LENGTH] or None if isinstance(value, str) else None
    year = fields.get("year")
    if year is not None and (isinstance(year, bool) or not isinstance(year, int) or year not in _YEARS):
        aside.append(rejected("year_out_of_range", "year", raw, device_id))
        year = None
    words = [word for word in (texts["make"], texts["model"], str(year) if year else None) if word]
    return Device(device_id, " ".join(words) or None, texts["vin"], None, texts["make"], texts["model"], year)


def is_id(value: object) -> bool:
    """Say whether something can be a vehicle's id, and stand in a URL after being quoted."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _at(entry: object, *path: str) -> Any:
    for name in path:
        entry = entry.get(name) if isinstance(entry, dict) else None
    return entry
