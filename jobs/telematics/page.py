"""What one page of a provider becomes: prepared while the page before is being written, then written at once.

The order of writing: points, latest positions, what they tell (fences, silence that is over), then what came beside
points, then what is kept aside. The caller moves the cursor last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from db.engine import Database
from db.queries import telematics
from db.queries.geofences import read_version
from db.queries.liveness import resolve_reported
from db.queries.safety_events import keep_events
from db.queries.telematics import Account
from db.timeseries.ev import store_ev
from db.timeseries.partitions import SERIES
from db.timeseries.points import adopt_points, pack_point, store_points
from db.timeseries.positions import pack_position, store_positions
from db.timeseries.staging import stage as stage_rows
from integrations.telematics import DevicePage, EvReading, FaultReport, Page, Reading, Rejected, SafetyEvent
from jobs.outcomes import Counts
from jobs.telematics import adopt, faults
from jobs.telematics.adopt import UNMATCHED
from jobs.telematics.geofences.pages import Located, cross, locate, locate_beforehand

_TELEMETRY = next(series for series in SERIES if series.table == "telemetry")
_LONGEST_PAYLOAD = 4096
_LONGEST_REPORT = 16_384
"""Some hundred fault codes, in bytes; the table takes no more."""
KEPT_FOR = timedelta(days=_TELEMETRY.past_days)
"""How late a point may be stored; an older one is kept aside."""
ADOPTED_A_PAGE = 20
"""Of how many devices what was kept aside is stored with a page of the list; the next list goes on."""
KEPT_PER_DEVICE = 20_000
"""How many readings of a device without a vehicle are kept for the day it gets one; the rest are counted only."""


@dataclass
class Latest:
    """The newest of each of a vehicle's values in a page."""

    fix: Reading | None = None
    odometer: Reading | None = None
    engine_hours: Reading | None = None
    fuel: Reading | None = None
    battery: Reading | None = None
    engine_state: Reading | None = None


@dataclass
class Prepared:
    """Pages of readings, sorted out and packed: what is left to do needs the database only."""

    cursor: str | None
    has_more: bool
    pages: int
    points: list[bytes] = field(default_factory=list)
    positions: list[bytes] = field(default_factory=list)
    latest: dict[UUID, Latest] = field(default_factory=dict)
    ev_readings: list[tuple[UUID, EvReading]] = field(default_factory=list)
    fault_reports: list[tuple[UUID, FaultReport]] = field(default_factory=list)
    safety_events: list[tuple[UUID, SafetyEvent]] = field(default_factory=list)
    unmatched: list[Reading] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    newest: datetime | None = None
    fences_version: UUID | None = None
    located: Located | None = None


def prepare(connection: Connection, account: Account, pages: Sequence[Page], now: datetime) -> Prepared:
    """Match the devices of pages that follow each other to the tenant's own vehicles and pack what is to be stored.

    A vehicle that changes hands between here and the commit is caught there: storage takes no point of a vehicle that
    is not the tenant's.
    """
    devices = {reading.device_id for page in pages for reading in page.readings}
    devices |= {record.device_id for page in pages for record in _beside_points(page)}
    vehicles = telematics.match_devices(connection, account.id, list(devices))
    prepared = Prepared(pages[-1].cursor, pages[-1].has_more, len(pages))
    for page in pages:
        prepared.rejected += page.rejected
        _sort_out(prepared, page.readings, vehicles, now - KEPT_FOR)
        _sort_out_others(prepared, page, vehicles, now - KEPT_FOR)
    prepared.positions = [_pack_latest(vehicle_id, latest) for vehicle_id, latest in prepared.latest.items()]
    fixes = [each.fix.time for each in prepared.latest.values() if each.fix is not None]
    prepared.newest = max(fixes, default=None)
    prepared.fences_version = read_version(connection) if prepared.points else None
    return prepared


def locate_fixes(database: Database, account: Account, prepared: Prepared) -> Prepared:
    """Find which fixes are inside of which fences, while no transaction is open: large fences take their time."""
    if prepared.fences_version is not None:
        version, prepared.fences_version = prepared.fences_version, None
        prepared.located = locate_beforehand(database, account.tenant_id, version, prepared.points)
    return prepared


def write_readings(connection: Connection, account: Account, stage: str, page: Prepared, now: datetime) -> Counts:
    """Write what was prepared; the caller moves the cursor in the same transaction.

    Raises:
        FencesNotRead: fixes were not located beforehand, and the tenant's fences are not in memory.
    """
    if page.fences_version is not None:
        page.located = locate(connection, account.tenant_id, page.points)
    stage_rows(connection)
    stored, enriched = store_points(connection, page.points) if page.points else (0, 0)
    crossed = cross(connection, account.tenant_id, page.located, now) if page.located else {}
    moved = store_positions(connection, page.positions) if page.positions else 0
    heard = resolve_reported(connection, now) if moved else 0
    noticed = _write_others(connection, account, page, now)
    if page.unmatched:
        brought = telematics.count_unmatched(connection, account.id, page.unmatched)
        kept = (reading for reading in page.unmatched if brought[reading.device_id] <= KEPT_PER_DEVICE)
        aside = (_aside(reading, "unmatched_device", "device_id") for reading in kept)
        telematics.keep_rejected(connection, account.id, stage, aside)
    return {
        "pages": page.pages,
        "stored": stored,
        "enriched": enriched,
        "duplicates": len(page.points) - stored - enriched,
        "unmatched": len(page.unmatched),
        "rejected": telematics.keep_rejected(connection, account.id, stage, page.rejected),
        "positions": moved,
        "heard_again": heard,
        **crossed,
        **noticed,
    }


def _write_others(connection: Connection, account: Account, page: Prepared, now: datetime) -> Counts:
    """Write what came beside points; a page of points alone costs no statement here."""
    counts: Counts = {}
    if page.ev_readings:
        counts["ev_readings"] = store_ev(connection, page.ev_readings)
    if page.fault_reports:
        counts |= faults.write_reports(connection, page.fault_reports)
    if page.safety_events:
        told = keep_events(connection, account.id, page.safety_events, now)
        counts |= told | {"alerts": counts.get("alerts", 0) + told["alerts"]}
    return counts


def write_devices(connection: Connection, account: Account, stage: str, page: DevicePage, now: datetime) -> Counts:
    """Write a page of the provider's vehicles; the caller moves the cursor in the same transaction.

    What a device reported before the list gave it its vehicle is stored, of some devices a page.
    """
    create = bool(account.settings.get("create_vehicles"))
    counts = telematics.take_devices(connection, account.id, page.devices, create_vehicles=create)
    devices = [device.device_id for device in page.devices]
    adopted = 0
    for device_id, vehicle_id in telematics.list_waiting(connection, account.id, devices, ADOPTED_A_PAGE):
        adopted += adopt_points(connection, account.id, device_id, vehicle_id, now - KEPT_FOR)
        adopted += adopt.adopt_records(connection, account.id, device_id, vehicle_id, now - KEPT_FOR, now)
    rejected = telematics.keep_rejected(connection, account.id, stage, page.rejected)
    return counts | {"pages": 1, "adopted": adopted, "rejected": rejected}


def _sort_out(into: Prepared, readings: Sequence[Reading], vehicles: dict[str, UUID], oldest: datetime) -> None:
    """Pack the points of known vehicles; a device's readings come together, oldest first. The hot loop of a sync."""
    keep = into.points.append
    device_id, vehicle_id, key, latest = None, None, b"", Latest()
    for r in readings:
        if r.device_id != device_id:
            device_id = r.device_id
            vehicle_id = vehicles.get(device_id)
            if vehicle_id is not None:
                key = vehicle_id.bytes
                latest = into.latest.setdefault(vehicle_id, Latest())
        if vehicle_id is None:
            into.unmatched.append(r)
            continue
        if r.time < oldest:
            into.rejected.append(_aside(r, "too_old", "time"))
            continue
        keep(
            pack_point(
                key,
                r.time,
                r.latitude,
                r.longitude,
                r.heading_deg,
                r.speed_kph,
                r.odometer_km,
                r.engine_hours,
                r.fuel_percent,
                r.battery_percent,
                r.engine_state,
                r.raw,
            )
        )
        if r.latitude is not None and _is_newer(r, latest.fix):
            latest.fix = r
        if r.odometer_km is not None and _is_newer(r, latest.odometer):
            latest.odometer = r
        if r.engine_hours is not None and _is_newer(r, latest.engine_hours):
            latest.engine_hours = r
        if r.fuel_percent is not None and _is_newer(r, latest.fuel):
            latest.fuel = r
        if r.battery_percent is not None and _is_newer(r, latest.battery):
            latest.battery = r
        if r.engine_state is not None and _is_newer(r, latest.engine_state):
            latest.engine_state = r


def _beside_points(page: Page) -> Iterator[EvReading | FaultReport | SafetyEvent]:
    return chain(page.ev_readings, page.fault_reports, page.safety_events)


def _sort_out_others(into: Prepared, page: Page, vehicles: dict[str, UUID], oldest: datetime) -> None:
    """Give what came beside points its vehicles; what has none, or is too old to have a place, is kept aside."""
    for ev_reading in page.ev_readings:
        if ev_reading.time < oldest:
            into.rejected.append(_aside(ev_reading, "too_old", "time"))
        elif ev_reading.device_id in vehicles:
            into.ev_readings.append((vehicles[ev_reading.device_id], ev_reading))
    for report in page.fault_reports:
        if report.device_id in vehicles:
            into.fault_reports.append((vehicles[report.device_id], report))
    for event in page.safety_events:
        if event.device_id in vehicles:
            into.safety_events.append((vehicles[event.device_id], event))
    into.rejected += (
        _aside(record, UNMATCHED, adopt.name_of(record))
        for record in _beside_points(page)
        if record.device_id not in vehicles
    )


def _is_newer(reading: Reading, known: Reading | None) -> bool:
    return known is None or reading.time >= known.time


def _pack_latest(vehicle_id: UUID, of: Latest) -> bytes:
    fix = of.fix
    return pack_position(
        vehicle_id.bytes,
        (fix.time, fix.latitude or 0.0, fix.longitude or 0.0, fix.heading_deg, fix.speed_kph) if fix else None,
        (of.odometer.odometer_km or 0.0, of.odometer.time) if of.odometer else None,
        (of.engine_hours.engine_hours or 0.0, of.engine_hours.time) if of.engine_hours else None,
        (of.fuel.fuel_percent or 0.0, of.fuel.time) if of.fuel else None,
        (of.battery.battery_percent or 0.0, of.battery.time) if of.battery else None,
        (of.engine_state.engine_state or "", of.engine_state.time) if of.engine_state else None,
    )


def _aside(record: Reading | EvReading | FaultReport | SafetyEvent, reason: str, name: str) -> Rejected:
    """Keep a record aside whole, so that it can still be stored; only what is beyond our columns may be too long."""
    payload = msgspec.json.encode(record)
    if len(payload) > _LONGEST_PAYLOAD and not isinstance(record, FaultReport):
        payload = msgspec.json.encode(msgspec.structs.replace(record, raw=None))
    return Rejected(reason, name, payload[:_LONGEST_REPORT].decode(errors="ignore"), record.device_id)
