"""Who races: each enqueues and drains no-op work with two worker processes, and proves that all of it was done.

A race is timed from the first enqueue to the moment when the last piece of work is known to be done.
"""

import time
from collections.abc import Callable
from typing import Protocol

import psycopg
import redis

from benchmarks import tally
from benchmarks.servers import Servers

CHUNK = 5_000
PATIENCE_S = 120.0
_LOOK_EVERY_S = 0.01
_CELERY = ("-m", "celery", "-A")
_WORKER = ("worker", "--pool", "prefork", "-c", "2", "--without-mingle", "--without-gossip", "-E", "-l", "WARNING")
_PREFETCH = ("--prefetch-multiplier", "4")
"""Celery's default, which suits small messages; the platform ships with 1, which suits long jobs."""


class Contender(Protocol):
    """A queue with its workers running."""

    name: str

    def settle(self) -> None:
        """Tidy up after the races before, so that none pays for another's leftovers."""

    def race(self, work: int) -> float:
        """Enqueue and drain so many pieces of work. Returns seconds."""


def _await(servers: Servers, is_done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not done after {PATIENCE_S:.0f} s")
        servers.check()
        time.sleep(_LOOK_EVERY_S)


class Platform:
    """Ours: enqueued by SQL, relayed, run and recorded by one Celery worker of two processes."""

    _UNFINISHED = """
        SELECT EXISTS (SELECT FROM job_runs WHERE state = 'pending' AND published_at IS NULL)
            OR EXISTS (SELECT FROM job_runs WHERE state = 'pending' AND published_at IS NOT NULL)
            OR EXISTS (SELECT FROM job_runs WHERE state = 'running')
    """

    def __init__(self, name: str, servers: Servers, job: str) -> None:
        self.name = name
        self._servers = servers
        self._job = job
        self._connection = psycopg.connect(servers.url("fleet_system"), autocommit=True)

    @staticmethod
    def start(servers: Servers) -> None:
        """Migrate the database; start the relay and the worker that all jobs share."""
        settings = servers.settings()
        servers.run("migrate", "-m", "benchmarks.app", "migrate", **settings)
        servers.start("relay", "-m", "benchmarks.app", "relay", **settings)
        servers.start("worker", *_CELERY, "benchmarks.app", *_WORKER, *_PREFETCH, "-Q", "lifecycle", **settings)

    def settle(self) -> None:
        """Vacuum what every contender that uses this table left behind."""
        with psycopg.connect(self._servers.postgres.admin_url_of("fleet"), autocommit=True) as admin:
            admin.execute("VACUUM (ANALYZE) job_runs")

    def race(self, work: int) -> float:
        """Enqueue by SQL; the last success is in the table when nothing is pending or running."""
        before = self._succeeded()
        started = time.perf_counter()
        for chunk in _chunks(work):
            self._connection.execute("SELECT enqueue_jobs(%s, array_fill('{}'::jsonb, ARRAY[%s]))", (self._job, chunk))
        _await(self._servers, lambda: not self._scalar(self._UNFINISHED), self.name)
        seconds = time.perf_counter() - started
        _verify(self.name, self._succeeded() - before, work)
        return seconds

    def _succeeded(self) -> int:
        return int(self._scalar("SELECT count(*) FROM job_runs WHERE job = %s AND state = 'succeeded'", self._job))

    def _scalar(self, statement: str, *values: str) -> int:
        row = self._connection.execute(statement.encode(), values or None).fetchone()
        assert row is not None
        return int(row[0])


class PlainCelery:
    """Celery alone, one worker of two processes, one producer that holds its connection."""

    name = "plain_celery"

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._file = servers.directory / "plain.tally"
        settings = {"BENCH_REDIS_URL": servers.valkey.url, tally.VARIABLE: str(self._file)}
        servers.start(
            "plain", *_CELERY, "benchmarks.peers.plain_celery", *_WORKER, *_PREFETCH, "-Q", "plain", **settings
        )
        from benchmarks.peers import plain_celery

        self._app = plain_celery.make(servers.valkey.url)

    def settle(self) -> None:
        """Leave nothing behind."""

    def race(self, work: int) -> float:
        """Send messages; the last is done when it is counted and acknowledged."""
        before = tally.count(self._file)
        with redis.Redis.from_url(self._servers.valkey.url) as client, self._app.producer_pool.acquire() as producer:
            started = time.perf_counter()
            for _ in range(work):
                self._app.send_task("plain.ping", queue="plain", producer=producer)
            _await(
                self._servers,
                lambda: tally.count(self._file) - before >= work and not client.exists("plain:unacked"),
                self.name,
            )
            seconds = time.perf_counter() - started
        _verify(self.name, tally.count(self._file) - before, work)
        return seconds


class Taskiq:
    """taskiq on a list in Redis, `--workers 2`."""

    name = "taskiq"

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._file = servers.directory / "taskiq.tally"
        settings = {"BENCH_REDIS_URL": servers.valkey.url, tally.VARIABLE: str(self._file)}
        app = "benchmarks.peers.taskiq_app:broker"
        servers.start("taskiq", "-m", "taskiq", "worker", app, "--workers", "2", "--log-level", "WARNING", **settings)

    def settle(self) -> None:
        """Leave nothing behind."""

    def race(self, work: int) -> float:
        """Kick tasks concurrently; the last is done when it is counted."""
        from benchmarks.peers import taskiq_app

        before = tally.count(self._file)
        started = time.perf_counter()
        taskiq_app.enqueue(self._servers.valkey.url, work)
        _await(self._servers, lambda: tally.count(self._file) - before >= work, self.name)
        seconds = time.perf_counter() - started
        _verify(self.name, tally.count(self._file) - before, work)
        return seconds


class PgQueuer:
    """pgqueuer, two processes that take so many jobs at a time, in a database of their own."""

    def __init__(self, name: str, servers: Servers, database: str, batch: int) -> None:
        from benchmarks.peers import pgqueuer_worker

        self.name = name
        self._servers = servers
        self._url = servers.postgres.admin_url_of(database)
        self._connection = psycopg.connect(self._url, autocommit=True)
        pgqueuer_worker.run(pgqueuer_worker.install(self._url))
        settings = {"BENCH_PGQUEUER_URL": self._url, "BENCH_PGQUEUER_BATCH": str(batch)}
        for number in (1, 2):
            servers.start(f"{name}-{number}", "-m", "benchmarks.peers.pgqueuer_worker", **settings)

    def settle(self) -> None:
        """Vacuum its tables."""
        self._connection.execute("VACUUM (ANALYZE) pgqueuer, pgqueuer_log")

    def race(self, work: int) -> float:
        """Enqueue in batches; the last is done when the table is empty: finished jobs move to the log."""
        from benchmarks.peers import pgqueuer_worker

        before = self._succeeded()
        started = time.perf_counter()
        pgqueuer_worker.run(pgqueuer_worker.enqueue(self._url, _chunks(work)))
        _await(self._servers, lambda: not self._scalar("SELECT EXISTS (SELECT FROM pgqueuer)"), self.name)
        seconds = time.perf_counter() - started
        _verify(self.name, self._succeeded() - before, work)
        return seconds

    def _succeeded(self) -> int:
        """Count in the log, whether or not pgqueuer has folded it into its statistics: it keeps the rows."""
        return self._scalar("SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'")

    def _scalar(self, statement: str) -> int:
        row = self._connection.execute(statement.encode()).fetchone()
        assert row is not None
        return int(row[0])


def _chunks(work: int) -> list[int]:
    whole, rest = divmod(work, CHUNK)
    return [CHUNK] * whole + [rest] * bool(rest)


def _verify(name: str, done: int, wanted: int) -> None:
    if done != wanted:
        raise AssertionError(f"{name}: {done} done of {wanted}")
