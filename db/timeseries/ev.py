"""What electric vehicles report of their batteries, into storage."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from integrations.telematics import EvReading

_VALUES = ("battery_percent", "charging_state", "range_km", "energy_kwh", "raw")

# A row takes what it lacks and never loses what it has, as points do.
_STORE = text(
    f"""
    INSERT INTO ev_metrics AS t (tenant_id, vehicle_id, time, {", ".join(_VALUES)})
    SELECT (SELECT app_tenant_id()), vehicle_id, time, max(battery_percent), max(charging_state), max(range_km),
           max(energy_kwh), CAST(max(raw) AS jsonb)
    FROM jsonb_to_recordset(:rows) AS r
        (vehicle_id uuid, time timestamptz, battery_percent float4, charging_state text, range_km float4,
         energy_kwh float8, raw text)
    GROUP BY vehicle_id, time ORDER BY vehicle_id, time
    ON CONFLICT (vehicle_id, time) DO UPDATE
    SET {", ".join(f"{name} = coalesce(t.{name}, excluded.{name})" for name in _VALUES)}
    WHERE {" OR ".join(f"t.{name} IS NULL AND excluded.{name} IS NOT NULL" for name in _VALUES)}
    """
).bindparams(bindparam("rows", type_=JSONB))


def store_ev(connection: Connection, readings: Sequence[tuple[UUID, EvReading]]) -> int:
    """Store readings with their vehicles, one row per vehicle and time. Returns how many are new or have gained."""
    rows = [
        {
            "vehicle_id": str(vehicle_id),
            "time": reading.time.isoformat(),
            **{name: value for name in _VALUES if (value := getattr(reading, name)) is not None},
        }
        for vehicle_id, reading in readings
    ]
    return connection.execute(_STORE, {"rows": rows}).rowcount
