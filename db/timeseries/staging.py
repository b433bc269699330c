"""Rows on their way into storage: packed binary COPY into temporary tables.

COPY into a table with row-level security is refused, and a packed row costs a fraction of what a driver needs to adapt
its values one by one. The temporary tables have no NULLs: NaN stands for a float that a provider did not report (none
that it did report is NaN), -infinity for an instant, 0 for a word; the statements turn them back.
"""

import struct
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection

NAN = float("nan")
ENGINE_STATES = {None: 0, "off": 1, "on": 2, "idle": 3}

_COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 0)
_COPY_END = struct.pack("!h", -1)
_POSTGRES_EPOCH_S = 946_684_800  # 2000-01-01 UTC, in seconds since 1970

# Behind a pooler they outlive the release that made them: whoever changes their columns changes their number.
_STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS staged_points_1 (
    vehicle_id uuid, time timestamptz, latitude float8, longitude float8, heading_deg float4, speed_kph float4,
    odometer_km float8, engine_hours float8, fuel_percent float4, battery_percent float4, engine_state int2, raw text
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS staged_positions_1 (
    vehicle_id uuid, time timestamptz, latitude float8, longitude float8, heading_deg float4, speed_kph float4,
    odometer_km float8, odometer_at timestamptz, engine_hours float8, engine_hours_at timestamptz,
    fuel_percent float4, fuel_at timestamptz, battery_percent float4, battery_at timestamptz,
    engine_state int2, engine_state_at timestamptz
) ON COMMIT DELETE ROWS
"""


def micros(time: datetime) -> int:
    """Return an instant as PostgreSQL counts it: microseconds since 2000, UTC."""
    return round((time.timestamp() - _POSTGRES_EPOCH_S) * 1_000_000)


def stage(connection: Connection) -> None:
    """Make the temporary tables of a page, in one round trip: once a transaction, before anything is stored."""
    connection.exec_driver_sql(_STAGE)


def copy_packed(connection: Connection, table: str, rows: Iterable[bytes]) -> None:
    """Fill a temporary table of this transaction with packed rows."""
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor().copy(f"COPY pg_temp.{table} FROM STDIN (FORMAT binary)") as copy:
        copy.write(b"".join((_COPY_HEADER, *rows, _COPY_END)))
