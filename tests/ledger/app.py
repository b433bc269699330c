"""The platform with jobs that misbehave on request: `celery -A tests.ledger.app worker|beat`.

Imported by child processes only, so that no test sees these jobs among the platform's own.
"""

import os
import signal
import threading
import time
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

import beat_schedule
from jobs.queues import ROUTES
from jobs.timetable import Entry, Every

ROUTES["test"] = "lifecycle"
beat_schedule.TIMETABLE = (Entry("test.tick", Every(1), catch_up="all"),)  # type: ignore[assignment]

from integrations.errors import PermanentError, RateLimited, TransientError  # noqa: E402
from jobs.app import app  # noqa: E402
from jobs.job import job  # noqa: E402
from jobs.outcomes import Counts, NextSlice, Snooze  # noqa: E402
from jobs.run import Run  # noqa: E402

__all__ = ["app"]

_EFFECT = text("INSERT INTO effects (run_id, kind, place) VALUES (:run_id, :kind, :place)")
_KEYED = text("INSERT INTO keyed_effects (run_id) VALUES (:run_id) ON CONFLICT DO NOTHING")


def _leave_effect(connection: Connection, run: Run, place: int = 0) -> None:
    connection.execute(_EFFECT, {"run_id": run.id, "kind": run.job.partition(".")[2], "place": place})


@job("test.effect", is_public=True, max_attempts=30, retry_s=0.2)
def effect(run: Run, work_ms: int = 0) -> Counts:
    """Leave an effect and finish in one transaction.

    Twice is harmless: the effect commits with the outcome or not at all, so it needs no key of its own.
    """
    time.sleep(work_ms / 1000)
    with run.transaction() as connection:
        _leave_effect(connection, run)
        run.add({"effects": 1})
        run.succeed(connection)
    return {}


@job("test.keyed", is_public=True, max_attempts=30, retry_s=0.2)
def keyed(run: Run, work_ms: int = 0) -> Counts:
    """Leave an effect with a natural key; the outcome is recorded afterwards.

    Twice is harmless: `keyed_effects` has one row a run.
    """
    with run.transaction() as connection:
        written = connection.execute(_KEYED, {"run_id": run.id}).rowcount
    time.sleep(work_ms / 1000)
    return {"effects": written}


@job("test.batched", batch=20, is_public=True, max_attempts=30, retry_s=0.2)
def batched(run: Run, work_ms: int = 0, how: str = "") -> Counts:
    """Leave an effect in the batch's one transaction, then fail if asked to.

    Twice is harmless: effect and outcome of the whole batch commit together.
    """
    time.sleep(work_ms / 1000)
    with run.transaction() as connection:
        _leave_effect(connection, run)
        _misbehave(connection, how, run)
    return {"effects": 1}


@job("test.slices", is_public=True, max_attempts=30, retry_s=0.2)
def slices(run: Run, of: int, work_ms: int = 0) -> Counts | NextSlice:
    """Leave one effect a slice.

    Twice is harmless: progress is written in the transaction of the slice's effect.
    """
    place = run.progress.get("place", 0)
    if place < of:
        with run.transaction() as connection:
            _leave_effect(connection, run, place)
            place += 1
            run.report(connection, {"effects": 1}, place=place)
        time.sleep(work_ms / 1000)
    return NextSlice({"slices": 1}, {"place": place}) if place < of else {"slices": 1}


@job("test.tick", scope="system", max_attempts=30, retry_s=0.2)
def tick(run: Run) -> Counts:
    """Leave an effect for a tick of the timetable.

    Twice is harmless: effect and outcome commit together.
    """
    with run.transaction() as connection:
        _leave_effect(connection, run)
        run.succeed(connection)
    return {}


@job("test.fail", is_public=True, max_attempts=3, retry_s=0.4)
def fail(run: Run, how: str, times: int = 1000) -> Counts:
    """Leave an effect, misbehave as asked in the same transaction for some tries, then succeed.

    Twice is harmless: what misbehaves rolls its effect back.
    """
    tries = int(run.progress.get("tries", 0)) + 1
    with run.transaction() as connection:
        run.report(connection, {}, tries=tries)
    with run.transaction() as connection:
        _leave_effect(connection, run)
        if tries <= times:
            _misbehave(connection, how, run)
    return {"tries": tries}


@job("test.answer", is_public=True)
def answer(run: Run, what: str) -> Any:
    """Return what no job may return. Twice is harmless: it does nothing."""
    return {
        "a number": 7,
        "a word as a count": {"rows": "many"},
        "a count that is not a number": {"rows": None},
        "an instant in the progress": NextSlice({}, {"at": run.now}),
        "an unspeakable character in the progress": NextSlice({}, {"at": "\0"}),
        "not a number": {"rows": float("nan")},
        "a list": ["rows"],
    }[what]


@job("test.poison", is_public=True, max_attempts=3)
def poison(run: Run, reports: bool = False) -> Counts:
    """Kill the process, after reporting the same progress as ever if asked to. Twice is what it is for."""
    if reports:
        with run.transaction() as connection:
            run.report(connection, {}, place=1)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@job("test.poisoned", batch=20, is_public=True, max_attempts=3)
def poisoned(run: Run, is_poison: bool = False) -> Counts:
    """Leave an effect, or kill the process and the batch with it. Twice is harmless: the batch is one transaction."""
    if is_poison:
        os.kill(os.getpid(), signal.SIGKILL)
    with run.transaction() as connection:
        _leave_effect(connection, run)
    return {"effects": 1}


@job("test.wait", is_public=True, max_attempts=5, retry_s=0.2)
def wait(run: Run, path: str, inside: bool = False) -> Counts:
    """Say who runs, wait until the file at `path` is gone, inside or before the transaction, and leave an effect.

    Twice is harmless: effect and outcome commit together.
    """
    if not inside:
        _wait_for(path)
    with run.transaction() as connection:
        _leave_effect(connection, run)
        if inside:
            _wait_for(path)
        run.succeed(connection)
    return {}


@job("test.one_at_a_time", is_public=True, unique_by=("vehicle_id",))
def one_at_a_time(run: Run, vehicle_id: UUID, path: str) -> Counts:
    """Wait until the file at `path` is gone. Twice is harmless: it does nothing."""
    _wait_for(path)
    return {}


@job("test.types", is_public=True)
def types(
    run: Run,
    a_uuid: UUID,
    a_string: str,
    an_integer: int,
    a_number: float,
    a_boolean: bool,
    a_date: date,
    a_datetime: datetime,
    an_option: int = 7,
) -> Counts:
    """Take one argument of each type. Twice is harmless: it does nothing."""
    return {"option": an_option}


@job("test.private")
def private(run: Run) -> Counts:
    """Do nothing, and not for other applications. Twice is harmless."""
    return {}


@job("test.platform_wide", scope="system", is_public=True)
def platform_wide(run: Run) -> Counts:
    """Do nothing for the whole platform. Twice is harmless."""
    return {}


def _wait_for(path: str) -> None:
    file = Path(path)
    file.with_suffix(f".{os.getpid()}.{threading.get_native_id()}").touch()
    while file.exists():
        time.sleep(0.01)


def _misbehave(connection: Connection, how: str, run: Run) -> None:
    person = "Ada Lovelace"
    if how == "transient":
        raise TransientError("the provider answered 503")
    if how == "limited":
        raise RateLimited("told to wait", 0.3)
    if how == "limited for ever":
        raise RateLimited("told to wait", float("inf"))
    if how == "snooze":
        raise Snooze(0.3, "nothing to do yet")
    if how == "permanent":
        raise PermanentError("the provider answered 404")
    if how == "unspeakable":
        raise PermanentError("the provider answered \0")
    if how == "unknown":
        raise RuntimeError(f"cannot greet {person}")
    if how == "constraint":
        connection.execute(text("INSERT INTO people (name) VALUES (:name), (:name)"), {"name": person})
    if how == "statement":
        connection.execute(text("SELECT CAST(:name AS integer)"), {"name": person})
    if how == "session ended":
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    if how == "transaction timeout" and run.attempt == 1:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
        time.sleep(0.5)
        connection.execute(text("SELECT 1"))
    if how == "deadlock":
        connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $$"))
    if how == "soft time limit":
        from celery.exceptions import SoftTimeLimitExceeded

        raise SoftTimeLimitExceeded
