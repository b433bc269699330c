"""A run that takes its batch down does so once: each is tried again alone."""

from typing import Any

from tests.ledger.ledger import Platform


def test_a_run_that_always_ends_the_session_costs_its_neighbours_one_try(idle: Platform) -> None:
    ledger, tenant_id = idle.ledger, idle.ledger.tenant()
    given: list[dict[str, Any]] = [{"work_ms": 5}] * 15 + [{"how": "session ended"}]
    ledger.enqueue_many("test.batched", given, tenant_id=tenant_id)
    ledger.admin.execute("UPDATE job_runs SET max_attempts = 4")
    idle.processes.relay()
    idle.processes.worker(size=1)

    runs = ledger.wait_for_all(tenant_id)

    guilty = [run for run in runs if "how" in run["args"]]
    neighbours = [run for run in runs if "how" not in run["args"]]
    assert [(run["state"], run["attempt"]) for run in guilty] == [("failed", 4)]
    assert {run["state"] for run in neighbours} == {"succeeded"}
    assert {run["attempt"] for run in neighbours} == {2}
