"""What the live screen shows, read from the database as any dashboard could."""

from dataclasses import dataclass, field
from datetime import datetime

import psycopg


@dataclass(frozen=True)
class Connection:
    """One account and how fresh it is; None where it was never synced. `points` is what its syncs wrote."""

    tenant: str
    provider: str
    status: str
    last_synced_at: datetime | None
    newest_point_at: datetime | None
    points: int


@dataclass(frozen=True)
class Figures:
    """The state of the platform at `now`, the server's clock; runs are those of this session."""

    now: datetime
    vehicles: int
    points: int
    dead_letters: int
    rejected: int
    geofence_events: int
    work_orders: int
    notifications: dict[str, int]
    runs: dict[str, dict[str, int]] = field(default_factory=dict)
    connections: list[Connection] = field(default_factory=list)
    alerts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of each kind, how many were opened in this session, and how many are open."""

    def by_state(self) -> dict[str, int]:
        """Return the runs of all jobs by state."""
        total: dict[str, int] = {}
        for states in self.runs.values():
            for state, count in states.items():
                total[state] = total.get(state, 0) + count
        return total

    def by_provider(self) -> dict[str, int]:
        """Return the points that were written by provider."""
        total: dict[str, int] = {}
        for one in self.connections:
            total[one.provider] = total.get(one.provider, 0) + one.points
        return total


# `points` is what the syncs wrote, a point that a later page enriched twice: a count over the table is for the end.
_TOTALS = """
    SELECT clock_timestamp(),
           (SELECT count(*) FROM vehicles WHERE deleted_at IS NULL),
           (SELECT coalesce(sum(points), 0)::bigint FROM sync_cursors),
           (SELECT count(*) FROM job_runs WHERE state = 'failed'),
           (SELECT count(*) FROM rejected_records),
           (SELECT count(*) FROM geofence_events),
           (SELECT count(*) FROM work_orders)
"""
_RUNS = """
    SELECT job, state, count(*) FROM job_runs
    WHERE state IN ('pending', 'running')
       OR created_at >= %(since)s::timestamptz - interval '1 hour' AND finished_at >= %(since)s
    GROUP BY job, state ORDER BY job, state
"""
_CONNECTIONS = """
    SELECT t.name, c.provider, c.status, c.last_synced_at, c.newest_point_at,
           (SELECT coalesce(sum(points), 0)::bigint FROM sync_cursors s WHERE s.connection_id = c.id)
    FROM connections c JOIN tenants t ON t.id = c.tenant_id
    WHERE c.deleted_at IS NULL ORDER BY t.name, c.provider, c.name
"""
_NOTIFICATIONS = "SELECT state, count(*) FROM notifications GROUP BY state ORDER BY state"
_ALERTS = """
    SELECT kind, count(*) FILTER (WHERE created_at >= %(since)s), count(*) FILTER (WHERE resolved_at IS NULL)
    FROM alerts GROUP BY kind ORDER BY kind
"""


def read_figures(connection: psycopg.Connection, since: datetime) -> Figures:
    """Return the figures; `since` is when this session started, by the server's clock."""
    totals = connection.execute(_TOTALS).fetchone()
    assert totals is not None
    runs: dict[str, dict[str, int]] = {}
    for job, state, count in connection.execute(_RUNS, {"since": since}):
        runs.setdefault(job, {})[state] = count
    connections = [Connection(*row) for row in connection.execute(_CONNECTIONS)]
    alerts = {kind: (opened, still) for kind, opened, still in connection.execute(_ALERTS, {"since": since})}
    notifications: dict[str, int] = dict(connection.execute(_NOTIFICATIONS))
    now, vehicles, points, dead_letters, rejected, geofence_events, work_orders = totals
    return Figures(
        now,
        vehicles,
        points,
        dead_letters,
        rejected,
        geofence_events,
        work_orders,
        notifications,
        runs,
        connections,
        alerts,
    )


def count_points(connection: psycopg.Connection) -> int:
    """Count the stored points themselves; reads the whole table."""
    row = connection.execute("SELECT count(*) FROM telemetry").fetchone()
    assert row is not None
    return int(row[0])


def read_clock(connection: psycopg.Connection) -> datetime:
    """Return the server's clock."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now
