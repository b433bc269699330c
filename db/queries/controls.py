"""What is paused: jobs and queues of which no run is published or claimed until they are resumed."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Control:
    """A pause; `waiting` counts the runs that it holds back."""

    kind: str
    name: str
    paused_at: datetime
    paused_by: str
    reason: str | None
    waiting: int
    now: datetime


_PAUSE = text(
    """
    INSERT INTO job_controls (kind, name, paused_by, reason) VALUES (:kind, :name, :paused_by, :reason)
    ON CONFLICT (kind, name) DO NOTHING
    """
)


def pause(connection: Connection, kind: str, name: str, paused_by: str, reason: str | None) -> bool:
    """Pause a job or queue. False: it is paused already, and stays as it was."""
    values = {"kind": kind, "name": name, "paused_by": paused_by, "reason": reason}
    return connection.execute(_PAUSE, values).rowcount == 1


_RESUME = text(
    """
    WITH resumed AS (DELETE FROM job_controls WHERE kind = :kind AND name = :name RETURNING 1)
    SELECT count(pg_notify('fleet_jobs', '')) FROM resumed
    """
)


def resume(connection: Connection, kind: str, name: str) -> bool:
    """Let a job or queue go on, and wake the relays. False: it was not paused."""
    return int(connection.execute(_RESUME, {"kind": kind, "name": name}).scalar_one()) > 0


_LIST = text(
    """
    SELECT c.kind, c.name, c.paused_at, c.paused_by, c.reason,
           (SELECT count(*) FROM job_runs r
            WHERE r.state = 'pending' AND (c.kind = 'job' AND r.job = c.name OR c.kind = 'queue' AND r.queue = c.name)),
           clock_timestamp()
    FROM job_controls c ORDER BY c.kind, c.name
    """
)


def list_paused(connection: Connection) -> list[Control]:
    """Return what is paused, jobs first."""
    return [Control(*row) for row in connection.execute(_LIST)]
