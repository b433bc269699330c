"""A fleet of a hundred thousand vehicles: bounded memory, and a small tenant does not wait for it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from integrations.simulator import SimulatorThread
from integrations.simulator.fleet import Account
from tests.factories import ENCRYPTION_KEY, make_connection, make_tenant
from tests.ledger.processes import FAST, QUIET, processes, wait_until
from tests.servers import Database

ROOT = Path(__file__).parents[2]
FLEET_JOBS = str(Path(sys.executable).with_name("fleet-jobs"))


def parked(token: str, vehicles: int, seed: int) -> Account:
    """Return a fleet that reports its last known values and no more."""
    now = datetime.now(UTC)
    return Account(token, vehicles, seed=seed, start=now, end=now)


@contextmanager
def admin_of(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        yield admin


def sync_once(database: Database, redis_url: str, simulator: SimulatorThread, *ids: UUID) -> dict[str, Any]:
    """Sync in a fresh process, in one slice."""
    environment = os.environ | {
        "FLEET_DATABASE_URL": database.worker_url,
        "FLEET_SYSTEM_DATABASE_URL": database.system_url,
        "FLEET_REDIS_URL": redis_url,
        "FLEET_ENCRYPTION_KEYS": ENCRYPTION_KEY,
        "FLEET_PROVIDER_ORIGINS": simulator.url,
        "FLEET_SLICE_S": "600",
    }
    command = [sys.executable, "-m", "tests.telematics.sync_once", *map(str, ids)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=True)
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


@pytest.mark.timeout(600)
@pytest.mark.parametrize("vehicles", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_a_workers_peak_memory_does_not_grow_with_the_fleet(
    database: Database, redis_url: str, tmp_path: Path, vehicles: int
) -> None:
    with SimulatorThread(parked("small", 1_000, 1), parked("large", vehicles, 2)) as simulator:
        with processes(database, redis_url, tmp_path) as started:
            started.define()
        peaks = {}
        with admin_of(database) as admin:
            for token in ("small", "large"):
                tenant_id = make_tenant(admin, token)
                connection_id = make_connection(admin, tenant_id, simulator.url, token=token)
                outcome = sync_once(database, redis_url, simulator, tenant_id, connection_id)
                state = admin.execute("SELECT state, error FROM job_runs WHERE id = %s", [outcome["run_id"]]).fetchone()
                assert state == ("succeeded", None)
                peaks[token] = outcome["peak_mb"]
            counted = admin.execute("SELECT count(*) FROM vehicle_positions WHERE time IS NOT NULL").fetchone()
    assert counted == (1_000 + vehicles,)
    assert peaks["large"] < peaks["small"] + 25, peaks


@pytest.mark.timeout(300)
def test_a_small_tenant_starts_within_seconds_while_a_large_one_has_the_only_slot(
    database: Database, redis_url: str, tmp_path: Path
) -> None:
    with SimulatorThread(parked("small", 20, 1), parked("large", 30_000, 2)) as simulator:
        settings = FAST | {
            "FLEET_ENCRYPTION_KEYS": ENCRYPTION_KEY,
            "FLEET_PROVIDER_ORIGINS": simulator.url,
            "FLEET_SLICE_S": "1",
        }
        with processes(database, redis_url, tmp_path, settings) as started, admin_of(database) as admin:
            started.define()
            tenants = {token: make_tenant(admin, token) for token in ("large", "small")}
            connections = {
                token: make_connection(admin, tenant_id, simulator.url, token=token)
                for token, tenant_id in tenants.items()
            }

            def enqueue(token: str) -> UUID:
                row = admin.execute(
                    "SELECT enqueue_job('telematics.sync_connection', jsonb_build_object('connection_id', %s::uuid),"
                    " tenant_id => %s)",
                    [connections[token], tenants[token]],
                ).fetchone()
                assert row is not None
                return UUID(str(row[0]))

            def run(run_id: UUID) -> Any:
                return admin.execute(
                    "SELECT state, snoozes, extract(epoch FROM started_at - created_at)::float8 FROM job_runs"
                    " WHERE id = %s",
                    [run_id],
                ).fetchone()

            started.start("relay", [FLEET_JOBS, "relay"])
            worker = ("worker", "-Q", "telematics", "--pool", "threads", "-c", "1", *QUIET)
            started.start("worker", [sys.executable, "-m", "celery", "-A", "jobs.app", *worker])
            large = enqueue("large")
            wait_until(lambda: run(large)[1] >= 1, what="the large sync to be in its second slice")
            small = enqueue("small")
            wait_until(lambda: run(small)[0] == "succeeded", what="the small sync to end")
            large_state = run(large)[0]
            waited_s = run(small)[2]
    assert large_state in ("pending", "running"), "the large fleet was too small to prove anything"
    assert waited_s < 8
