"""Partitions made ahead, by day or by week, so that no point ever waits for a table.

A partition is made beside the table and attached: that passes open readers and writers, where PARTITION OF waits for
all of them. There is no DEFAULT partition: it would refuse DETACH CONCURRENTLY and hide a missing partition.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Series:
    """One time-series table: the width of its native partitions, and the span of days for which they must exist.

    `past_days` is how late a point may arrive; `ahead_days` how long the job that makes partitions may be down.
    """

    table: str
    step_days: int
    past_days: int
    ahead_days: int


SERIES = (
    Series("telemetry", step_days=1, past_days=30, ahead_days=7),
    Series("ev_metrics", step_days=7, past_days=30, ahead_days=14),
    Series("vehicle_logs", step_days=7, past_days=30, ahead_days=14),
    Series("sensor_readings", step_days=7, past_days=30, ahead_days=14),
)

_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)  # weeks start on Mondays, in UTC


@dataclass(frozen=True)
class Partition:
    """A partition and its bounds, from `start` on and before `end`, UTC."""

    name: str
    start: datetime
    end: datetime


def wanted(series: Series, now: datetime) -> list[Partition]:
    """Return the partitions that should exist at `now`, oldest first."""
    step = timedelta(days=series.step_days)
    start = _MONDAY + (now - timedelta(days=series.past_days) - _MONDAY) // step * step
    partitions = []
    while start <= now + timedelta(days=series.ahead_days):
        partitions.append(Partition(f"{series.table}_p{start:%Y%m%d}", start, start + step))
        start += step
    return partitions


def create_statements(series: Series, now: datetime, existing: set[str]) -> list[str]:
    """Return the SQL that makes each missing partition, one string a partition."""
    return [
        f"CREATE TABLE {p.name} (LIKE {series.table} INCLUDING ALL, CONSTRAINT ck_bounds"
        f" CHECK (time >= '{p.start.isoformat()}' AND time < '{p.end.isoformat()}'));"
        f"ALTER TABLE {series.table} ATTACH PARTITION {p.name}"
        f" FOR VALUES FROM ('{p.start.isoformat()}') TO ('{p.end.isoformat()}');"
        f"ALTER TABLE {p.name} DROP CONSTRAINT ck_bounds;"
        for p in wanted(series, now)
        if p.name not in existing
    ]


def has_timescale(connection: Connection) -> bool:
    """Tell which storage the migration chose, from the catalogue."""
    return connection.execute(text("SELECT to_regclass('hyper.telemetry') IS NOT NULL")).scalar_one() is True


def list_partitions(connection: Connection, table: str) -> set[str]:
    """Return the names of a table's native partitions; empty on TimescaleDB."""
    rows = connection.execute(
        text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(:table)"),
        {"table": table},
    )
    return set(rows.scalars())


def make_partitions(connection: Connection, now: datetime) -> dict[str, int]:
    """Make what is missing between each series' oldest acceptable point and its horizon.

    Runs as the owner, in the caller's transaction. Twice is harmless: a partition is known by its name.

    Returns:
        How many were made, by table; TimescaleDB makes its own, so none there.
    """
    if has_timescale(connection):
        return {}
    made = {}
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('make_partitions'))"))
    for series in SERIES:
        statements = create_statements(series, now, list_partitions(connection, series.table))
        for statement in statements:
            connection.exec_driver_sql(statement)
        made[series.table] = len(statements)
    return made


def days_ahead(connection: Connection, now: datetime) -> dict[str, float]:
    """Return for how many days from `now` each series has partitions without a gap; empty on TimescaleDB."""
    if has_timescale(connection):
        return {}
    ahead = {}
    for series in SERIES:
        existing = list_partitions(connection, series.table)
        covered = now
        for partition in wanted(series, now):
            if partition.end <= now:
                continue
            if partition.name not in existing:
                break
            covered = partition.end
        ahead[series.table] = (covered - now) / timedelta(days=1)
    return ahead
