"""Enqueue from Python, inside the caller's own transaction: the run exists if and only if that commits."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import bindparam

from jobs.job import Job

_ENQUEUE = text(
    """
    SELECT enqueue_job(:job, :args, unique_key => :unique_key, run_at => :run_at, priority => :priority,
                       tenant_id => :tenant_id, requested_by => :requested_by, parent_id => :parent_id)
    """
).bindparams(bindparam("args", type_=JSONB))
_ENQUEUE_MANY = text(
    "SELECT enqueue_jobs(:job, :args, run_at => :run_at, priority => :priority, tenant_id => :tenant_id,"
    " requested_by => :requested_by)"
).bindparams(bindparam("args", type_=ARRAY(JSONB)))


def enqueue(
    connection: Connection | Session,
    job: Job,
    args: dict[str, Any] | None = None,
    *,
    tenant_id: UUID | None = None,
    unique_key: str | None = None,
    run_at: datetime | None = None,
    priority: int | None = None,
    requested_by: str | None = None,
    parent_id: UUID | None = None,
) -> UUID:
    """Enqueue one run in the caller's transaction.

    Args:
        tenant_id: only where the transaction has no tenant of its own, and the role sees all.
        unique_key: at most one pending or running run has it; only for jobs without a key of their own.
        run_at: not before; now if None.

    Returns:
        The run's id; that of the pending or running one where the unique key is taken.

    Raises:
        InvalidArguments: the arguments break the job's contract; nothing was sent to the database.
        sqlalchemy.exc.DBAPIError: the database refuses: another tenant (42501), no such job (42704).
    """
    plain = _plain(args or {})
    job.contract.parse(plain)
    values = {
        "job": job.name,
        "args": plain,
        "unique_key": unique_key,
        "run_at": run_at,
        "priority": priority,
        "tenant_id": tenant_id,
        "requested_by": requested_by,
        "parent_id": parent_id,
    }
    run_id: UUID = connection.execute(_ENQUEUE, values).scalar_one()
    return run_id


def enqueue_many(
    connection: Connection | Session,
    job: Job,
    args: Sequence[dict[str, Any]],
    *,
    tenant_id: UUID | None = None,
    run_at: datetime | None = None,
    priority: int | None = None,
    requested_by: str | None = None,
) -> int:
    """Enqueue thousands of runs with one statement, all or none. Returns how many are new."""
    plain = [_plain(each) for each in args]
    for each in plain:
        job.contract.parse(each)
    values = {
        "job": job.name,
        "args": plain,
        "run_at": run_at,
        "priority": priority,
        "tenant_id": tenant_id,
        "requested_by": requested_by,
    }
    return int(connection.execute(_ENQUEUE_MANY, values).scalar_one())


def _plain(args: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, date) else str(value) if isinstance(value, UUID) else value
        for name, value in args.items()
    }
