"""Beat's scheduler: each due tick of the timetable becomes rows of the ledger. Any number of beats may run.

It is Celery's own beat process (`celery -A jobs.app beat`); only where its ticks go differs: not to the broker, which
may lose them, but into the ledger, where a tick's key is unique.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from celery.beat import Scheduler
from sqlalchemy.exc import SQLAlchemyError

from beat_schedule import TIMETABLE
from db.engine import Database
from db.queries import schedule
from jobs import process
from jobs.job import JOBS, load_jobs
from jobs.settings import get_settings
from jobs.timetable import Entry, Every, due_ticks, next_tick

_log = structlog.get_logger()
_LONGEST_REST_S = 5.0  # a new tenant's zone is noticed this soon


def timetable(overrides: list[str]) -> tuple[Entry, ...]:
    """Return the timetable, with the intervals that this deployment overrides.

    Raises:
        ValueError: an override names no entry, or no whole number of seconds.
    """
    intervals = {}
    for override in overrides:
        job, _, seconds = override.partition("=")
        if job not in {entry.job for entry in TIMETABLE} or not seconds.isdigit() or int(seconds) < 1:
            raise ValueError(f"FLEET_SCHEDULE_EVERY: expected an entry's job=seconds, got {job[:64]!r}")
        intervals[job] = int(seconds)
    return tuple(
        replace(entry, when=Every(intervals[entry.job])) if entry.job in intervals else entry for entry in TIMETABLE
    )


def write_due_ticks(database: Database, entries: tuple[Entry, ...]) -> float:
    """Write every tick that is due, one transaction an entry and zone. Returns the seconds until the next one."""
    with database.statement() as connection:
        now = schedule.read_clock(connection)
        zones = schedule.list_zones(connection)
        known = schedule.read_ticks(connection)
    rest_s = _LONGEST_REST_S
    for entry, name in _by_zone(entries, zones):
        last = known.get((entry.job, name))
        if last is None or due_ticks(entry, ZoneInfo(name), last, now)[0]:
            last = _write_entry(database, entry, name, now)
        following = next_tick(entry, ZoneInfo(name), max(last, now))
        rest_s = min(rest_s, (following - now).total_seconds())
    return max(rest_s, 0.05)


def _by_zone(entries: tuple[Entry, ...], zones: list[str]) -> Iterator[tuple[Entry, str]]:
    for entry in entries:
        for name in zones if entry.zone == "tenant" else [entry.zone]:
            yield entry, name


def _write_entry(database: Database, entry: Entry, name: str, now: datetime) -> datetime:
    job = JOBS[entry.job]
    with database.system_transaction() as connection:
        last = schedule.lock_tick(connection, entry.job, name, now)
        ticks, come_to = due_ticks(entry, ZoneInfo(name), last, now)
        for tick in ticks:
            pending, skipped = schedule.write_tick(
                connection,
                job=job.name,
                queue=job.queue,
                per=entry.per,
                zone=name if entry.zone == "tenant" else None,
                tick=tick,
                args=entry.args,
                unique_by=job.unique_by,
                priority=job.priority,
                max_attempts=job.max_attempts,
            )
            _log.info("tick", job=job.name, zone=name, tick=tick.isoformat(), runs=pending, skipped=skipped)
        if come_to != last:
            schedule.advance_tick(connection, entry.job, name, come_to)
    return come_to


class LedgerScheduler(Scheduler):
    """What `celery beat` calls: no state of its own, the ledger has it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        jobs = load_jobs()
        self._entries = timetable(get_settings().schedule_every)
        if unknown := [entry.job for entry in self._entries if entry.job not in jobs]:
            raise ValueError(f"beat_schedule.py: no such job: {', '.join(unknown)}")
        self._is_failing = False
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Nothing to set up: the timetable is a literal, its state is in the database."""

    def tick(self, *_: Any, **__: Any) -> float:
        """Write what is due; a database that is away is waited for, and caught up with when it is back."""
        try:
            rest_s = write_due_ticks(process.get_database(), self._entries)
        except SQLAlchemyError as error:
            if not self._is_failing:
                _log.warning("beat_waiting", error=type(error).__name__)
            self._is_failing = True
            return 1.0
        if self._is_failing:
            _log.info("beat_recovered")
        self._is_failing = False
        return rest_s

    @property
    def info(self) -> str:
        """What beat prints at its start."""
        return "    . timetable -> beat_schedule.py, ticks -> job_runs"
