"""What one page of a provider becomes in the database, in this order, within one transaction.

Stages of the pipeline: devices to vehicles, points, latest positions, rejected records. Fences, alerts and fault codes
join between positions and the cursor, which the caller moves last.
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
from integrations.telematics import DevicePage, Page, Reading, Rejected
from jobs.outcomes import Counts

_TELEMETRY = next(series for series in SERIES if series.table == "telemetry")
_KEPT_FOR = timedelta(days=_TELEMETRY.past_days)


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
class Written:
    """What a page has become: counts, and by vehicle what is newest, for those who watch."""

    counts: Counts = field(default_factory=dict)
    latest: dict[UUID, Latest] = field(default_factory=dict)
    newest: datetime | None = None


def write_page(connection: Connection, account: Account, stage: str, page: Page | DevicePage, now: datetime) -> Written:
    """Write a page; the caller moves the cursor in the same transaction."""
    if isinstance(page, DevicePage):
        create = bool(account.settings.get("create_vehicles"))
        counts = telematics.take_devices(connection, account.id, page.devices, create_vehicles=create)
        counts["rejected"] = telematics.keep_rejected(connection, account.id, stage, page.rejected)
        return Written(counts)
    return _write_readings(connection, account, stage, page, now)


def _write_readings(connection: Connection, account: Account, stage: str, page: Page, now: datetime) -> Written:
    vehicles = telematics.match_devices(connection, account.id, list({r.device_id for r in page.readings}))
    sorted_out = _sort_out(page.readings, vehicles, now - _KEPT_FOR)
    stored = store_points(connection, sorted_out.packed) if sorted_out.packed else 0
    moved = _store_latest(connection, sorted_out.latest) if sorted_out.latest else 0
    if sorted_out.unmatched:
        telematics.count_unmatched(connection, account.id, sorted_out.unmatched)
    aside = [
        *page.rejected,
        *(_aside(reading, "too_old", "time") for reading in sorted_out.too_old),
        *(_aside(reading, "unmatched_device", "device_id") for reading in sorted_out.unmatched),
    ]
    rejected = telematics.keep_rejected(connection, account.id, stage, aside)
    counts = {
        "stored": stored,
        "duplicates": len(sorted_out.packed) - stored,
        "unmatched": len(sorted_out.unmatched),
        "rejected": rejected - len(sorted_out.unmatched),
        "positions": moved,
    }
    return Written(counts, sorted_out.latest, sorted_out.newest)


@dataclass
class _SortedOut:
    packed: list[bytes] = field(default_factory=list)
    latest: dict[UUID, Latest] = field(default_factory=dict)
    unmatched: list[Reading] = field(default_factory=list)
    too_old: list[Reading] = field(default_factory=list)
    newest: datetime | None = None


def _sort_out(readings: Sequence[Reading], vehicles: dict[str, UUID], oldest: datetime) -> _SortedOut:
    """Pack the points of known vehicles; a device's readings come together, oldest first."""
    result = _SortedOut()
    keep = result.packed.append
    device_id, vehicle_id, key, latest = None, None, b"", Latest()
    for r in readings:
        if r.device_id != device_id:
            device_id = r.device_id
            vehicle_id = vehicles.get(device_id)
            if vehicle_id is not None:
                key = vehicle_id.bytes
                latest = result.latest.setdefault(vehicle_id, Latest())
        if vehicle_id is None:
            result.unmatched.append(r)
            continue
        if r.time < oldest:
            result.too_old.append(r)
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
        if r.latitude is not None:
            latest.fix = r
        if r.odometer_km is not None:
            latest.odometer = r
        if r.engine_hours is not None:
            latest.engine_hours = r
        if r.fuel_percent is not None:
            latest.fuel = r
        if r.battery_percent is not None:
            latest.battery = r
        if r.engine_state is not None:
            latest.engine_state = r
    fixes = [each.fix.time for each in result.latest.values() if each.fix is not None]
    result.newest = max(fixes, default=None)
    return result


def _store_latest(connection: Connection, latest: dict[UUID, Latest]) -> int:
    rows = []
    for vehicle_id, of in latest.items():
        fix = of.fix
        rows.append(
            pack_position(
                vehicle_id.bytes,
                (fix.time, fix.latitude or 0.0, fix.longitude or 0.0, fix.heading_deg, fix.speed_kph) if fix else None,
                (of.odometer.odometer_km or 0.0, of.odometer.time) if of.odometer else None,
                (of.engine_hours.engine_hours or 0.0, of.engine_hours.time) if of.engine_hours else None,
                (of.fuel.fuel_percent or 0.0, of.fuel.time) if of.fuel else None,
                (of.battery.battery_percent or 0.0, of.battery.time) if of.battery else None,
                (of.engine_state.engine_state or "", of.engine_state.time) if of.engine_state else None,
            )
        )
    return store_positions(connection, rows)


def _aside(reading: Reading, reason: str, name: str) -> Rejected:
    return Rejected(reason, name, msgspec.json.encode(reading).decode()[:4096], reading.device_id)
