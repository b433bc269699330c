"""Runs as an operator sees and steers them: list, read, replay, cancel, and what holds one up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PgUUID
from sqlalchemy.sql.expression import bindparam

from db.queries.ledger import NO_TENANT

MOST_BYTES = 65_536
"""Of arguments, as text."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as a line of a list; `tenant` is its slug, None for the whole platform."""

    id: UUID
    job: str
    tenant: str | None
    state: str
    attempt: int
    max_attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    counts: dict[str, int] | None
    error_type: str | None
    now: datetime


_LIST = """
    SELECT r.id, r.job, coalesce(t.slug, r.tenant_id::text), r.state, r.attempt, r.max_attempts, r.created_at,
           r.started_at, r.finished_at, r.counts, r.error ->> 'type', clock_timestamp()
    FROM job_runs r LEFT JOIN tenants t ON t.id = r.tenant_id
    WHERE {conditions}
    ORDER BY r.created_at DESC, r.id DESC LIMIT :limit
"""
_CONDITIONS = {"job": "r.job = :job", "state": "r.state = :state", "tenant_id": "r.tenant_id = :tenant_id"}


def list_runs(
    connection: Connection, *, job: str | None, state: str | None, tenant_id: UUID | None, limit: int
) -> list[RunSummary]:
    """Return the newest runs first; None does not narrow."""
    values = {"job": job, "state": state, "tenant_id": tenant_id}
    wanted = [condition for name, condition in _CONDITIONS.items() if values[name] is not None]
    statement = text(_LIST.format(conditions=" AND ".join(wanted) or "true"))
    return [RunSummary(*row) for row in connection.execute(statement, {**values, "limit": limit})]


@dataclass(frozen=True, slots=True)
class RunDetail:
    """Everything of one run. `is_paused`: its job or queue is; `now` is the database's."""

    id: UUID
    job: str
    queue: str
    tenant: str | None
    state: str
    args: dict[str, Any]
    unique_key: str | None
    tick_key: str | None
    nominal_at: datetime | None
    priority: int
    run_at: datetime
    published_at: datetime | None
    publishes: int
    attempt: int
    max_attempts: int
    snoozes: int
    rescues: int
    replays: int
    claimed_at: datetime | None
    cancel_requested_at: datetime | None
    counts: dict[str, int] | None
    progress: dict[str, Any] | None
    error: dict[str, Any] | None
    requested_by: str | None
    parent_id: UUID | None
    trace_context: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker_id: UUID | None
    worker: str | None
    worker_beat_at: datetime | None
    is_paused: bool
    now: datetime


_READ = text(
    """
    SELECT r.id, r.job, r.queue, coalesce(t.slug, r.tenant_id::text), r.state, r.args, r.unique_key, r.tick_key,
           r.nominal_at, r.priority, r.run_at, r.published_at, r.publishes, r.attempt, r.max_attempts, r.snoozes,
           r.rescues, r.replays, r.claimed_at, r.cancel_requested_at, r.counts, r.progress, r.error, r.requested_by,
           r.parent_id, r.trace_context, r.created_at, r.started_at, r.finished_at, r.worker_id,
           CASE WHEN w.id IS NOT NULL THEN format('%s, process %s on %s', w.name, w.pid, w.host) END, w.beat_at,
           EXISTS (SELECT FROM job_controls c
                   WHERE c.kind = 'job' AND c.name = r.job OR c.kind = 'queue' AND c.name = r.queue),
           clock_timestamp()
    FROM job_runs r LEFT JOIN tenants t ON t.id = r.tenant_id LEFT JOIN worker_heartbeats w ON w.id = r.worker_id
    WHERE r.id = :id
    """
)


def find_run(connection: Connection, run_id: UUID) -> RunDetail | None:
    """Return everything of a run."""
    row = connection.execute(_READ, {"id": run_id}).one_or_none()
    return None if row is None else RunDetail(*row)


_IS_NEW = text("SELECT xmin = pg_current_xact_id()::xid FROM job_runs WHERE id = :id")


def is_new(connection: Connection, run_id: UUID) -> bool:
    """Tell whether this transaction wrote the run, or found it."""
    return connection.execute(_IS_NEW, {"id": run_id}).scalar_one() is True


@dataclass(frozen=True, slots=True)
class ReplayCandidate:
    """A run that somebody wants to replay, and what would stop it.

    `is_over`: it failed or was cancelled, so that it can be. `is_too_large`: its arguments are. `blocked_by`: the run
    that holds its unique key: pending or running, or a newer one of the same request.
    """

    id: UUID
    job: str
    state: str
    error_type: str | None
    is_over: bool
    is_too_large: bool
    blocked_by: UUID | None


# What an older release took: `ck_job_runs_args_size`. Of numbers of 131,072 digits no text is made.
_IS_TOO_LARGE = f"""
    CASE WHEN pg_column_size(r.args) > {5 * MOST_BYTES}
              OR jsonb_path_exists(r.args, 'strict $.** ? (@ > 1e300 || @ < -1e300)') THEN true
         ELSE octet_length(CAST(r.args AS text)) > {MOST_BYTES} END
"""
_CANDIDATES = f"""
    WITH wanted AS (
        SELECT r.id, r.job, r.tenant_id, r.unique_key, r.state, r.error ->> 'type' AS error_type, r.created_at,
               r.state IN ('failed', 'cancelled') AS is_over, {_IS_TOO_LARGE} AS is_too_large
        FROM job_runs r WHERE {{conditions}}
    )
    SELECT w.id, w.job, w.state, w.error_type, w.is_over, w.is_too_large,
           CASE WHEN w.unique_key IS NOT NULL AND w.is_over THEN coalesce(
               (SELECT a.id FROM job_runs a
                WHERE a.job = w.job AND a.unique_key = w.unique_key AND a.state IN ('pending', 'running')
                  AND coalesce(a.tenant_id, {NO_TENANT}) = coalesce(w.tenant_id, {NO_TENANT})),
               (SELECT n.id FROM wanted n
                WHERE n.is_over AND n.job = w.job AND n.unique_key = w.unique_key
                  AND n.tenant_id IS NOT DISTINCT FROM w.tenant_id AND (n.created_at, n.id) > (w.created_at, w.id)
                ORDER BY n.created_at DESC, n.id DESC LIMIT 1))
           END
    FROM wanted w ORDER BY w.created_at, w.id
"""
_CANDIDATES_BY_ID = text(_CANDIDATES.format(conditions="r.id = ANY(:ids)")).bindparams(
    bindparam("ids", type_=ARRAY(PgUUID(as_uuid=True)))
)


def check_replay(connection: Connection, ids: Sequence[UUID]) -> list[ReplayCandidate]:
    """Return what replaying these runs would meet, oldest first."""
    return [ReplayCandidate(*row) for row in connection.execute(_CANDIDATES_BY_ID, {"ids": list(ids)})]


_CANDIDATES_OF_JOB = text(
    _CANDIDATES.format(
        conditions="""r.id IN (
            SELECT id FROM job_runs WHERE job = :job AND state = :state
               AND (CAST(:tenant_id AS uuid) IS NULL OR tenant_id = :tenant_id)
            ORDER BY finished_at LIMIT :limit)"""
    )
)


def check_replay_of_job(
    connection: Connection, job: str, state: str, tenant_id: UUID | None, limit: int
) -> list[ReplayCandidate]:
    """Return what replaying a job's runs in a state would meet: those that ended first, up to `limit`."""
    values = {"job": job, "state": state, "tenant_id": tenant_id, "limit": limit}
    return [ReplayCandidate(*row) for row in connection.execute(_CANDIDATES_OF_JOB, values)]


_REPLAY = text(
    """
    UPDATE job_runs
    SET state = 'pending', attempt = 0, rescues = 0, replays = replays + 1, run_at = clock_timestamp(),
        started_at = NULL, published_at = NULL, finished_at = NULL, cancel_requested_at = NULL,
        updated_at = clock_timestamp()
    WHERE id = ANY(:ids) AND state IN ('failed', 'cancelled')
    RETURNING id
    """
).bindparams(bindparam("ids", type_=ARRAY(PgUUID(as_uuid=True))))


def replay(connection: Connection, ids: Sequence[UUID]) -> list[UUID]:
    """Make failed or cancelled runs pending again. Returns those that were.

    Raises:
        sqlalchemy.exc.IntegrityError: one's unique key was taken since `check_replay`; none is pending.
    """
    return list(connection.execute(_REPLAY, {"ids": list(ids)}).scalars())


_CANCEL = text(
    """
    WITH wanted AS (SELECT id, state FROM job_runs WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE),
    cancelled AS (
        UPDATE job_runs r
        SET state = CASE WHEN r.state = 'pending' THEN 'cancelled' ELSE r.state END,
            finished_at = CASE WHEN r.state = 'pending' THEN clock_timestamp() END,
            published_at = NULL,
            cancel_requested_at = coalesce(r.cancel_requested_at, clock_timestamp()), updated_at = clock_timestamp()
        FROM wanted w WHERE r.id = w.id AND w.state IN ('pending', 'running')
    )
    SELECT id, state FROM wanted
    """
).bindparams(bindparam("ids", type_=ARRAY(PgUUID(as_uuid=True))))


def cancel(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Cancel what is pending at once, ask what is running to stop where it next opens a transaction.

    Returns:
        The state of each as it was before; other states than those two are left as they are.
    """
    return {row[0]: row[1] for row in connection.execute(_CANCEL, {"ids": list(ids)})}


_TABLES = {
    "job_runs": "job_runs WHERE",
    "connections": "connections WHERE deleted_at IS NULL AND",
    "vehicles": "vehicles WHERE deleted_at IS NULL AND",
    "alerts": "alerts WHERE",
    "maintenance_triggers": "maintenance_triggers WHERE",
    "meter_readings": "meter_readings WHERE",
    "work_orders": "work_orders WHERE",
    "notifications": "notifications WHERE",
    "webhook_endpoints": "webhook_endpoints WHERE deleted_at IS NULL AND",
}


def find_ids(connection: Connection, table: str, first: UUID, last: UUID) -> list[UUID]:
    """Return up to three ids of a table between two: enough to tell one from several."""
    statement = f"SELECT id FROM {_TABLES[table]} id BETWEEN :first AND :last ORDER BY id LIMIT 3"
    return list(connection.execute(text(statement), {"first": first, "last": last}).scalars())


_KNOWN_JOBS = text("SELECT EXISTS (SELECT FROM job_runs WHERE job = :job)")


def has_runs(connection: Connection, job: str) -> bool:
    """Tell whether a job ever ran here: one of an older release may have."""
    return connection.execute(_KNOWN_JOBS, {"job": job}).scalar_one() is True


def count_live_workers(connection: Connection, within_s: float) -> int:
    """Count the worker processes that gave a sign of life within that many seconds."""
    statement = text(
        """
        SELECT count(*) FROM worker_heartbeats
        WHERE stopped_at IS NULL AND beat_at > clock_timestamp() - make_interval(secs => :within_s)
        """
    )
    return int(connection.execute(statement, {"within_s": within_s}).scalar_one())
