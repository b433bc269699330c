"""Runs that arrived as plain Celery messages of other applications."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DataError, ProgrammingError
from sqlalchemy.sql.expression import bindparam

_RECORD = text(
    """
    SELECT enqueue_job(:job, :args, tenant_id => :tenant_id, run_id => :run_id, requested_by => 'celery message')
    """
).bindparams(bindparam("args", type_=JSONB))

_REFUSED = text(
    """
    INSERT INTO job_runs (id, job, queue, args, state, finished_at, requested_by, error)
    VALUES (:run_id, :job, :queue, CASE WHEN pg_column_size(:args) <= 65536 THEN :args ELSE '{}' END, 'failed',
            clock_timestamp(), 'celery message',
            jsonb_build_object('type', 'InvalidArguments', 'message', CAST(:problem AS text)))
    ON CONFLICT DO NOTHING
    """
).bindparams(bindparam("args", type_=JSONB))


def record(connection: Connection, run_id: UUID, job: str, tenant_id: UUID | None, args: dict[str, Any]) -> str | None:
    """Write a message as a pending run; the message's id makes a second delivery a no-op.

    Returns:
        None, or what is wrong with the message.
    """
    values = {"job": job, "args": args, "tenant_id": tenant_id, "run_id": run_id}
    try:
        connection.execute(_RECORD, values)
    except (DataError, ProgrammingError) as error:
        diagnostic = getattr(error.orig, "diag", None)
        return str(getattr(diagnostic, "message_primary", None) or type(error).__name__)
    return None


def record_refused(
    connection: Connection, run_id: UUID, job: str, queue: str, args: dict[str, Any], problem: str
) -> None:
    """Keep a message that can never run as a dead letter with its reason, and its arguments where they fit a run."""
    values = {"run_id": run_id, "job": job, "queue": queue, "args": args, "problem": problem}
    connection.execute(_REFUSED, values)
