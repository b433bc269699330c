"""The life of a run: every statement that the ledger makes.

All times are the database's own (`clock_timestamp()`), so that no two machines' clocks are compared. Every statement
is one transaction by itself unless its caller opened one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PgUUID
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.expression import TextClause, bindparam

NO_TENANT = "'00000000-0000-0000-0000-000000000000'"
"""What stands for no tenant in an index, where NULL would equal nothing."""


def _sql(statement: str, *ids: str) -> TextClause:
    """Return a statement with parameters that are arrays of ids."""
    return text(statement).bindparams(*(bindparam(name, type_=ARRAY(PgUUID(as_uuid=True))) for name in ids))


def _execute(connection: Connection, statement: str, values: dict[str, Any]) -> psycopg.Cursor[Any]:
    """Execute past SQLAlchemy, which here costs more than PostgreSQL; what is raised is SQLAlchemy's all the same."""
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    try:
        return driver.execute(statement.encode(), values)
    except psycopg.Error as error:
        if driver.closed:
            connection.invalidate(error)
            connection.engine.dispose(close=False)  # the others of the pool are as dead, as SQLAlchemy would take it
        raise DBAPIError.instance(
            statement,
            values,
            error,
            psycopg.Error,
            hide_parameters=True,
            connection_invalidated=driver.closed,
            dialect=connection.dialect,
        ) from error


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run as its worker sees it."""

    id: UUID
    job: str
    tenant_id: UUID | None
    args: dict[str, Any]
    nominal_at: datetime | None
    attempt: int
    max_attempts: int
    snoozes: int
    counts: dict[str, int] | None
    progress: dict[str, Any] | None
    trace_context: str | None
    now: datetime


# A claim is not waited for to reach the disk. One that a crash of the server takes back was never made: its worker is
# fenced out, and the run is due again.
_CLAIM = """
    WITH unhurried AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
    mine AS (
        SELECT r.id FROM job_runs r
        WHERE r.id = ANY(%(ids)s) AND r.job = %(job)s AND r.state = 'pending' AND r.run_at <= clock_timestamp()
          AND NOT EXISTS (SELECT FROM job_controls c WHERE c.kind = 'job' AND c.name = %(job)s)
          AND r.queue <> ALL (ARRAY(SELECT c.name FROM job_controls c WHERE c.kind = 'queue'))
        ORDER BY r.id
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE job_runs r
    SET state = 'running', claim_token = %(token)s, worker_id = %(worker_id)s, claimed_at = clock_timestamp(),
        started_at = coalesce(r.started_at, clock_timestamp()), attempt = r.attempt + 1, published_at = NULL,
        updated_at = clock_timestamp()
    WHERE r.id = ANY(ARRAY(SELECT id FROM mine)) AND EXISTS (SELECT FROM unhurried)
    RETURNING r.id, r.job, r.tenant_id, r.args, r.nominal_at, r.attempt, r.max_attempts, r.snoozes, r.counts,
              r.progress, r.trace_context, r.claimed_at
"""
# Of an array the planner does not know the length: it plans anew each time, which costs more than to claim one run.
_CLAIM_ONE = _CLAIM.replace("= ANY(%(ids)s)", "= %(id)s")


def claim(connection: Connection, job: str, ids: Sequence[UUID], token: UUID, worker_id: UUID) -> list[ClaimedRun]:
    """Take the job's runs that are still pending and due; the rest were taken, cancelled or paused meanwhile."""
    values = {"job": job, "token": token, "worker_id": worker_id}
    if len(ids) == 1:
        rows = _execute(connection, _CLAIM_ONE, {"id": ids[0], **values})
    else:
        rows = _execute(connection, _CLAIM, {"ids": list(ids), **values})
    return [ClaimedRun(*row) for row in rows]


_FENCE = _sql(
    """
    SELECT id, cancel_requested_at IS NOT NULL FROM job_runs
    WHERE id = ANY(:ids) AND claim_token = :token AND state = 'running'
    ORDER BY id FOR NO KEY UPDATE
    """,
    "ids",
)


def fence(connection: Connection, ids: Sequence[UUID], token: UUID) -> dict[UUID, bool]:
    """Hold the caller's claim until the transaction ends: nobody can rescue what commits here.

    Returns:
        The runs that are still the caller's, each with whether somebody asked to cancel it.
    """
    rows = connection.execute(_FENCE, {"ids": list(ids), "token": token})
    return {row[0]: row[1] for row in rows}


_SUCCEED = text(
    """
    UPDATE job_runs r
    SET state = 'succeeded', finished_at = clock_timestamp(), claim_token = NULL, error = NULL,
        counts = coalesce(u.counts, r.counts), updated_at = clock_timestamp()
    FROM jsonb_to_recordset(:outcomes) AS u (id uuid, counts jsonb)
    WHERE r.id = u.id AND r.claim_token = :token AND r.state = 'running'
    """
).bindparams(bindparam("outcomes", type_=JSONB))
_SUCCEED_ALIKE = """
    UPDATE job_runs SET state = 'succeeded', finished_at = clock_timestamp(), claim_token = NULL, error = NULL,
        updated_at = clock_timestamp()
    WHERE id = ANY(%(ids)s) AND claim_token = %(token)s AND state = 'running'
"""


def succeed(connection: Connection, counts: dict[UUID, dict[str, int] | None], token: UUID) -> int:
    """Finish runs, each with its counts; None keeps what it counted. Returns how many were still the caller's."""
    if not any(counts.values()):
        return _execute(connection, _SUCCEED_ALIKE, {"ids": list(counts), "token": token}).rowcount
    outcomes = [{"id": str(run_id), "counts": run_counts} for run_id, run_counts in counts.items()]
    return connection.execute(_SUCCEED, {"outcomes": outcomes, "token": token}).rowcount


_FINISH = text(
    """
    UPDATE job_runs
    SET state = :state, finished_at = clock_timestamp(), claim_token = NULL, error = coalesce(:error, error),
        updated_at = clock_timestamp()
    WHERE id = :id AND claim_token = :token AND state = 'running'
    """
).bindparams(bindparam("error", type_=JSONB(none_as_null=True)))


def finish(connection: Connection, run_id: UUID, token: UUID, state: str, error: dict[str, str] | None) -> bool:
    """End a run as `failed`, `cancelled` or `skipped`. False means that it was no longer the caller's."""
    values = {"id": run_id, "token": token, "state": state, "error": error}
    return connection.execute(_FINISH, values).rowcount == 1


_POSTPONE = text(
    """
    UPDATE job_runs
    SET state = CASE WHEN cancel_requested_at IS NULL THEN 'pending' ELSE 'cancelled' END,
        finished_at = CASE WHEN cancel_requested_at IS NULL THEN NULL ELSE clock_timestamp() END,
        claim_token = NULL, published_at = NULL,
        run_at = clock_timestamp() + make_interval(secs => :delay_s),
        attempt = attempt - CASE WHEN :costs_a_try THEN 0 ELSE 1 END,
        snoozes = snoozes + CASE WHEN :costs_a_try THEN 0 ELSE 1 END,
        rescues = CASE WHEN :progressed THEN 0 ELSE rescues END,
        counts = coalesce(:counts, counts), progress = coalesce(:progress, progress),
        error = CASE WHEN :progressed THEN NULL ELSE coalesce(:error, error) END,
        updated_at = clock_timestamp()
    WHERE id = :id AND claim_token = :token AND state = 'running'
    """
).bindparams(*(bindparam(name, type_=JSONB(none_as_null=True)) for name in ("error", "counts", "progress")))


def postpone(
    connection: Connection,
    run_id: UUID,
    token: UUID,
    *,
    delay_s: float,
    costs_a_try: bool,
    error: dict[str, str] | None = None,
    counts: dict[str, int] | None = None,
    progress: dict[str, Any] | None = None,
    progressed: bool = False,
) -> bool:
    """Put a run back to pending: a retry, a snooze, or the next slice (`progressed`). False: no longer the caller's."""
    values = {
        "id": run_id,
        "token": token,
        "delay_s": delay_s,
        "costs_a_try": costs_a_try,
        "error": error,
        "counts": counts,
        "progress": progress,
        "progressed": progressed,
    }
    return connection.execute(_POSTPONE, values).rowcount == 1


_REPORT = text(
    """
    UPDATE job_runs
    SET counts = :counts, progress = :progress, updated_at = clock_timestamp()
    WHERE id = :id AND claim_token = :token AND state = 'running'
    """
).bindparams(bindparam("counts", type_=JSONB(none_as_null=True)), bindparam("progress", type_=JSONB(none_as_null=True)))


def report(
    connection: Connection, run_id: UUID, token: UUID, counts: dict[str, int], progress: dict[str, Any] | None
) -> bool:
    """Write how far a run has come, in the transaction of what it did. False: no longer the caller's.

    Coming further forgets the rescues before; saying the same again does not.
    """
    values = {"id": run_id, "token": token, "counts": counts, "progress": progress}
    return connection.execute(_REPORT, values).rowcount == 1


_BEAT = _sql(
    """
    INSERT INTO worker_heartbeats (id, host, pid, name, active) VALUES (:id, :host, :pid, :name, :active)
    ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp(), active = excluded.active
    """,
    "active",
)


def beat(connection: Connection, worker_id: UUID, host: str, pid: int, name: str, active: Sequence[UUID]) -> None:
    """Say that a worker process lives, and which claims it is working on."""
    values = {"id": worker_id, "host": host, "pid": pid, "name": name, "active": list(active)}
    connection.execute(_BEAT, values)


_STOP = text("UPDATE worker_heartbeats SET stopped_at = clock_timestamp(), active = '{}' WHERE id = :id")


def stop_worker(connection: Connection, worker_id: UUID) -> None:
    """Say that a worker process leaves in order: what it has not finished goes back at once and costs nothing."""
    connection.execute(_STOP, {"id": worker_id})
