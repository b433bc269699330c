"""What the relay publishes, for whom, and what it makes due again."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from uuid import UUID

import pytest
import redis

from db.engine import Database as Engines
from db.queries import relay
from tests.ledger.ledger import Ledger, Platform
from tests.ledger.processes import FAST, Processes, processes, wait_until
from tests.servers import Database, PrivateServers

PUBLISHED = "SELECT count(*) AS n FROM job_runs WHERE state = 'pending' AND published_at IS NOT NULL"
OPEN = "SELECT count(*) AS n FROM job_runs WHERE tenant_id = %s AND state IN ('pending', 'running')"


def _take(database: Database, wanted: int) -> list[UUID]:
    engines = Engines(database.worker_url, database.system_url)
    try:
        with engines.statement() as connection:
            return [run.id for run in relay.take_due(connection, "test.effect", wanted)]
    finally:
        engines.close()


def _insert(ledger: Ledger, tenant_id: UUID, count: int, priority: int = 100) -> None:
    ledger.admin.execute(
        "INSERT INTO job_runs (job, queue, tenant_id, priority, run_at)"
        " SELECT 'test.effect', 'lifecycle', %s, %s, now() - INTERVAL '1 h' + n * INTERVAL '1 ms'"
        " FROM generate_series(1, %s) AS n",
        [tenant_id, priority, count],
    )


def test_relays_that_take_at_once_take_each_run_once(database: Database) -> None:
    ledger = Ledger(database)
    for _ in range(3):
        _insert(ledger, ledger.tenant(), 300)
    engines = Engines(database.worker_url, database.system_url)
    start = Barrier(4)

    def take() -> list[UUID]:
        taken: list[UUID] = []
        for _ in range(8):
            with engines.statement() as connection:
                start.wait(30)
                taken += [run.id for run in relay.take_due(connection, "test.effect", 25)]
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [run_id for future in [pool.submit(take) for _ in range(4)] for run_id in future.result()]
    engines.close()
    assert len(taken) == len(set(taken)) >= 200
    rest = _take(database, 1000)
    assert len({*taken, *rest}) == len(taken) + len(rest) == 900
    assert ledger.one("SELECT max(publishes) AS n FROM job_runs")["n"] == 1
    ledger.close()


def test_tenants_take_turns_within_a_priority(database: Database) -> None:
    ledger = Ledger(database)
    large, small, urgent = ledger.tenant(), ledger.tenant(), ledger.tenant()
    _insert(ledger, large, 10_000)
    _insert(ledger, small, 3)
    _insert(ledger, urgent, 2, priority=1)
    owners = [ledger.run(run_id)["tenant_id"] for run_id in _take(database, 12)]
    assert owners[:2] == [urgent] * 2
    assert [owners[2:8].count(each) for each in (large, small)] == [3, 3]
    assert owners[8:] == [large] * 4
    ledger.close()


def test_a_tenant_with_ten_thousand_due_runs_does_not_delay_one_with_a_single_run(idle: Platform) -> None:
    ledger = idle.ledger
    large, small = ledger.tenant(), ledger.tenant()
    _insert(ledger, large, 10_000)
    idle.processes.relay()
    idle.processes.worker()
    wait_until(lambda: ledger.one(OPEN, [large])["n"] < 9_950)
    run = ledger.wait(ledger.enqueue("test.effect", tenant_id=small))
    assert run["finished_at"] - run["created_at"] < timedelta(seconds=5)
    assert ledger.one(OPEN, [large])["n"] > 5_000


def test_the_window_bounds_what_is_published_and_not_claimed(
    database: Database, redis_url: str, tmp_path: Path
) -> None:
    settings = {**FAST, "FLEET_WINDOW": "16", "FLEET_REPUBLISH_AFTER_S": "60"}
    with processes(database, redis_url, tmp_path, settings) as started, redis.Redis.from_url(redis_url) as broker:
        started.define()
        ledger = Ledger(database)
        _insert(ledger, ledger.tenant(), 500)
        started.relay()
        wait_until(lambda: ledger.one(PUBLISHED)["n"] >= 8)
        looked = ledger.now()
        while ledger.now() < looked + timedelta(seconds=1.5):
            assert ledger.one(PUBLISHED)["n"] <= 16
            assert int(broker.llen("fleet:lifecycle")) <= 16
        ledger.close()


def test_two_relays_without_faults_publish_each_run_once(idle: Platform) -> None:
    ledger, tenant_id = idle.ledger, idle.ledger.tenant()
    idle.processes.relay("relay-1")
    idle.processes.relay("relay-2")
    idle.processes.worker()
    ledger.wait(ledger.enqueue("test.effect", tenant_id=ledger.tenant()))
    ledger.enqueue_many("test.effect", [{}] * 150, tenant_id=tenant_id)
    ledger.enqueue_many("test.batched", [{}] * 300, tenant_id=tenant_id)
    runs = ledger.wait_for_all(tenant_id)
    assert {run["state"] for run in runs} == {"succeeded"}
    # A machine that stands still for two seconds makes a relay publish again: harmless, and rare.
    assert sum(run["publishes"] > 1 for run in runs) <= len(runs) / 20
    assert all(ledger.effects(run["id"]) == 1 for run in runs)


def test_what_a_flushed_redis_lost_is_published_again_and_done(idle: Platform) -> None:
    ledger, tenant_id = idle.ledger, idle.ledger.tenant()
    idle.processes.relay()
    ledger.enqueue_many("test.effect", [{}] * 40, tenant_id=tenant_id)
    with redis.Redis.from_url(idle.redis_url) as broker:
        wait_until(lambda: int(broker.llen("fleet:lifecycle")) >= 8)
        broker.flushdb()
    flushed_at = ledger.now()
    idle.processes.worker()
    runs = ledger.wait_for_all(tenant_id)
    assert {run["state"] for run in runs} == {"succeeded"}
    assert [ledger.effects(run["id"]) for run in runs] == [1] * 40
    again = [run for run in runs if run["publishes"] > 1]
    assert len(again) >= 8
    assert {run["rescues"] for run in runs} == {0}
    assert max(run["finished_at"] for run in runs) - flushed_at < timedelta(seconds=30)


def test_a_run_of_a_job_that_no_release_knows_is_a_dead_letter(platform: Platform) -> None:
    ledger, tenant_id = platform.ledger, platform.ledger.tenant()
    ledger.admin.execute(
        "INSERT INTO job_runs (job, queue, tenant_id) VALUES ('gone.away', 'lifecycle', %s)", [tenant_id]
    )
    (run,) = ledger.wait_for_all(tenant_id)
    assert run["state"] == "failed"
    assert run["error"] == {"type": "UnknownJob", "message": "this release has no job gone.away"}


def test_a_run_that_takes_longer_than_a_rescue_is_left_to_its_living_worker(platform: Platform, tmp_path: Path) -> None:
    ledger, tenant_id, gate = platform.ledger, platform.ledger.tenant(), tmp_path / "gate"
    gate.touch()
    run_id = ledger.enqueue("test.wait", {"path": str(gate)}, tenant_id=tenant_id)
    claimed_at = ledger.wait(run_id, "running")["claimed_at"]
    wait_until(lambda: ledger.now() > claimed_at + timedelta(seconds=4.5))
    gate.unlink()
    run = ledger.wait(run_id)
    assert (run["state"], run["rescues"], run["publishes"], ledger.effects(run_id)) == ("succeeded", 0, 1, 1)
    assert len(list(tmp_path.glob("gate.*"))) == 1


def _gated(ledger: Ledger, gate: Path) -> UUID:
    gate.touch()
    run_id = ledger.enqueue("test.wait", {"path": str(gate)}, tenant_id=ledger.tenant())
    wait_until(lambda: list(gate.parent.glob(f"{gate.name}.*")), what="the run to start")
    return run_id


def test_a_run_whose_worker_is_killed_is_rescued_soon_and_costs_no_try(idle: Platform, tmp_path: Path) -> None:
    idle.processes.relay()
    idle.processes.worker(size=1)
    run_id = _gated(idle.ledger, tmp_path / "gate")
    (tmp_path / "gate").unlink()
    idle.ledger.wait(run_id)
    run_id = _gated(idle.ledger, tmp_path / "again")
    idle.processes.kill("worker")
    (tmp_path / "again").unlink()
    killed_at = idle.ledger.now()
    idle.processes.restart("worker")
    run = idle.ledger.wait(run_id)
    assert (run["state"], run["rescues"], run["attempt"], idle.ledger.effects(run_id)) == ("succeeded", 1, 1, 1)
    assert run["finished_at"] - killed_at < timedelta(seconds=20)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_is_asked_to_leave_finishes_what_it_has(idle: Platform, tmp_path: Path, pool: str) -> None:
    idle.processes.relay()
    idle.processes.worker(pool=pool, size=1)
    gate = tmp_path / "gate"
    run_id = _gated(idle.ledger, gate)
    idle.processes.running["worker"].terminate()
    leaving_at = idle.ledger.now()
    wait_until(lambda: idle.ledger.now() > leaving_at + timedelta(seconds=3.5))
    gate.unlink()
    run = idle.ledger.wait(run_id)
    assert (run["state"], run["rescues"], idle.ledger.effects(run_id)) == ("succeeded", 0, 1)
    assert idle.processes.running["worker"].wait(40) == 0
    stopped = "SELECT count(*) AS n FROM worker_heartbeats WHERE stopped_at IS NULL"
    wait_until(lambda: idle.ledger.one(stopped)["n"] == 0, what="the worker's last word")


def test_a_broker_that_is_down_leaves_runs_unpublished_until_it_is_back(
    private: Platform, private_servers: PrivateServers
) -> None:
    ledger, tenant_id, started = private.ledger, private.ledger.tenant(), private.processes
    private_servers.valkey.stop()
    started.relay()
    ledger.enqueue_many("test.effect", [{}] * 5, tenant_id=tenant_id)
    wait_until(lambda: "relay_waiting" in started.log("relay"), what="the relay to notice")
    wait_until(lambda: ledger.one(PUBLISHED)["n"] == 0)
    private_servers.valkey.start()
    started.worker()
    runs = ledger.wait_for_all(tenant_id)
    assert {run["state"] for run in runs} == {"succeeded"}
    assert [ledger.effects(run["id"]) for run in runs] == [1] * 5
    assert "relay_recovered" in started.log("relay")
    assert started.log("relay").count('"relay_waiting"') == 1, "an outage is told once"


def test_a_server_that_has_just_started_is_no_reason_to_rescue(
    private: Platform, private_servers: PrivateServers, tmp_path: Path
) -> None:
    """Just after a restart every worker looks silent; only one that stays so has lost its run."""
    started: Processes = private.processes
    started.relay()
    started.worker("worker-1", size=1)
    alive = _gated(private.ledger, tmp_path / "alive")
    started.worker("worker-2", size=1)
    dead = _gated(private.ledger, tmp_path / "dead")
    owner = private.ledger.run(dead)["worker_id"]
    assert owner != private.ledger.run(alive)["worker_id"]
    started.kill("worker-2")
    private.ledger.tenant()  # waits for the disk, and so for the claims before it, which do not
    private_servers.postgres.kill()
    private_servers.postgres.start()
    private.ledger.reconnect()
    run = wait_until(lambda: (found := private.ledger.run(dead))["rescues"] and found)
    up = private.ledger.one("SELECT pg_postmaster_start_time() AS at")["at"]
    assert run["updated_at"] - up >= timedelta(seconds=2)
    assert private.ledger.run(alive)["rescues"] == 0
    for gate in ("alive", "dead"):
        (tmp_path / gate).unlink()
    assert private.ledger.wait(alive)["state"] == private.ledger.wait(dead)["state"] == "succeeded"
    assert private.ledger.run(alive)["rescues"] == 0
    assert private.ledger.effects(alive) == private.ledger.effects(dead) == 1
