"""A page of Samsara's stats into readings, all of it in one pass.

This is the fast path: msgspec checks types and ranges while it parses, Python touches each reading once.
Whatever is wrong raises, and `salvage` then looks at the page piece by piece.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from integrations.bounds import NULL_ISLAND_DEG, Limits, UnbelievableError, is_null_island
from integrations.samsara.health import Health, read_health
from integrations.samsara.wire import FeedPage, FeedVehicle, Gps, Pagination, SnapshotPage
from integrations.telematics import Reading, Rejected

_decode_feed = msgspec.json.Decoder(FeedPage).decode
_decode_snapshot = msgspec.json.Decoder(SnapshotPage).decode

_KPH_PER_MPH = 1.609344
_M_PER_KM = 1000
_S_PER_H = 3600
_MILLI = 1000

# Odometer, engine hours, fuel, battery, engine state: the columns of a reading after its speed, in their
# order.
_Meters = list[Any]
_ODOMETER, _ENGINE_HOURS, _FUEL, _BATTERY, _ENGINE_STATE = range(5)


class Decoded(NamedTuple):
    """A page in our records."""

    readings: list[Reading]
    rejected: list[Rejected]
    pagination: Pagination
    health: Health = Health()


def decode_page(body: bytes, limits: Limits, *, is_snapshot: bool) -> Decoded:
    """Return the readings of a page, oldest first per device.

    Raises:
        UnbelievableError, or one of `BROKEN`: something in the page is bad.
    """
    page = _decode_snapshot(body) if is_snapshot else _decode_feed(body)
    return decoded(page.vehicles(), [], page.pagination, limits)


def decoded(vehicles: list[FeedVehicle], rejected: list[Rejected], pagination: Pagination, limits: Limits) -> Decoded:
    """Return vehicles as a page in our records; one named twice in a page counts as one.

    Raises:
        UnbelievableError: as `map_vehicles` does.
    """
    if len({vehicle.id for vehicle in vehicles}) < len(vehicles):
        vehicles = _joined(vehicles)
    readings = map_vehicles(vehicles, limits)
    health = read_health(vehicles, limits)
    return Decoded(readings, [*rejected, *health.rejected], pagination, health)


def map_vehicles(vehicles: list[FeedVehicle], limits: Limits) -> list[Reading]:
    """Return the readings of vehicles, each named once.

    Raises:
        UnbelievableError: an instant out of limits, a position at 0/0, a NUL in an id.
    """
    readings: list[Reading] = []
    for vehicle in vehicles:
        _append(readings, vehicle, limits)
    return readings


def _joined(vehicles: Iterable[FeedVehicle]) -> list[FeedVehicle]:
    by_id: dict[str, FeedVehicle] = {}
    for vehicle in vehicles:
        known = by_id.setdefault(vehicle.id, vehicle)
        if known is not vehicle:
            for stat in FeedVehicle.__struct_fields__[1:]:
                setattr(known, stat, getattr(known, stat) + getattr(vehicle, stat))
    return list(by_id.values())


def _append(readings: list[Reading], vehicle: FeedVehicle, limits: Limits) -> None:
    """Append what one vehicle reported, oldest first and one reading an instant. The hot loop of a sync."""
    device_id = vehicle.id
    if "\0" in device_id:
        raise UnbelievableError
    meters = _meters_by_time(vehicle, limits)
    start = len(readings)
    add = readings.append
    previous, latest = limits
    for fix in vehicle.gps:
        at = fix.time
        if at <= previous:
            del readings[start:]
            vehicle.gps = _in_order(vehicle.gps, limits)
            return _append(readings, vehicle, limits)
        previous = at
        latitude = fix.latitude
        longitude = fix.longitude
        speed = fix.speed_miles_per_hour
        if latitude < NULL_ISLAND_DEG and is_null_island(latitude, longitude):
            raise UnbelievableError
        add(
            Reading(
                device_id,
                at if at.tzinfo is UTC else at.astimezone(UTC),
                latitude,
                longitude,
                fix.heading_degrees,
                None if speed is None else speed * _KPH_PER_MPH,
                *(meters.pop(at, ()) if meters else ()),
            )
        )
    if previous > latest:
        raise UnbelievableError
    if meters:
        readings[start:] = _with_meters(device_id, readings[start:], meters)
    return None


def _in_order(fixes: tuple[Gps, ...], limits: Limits) -> tuple[Gps, ...]:
    """Return fixes oldest first, of several at one instant the first that came."""
    by_time = {fix.time: fix for fix in reversed(fixes)}
    in_order = sorted(by_time)
    if in_order[0] <= limits.earliest:
        raise UnbelievableError
    return tuple(by_time[at] for at in in_order)


def _with_meters(device_id: str, fixes: list[Reading], meters: dict[datetime, _Meters]) -> list[Reading]:
    """Return the fixes and a reading for each instant that has meters but no position, oldest first."""
    for at, values in meters.items():
        fixes.append(Reading(device_id, at.astimezone(UTC), None, None, None, None, *values))
    return sorted(fixes, key=attrgetter("time"))


def _meters_by_time(vehicle: FeedVehicle, limits: Limits) -> dict[datetime, _Meters]:
    """Return what else than positions was reported, by instant.

    The odometer of the vehicle's own computer is preferred to the one derived from GPS: they count from
    different starts, and a series must not jump between them.
    """
    meters: dict[datetime, _Meters] = {}
    for odometer in vehicle.obd_odometer_meters or vehicle.gps_odometer_meters:
        _at(meters, odometer.time)[_ODOMETER] = odometer.value / _M_PER_KM
    for engine in vehicle.obd_engine_seconds:
        _at(meters, engine.time)[_ENGINE_HOURS] = engine.value / _S_PER_H
    for fuel in vehicle.fuel_percents:
        _at(meters, fuel.time)[_FUEL] = fuel.value
    for battery in vehicle.ev_state_of_charge_milli_percent:
        _at(meters, battery.time)[_BATTERY] = battery.value / _MILLI
    for state in vehicle.engine_states:
        _at(meters, state.time)[_ENGINE_STATE] = state.value.lower()
    if meters and not limits.earliest < min(meters) <= max(meters) <= limits.latest:
        raise UnbelievableError
    return meters


def _at(meters: dict[datetime, _Meters], at: datetime) -> _Meters:
    return meters.setdefault(at, [None] * 5)
