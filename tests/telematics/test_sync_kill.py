"""Everything is killed while fleets sync: no point is lost, none stored twice, cursors and points agree."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from integrations.simulator import FaultPlan, SimulatorThread
from integrations.simulator.fleet import Account
from integrations.simulator.server import FEED_TYPES
from tests.factories import ENCRYPTION_KEY, make_connection, make_tenant
from tests.ledger.chaos import BEATS, PREFORK, RELAYS, THREADED, Chaos
from tests.ledger.processes import FAST, QUIET, processes, wait_until
from tests.servers import PrivateServers

FAULTS = {"child": 4, "worker": 6, "relay": 3, "beat": 2, "flushall": 3, "valkey": 1, "postgres": 1, "freeze": 1}
UNRELIABLE = FaultPlan(
    rate_limit=0.02, server_error=0.02, truncated=0.01, latency_s=0.02, duplicate=0.05, impossible=0.05, late=0.05
)
BEHIND = """
    SELECT count(*) FROM connections c WHERE (
        SELECT count(*) FROM sync_cursors s
        WHERE s.connection_id = c.id AND s.feed IN ('gps', 'engine', 'health') AND s.completed_at > %s) < 3
"""


CELERY = (sys.executable, "-m", "celery", "-A", "jobs.app")
FLEET_JOBS = str(Path(sys.executable).with_name("fleet-jobs"))


class SyncChaos(Chaos):
    """The same faults against workers that sync."""

    def start(self) -> None:
        """Start relays, beats, and workers of the telematics queue: two of processes, one of threads."""
        for name in RELAYS:
            self.processes.start(name, [FLEET_JOBS, "relay"])
        for name in (*PREFORK, THREADED):
            pool = ("--pool", "threads", "-c", "3") if name == THREADED else ("--pool", "prefork", "-c", "2")
            self.processes.start(name, [*CELERY, "worker", "-Q", "telematics", *pool, "-n", f"{name}@%h", *QUIET])
        for name in BEATS:
            self.processes.start(name, [*CELERY, "beat"])


def _expected(account: Account) -> set[tuple[str, datetime]]:
    now = datetime.now(UTC)
    return {point for types in FEED_TYPES for point in account.expected(now, types=tuple(types.split(",")))}


@pytest.mark.kill
def test_no_point_is_lost_and_none_stored_twice_whatever_is_killed(
    private_servers: PrivateServers, tmp_path: Path, record_property: Any
) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=15)  # the fleets drive on during the faults
    accounts = [
        Account(f"token-{n}", 60, seed=n, start=end - timedelta(minutes=20), end=end, window_points=2)
        for n in range(1, 4)
    ]
    with SimulatorThread(*accounts, faults=UNRELIABLE) as simulator:
        settings = FAST | {
            "FLEET_ENCRYPTION_KEYS": ENCRYPTION_KEY,
            "FLEET_PROVIDER_ORIGINS": simulator.url,
            "FLEET_SCHEDULE_EVERY": "telematics.sync_connection=2",
            "FLEET_SLICE_S": "0.5",
        }
        with processes(private_servers.database, private_servers.redis_url, tmp_path, settings) as started:
            started.define()
            with psycopg.connect(private_servers.database.admin_url, autocommit=True) as admin:
                admin.execute("ALTER DATABASE fleet SET synchronous_commit = on")
                connections = {
                    make_connection(
                        admin, make_tenant(admin, f"tenant-{n}"), simulator.url, token=account.token
                    ): account
                    for n, account in enumerate(accounts)
                }
            chaos = SyncChaos(private_servers, started, 4.0, 20261120)
            chaos.start()
            chaos.rage([kind for kind, times in FAULTS.items() for _ in range(times)], 22)
            chaos.heal()
            simulator.plan(FaultPlan())
            with psycopg.connect(private_servers.database.admin_url, autocommit=True) as admin:
                figures = _check(admin, started, connections, end)
    figures["faults"] = sum(chaos.done.values())
    sys.stdout.write(json.dumps(figures) + "\n")
    record_property("figures", figures)


def _check(admin: psycopg.Connection, started: Any, connections: dict[UUID, Account], end: datetime) -> dict[str, int]:
    def value(statement: str, *values: Any) -> Any:
        row = admin.execute(statement, values).fetchone()
        return row and row[0]

    healed = datetime.now(UTC) + timedelta(seconds=1)
    wait_until(lambda: value(BEHIND, max(healed, end)) == 0, 60, what="every feed to be read to its end")
    for name in BEATS:
        started.stop(name)
    # The other queues have no worker here.
    unfinished = "SELECT count(*) FROM job_runs WHERE queue = 'telematics' AND state IN ('pending', 'running')"
    wait_until(lambda: value(unfinished) == 0, 40, what="every run to end")
    points = 0
    for connection_id, account in connections.items():
        rows = admin.execute(
            "SELECT v.external_id, t.time FROM telemetry t JOIN vehicles v ON v.id = t.vehicle_id"
            " WHERE v.connection_id = %s",
            [connection_id],
        ).fetchall()
        stored = [(row[0], row[1]) for row in rows]
        assert len(stored) == len(set(stored))
        assert set(stored) == _expected(account)
        points += len(stored)
    ended = "SELECT count(*) FROM job_runs WHERE queue = 'telematics' AND NOT state IN ('succeeded', 'skipped')"
    assert value(ended) == 0
    assert value("SELECT sum(points)::bigint FROM sync_cursors") == points, "the cursors tell of other points"
    assert value("SELECT sum((counts ->> 'stored')::bigint)::bigint FROM job_runs") == points, "so does the ledger"
    return {"points": points, "runs": value("SELECT count(*) FROM job_runs")}
