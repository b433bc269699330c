"""Ticks as rows: how far each entry has come, and the runs that a tick asks for."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT
from sqlalchemy.sql.expression import TextClause, bindparam


def read_clock(connection: Connection) -> datetime:
    """Return the database's time: what every beat goes by, whatever its own clock shows."""
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def list_zones(connection: Connection) -> list[str]:
    """Return the time zones in which active tenants live."""
    zones = text("SELECT DISTINCT time_zone FROM tenants WHERE is_active AND deleted_at IS NULL ORDER BY 1")
    return list(connection.execute(zones).scalars())


def read_ticks(connection: Connection) -> dict[tuple[str, str], datetime]:
    """Return how far each entry has come in each zone."""
    rows = connection.execute(text("SELECT entry, time_zone, last_tick_at FROM schedule_ticks"))
    return {(row[0], row[1]): row[2] for row in rows}


_LOCK = text(
    """
    SELECT last_tick_at FROM schedule_ticks WHERE entry = :entry AND time_zone = :zone FOR UPDATE
    """
)
_START = text(
    """
    INSERT INTO schedule_ticks (entry, time_zone, last_tick_at) VALUES (:entry, :zone, :now) ON CONFLICT DO NOTHING
    """
)


def lock_tick(connection: Connection, entry: str, zone: str, now: datetime) -> datetime:
    """Return how far an entry has come in a zone, held against other beats. An entry that is new starts at `now`."""
    connection.execute(_START, {"entry": entry, "zone": zone, "now": now})
    last: datetime = connection.execute(_LOCK, {"entry": entry, "zone": zone}).scalar_one()
    return last


def advance_tick(connection: Connection, entry: str, zone: str, last: datetime) -> None:
    """Write how far an entry has come in a zone."""
    connection.execute(
        text(
            "UPDATE schedule_ticks SET last_tick_at = :last, updated_at = now()"
            " WHERE entry = :entry AND time_zone = :zone"
        ),
        {"entry": entry, "zone": zone, "last": last},
    )


# In whose zone a subject lives matters only where the entry ticks by the tenant's clock.
_SUBJECTS = {
    "platform": "SELECT NULL::uuid AS tenant_id, 'platform' AS subject, '{}'::jsonb AS args",
    "tenant": """
        SELECT t.id AS tenant_id, t.id::text AS subject, '{}'::jsonb AS args
        FROM tenants t WHERE t.is_active AND t.deleted_at IS NULL AND (:zone IS NULL OR t.time_zone = :zone)
    """,
    "connection": """
        SELECT t.id AS tenant_id, c.id::text AS subject, jsonb_build_object('connection_id', c.id) AS args
        FROM connections c JOIN tenants t ON t.id = c.tenant_id
        WHERE c.status = 'active' AND c.deleted_at IS NULL AND t.is_active AND t.deleted_at IS NULL
          AND (:zone IS NULL OR t.time_zone = :zone)
    """,
}

# First as pending; where the unique key is taken by a run that is still pending or running, the tick is kept as
# skipped, so that every tick has exactly one row.
_WRITE = """
    WITH subjects AS ({subjects}),
    wanted AS (
        SELECT :job || '/' || subject || '/' || :tick_name AS tick_key, tenant_id,
               args || CAST(:args AS jsonb) AS args
        FROM subjects
    )
    INSERT INTO job_runs (job, queue, tenant_id, args, unique_key, tick_key, nominal_at, priority, max_attempts,
                          requested_by, state, finished_at, error)
    SELECT :job, :queue, w.tenant_id, w.args, {unique_key}, w.tick_key, :tick, :priority, :max_attempts, 'beat',
           {state}
    FROM wanted w WHERE NOT EXISTS (SELECT FROM job_runs r WHERE r.tick_key = w.tick_key)
    ON CONFLICT DO NOTHING
"""
_AS_PENDING = {"unique_key": "job_unique_key(:unique_by, w.args)", "state": "'pending', NULL, NULL"}
_AS_SKIPPED = {
    "unique_key": "NULL",
    "state": """'skipped', clock_timestamp(),
           jsonb_build_object('type', 'Skipped', 'message', 'the run before is not over')""",
}


def _write_statement(per: str, form: dict[str, str]) -> TextClause:
    subjects = _SUBJECTS[per].replace(":zone", "CAST(:zone AS text)")
    statement = text(_WRITE.format(subjects=subjects, **form)).bindparams(bindparam("args", type_=JSONB))
    if form is _AS_PENDING:
        statement = statement.bindparams(bindparam("unique_by", type_=ARRAY(TEXT)))
    return statement


_STATEMENTS = {per: (_write_statement(per, _AS_PENDING), _write_statement(per, _AS_SKIPPED)) for per in _SUBJECTS}


def write_tick(
    connection: Connection,
    *,
    job: str,
    queue: str,
    per: str,
    zone: str | None,
    tick: datetime,
    args: dict[str, Any],
    unique_by: tuple[str, ...] | None,
    priority: int,
    max_attempts: int,
) -> tuple[int, int]:
    """Write one run per subject for a tick; twice is harmless, a tick's key is unique.

    Args:
        per: `platform`, `tenant` or `connection`.
        zone: only subjects whose tenant lives there; None is all.

    Returns:
        How many are pending, how many were skipped because the run before is not over.
    """
    values = {
        "job": job,
        "queue": queue,
        "zone": zone,
        "tick": tick,
        "tick_name": f"{tick:%Y-%m-%dT%H:%M:%SZ}",
        "args": args,
        "unique_by": None if unique_by is None else list(unique_by),
        "priority": priority,
        "max_attempts": max_attempts,
    }
    as_pending, as_skipped = _STATEMENTS[per]
    pending = connection.execute(as_pending, values).rowcount
    return pending, connection.execute(as_skipped, values).rowcount
