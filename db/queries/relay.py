"""What the relay asks: which runs to publish next, which ones Redis lost, which ones workers left behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PgUUID
from sqlalchemy.sql.expression import bindparam

MAX_RESCUES = 3
"""A run that lost its worker more often than this without progress kills workers: it becomes a dead letter."""

_NIL = "'00000000-0000-0000-0000-000000000000'::uuid"


@dataclass(frozen=True, slots=True)
class DueRun:
    """A run to publish. `alone` after a rescue or a failed try: it may be the one that took its batch down."""

    id: UUID
    tenant: str | None
    alone: bool


# A loose index scan finds the (priority, tenant) lanes that have anything due, without reading the backlog; of each
# lane at most a window is looked at, and the lanes are merged turn by turn. The arrays, and a CASE that no partial
# index promises, keep the planner on the primary key: it believes in one pending row, and would read the backlog.
_TAKE = text(
    f"""
    WITH RECURSIVE lanes AS (
        (SELECT priority, coalesce(tenant_id, {_NIL}) AS lane FROM job_runs
         WHERE job = :job AND state = 'pending' AND published_at IS NULL
         ORDER BY priority, coalesce(tenant_id, {_NIL}) LIMIT 1)
        UNION ALL
        SELECT next.priority, next.lane FROM lanes, LATERAL (
            SELECT r.priority, coalesce(r.tenant_id, {_NIL}) AS lane FROM job_runs r
            WHERE r.job = :job AND r.state = 'pending' AND r.published_at IS NULL
              AND (r.priority, coalesce(r.tenant_id, {_NIL})) > (lanes.priority, lanes.lane)
            ORDER BY r.priority, coalesce(r.tenant_id, {_NIL}) LIMIT 1) next
    ),
    turns AS (
        SELECT candidate.id, lanes.priority, candidate.run_at,
               row_number() OVER (PARTITION BY lanes.priority, lanes.lane ORDER BY candidate.run_at) AS turn
        FROM lanes, LATERAL (
            SELECT r.id, r.run_at FROM job_runs r
            WHERE r.job = :job AND r.state = 'pending' AND r.published_at IS NULL
              AND r.priority = lanes.priority AND coalesce(r.tenant_id, {_NIL}) = lanes.lane
              AND r.run_at <= clock_timestamp()
            ORDER BY r.run_at
            LIMIT (SELECT greatest(8, 4 * :wanted / count(*)) FROM lanes)) candidate
    ),
    next AS (SELECT id, priority, turn, run_at FROM turns ORDER BY priority, turn, run_at LIMIT :wanted),
    taken AS (
        SELECT r.id FROM job_runs r WHERE r.id = ANY(ARRAY(SELECT id FROM next))
          AND CASE r.state WHEN 'pending' THEN r.published_at IS NULL ELSE false END
        ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED
    ),
    published AS (
        UPDATE job_runs r SET published_at = clock_timestamp(), publishes = r.publishes + 1
        WHERE r.id = ANY(ARRAY(SELECT id FROM taken))
        RETURNING r.id, r.tenant_id, r.rescues > 0 OR r.attempt > 0 AS alone
    )
    SELECT p.id, t.slug, p.alone
    FROM published p JOIN next n ON n.id = p.id LEFT JOIN tenants t ON t.id = p.tenant_id
    ORDER BY n.priority, n.turn, n.run_at
    """
)


def take_due(connection: Connection, job: str, wanted: int) -> list[DueRun]:
    """Mark up to `wanted` due runs of a job as published, tenants in turn, and return them in that order."""
    rows = connection.execute(_TAKE, {"job": job, "wanted": wanted})
    return [DueRun(*row) for row in rows]


_WAITING = text(
    """
    WITH RECURSIVE jobs AS (
        (SELECT job FROM job_runs WHERE state = 'pending' AND published_at IS NULL ORDER BY job LIMIT 1)
        UNION ALL
        SELECT next.job FROM jobs, LATERAL (
            SELECT r.job FROM job_runs r
            WHERE r.state = 'pending' AND r.published_at IS NULL AND r.job > jobs.job ORDER BY r.job LIMIT 1) next
    )
    SELECT job, EXISTS (SELECT FROM job_definitions d WHERE d.job = jobs.job) FROM jobs WHERE NOT EXISTS (
        SELECT FROM job_controls c JOIN job_definitions d ON c.kind = 'job' AND c.name = d.job
                                                          OR c.kind = 'queue' AND c.name = d.queue
        WHERE d.job = jobs.job)
    """
)


def list_waiting_jobs(connection: Connection) -> dict[str, bool]:
    """Return the jobs, not paused, that have runs waiting to be published, due or not yet.

    Each with whether some release defined it: in a rolling deploy that may be one that this process does not know.
    """
    return {row[0]: row[1] for row in connection.execute(_WAITING)}


_OUTSTANDING = text(
    """
    SELECT job, count(*) FROM job_runs WHERE state = 'pending' AND published_at IS NOT NULL GROUP BY job
    """
)


def count_outstanding(connection: Connection) -> dict[str, int]:
    """Count what is published and not yet claimed, by job."""
    return {row[0]: row[1] for row in connection.execute(_OUTSTANDING)}


_UNPUBLISH = text("UPDATE job_runs SET published_at = NULL WHERE id = ANY(:ids) AND state = 'pending'").bindparams(
    bindparam("ids", type_=ARRAY(PgUUID(as_uuid=True)))
)


def unpublish(connection: Connection, ids: Sequence[UUID]) -> None:
    """Take back what could not be handed to the broker."""
    connection.execute(_UNPUBLISH, {"ids": list(ids)})


_UNCLAIMED_QUEUES = text(
    """
    SELECT DISTINCT queue FROM job_runs
    WHERE state = 'pending' AND published_at < clock_timestamp() - make_interval(secs => :after_s)
    """
)


def list_unclaimed_queues(connection: Connection, after_s: float) -> list[str]:
    """Return the queues of runs that were published some seconds ago and never claimed."""
    return list(connection.execute(_UNCLAIMED_QUEUES, {"after_s": after_s}).scalars())


_REPUBLISH = text(
    """
    WITH lost AS (
        SELECT id FROM job_runs
        WHERE state = 'pending' AND published_at < clock_timestamp() - make_interval(secs => :after_s)
          AND (CAST(:queues AS text[]) IS NULL OR queue = ANY(CAST(:queues AS text[])))
        ORDER BY job, published_at LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED  -- as its index: never the whole table
    )
    UPDATE job_runs SET published_at = NULL WHERE id = ANY(ARRAY(SELECT id FROM lost))
    """
)


def reclaim_unclaimed(connection: Connection, after_s: float, queues: Sequence[str] | None = None) -> int:
    """Make due again what was published and never claimed: Redis lost it, or its worker died with it in hand.

    Args:
        queues: only runs of these; None is all.
    """
    values = {"after_s": after_s, "queues": None if queues is None else list(queues)}
    return connection.execute(_REPUBLISH, values).rowcount


_RESCUE = text(
    f"""
    WITH lost AS (
        SELECT r.id, w.stopped_at IS NULL AS counts
        FROM job_runs r LEFT JOIN worker_heartbeats w ON w.id = r.worker_id
        WHERE r.state = 'running' AND (
            w.id IS NULL OR w.stopped_at IS NOT NULL
            OR w.beat_at < clock_timestamp() - make_interval(secs => :after_s)
            OR r.claimed_at < clock_timestamp() - make_interval(secs => :after_s)
               AND NOT r.claim_token = ANY(w.active)
            OR r.claimed_at < clock_timestamp() - make_interval(secs => :stuck_s))
        ORDER BY r.id LIMIT 1000 FOR NO KEY UPDATE OF r SKIP LOCKED
    )
    UPDATE job_runs r
    SET state = CASE WHEN r.cancel_requested_at IS NOT NULL THEN 'cancelled'
                     WHEN lost.counts AND r.rescues >= {MAX_RESCUES} THEN 'failed' ELSE 'pending' END,
        finished_at = CASE WHEN r.cancel_requested_at IS NOT NULL OR lost.counts AND r.rescues >= {MAX_RESCUES}
                           THEN clock_timestamp() END,
        error = CASE WHEN lost.counts AND r.rescues >= {MAX_RESCUES} THEN jsonb_build_object(
                         'type', 'Poison',
                         'message', format('its worker died %s times without progress', r.rescues + 1))
                     ELSE r.error END,
        rescues = r.rescues + lost.counts::int,
        claim_token = NULL, published_at = NULL, attempt = greatest(r.attempt - 1, 0), updated_at = clock_timestamp()
    FROM lost WHERE r.id = lost.id
    RETURNING r.id, r.job, r.state
    """
)


def rescue(connection: Connection, after_s: float, stuck_s: float) -> list[tuple[UUID, str, str]]:
    """Put back the runs whose worker is silent, left in order, or has lost sight of them. A rescue costs no try.

    Args:
        after_s: for how long a worker may be silent.
        stuck_s: for how long one claim may last, whatever its worker says: in threads nothing else ends a job.

    Returns:
        Id, job and new state of each: `pending`, `cancelled`, or `failed` after too many rescues.
    """
    return [tuple(row) for row in connection.execute(_RESCUE, {"after_s": after_s, "stuck_s": stuck_s})]


_FORGET_WORKERS = text(
    """
    DELETE FROM worker_heartbeats w
    WHERE w.beat_at < clock_timestamp() - INTERVAL '1 hour'
      AND NOT EXISTS (SELECT FROM job_runs r WHERE r.worker_id = w.id AND r.state = 'running')
    """
)


def forget_workers(connection: Connection) -> int:
    """Remove the heartbeats of workers that are long gone."""
    return connection.execute(_FORGET_WORKERS).rowcount


def server_age_s(connection: Connection) -> float:
    """Return for how long the server has been up, seconds: just after a restart every worker looks silent."""
    age = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8")
    return float(connection.execute(age).scalar_one())


_BURY = text(
    """
    UPDATE job_runs SET state = 'failed', finished_at = clock_timestamp(), published_at = NULL,
        error = jsonb_build_object('type', 'UnknownJob', 'message', format('this release has no job %s', job)),
        updated_at = clock_timestamp()
    WHERE id = ANY(:ids) AND state = 'pending'
    """
).bindparams(bindparam("ids", type_=ARRAY(PgUUID(as_uuid=True))))


def bury_unknown(connection: Connection, ids: Sequence[UUID]) -> None:
    """Make dead letters of runs whose job this release does not know; a release that does may replay them."""
    connection.execute(_BURY, {"ids": list(ids)})
