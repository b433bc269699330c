"""Traccar's positions into our records, all of a page in one pass.

This is the fast path: msgspec checks types and ranges while it parses. Whatever is wrong raises, and `salvage` then
looks at the page record by record.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter

import msgspec

from integrations.bounds import NULL_ISLAND_DEG, Limits, UnbelievableError, is_null_island
from integrations.telematics import FaultReport, Reading, Rejected, SafetyEvent
from integrations.traccar.alarms import read_alarms
from integrations.traccar.codes import read_codes
from integrations.traccar.options import Options
from integrations.traccar.wire import KPH_PER_KNOT, Attributes, Position

_M_PER_KM = 1000
_MS_PER_H = 3_600_000

_decode = msgspec.json.Decoder(list[Position]).decode
_in_time = attrgetter("fix_time", "id")
_time = attrgetter("time")

# Odometer, engine hours, fuel, battery, engine state: the columns of a reading after its speed, in their order.
_Meters = tuple[float | None, float | None, float | None, float | None, str | None]
_NOTHING: _Meters = (None, None, None, None, None)


@dataclass
class Decoded:
    """A page in our records, and of each device by Traccar's id: how many messages it has, and its newest fix time."""

    readings: list[Reading] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    fault_reports: list[FaultReport] = field(default_factory=list)
    safety_events: list[SafetyEvent] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    newest: dict[int, datetime] = field(default_factory=dict)


def decode_positions(body: bytes, devices: Collection[int], limits: Limits, options: Options) -> Decoded:
    """Return what a page of positions says, oldest first per device.

    Raises:
        UnbelievableError, or one of `bounds.BROKEN`: something in the page is bad.
    """
    return map_positions(_decode(body), devices, limits, options)


def doubt(position: Position, limits: Limits, options: Options) -> str | None:
    """Return why a well-formed position is not believed, None when it is.

    One without a fix of its own is worth something by its meters only.
    """
    unbelieved = limits.doubt(position.fix_time)
    if unbelieved:
        return unbelieved
    if not position.valid:
        return None if _says_anything(position, options) else "fix_invalid"
    return "null_island" if is_null_island(position.latitude, position.longitude) else None


def _says_anything(position: Position, options: Options) -> bool:
    if position.attributes.dtcs is not None or _meters(position, options) != _NOTHING:
        return True
    return bool(read_alarms(position, "", position.fix_time))


def map_positions(positions: Iterable[Position], devices: Collection[int], limits: Limits, options: Options) -> Decoded:
    """Return the records of positions, oldest first per device.

    Raises:
        UnbelievableError: one is of none of `devices`, or is doubted.
    """
    decoded = Decoded()
    by_device: dict[int, list[Position]] = {}
    for position in positions:
        by_device.setdefault(position.device_id, []).append(position)
    for device, of_device in by_device.items():
        of_device.sort(key=_in_time)
        oldest, newest = of_device[0].fix_time, of_device[-1].fix_time
        if device not in devices or oldest <= limits.earliest or newest > limits.latest:
            raise UnbelievableError
        decoded.counts[device] = len(of_device)
        decoded.newest[device] = newest
        _append(decoded, str(device), of_device, limits, options)
    return decoded


def _append(decoded: Decoded, device_id: str, positions: list[Position], limits: Limits, options: Options) -> None:
    """Append what one device reported, one reading an instant. The hot loop of a sync."""
    readings, reports, events = decoded.readings, decoded.fault_reports, decoded.safety_events
    starts = len(readings), len(reports), len(events)
    add = readings.append
    previous, is_odd = limits.earliest, False
    for p in positions:
        at = p.fix_time
        if p.valid and at != previous:
            latitude, longitude, speed = p.latitude, p.longitude, p.speed
            if latitude < NULL_ISLAND_DEG and is_null_island(latitude, longitude):
                raise UnbelievableError
            previous = at
            at = at if at.tzinfo is UTC else at.astimezone(UTC)
            kph = None if speed is None else speed * KPH_PER_KNOT
            add(Reading(device_id, at, latitude, longitude, p.course, kph, *_meters(p, options)))
        else:
            if doubt(p, limits, options):
                raise UnbelievableError
            at, is_odd = _spoke_at(p, limits), True
            meters = _meters(p, options)
            if meters != _NOTHING:
                add(Reading(device_id, at, None, None, None, None, *meters))
        attributes = p.attributes
        if attributes.alarm:
            events += read_alarms(p, device_id, at)
        if attributes.dtcs is not None:
            report, unreadable = read_codes(attributes.dtcs, device_id, at)
            reports.append(report)
            decoded.rejected += unreadable
    if is_odd:
        readings[starts[0] :] = _merged(readings[starts[0] :])
        reports[starts[1] :] = sorted({each.time: each for each in reports[starts[1] :]}.values(), key=_time)
        events[starts[2] :] = sorted(events[starts[2] :], key=_time)


def _spoke_at(position: Position, limits: Limits) -> datetime:
    """Return when a message without a fix of its own was sent: its fix time is that of an older one."""
    at = position.device_time
    if at is None or limits.doubt(at):
        at = position.fix_time
    return at.astimezone(UTC)


def _meters(position: Position, options: Options) -> _Meters:
    a: Attributes = position.attributes
    if options.odometer == "vehicle":
        odometer = a.obd_odometer if a.odometer is None else a.odometer
    else:
        odometer = a.total_distance if position.valid else None
    return (
        None if odometer is None else odometer / _M_PER_KM,
        None if a.hours is None else a.hours / _MS_PER_H,
        a.fuel_level,
        a.battery_level if options.battery_level == "vehicle" else None,
        None if a.ignition is None else "off" if not a.ignition else "idle" if a.motion is False else "on",
    )


def _merged(readings: list[Reading]) -> list[Reading]:
    """Return readings oldest first and one an instant: of several, the first that says something says it."""
    by_time: dict[datetime, Reading] = {}
    for reading in readings:
        known = by_time.setdefault(reading.time, reading)
        if known is not reading:
            told = zip(msgspec.structs.astuple(known), msgspec.structs.astuple(reading), strict=True)
            by_time[reading.time] = Reading(*(new if old is None else old for old, new in told))
    return [by_time[at] for at in sorted(by_time)]
