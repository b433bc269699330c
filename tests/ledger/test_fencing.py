"""A worker that lost its claim can do no harm, however late it wakes."""

from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text

from db.engine import Database as Engines
from db.queries import ledger as statements
from db.queries import relay
from jobs.outcomes import CancelRequested, ClaimLost
from jobs.run import Claim, Run
from tests.ledger.ledger import Ledger, Platform
from tests.ledger.processes import wait_until
from tests.servers import Database

SILENT_S, STUCK_S = 1000.0, 1e6


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    made = Ledger(database)
    made.make_tables()
    yield made
    made.close()


@pytest.fixture
def engines(database: Database) -> Iterator[Engines]:
    made = Engines(database.worker_url, database.system_url)
    yield made
    made.close()


def _pending(ledger: Ledger) -> UUID:
    row = ledger.one(
        "INSERT INTO job_runs (job, queue, tenant_id) VALUES ('test.effect', 'lifecycle', %s) RETURNING id",
        [ledger.tenant()],
    )
    run_id: UUID = row["id"]
    return run_id


def _claim(engines: Engines, run_id: UUID) -> Run:
    token, worker_id = uuid4(), uuid4()
    with engines.statement() as connection:
        statements.beat(connection, worker_id, "here", 1, "worker", [token])
        (row,) = statements.claim(connection, "test.effect", [run_id], token, worker_id)
    return Run(row, Claim(engines, row.tenant_id, token, [row.id]))


def _rescue_silent(connection: Connection) -> list[UUID]:
    return [row[0] for row in relay.rescue(connection, SILENT_S, STUCK_S)]


def _rescue(ledger: Ledger, engines: Engines) -> list[UUID]:
    ledger.admin.execute("UPDATE worker_heartbeats SET beat_at = now() - INTERVAL '1 day'")
    with engines.statement() as connection:
        return _rescue_silent(connection)


def test_a_second_delivery_finds_the_run_claimed(ledger: Ledger, engines: Engines) -> None:
    run_id = _pending(ledger)
    _claim(engines, run_id)
    with engines.statement() as connection:
        assert statements.claim(connection, "test.effect", [run_id], uuid4(), uuid4()) == []


def test_a_worker_whose_claim_was_replaced_opens_no_transaction(ledger: Ledger, engines: Engines) -> None:
    run_id = _pending(ledger)
    late = _claim(engines, run_id)
    assert _rescue(ledger, engines) == [run_id]
    for _ in range(2):
        with pytest.raises(ClaimLost), late.transaction():
            pytest.fail("a transaction without a claim")
        _claim(engines, run_id)  # pending the first time round, another worker's the second
        with engines.statement() as connection:
            token = late._claim.token
            assert statements.succeed(connection, {run_id: None}, token) == 0
            assert statements.succeed(connection, {run_id: {"rows": 1}}, token) == 0
            assert not statements.finish(connection, run_id, token, "failed", {"type": "Late"})
            assert not statements.postpone(connection, run_id, token, delay_s=0, costs_a_try=True)
            assert not statements.report(connection, run_id, token, {"rows": 1}, None)
        assert ledger.run(run_id)["state"] == "running"
        assert _rescue(ledger, engines) == [run_id]


def test_a_transaction_that_began_with_the_claim_keeps_it_to_its_end(ledger: Ledger, engines: Engines) -> None:
    run_id = _pending(ledger)
    run = _claim(engines, run_id)
    with run.transaction() as connection:
        connection.execute(text("INSERT INTO effects VALUES (:id, 'x', 0)"), {"id": run_id})
        assert _rescue(ledger, engines) == []
        run.succeed(connection)
    assert (ledger.run(run_id)["state"], ledger.effects(run_id)) == ("succeeded", 1)
    assert _rescue(ledger, engines) == []


def test_what_a_transaction_did_is_undone_with_its_outcome(ledger: Ledger, engines: Engines) -> None:
    run_id = _pending(ledger)
    run = _claim(engines, run_id)
    with pytest.raises(ZeroDivisionError), run.transaction() as connection:
        connection.execute(text("INSERT INTO effects VALUES (:id, 'x', 0)"), {"id": run_id})
        run.succeed(connection)
        raise ZeroDivisionError
    assert (ledger.run(run_id)["state"], ledger.effects(run_id)) == ("running", 0)


def test_a_run_that_its_living_worker_has_lost_sight_of_is_rescued(ledger: Ledger, engines: Engines) -> None:
    run_id = _pending(ledger)
    run = _claim(engines, run_id)
    worker_id, token = ledger.run(run_id)["worker_id"], ledger.run(run_id)["claim_token"]
    long_ago = "UPDATE job_runs SET claimed_at = now() - INTERVAL '1 day' WHERE id = %s"
    with engines.statement() as connection:
        statements.beat(connection, worker_id, "here", 1, "worker", [])
        assert _rescue_silent(connection) == [], "it may have claimed after it beat"
        ledger.admin.execute(long_ago, [run_id])
        statements.beat(connection, worker_id, "here", 1, "worker", [token])
        assert _rescue_silent(connection) == [], "it says that it works on it"
        statements.beat(connection, worker_id, "here", 1, "worker", [])
        assert _rescue_silent(connection) == [run_id]
    with pytest.raises(ClaimLost), run.transaction():
        pytest.fail("a transaction without a claim")


def test_what_a_worker_that_left_in_order_still_had_goes_back_at_once_and_free(
    ledger: Ledger, engines: Engines
) -> None:
    run_id = _pending(ledger)
    _claim(engines, run_id)
    with engines.statement() as connection:
        statements.stop_worker(connection, ledger.run(run_id)["worker_id"])
        assert _rescue_silent(connection) == [run_id]
    run = ledger.run(run_id)
    assert (run["state"], run["rescues"], run["attempt"], run["claim_token"]) == ("pending", 0, 0, None)


def test_a_run_that_was_to_be_cancelled_is_not_rescued_but_cancelled(ledger: Ledger, engines: Engines) -> None:
    run_id = _pending(ledger)
    run = _claim(engines, run_id)
    ledger.admin.execute("UPDATE job_runs SET cancel_requested_at = now() WHERE id = %s", [run_id])
    with pytest.raises(CancelRequested), run.transaction():
        pytest.fail("a transaction of a cancelled run")
    assert _rescue(ledger, engines) == [run_id]
    assert ledger.run(run_id)["state"] == "cancelled"


@pytest.mark.parametrize("inside", [False, True], ids=["before its transaction", "inside its transaction"])
def test_a_worker_that_was_frozen_past_its_rescue_does_nothing_twice(
    idle: Platform, tmp_path: Path, inside: bool
) -> None:
    ledger, started, gate = idle.ledger, idle.processes, tmp_path / "gate"
    # Ten seconds in the product: a frozen worker's locks must go before its run can be rescued.
    ledger.admin.execute(
        f"ALTER ROLE fleet_worker IN DATABASE {ledger.database.name}"
        " SET idle_in_transaction_session_timeout = '3s'".encode()
    )
    started.relay()
    started.worker("worker-1", size=1)
    gate.touch()
    run_id = ledger.enqueue("test.wait", {"path": str(gate), "inside": inside}, tenant_id=ledger.tenant())
    wait_until(lambda: list(tmp_path.glob("gate.*")), what="the run to start")
    frozen = started.pool("worker-1")
    started.signal("worker-1", SIGSTOP)
    gate.unlink()
    started.worker("worker-2", size=1)
    run = ledger.wait(run_id)
    assert (run["state"], run["rescues"], run["attempt"], ledger.effects(run_id)) == ("succeeded", 1, 1, 1)
    started.signal("worker-1", SIGCONT)
    assert frozen
    wait_until(lambda: "claim_lost" in started.log("worker-1") or "run_retries" in started.log("worker-1"))
    last = ledger.wait(ledger.enqueue("test.effect", tenant_id=ledger.tenant()))
    assert last["state"] == "succeeded"
    after = ledger.run(run_id)
    assert after == run
    assert ledger.effects(run_id) == 1
