"""The newest fix and meters of each vehicle: one narrow row that every sync rewrites, never backwards in time."""

import struct
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from db.timeseries.staging import ENGINE_STATES, NAN, copy_packed, micros

_NEVER = -(2**63)  # -infinity, as PostgreSQL sends it

# Field count, then length and value of: vehicle_id; time, latitude, longitude, heading_deg, speed_kph; and of each
# meter its value and its time.
_ROW = struct.Struct("!h i16s iq id id if if id iq id iq if iq if iq ih iq")


def _micros(time: datetime | None) -> int:
    return _NEVER if time is None else micros(time)


Meter = tuple[float, datetime] | None
"""A meter's value and when it was read; None where the page says nothing of it."""


def pack_position(
    vehicle_id: bytes,
    fix: tuple[datetime, float, float, float | None, float | None] | None,
    odometer_km: Meter,
    engine_hours: Meter,
    fuel_percent: Meter,
    battery_percent: Meter,
    engine_state: tuple[str, datetime] | None,
) -> bytes:
    """Return one row in PostgreSQL's binary COPY format. `fix` is time, latitude, longitude, heading, speed."""
    time, latitude, longitude, heading_deg, speed_kph = fix or (None, NAN, NAN, None, None)
    values: list[float | int] = []
    for size, meter in ((8, odometer_km), (8, engine_hours), (4, fuel_percent), (4, battery_percent)):
        value, at = meter or (NAN, None)
        values += (size, value, 8, _micros(at))
    state, state_at = engine_state or (None, None)
    return _ROW.pack(
        16,
        16,
        vehicle_id,
        8,
        _micros(time),
        8,
        latitude,
        8,
        longitude,
        4,
        NAN if heading_deg is None else heading_deg,
        4,
        NAN if speed_kph is None else speed_kph,
        *values,
        2,
        ENGINE_STATES[state],
        8,
        _micros(state_at),
    )


_GROUPS = {
    "time": ("latitude", "longitude", "heading_deg", "speed_kph"),
    "odometer_at": ("odometer_km",),
    "engine_hours_at": ("engine_hours",),
    "fuel_at": ("fuel_percent",),
    "battery_at": ("battery_percent",),
    "engine_state_at": ("engine_state",),
}
_COLUMNS = [column for at, values in _GROUPS.items() for column in (at, *values)]


def _given(column: str) -> str:
    """Return a staged value as SQL, with NULL again for what a page does not say."""
    if column in _GROUPS:
        return f"nullif(s.{column}, '-infinity')"
    if column == "engine_state":
        return "(ARRAY['off', 'on', 'idle'])[s.engine_state]"
    return f"nullif(s.{column}, 'NaN')"


def _newer(at: str) -> str:
    return f"coalesce(s.{at} > p.{at}, s.{at} > '-infinity')"


# Joined by the keys of the page: the planner knows nothing of a temporary table, and would read every position.
_MOVE = text(
    f"""
    UPDATE vehicle_positions AS p
    SET {
        ", ".join(
            f"{column} = CASE WHEN {_newer(at)} THEN {_given(column)} ELSE p.{column} END"
            for at, values in _GROUPS.items()
            for column in (at, *values)
        )
    },
        fences_at = greatest(p.fences_at, {_given("time")})
    FROM staged_positions_1 AS s
    WHERE p.vehicle_id = ANY (ARRAY(SELECT vehicle_id FROM staged_positions_1)) AND p.vehicle_id = s.vehicle_id
      AND ({" OR ".join(_newer(at) for at in _GROUPS)}
           OR p.fences_at IS DISTINCT FROM greatest(p.fences_at, {_given("time")}))
    """
)
_PLACE = text(
    f"""
    INSERT INTO vehicle_positions (tenant_id, vehicle_id, {", ".join(_COLUMNS)}, fences_at)
    SELECT (SELECT app_tenant_id()), s.vehicle_id, {", ".join(map(_given, _COLUMNS))}, {_given("time")}
    FROM staged_positions_1 s
    ORDER BY s.vehicle_id
    ON CONFLICT (vehicle_id) DO NOTHING
    """
)


def store_positions(connection: Connection, rows: Sequence[bytes]) -> int:
    """Move the transaction's tenant's vehicles to their newest fix and meters; an older one changes nothing.

    Their fixes up to the newest one have been held against fences by then: the watermark moves with them.

    Args:
        rows: by `pack_position`, one per vehicle.

    Returns:
        How many vehicles have something newer.
    """
    copy_packed(connection, "staged_positions_1", rows)
    moved = connection.execute(_MOVE).rowcount
    return moved + (connection.execute(_PLACE).rowcount if moved < len(rows) else 0)
