"""What one page of a provider becomes: prepared while the page before is being written, then written at once.

The order of writing: points, latest positions, rejected records. Fences, alerts and fault codes join between positions
and the cursor, which the caller moves last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from db.queries import telematics
from db.queries.telematics import Account
from db.timeseries.partitions import SERIES
from db.timeseries.points import pack_point, store_points
from db.timeseries.positions import pack_position, store_positions
from db.timeseries.staging import stage as stage_rows
from integrations.telematics import DevicePage, Page, Reading, Rejected
from jobs.outcomes import Counts

_TELEMETRY = next(series for series in SERIES if series.table == "telemetry")
_LONGEST_PAYLOAD = 4096
KEPT_FOR = timedelta(days=_TELEMETRY.past_days)
"""How late a point may be stored; an older one is kept aside."""
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
    unmatched: list[Reading] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    newest: datetime | None = None


def prepare(connection: Connection, account: Account, pages: Sequence[Page], now: datetime) -> Prepared:
    """Match the devices of pages that follow each other to the tenant's own vehicles and pack what is to be stored.

    A vehicle that changes hands between here and the commit is caught there: storage takes no point of a vehicle that
    is not the tenant's.
    """
    devices = {reading.device_id for page in pages for reading in page.readings}
    vehicles = telematics.match_devices(connection, account.id, list(devices))
    prepared = Prepared(pages[-1].cursor, pages[-1].has_more, len(pages))
    for page in pages:
        prepared.rejected += page.rejected
        _sort_out(prepared, page.readings, vehicles, now - KEPT_FOR)
    prepared.positions = [_pack_latest(vehicle_id, latest) for vehicle_id, latest in prepared.latest.items()]
    fixes = [each.fix.time for each in prepared.latest.values() if each.fix is not None]
    prepared.newest = max(fixes, default=None)
    return prepared


def write_readings(connection: Connection, account: Account, stage: str, page: Prepared) -> Counts:
    """Write what was prepared; the caller moves the cursor in the same transaction."""
    stage_rows(connection)
    stored, enriched = store_points(connection, page.points) if page.points else (0, 0)
    moved = store_positions(connection, page.positions) if page.positions else 0
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
    }


def write_devices(connection: Connection, account: Account, stage: str, page: DevicePage) -> Counts:
    """Write a page of the provider's vehicles; the caller moves the cursor in the same transaction."""
    create = bool(account.settings.get("create_vehicles"))
    counts = telematics.take_devices(connection, account.id, page.devices, create_vehicles=create)
    return counts | {"pages": 1, "rejected": telematics.keep_rejected(connection, account.id, stage, page.rejected)}


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


def _aside(reading: Reading, reason: str, name: str) -> Rejected:
    """Keep a reading aside whole, so that it can still be stored; only what is beyond our columns may be too long."""
    payload = msgspec.json.encode(reading).decode()
    if len(payload) > _LONGEST_PAYLOAD:
        payload = msgspec.json.encode(msgspec.structs.replace(reading, raw=None)).decode()
    return Rejected(reason, name, payload, reading.device_id)
