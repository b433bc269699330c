"""Traccar's devices and groups: those that a connection may read, and what is known of each."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from integrations.aside import rejected
from integrations.bounds import BROKEN
from integrations.errors import PermanentError
from integrations.telematics import Device, Rejected
from integrations.traccar import wire

_TEXT_LENGTH = 200
_YEARS = range(1900, 2101)
_ALWAYS = datetime.max.replace(tzinfo=UTC)

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_device = msgspec.json.Decoder(wire.Device).decode
_decode_groups = msgspec.json.Decoder(list[wire.Group]).decode
_decode_object = msgspec.json.Decoder(dict[str, object]).decode


class Listed(NamedTuple):
    """The devices of an account by Traccar's id.

    `chosen` are those that the connection reads, each with when Traccar last heard of it; None is never.
    """

    chosen: dict[int, datetime | None]
    known: frozenset[int]


def chosen_groups(body: bytes, wanted: Collection[int]) -> frozenset[int]:
    """Return groups and all groups within them.

    Raises:
        PermanentError: one of them is not the account's. One of `bounds.BROKEN`: no list of groups.
    """
    parents = {group.id: group.group_id for group in _decode_groups(body)}
    foreign = sorted(set(wanted) - parents.keys())
    if foreign:
        raise PermanentError(f"traccar: group_ids: the account has no group {foreign[0]}")
    chosen = set(wanted)
    while inner := {group for group, parent in parents.items() if parent in chosen} - chosen:
        chosen |= inner
    return frozenset(chosen)


def list_ids(body: bytes, groups: frozenset[int] | None) -> Listed:
    """Return the account's devices; None of groups chooses all. One that cannot be read is left out.

    Raises:
        One of `bounds.BROKEN`: no list of devices.
    """
    devices = [device for raw in _decode_list(body) if (device := _planned(bytes(raw)))]
    chosen = {device.id: device.last_update for device in devices if groups is None or device.group_id in groups}
    return Listed(chosen, frozenset(device.id for device in devices))


def decode_devices(body: bytes, groups: frozenset[int] | None) -> tuple[list[Device], list[Rejected]]:
    """Return the devices of the account, and what is wrong with them; None of groups chooses all.

    Vehicle identification number, license plate, make and year are no fields of Traccar's: they are read from the
    attributes `vin`, `licensePlate`, `make` and `year` that people give to a device.

    Raises:
        One of `bounds.BROKEN`: no list of devices.
    """
    devices: list[Device] = []
    aside: list[Rejected] = []
    for raw in map(bytes, _decode_list(body)):
        planned = _planned(raw)
        if planned is None:
            aside.append(rejected("wrong_type", "id", raw))
        elif groups is None or planned.group_id in groups:
            devices.append(_device(raw, str(planned.id), aside))
    return devices, aside


def _planned(raw: bytes) -> wire.Device | None:
    """Return what planning needs of a device; one that was heard of at an unreadable instant is always read."""
    try:
        return _decode_device(raw)
    except BROKEN:
        pass
    try:
        members = _decode_object(raw)
        device = msgspec.convert({key: members[key] for key in ("id", "groupId") if key in members}, wire.Device)
        device.last_update = _ALWAYS
        return device
    except BROKEN:
        return None


def _device(raw: bytes, device_id: str, aside: list[Rejected]) -> Device:
    members = _decode_object(raw)
    attributes = members.get("attributes") or {}
    if not isinstance(attributes, dict):
        aside.append(rejected("wrong_type", "attributes", raw, device_id))
        attributes = {}

    def text(of: dict[str, object], key: str, prefix: str = "") -> str | None:
        value = of.get(key)
        if value is not None and not isinstance(value, str):
            aside.append(rejected("wrong_type", prefix + key, raw, device_id))
            return None
        return (value or "").replace("\0", "").strip()[:_TEXT_LENGTH] or None

    year = str(attributes.get("year") or "").strip()
    is_year = year.isascii() and year.isdigit() and len(year) == 4 and int(year) in _YEARS
    if year and not is_year:
        aside.append(rejected("year_out_of_range", "attributes.year", raw, device_id))
    return Device(
        device_id,
        text(members, "name") or text(members, "uniqueId"),
        text(attributes, "vin", "attributes."),
        text(attributes, "licensePlate", "attributes."),
        text(attributes, "make", "attributes."),
        text(members, "model"),
        int(year) if is_year else None,
    )
