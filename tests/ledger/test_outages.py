"""A server that goes away makes work late, never lost: what has no row yet waits in the broker."""

import time
from uuid import uuid4

import pytest

from tests.ledger.ledger import Platform
from tests.ledger.processes import wait_until
from tests.ledger.test_doors import _send
from tests.servers import PrivateServers


@pytest.mark.kill
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_foreign_message_that_comes_while_postgresql_is_down_is_recorded_when_it_is_back(
    private: Platform,
    private_servers: PrivateServers,
    pool: str,
) -> None:
    tenant_id, before, during = private.ledger.tenant(), uuid4(), uuid4()
    private.ledger.admin.execute("ALTER DATABASE fleet SET synchronous_commit = on")  # else a crash takes back promises
    private.processes.worker(pool=pool)
    _send(private, "test.effect", {"tenant_id": str(tenant_id)}, task_id=str(before))
    wait_until(lambda: private.ledger.runs(tenant_id))
    private.ledger.close()
    private_servers.postgres.kill()
    _send(private, "test.effect", {"tenant_id": str(tenant_id)}, task_id=str(during))
    wait_until(lambda: "foreign_message_waits" in private.processes.log("worker"))
    private_servers.postgres.start()
    private.ledger.reconnect()
    wait_until(lambda: {run["id"] for run in private.ledger.runs(tenant_id)} == {before, during})


@pytest.mark.kill
@pytest.mark.timeout(240)
@pytest.mark.parametrize("away_s", [12, pytest.param(60, marks=pytest.mark.soak)])
def test_postgresql_away_for_a_minute_makes_every_run_late_and_loses_none(
    private: Platform,
    private_servers: PrivateServers,
    away_s: float,
) -> None:
    ledger, started, tenant_id = private.ledger, private.processes, private.ledger.tenant()
    ledger.keep_promises()
    started.relay("relay-1")
    started.relay("relay-2")
    started.beat()
    started.worker("worker-1")
    started.worker("worker-2", pool="threads")
    ledger.wait(ledger.enqueue("test.effect", tenant_id=tenant_id))
    ledger.enqueue_many("test.effect", [{"work_ms": 200}] * 40, tenant_id=tenant_id)
    wait_until(lambda: any(run["state"] == "running" for run in ledger.runs(tenant_id)))
    ledger.close()
    private_servers.postgres.kill()
    time.sleep(away_s)
    assert [name for name, process in started.running.items() if process.poll() is not None] == []
    private_servers.postgres.start()
    ledger.reconnect()
    ledger.enqueue("test.effect", tenant_id=tenant_id)
    runs = ledger.wait_for_all(tenant_id)
    assert [run["state"] for run in runs] == ["succeeded"] * 42
    assert [ledger.effects(run["id"]) for run in runs] == [1] * 42
    ticks = "SELECT count(*) AS n, count(DISTINCT nominal_at) AS instants FROM job_runs WHERE job = 'test.tick'"
    wait_until(lambda: ledger.one(ticks)["n"] > away_s, what="beat to catch up")
    found = ledger.one(ticks)
    assert found["n"] == found["instants"]
