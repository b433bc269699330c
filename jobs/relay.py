"""The relay: due rows become messages, and what Redis or a worker lost becomes due again. Any number may run.

What it keeps published and unclaimed is a window per job that opens while the workers keep up and closes when they do
not: the backlog stays in the database, where order and fairness between tenants are decided, and a flushed Redis loses
a handful of wake-ups.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import structlog
from celery import Celery
from kombu.exceptions import BatchPublishError
from kombu.exceptions import OperationalError as BrokerDown
from kombu.messaging import Producer
from redis.exceptions import RedisError
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from db.engine import CONNECT_TIMEOUT_S, Database
from db.queries import relay
from db.queries.relay import DueRun
from jobs.job import Job
from jobs.settings import Settings

_log = structlog.get_logger()

_SMALLEST_WINDOW, _MOST_RUNS = 8, 6400
_BUSY_PAUSE_S = 0.02
_NO_CLAIMS_S = 1.0
_RECONCILE_EVERY_S = 1.0
_MISSED_AFTER_S = 2.0
_FORGET_EVERY_S = 600.0


@dataclass
class Window:
    """How many messages of one job may be published and unclaimed: doubled when all were claimed, halved when none."""

    limit: int
    size: int = _SMALLEST_WINDOW
    seen: int = 0
    claimed_at: float = 0.0

    def room(self, outstanding: int, now: float) -> int:
        """Return how many more messages may be published now: none before half of the window was claimed.

        So a statement takes many runs, also where each travels alone.
        """
        if outstanding < self.seen or outstanding == 0:
            self.claimed_at = now
        elif now - self.claimed_at >= _NO_CLAIMS_S:
            self.size = max(self.size // 2, _SMALLEST_WINDOW)
            self.claimed_at = now
        if outstanding == 0:
            self.size = min(self.size * 2, self.limit)
        self.seen = outstanding
        return self.size - outstanding if outstanding <= self.size // 2 else 0


class Relay:
    """Publishes and reconciles until `stop()`.

    Args:
        database: as fleet_system, direct.
        app: the Celery application.
        jobs: every job that this release knows, by name.
    """

    def __init__(self, database: Database, app: Celery, jobs: dict[str, Job], settings: Settings) -> None:
        self._database = database
        self._app = app
        self._jobs = jobs
        self._settings = settings
        self._windows = {name: Window(_largest_window(job, settings)) for name, job in jobs.items()}
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._healthy_since = time.monotonic()
        self._reconciled_at = self._forgot_at = 0.0
        self._failing: str | None = None

    def stop(self) -> None:
        """Ask the loop to end after what it is doing."""
        self._stopped.set()
        self._wake.set()

    def run(self) -> None:
        """Relay until stopped; a database or broker that is away is waited for."""
        listener = threading.Thread(target=self._listen, name="relay-listen", daemon=True)
        listener.start()
        while not self._stopped.is_set():
            pause_s = self.step()
            self._stopped.wait(_BUSY_PAUSE_S)  # whatever is enqueued meanwhile is taken together
            self._wake.wait(pause_s)
            self._wake.clear()

    def step(self) -> float:
        """Publish what is due once, reconcile when it is time. Returns for how long to rest, seconds."""
        try:
            published = self.publish()
            self.reconcile()
        except (SQLAlchemyError, psycopg.Error, BrokerDown, BatchPublishError, RedisError, OSError) as error:
            self._note_failure(error)
            return 1.0
        if self._failing:
            _log.info("relay_recovered", after=self._failing)
            self._failing = None
            self._healthy_since = time.monotonic()
        return 0.0 if published else self._settings.poll_s

    def publish(self) -> int:
        """Hand every job's due runs to the broker, as far as its window is open. Returns how many messages."""
        published = 0
        with self._database.statement() as connection:
            waiting = relay.list_waiting_jobs(connection)
            outstanding = relay.count_outstanding(connection) if waiting else {}
            for name, is_defined in waiting.items():
                job = self._jobs.get(name)
                if job is None:
                    if not is_defined:
                        self._bury(name)
                    continue
                window = self._windows[name]
                unclaimed = -(-outstanding.get(name, 0) // job.batch)
                if room := window.room(unclaimed, time.monotonic()):
                    sent = self._send(job, relay.take_due(connection, name, room * job.batch))
                    window.seen += sent
                    published += sent
                else:
                    published += 1  # the workers are behind: look again soon
        return published

    def _send(self, job: Job, due: list[DueRun]) -> int:
        """Publish all in one round trip, or take all back: a message that got through twice is harmless."""
        messages = list(_chunks(due, job.batch))
        sent = False
        try:
            with self._app.producer_pool.acquire(block=True, timeout=5) as producer, producer.batch():
                for chunk in messages:
                    self._publish_one(job, chunk, producer)
            sent = True
        finally:
            if not sent:
                with self._database.statement() as connection:
                    relay.unpublish(connection, [run.id for run in due])
        return len(messages)

    def _publish_one(self, job: Job, runs: list[DueRun], producer: Producer) -> None:
        tenants = sorted({run.tenant or "platform" for run in runs})
        ids = [str(run.id) for run in runs]
        shown = ", ".join(tenants[:3]) + (" ..." if len(tenants) > 3 else "")
        self._app.send_task(
            job.name,
            kwargs={"run_ids": ids},
            task_id=ids[0] if len(ids) == 1 else None,
            queue=job.queue,
            producer=producer,
            argsrepr="()",
            kwargsrepr=f"{shown}: {len(ids)} run{'s' if len(ids) > 1 else ''}",
            retry=False,
        )

    def _bury(self, name: str) -> None:
        with self._database.statement() as own:
            ids = [run.id for run in relay.take_due(own, name, 1000)]
            if ids:
                relay.bury_unknown(own, ids)
                _log.error("unknown_job", job=name, runs=len(ids))

    def reconcile(self) -> None:
        """Make due again what was lost, once a second.

        Not before the database has been reachable for as long as a worker may be silent: just after an outage every
        worker looks dead.
        """
        now = time.monotonic()
        if now - self._reconciled_at < _RECONCILE_EVERY_S:
            return
        self._reconciled_at = now
        after_s = self._settings.rescue_after_s
        with self._database.statement() as connection:
            if lost := self._reclaim_unclaimed(connection):
                _log.warning("runs_republished", runs=lost)
            if now - self._healthy_since >= after_s and relay.server_age_s(connection) >= after_s:
                for run_id, job, state in relay.rescue(connection, after_s, self._settings.visibility_timeout_s):
                    _log.warning("run_rescued", run=str(run_id), job=job, state=state)
            if now - self._forgot_at >= _FORGET_EVERY_S:
                self._forgot_at = now
                relay.forget_workers(connection)

    def _reclaim_unclaimed(self, connection: Connection) -> int:
        """Make due again what nobody claimed: soon where its queue is empty, for then no message is on its way.

        A busy worker may still hold one in hand; the second that it gets finds the run claimed.
        """
        after_s = self._settings.republish_after_s
        soon_s = min(_MISSED_AFTER_S, after_s)
        lost = relay.reclaim_unclaimed(connection, after_s)
        queues = relay.list_unclaimed_queues(connection, soon_s)
        if empty := [queue for queue in queues if self._is_empty(queue)]:
            lost += relay.reclaim_unclaimed(connection, soon_s, empty)
        return lost

    def _is_empty(self, queue: str) -> bool:
        # Not passive: kombu then looks for the key without the prefix, and never finds it.
        with self._app.producer_pool.acquire(block=True, timeout=5) as producer:
            return int(producer.channel.queue_declare(queue).message_count) == 0

    def _note_failure(self, error: Exception) -> None:
        if self._failing is None:
            self._failing = type(error).__name__
            _log.warning("relay_waiting", error=self._failing)

    def _listen(self) -> None:
        url = self._database.system.url.set(drivername="postgresql").render_as_string(hide_password=False)
        while not self._stopped.is_set():
            try:
                with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as connection:
                    connection.execute("LISTEN fleet_jobs")
                    self._wake.set()
                    while not self._stopped.is_set():
                        for _ in connection.notifies(timeout=5, stop_after=1):
                            self._wake.set()
            except psycopg.Error:
                self._stopped.wait(1)


def _largest_window(job: Job, settings: Settings) -> int:
    """Return how many messages of a job: fewer where each carries many runs, because a look counts the runs."""
    return min(settings.window, max(_SMALLEST_WINDOW, _MOST_RUNS // job.batch))


def _chunks(due: list[DueRun], size: int) -> Iterator[list[DueRun]]:
    together = [run for run in due if not run.alone]
    for run in due:
        if run.alone:
            yield [run]
    for start in range(0, len(together), size):
        yield together[start : start + size]
