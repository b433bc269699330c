"""From a message to a recorded outcome: claim its runs, call the job, write down how each ended.

A message that brings no run of the ledger comes from a foreign Celery client: it is recorded as a run, and the relay
brings it back.
"""

import json
import random
import time
import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import structlog
from celery.exceptions import Reject, SoftTimeLimitExceeded
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.encryption import EncryptionError
from db.queries import foreign, ledger
from db.queries.ledger import ClaimedRun
from integrations.errors import IntegrationError, RateLimited, TransientError
from jobs import process
from jobs.job import Job
from jobs.outcomes import CancelRequested, ClaimLost, InvalidArguments, NextSlice, Snooze
from jobs.run import Claim, Run

_log = structlog.get_logger()

_LONGEST_DELAY_S = 600
_LONGEST_WAIT_S = 86_400.0  # a provider may ask for any number, or for none
_LARGEST_ARGS_BYTES = 65_536
_FOREIGN_WAITS_S = 1.0
_DATABASE_DOWN = (OperationalError, InterfaceError, PoolTimeout)
# Only a replica, which a primary becomes in a failover; timeouts in a transaction; shutdowns.
_ENDED_BY_SERVER = ("25006", "25P03", "57P01", "57P02", "57P03", "57P05")


def receive(job: Job, message_id: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Do what a Celery message asks for; twice is harmless, the second finds its runs claimed or recorded."""
    if "run_ids" not in kwargs:
        try:
            _record_foreign(job, message_id, args, kwargs)
        except (*_DATABASE_DOWN, InternalError) as error:
            _log.warning("foreign_message_waits", job=job.name, error=type(error).__name__)
            time.sleep(_FOREIGN_WAITS_S)
            raise Reject("the database is away", requeue=True) from None  # the message is all there is of the run
        return
    given = kwargs["run_ids"]
    ids = [_as_uuid(each) for each in given] if isinstance(given, list) else [None]
    if None in ids:
        _record_foreign(job, message_id, args, {}, problem=f"{job.name}: run_ids: expected a list of uuids")
    else:
        execute(job, [each for each in ids if each is not None])


def execute(job: Job, ids: list[UUID]) -> None:
    """Claim runs of one job and bring each to its outcome, tenant by tenant."""
    heartbeat, database, token = process.get_heartbeat(), process.get_database(), uuid4()
    with heartbeat.working_on(token):
        with database.statement() as connection:
            rows = ledger.claim(connection, job.name, ids, token, heartbeat.worker_id)
        by_tenant: dict[UUID | None, list[ClaimedRun]] = defaultdict(list)
        for row in rows:
            by_tenant[row.tenant_id].append(row)
        for tenant_id, group in by_tenant.items():
            claim = Claim(database, tenant_id, token, [row.id for row in group])
            if len(group) == 1:
                _execute_alone(job, group[0], claim)
            else:
                _execute_batch(job, group, claim)


def _execute_alone(job: Job, row: ClaimedRun, claim: Claim) -> None:
    run = Run(row, claim)
    tenant = None if run.tenant_id is None else str(run.tenant_id)
    with structlog.contextvars.bound_contextvars(run=str(run.id), job=job.name, tenant=tenant):
        try:
            outcome = job.function(run, **job.contract.parse(row.args))
            if not run.is_recorded:
                with claim.database.statement() as connection:
                    _record(connection, run, claim, outcome)
        except Exception as error:  # also an outcome that cannot be recorded
            _record_failure(job, run, claim, error)


def _execute_batch(job: Job, rows: list[ClaimedRun], claim: Claim) -> None:
    failed: list[tuple[Run, Exception]] = []
    done: dict[UUID, dict[str, int] | None] = {}
    try:
        with ExitStack() as stack:
            for row in rows:
                run = Run(row, claim, stack)
                try:
                    outcome = job.function(run, **job.contract.parse(row.args))
                    if isinstance(outcome, NextSlice):
                        raise TypeError(f"{job.name}: a job in batches has no slices")
                    run.add(outcome or {})
                except (*_DATABASE_DOWN, ClaimLost):
                    raise
                except Exception as error:
                    if claim.shared is not None and claim.shared.invalidated:
                        raise  # the server ended the session: the others' effects are gone too
                    failed.append((run, error))
                else:
                    done[run.id] = run.counts or None
            if claim.shared is not None and done:
                ledger.succeed(claim.shared, done, claim.token)
    except Exception as error:  # the shared transaction is gone, and with it what every run did
        for row in rows:
            _record_failure(job, Run(row, claim), claim, error)
        return
    if claim.shared is None and done:
        with claim.database.statement() as connection:
            ledger.succeed(connection, done, claim.token)
    for run, why in failed:
        _record_failure(job, run, claim, why)


def _record(connection: Connection, run: Run, claim: Claim, outcome: Any) -> None:
    if isinstance(outcome, NextSlice):
        run.add(outcome.counts)
        ledger.postpone(
            connection,
            run.id,
            claim.token,
            delay_s=0,
            costs_a_try=False,
            counts=run.counts,
            progress=run.progress | outcome.progress,
            progressed=True,
        )
    else:
        run.add(outcome or {})
        ledger.succeed(connection, {run.id: run.counts or None}, claim.token)


def _record_failure(job: Job, run: Run, claim: Claim, error: Exception) -> None:
    """Sort an error by what follows from it, and write that down.

    Where the database is away nothing can be written: the relay finds the run without an owner, and rescues it.
    """
    try:
        with claim.database.statement() as connection:
            _write_failure(connection, job, run, claim, error)
    except _DATABASE_DOWN:
        _log.warning("outcome_not_recorded", error=type(error).__name__)


def _write_failure(connection: Connection, job: Job, run: Run, claim: Claim, error: Exception) -> None:
    if isinstance(error, ClaimLost):
        _log.warning("claim_lost")
        return
    if isinstance(error, CancelRequested):
        ledger.finish(connection, run.id, claim.token, "cancelled", None)
        return
    if isinstance(error, Snooze | RateLimited):
        asked_s = error.delay_s if isinstance(error, Snooze) else error.retry_after_s
        delay_s = min(max(0.0, asked_s), _LONGEST_WAIT_S)
        ledger.postpone(connection, run.id, claim.token, delay_s=delay_s, costs_a_try=False, error=describe(error))
        return
    if _may_work_later(error) and run.attempt < run.max_attempts:
        delay_s = retry_delay_s(job.retry_s, run.attempt)
        _log.info("run_retries", error=type(error).__name__, attempt=run.attempt, delay_s=round(delay_s, 1))
        ledger.postpone(connection, run.id, claim.token, delay_s=delay_s, costs_a_try=True, error=describe(error))
        return
    _log.error("run_failed", **{f"error_{name}": value for name, value in describe(error).items()})
    ledger.finish(connection, run.id, claim.token, "failed", describe(error))


def _may_work_later(error: Exception) -> bool:
    if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _ENDED_BY_SERVER:
        return True
    return isinstance(error, TransientError | SoftTimeLimitExceeded | _DATABASE_DOWN[0] | InterfaceError | PoolTimeout)


def retry_delay_s(first_s: float, attempt: int) -> float:
    """Return how long to wait after failed try number `attempt`: doubled each time, jittered by a half either way."""
    return min(_LONGEST_DELAY_S, first_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.5)  # noqa: S311


def describe(error: Exception) -> dict[str, str]:
    """Return an error as it may be kept and shown: words of ours whole, of others only where, never their values.

    A foreign message may quote a row, a person or a secret; the traceback's frames say enough to find the bug.
    """
    ours = isinstance(error, IntegrationError | InvalidArguments | Snooze | EncryptionError)
    described = {"type": type(error).__name__}
    if ours:
        described["message"] = _storable(str(error)[:1000])
    elif isinstance(error, DBAPIError):
        diagnostic = getattr(error.orig, "diag", None)
        described["message"] = "; ".join(
            f"{name} {value}"
            for name, value in (
                ("sqlstate", getattr(error.orig, "sqlstate", None)),
                ("table", getattr(diagnostic, "table_name", None)),
                ("constraint", getattr(diagnostic, "constraint_name", None)),
            )
            if value
        )
    if not ours:
        frames = traceback.format_list(traceback.extract_tb(error.__traceback__)[-12:])
        described["traceback"] = "".join(frames)[-4000:]
    return described


def _storable(text: str) -> str:
    """Return a text without what PostgreSQL cannot keep: NUL, and half of a surrogate pair."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _record_foreign(
    job: Job, message_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], problem: str | None = None
) -> None:
    given = dict(kwargs)
    tenant_id = given.pop("tenant_id", None)
    run_id = _as_uuid(message_id) or uuid5(NAMESPACE_OID, message_id)
    if unstorable := _why_unstorable(given):
        problem, given = f"{job.name}: arguments: {unstorable}", {}
    elif args:
        problem = f"{job.name}: arguments: expected by name, got {len(args)} by position"
    elif not job.is_public:
        problem = f"{job.name}: not a job that other applications may enqueue"
    elif tenant_id is not None and _as_uuid(tenant_id) is None:
        problem = f"{job.name}: tenant_id: expected uuid, got {type(tenant_id).__name__}"
    with process.get_database().statement() as connection:
        problem = problem or foreign.record(connection, run_id, job.name, _as_uuid(tenant_id), given)
        if problem:
            _log.warning("foreign_message_refused", job=job.name, problem=problem)
            foreign.record_refused(connection, run_id, job.name, job.queue, given, problem)


def keep_unknown(name: str, message_id: str, payload: Any) -> None:
    """Keep a message for a job that this release does not have as a dead letter, instead of a line in a log.

    One of the relay's is not kept: its runs are in the ledger, and a newer worker will have them.
    """
    kwargs = payload[1] if isinstance(payload, list | tuple) and len(payload) > 1 else {}
    if isinstance(kwargs, dict) and "run_ids" in kwargs:
        return
    given = kwargs if isinstance(kwargs, dict) and not _why_unstorable(kwargs) else {}
    shown = _storable(name[:200])
    with process.get_database().statement() as connection:
        run_id = _as_uuid(message_id) or uuid5(NAMESPACE_OID, message_id)
        foreign.record_refused(connection, run_id, shown, "unknown", given, f"{shown}: this release has no such job")


def _why_unstorable(given: Mapping[str, Any]) -> str | None:
    """Return why not even a dead letter could keep the arguments, or None."""
    try:
        written = json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # not a number, or half of a surrogate pair
        return "a value that cannot be stored"
    if b"\\u0000" in written:
        return "a value that cannot be stored"
    return f"more than {_LARGEST_ARGS_BYTES} bytes" if len(written) > _LARGEST_ARGS_BYTES else None


def _as_uuid(value: object) -> UUID | None:
    try:
        return UUID(str(value)) if value is not None else None
    except ValueError:
        return None
