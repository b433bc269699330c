"""Points into storage, a page at a time: packed binary COPY to a temporary table, then one INSERT.

COPY into a table with row-level security is refused, and a packed row costs a fraction of what a driver needs to adapt
its values one by one. The temporary tables have no NULLs: NaN stands for a float that a provider did not report (none
that it did report is NaN), and the statements turn it back.
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

_NAN = float("nan")
_COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 0)
_COPY_END = struct.pack("!h", -1)
_POSTGRES_EPOCH_S = 946_684_800  # 2000-01-01 UTC, in seconds since 1970
_ENGINE_STATES = {None: 0, "off": 1, "on": 2, "idle": 3}

# Field count, then length and value of: vehicle_id, time, latitude, longitude, heading_deg, speed_kph, odometer_km,
# engine_hours, fuel_percent, battery_percent, engine_state. `raw` follows, the only one of no fixed length.
_POINT = struct.Struct("!h i16s iq id id if if id id if if ih")
_RAW_NULL = struct.pack("!i", -1)


class Point(NamedTuple):
    """One row of telemetry before it is stored. Units as in the columns' names; None is what nobody reported."""

    vehicle_id: UUID
    time: datetime
    latitude: float | None
    longitude: float | None
    heading_deg: float | None
    speed_kph: float | None
    odometer_km: float | None
    engine_hours: float | None
    fuel_percent: float | None
    battery_percent: float | None
    engine_state: str | None
    raw: str | None


def pack_point(
    vehicle_id: bytes,
    time: datetime,
    latitude: float | None,
    longitude: float | None,
    heading_deg: float | None,
    speed_kph: float | None,
    odometer_km: float | None,
    engine_hours: float | None,
    fuel_percent: float | None,
    battery_percent: float | None,
    engine_state: str | None,
    raw: str | None,
) -> bytes:
    """Return one row in PostgreSQL's binary COPY format, as the temporary table `staged_points_1` takes it."""
    fixed = _POINT.pack(
        12,
        16,
        vehicle_id,
        8,
        round((time.timestamp() - _POSTGRES_EPOCH_S) * 1_000_000),
        8,
        _NAN if latitude is None else latitude,
        8,
        _NAN if longitude is None else longitude,
        4,
        _NAN if heading_deg is None else heading_deg,
        4,
        _NAN if speed_kph is None else speed_kph,
        8,
        _NAN if odometer_km is None else odometer_km,
        8,
        _NAN if engine_hours is None else engine_hours,
        4,
        _NAN if fuel_percent is None else fuel_percent,
        4,
        _NAN if battery_percent is None else battery_percent,
        2,
        _ENGINE_STATES[engine_state],
    )
    if raw is None:
        return fixed + _RAW_NULL
    encoded = raw.encode()
    return fixed + struct.pack("!i", len(encoded)) + encoded


_STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS staged_points_1 (
    vehicle_id uuid, time timestamptz, latitude float8, longitude float8, heading_deg float4, speed_kph float4,
    odometer_km float8, engine_hours float8, fuel_percent float4, battery_percent float4, engine_state int2, raw text
) ON COMMIT DELETE ROWS
"""

_NEW = {
    "latitude": "nullif(latitude, 'NaN')",
    "longitude": "nullif(longitude, 'NaN')",
    "heading_deg": "nullif(heading_deg, 'NaN')",
    "speed_kph": "nullif(speed_kph, 'NaN')",
    "odometer_km": "nullif(odometer_km, 'NaN')",
    "engine_hours": "nullif(engine_hours, 'NaN')",
    "fuel_percent": "nullif(fuel_percent, 'NaN')",
    "battery_percent": "nullif(battery_percent, 'NaN')",
    "engine_state": "(ARRAY['off', 'on', 'idle'])[engine_state]",
    "raw": "CAST(raw AS jsonb)",
}
_KEPT = [f"max(r.{name})" for name in _NEW if name != "raw"] + ["CAST(max(r.raw) AS jsonb)"]

# Feeds bring the stats of one instant apart; a row takes what it lacks, never loses what it has, and a page that is
# read twice changes nothing.
_MERGE = f"""
    ON CONFLICT (vehicle_id, time) DO UPDATE
    SET {", ".join(f"{name} = coalesce(t.{name}, excluded.{name})" for name in _NEW)}
    WHERE {" OR ".join(f"t.{name} IS NULL AND excluded.{name} IS NOT NULL" for name in _NEW)}
"""
_FROM_STAGED = f"""
    INSERT INTO telemetry AS t (tenant_id, vehicle_id, time, {", ".join(_NEW)})
    SELECT app_tenant_id(), vehicle_id, time, {", ".join(_NEW.values())} FROM staged_points_1
"""
_INSERT = text(f"{_FROM_STAGED} ON CONFLICT (vehicle_id, time) DO NOTHING")
_ENRICH = text(f"{_FROM_STAGED} {_MERGE}")
_ADOPT = text(
    f"""
    WITH kept AS (
        DELETE FROM rejected_records
        WHERE connection_id = :connection_id AND device_id = :device_id AND reason = 'unmatched_device'
          AND CAST(CAST(payload AS jsonb) ->> 'time' AS timestamptz) > :oldest
        RETURNING tenant_id, CAST(payload AS jsonb) AS reading
    )
    INSERT INTO telemetry AS t (tenant_id, vehicle_id, time, {", ".join(_NEW)})
    SELECT kept.tenant_id, :vehicle_id, r.time, {", ".join(_KEPT)}
    FROM kept, jsonb_to_record(kept.reading) AS r (
        time timestamptz, latitude float8, longitude float8, heading_deg float4, speed_kph float4, odometer_km float8,
        engine_hours float8, fuel_percent float4, battery_percent float4, engine_state text, raw text)
    GROUP BY kept.tenant_id, r.time {_MERGE}
    """
)


def adopt_points(
    connection: Connection, connection_id: UUID, device_id: str, vehicle_id: UUID, oldest: datetime
) -> int:
    """Store what a device reported before it had a vehicle, and was kept aside since; over all tenants' rows.

    Args:
        oldest: points before it have no place any more, and stay aside.

    Returns:
        How many points the vehicle has gained.
    """
    values = {
        "connection_id": connection_id,
        "device_id": device_id,
        "vehicle_id": vehicle_id,
        "oldest": oldest,
    }
    return connection.execute(_ADOPT, values).rowcount


def store_points(connection: Connection, rows: Sequence[bytes]) -> tuple[int, int]:
    """Store packed points of the transaction's tenant; one row per vehicle and time, enriched by a later page.

    Args:
        rows: by `pack_point`, no two of one vehicle and time.

    Returns:
        How many rows are new, and how many that were there have gained a value.
    """
    copy_packed(connection, "staged_points_1", _STAGE, rows)
    new = connection.execute(_INSERT).rowcount
    return new, connection.execute(_ENRICH).rowcount if new < len(rows) else 0


def copy_packed(connection: Connection, table: str, create: str, rows: Iterable[bytes]) -> None:
    """Fill a temporary table of this transaction with packed rows.

    Behind a pooler the table outlives the release that made it: whoever changes its columns changes its number.
    """
    connection.exec_driver_sql(create)
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor().copy(f"COPY pg_temp.{table} FROM STDIN (FORMAT binary)") as copy:
        copy.write(b"".join((_COPY_HEADER, *rows, _COPY_END)))
