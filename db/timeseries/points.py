"""Points into storage, a page at a time: staged, then one INSERT; a second only where some were there before."""

import struct
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from db.timeseries.staging import ENGINE_STATES, NAN, copy_packed, micros

# Field count, then length and value of: vehicle_id, time, latitude, longitude, heading_deg, speed_kph, odometer_km,
# engine_hours, fuel_percent, battery_percent, engine_state. `raw` follows, the only one of no fixed length.
_POINT = struct.Struct("!h i16s iq id id if if id id if if ih")
_RAW_NULL = struct.pack("!i", -1)


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
    """Return one row in PostgreSQL's binary COPY format, as the temporary table `staged_points_1` takes it.

    Args:
        vehicle_id: the 16 bytes of the vehicle's UUID.
        time: aware; microseconds are kept.
        latitude: degrees, WGS 84, with `longitude` or not at all. The others' units are in their names; None is what
            nobody reported.
        engine_state: `off`, `on` or `idle`.
        raw: JSON text.

    Raises:
        KeyError: another engine state.
    """
    fixed = _POINT.pack(
        12,
        16,
        vehicle_id,
        8,
        micros(time),
        8,
        NAN if latitude is None else latitude,
        8,
        NAN if longitude is None else longitude,
        4,
        NAN if heading_deg is None else heading_deg,
        4,
        NAN if speed_kph is None else speed_kph,
        8,
        NAN if odometer_km is None else odometer_km,
        8,
        NAN if engine_hours is None else engine_hours,
        4,
        NAN if fuel_percent is None else fuel_percent,
        4,
        NAN if battery_percent is None else battery_percent,
        2,
        ENGINE_STATES[engine_state],
    )
    if raw is None:
        return fixed + _RAW_NULL
    encoded = raw.encode()
    return fixed + struct.pack("!i", len(encoded)) + encoded


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


def _one_of(name: str) -> str:
    """Return what several rows of one instant say of a column, as SQL; jsonb has no maximum."""
    return "CAST(max(raw) AS jsonb)" if name == "raw" else f"max({_NEW[name]})"


# Feeds bring the stats of one instant apart; a row takes what it lacks, never loses what it has, and a page that is
# read twice changes nothing.
_MERGE = f"""
    ON CONFLICT (vehicle_id, time) DO UPDATE
    SET {", ".join(f"{name} = coalesce(t.{name}, excluded.{name})" for name in _NEW)}
    WHERE {" OR ".join(f"t.{name} IS NULL AND excluded.{name} IS NOT NULL" for name in _NEW)}
"""
_INTO = f"INSERT INTO telemetry AS t (tenant_id, vehicle_id, time, {', '.join(_NEW)})"
_INSERT = text(
    f"""
    {_INTO} SELECT (SELECT app_tenant_id()), vehicle_id, time, {", ".join(_NEW.values())} FROM staged_points_1
    ON CONFLICT (vehicle_id, time) DO NOTHING
    """
)
# Pages that were gathered may tell of one instant twice; no statement may touch a row twice.
_ENRICH = text(
    f"""
    {_INTO} SELECT (SELECT app_tenant_id()), vehicle_id, time, {", ".join(map(_one_of, _NEW))} FROM staged_points_1
    GROUP BY vehicle_id, time {_MERGE}
    """
)
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
        rows: by `pack_point`; of two of one vehicle and time the second gives what the first lacks.

    Returns:
        How many rows are new, and how many that were there have gained a value.
    """
    copy_packed(connection, "staged_points_1", rows)
    new = connection.execute(_INSERT).rowcount
    return new, connection.execute(_ENRICH).rowcount if new < len(rows) else 0
