"""How a run can end, through relay, broker and worker."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.ledger.ledger import Ledger, Platform, enqueue_many
from tests.ledger.processes import wait_until


@pytest.fixture
def ledger(platform: Platform) -> Ledger:
    return platform.ledger


@pytest.fixture
def tenant_id(ledger: Ledger) -> UUID:
    return ledger.tenant()


def _fail(ledger: Ledger, tenant_id: UUID, how: str, times: int = 1000) -> UUID:
    return ledger.enqueue("test.fail", {"how": how, "times": times}, tenant_id=tenant_id)


def test_a_success_keeps_its_counts_and_clears_its_claim(ledger: Ledger, tenant_id: UUID) -> None:
    run = ledger.wait(ledger.enqueue("test.keyed", tenant_id=tenant_id))
    assert (run["state"], run["counts"], run["attempt"], run["error"]) == ("succeeded", {"effects": 1}, 1, None)
    assert run["claim_token"] is None
    assert run["created_at"] <= run["started_at"] <= run["finished_at"]


def test_a_success_recorded_in_the_transaction_of_the_effect_is_recorded_once(ledger: Ledger, tenant_id: UUID) -> None:
    run_id = ledger.enqueue("test.effect", tenant_id=tenant_id)
    run = ledger.wait(run_id)
    assert (run["state"], run["counts"], ledger.effects(run_id)) == ("succeeded", {"effects": 1}, 1)


def test_a_transient_failure_is_tried_again_after_a_pause_that_doubles_with_jitter(
    ledger: Ledger, tenant_id: UUID
) -> None:
    run_id = _fail(ledger, tenant_id, "transient", times=2)
    pauses: dict[int, float] = {}

    def look() -> bool:
        run = ledger.run(run_id)
        if run["state"] == "pending" and run["attempt"] and run["run_at"] > run["updated_at"]:
            pauses[run["attempt"]] = (run["run_at"] - run["updated_at"]).total_seconds()
            assert run["error"] == {"type": "TransientError", "message": "the provider answered 503"}
        return bool(run["state"] == "succeeded")

    wait_until(look)
    run = ledger.run(run_id)
    assert (run["attempt"], run["error"], run["counts"], ledger.effects(run_id)) == (3, None, {"tries": 3}, 1)
    assert 0.2 <= pauses[1] <= 0.6
    assert 0.4 <= pauses[2] <= 1.2


def test_jitter_spreads_the_retries_of_runs_that_failed_together(ledger: Ledger, tenant_id: UUID) -> None:
    ledger.enqueue_many("test.fail", [{"how": "transient", "times": 1}] * 12, tenant_id=tenant_id)
    pauses: dict[UUID, int] = {}

    def look() -> bool:
        for run in ledger.runs(tenant_id):
            if run["attempt"] == 1 and run["run_at"] > run["updated_at"]:
                pauses[run["id"]] = round((run["run_at"] - run["updated_at"]) / timedelta(milliseconds=1))
        return len(pauses) >= 8

    wait_until(look)
    assert len(set(pauses.values())) > len(pauses) / 2


def test_a_run_whose_tries_are_used_up_is_a_dead_letter(ledger: Ledger, tenant_id: UUID) -> None:
    run_id = _fail(ledger, tenant_id, "transient")
    run = ledger.wait(run_id)
    assert (run["state"], run["attempt"], ledger.effects(run_id)) == ("failed", 3, 0)
    assert run["error"] == {"type": "TransientError", "message": "the provider answered 503"}


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("limited", {"type": "RateLimited", "message": "told to wait"}),
        ("snooze", {"type": "Snooze", "message": "nothing to do yet"}),
    ],
)
def test_being_told_to_wait_costs_no_try(ledger: Ledger, tenant_id: UUID, how: str, error: dict[str, str]) -> None:
    run_id = _fail(ledger, tenant_id, how, times=4)
    seen = [ledger.run(run_id)]

    def look() -> bool:
        seen.append(ledger.run(run_id))
        return bool(seen[-1]["state"] == "succeeded")

    wait_until(look)
    waiting = [run for run in seen if run["snoozes"] and run["state"] == "pending" and run["error"]]
    assert waiting
    assert {run["error"]["type"] for run in waiting} == {error["type"]}
    assert all(run["error"] == error and run["attempt"] == 0 for run in waiting)
    assert all(run["run_at"] - run["updated_at"] > timedelta(seconds=0.29) for run in waiting)
    run = ledger.run(run_id)
    assert (run["attempt"], run["snoozes"], run["max_attempts"], run["error"]) == (1, 4, 3, None)


def test_a_wait_without_end_is_bounded(ledger: Ledger, tenant_id: UUID) -> None:
    run_id = _fail(ledger, tenant_id, "limited for ever")
    run = wait_until(lambda: (found := ledger.run(run_id))["snoozes"] and found)
    assert run["state"] == "pending"
    assert run["run_at"] - run["updated_at"] <= timedelta(days=2)


def test_what_never_will_work_is_a_dead_letter_at_once(ledger: Ledger, tenant_id: UUID) -> None:
    run = ledger.wait(_fail(ledger, tenant_id, "permanent"))
    assert (run["state"], run["attempt"]) == ("failed", 1)
    assert run["error"] == {"type": "PermanentError", "message": "the provider answered 404"}


def test_a_character_that_the_database_cannot_keep_does_not_hide_a_failure(ledger: Ledger, tenant_id: UUID) -> None:
    run = ledger.wait(_fail(ledger, tenant_id, "unspeakable"))
    assert (run["state"], run["attempt"], run["rescues"]) == ("failed", 1, 0)
    assert run["error"]["type"] == "PermanentError"


def test_a_bug_is_a_dead_letter_with_its_traceback_and_without_its_message(
    platform: Platform, ledger: Ledger, tenant_id: UUID
) -> None:
    run = ledger.wait(_fail(ledger, tenant_id, "unknown"))
    assert (run["state"], run["attempt"], run["error"]["type"]) == ("failed", 1, "RuntimeError")
    assert "in _misbehave" in run["error"]["traceback"]
    assert "Lovelace" not in str(run["error"])
    assert "Lovelace" not in platform.processes.log("worker")


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("constraint", "sqlstate 23505; table people; constraint uq_people_name"),
        ("statement", "sqlstate 22P02"),
    ],
)
def test_an_error_of_the_database_shows_no_value_of_a_row(
    platform: Platform, ledger: Ledger, tenant_id: UUID, how: str, error: str
) -> None:
    run = ledger.wait(_fail(ledger, tenant_id, how))
    assert (run["state"], run["error"]["message"]) == ("failed", error)
    assert "Lovelace" not in str(run["error"])
    assert "Lovelace" not in platform.processes.log("worker")


@pytest.mark.parametrize("how", ["session ended", "deadlock", "transaction timeout", "soft time limit"])
def test_a_server_that_ends_a_transaction_is_tried_again(ledger: Ledger, tenant_id: UUID, how: str) -> None:
    run_id = _fail(ledger, tenant_id, how, times=1)
    run = ledger.wait(run_id)
    assert (run["state"], run["attempt"], run["rescues"], ledger.effects(run_id)) == ("succeeded", 2, 0, 1)


@pytest.mark.parametrize(
    "what",
    [
        "a number",
        "a word as a count",
        "a count that is not a number",
        "an instant in the progress",
        "an unspeakable character in the progress",
        "not a number",
        "a list",
    ],
)
def test_an_answer_that_no_job_may_give_is_a_dead_letter_at_once(ledger: Ledger, tenant_id: UUID, what: str) -> None:
    run = ledger.wait(ledger.enqueue("test.answer", {"what": what}, tenant_id=tenant_id))
    assert (run["state"], run["attempt"], run["rescues"]) == ("failed", 1, 0)
    assert run["error"]["type"] != "Poison"


def test_slices_add_up_counts_and_progress_and_cost_no_try(ledger: Ledger, tenant_id: UUID) -> None:
    run_id = ledger.enqueue("test.slices", {"of": 5}, tenant_id=tenant_id)
    run = ledger.wait(run_id)
    assert (run["state"], run["counts"]) == ("succeeded", {"slices": 5, "effects": 5})
    assert (run["progress"], run["attempt"], ledger.effects(run_id)) == ({"place": 5}, 1, 5)
    assert run["publishes"] == 5


def test_arguments_that_a_newer_contract_refuses_are_a_dead_letter_that_names_the_field(
    ledger: Ledger, tenant_id: UUID
) -> None:
    ledger.admin.execute(
        "INSERT INTO job_runs (job, queue, tenant_id, args) VALUES ('test.slices', 'lifecycle', %s, %s)",
        [tenant_id, '{"of": "many"}'],
    )
    (run,) = ledger.wait_for_all(tenant_id)
    assert (run["state"], run["attempt"]) == ("failed", 1)
    assert run["error"] == {"type": "InvalidArguments", "message": "test.slices: of: Expected `int`, got `str`"}


def test_one_run_of_a_batch_fails_alone_and_the_others_succeed(ledger: Ledger, tenant_id: UUID) -> None:
    bad = [("permanent", "failed"), ("unknown", "failed"), ("constraint", "failed"), ("transient", "pending")]
    given = [{"how": how} for how, _ in bad] + [{}] * 8
    with ledger.application(tenant_id) as connection:
        assert enqueue_many(connection, "test.batched", given) == 12

    def settled() -> bool:
        return all(run["state"] != "running" and run["attempt"] for run in ledger.runs(tenant_id))

    wait_until(settled)
    runs = ledger.runs(tenant_id)
    found = {run["args"].get("how", "").ljust(1): run for run in runs if run["args"]}
    for how, state in bad:
        assert found[how]["state"] in (state, "running"), how
        assert found[how]["error"], how
        assert ledger.effects(found[how]["id"]) == 0, how
    good = [run for run in runs if not run["args"]]
    assert {run["state"] for run in good} == {"succeeded"}
    assert all(ledger.effects(run["id"]) == 1 and run["counts"] == {"effects": 1} for run in good)
    ledger.admin.execute("UPDATE job_runs SET max_attempts = 1 WHERE tenant_id = %s AND state = 'pending'", [tenant_id])


@pytest.mark.parametrize("how", ["session ended", "transaction timeout"])
def test_a_batch_whose_session_ends_is_tried_again_as_a_whole(ledger: Ledger, tenant_id: UUID, how: str) -> None:
    given: list[dict[str, Any]] = [{}] * 3 + [{"how": how}] + [{}] * 3
    ledger.enqueue_many("test.batched", given, tenant_id=tenant_id)
    (guilty,) = [run for run in ledger.runs(tenant_id) if run["args"]]
    if how == "session ended":
        wait_until(lambda: ledger.run(guilty["id"])["attempt"] >= 2)
        ledger.admin.execute("UPDATE job_runs SET args = '{}' WHERE id = %s", [guilty["id"]])
    runs = ledger.wait_for_all(tenant_id)
    assert [run["state"] for run in runs] == ["succeeded"] * 7
    assert [ledger.effects(run["id"]) for run in runs] == [1] * 7
    assert {run["rescues"] for run in runs} == {0}


def test_a_pending_run_that_is_cancelled_never_starts(ledger: Ledger, tenant_id: UUID) -> None:
    run_id = ledger.enqueue("test.effect", tenant_id=tenant_id, run_at=ledger.now() + timedelta(seconds=1))
    ledger.admin.execute(
        "UPDATE job_runs SET state = 'cancelled', finished_at = now() WHERE id = %s AND state = 'pending'", [run_id]
    )
    after = ledger.enqueue("test.effect", tenant_id=tenant_id)
    ledger.wait(after)
    marker = ledger.run(run_id)["run_at"] + timedelta(seconds=0.3)
    wait_until(lambda: ledger.now() > marker)
    assert (ledger.run(run_id)["state"], ledger.run(run_id)["publishes"], ledger.effects(run_id)) == ("cancelled", 0, 0)


def test_a_running_run_is_cancelled_where_it_next_opens_a_transaction(
    ledger: Ledger, tenant_id: UUID, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    run_id = ledger.enqueue("test.wait", {"path": str(gate)}, tenant_id=tenant_id)
    wait_until(lambda: list(tmp_path.glob("gate.*")))
    ledger.admin.execute("UPDATE job_runs SET cancel_requested_at = now() WHERE id = %s", [run_id])
    gate.unlink()
    run = ledger.wait(run_id)
    assert (run["state"], ledger.effects(run_id)) == ("cancelled", 0)


def test_a_run_that_would_be_tried_again_is_cancelled_instead(ledger: Ledger, tenant_id: UUID) -> None:
    run_id = ledger.enqueue("test.slices", {"of": 1000, "work_ms": 1}, tenant_id=tenant_id)
    wait_until(lambda: ledger.run(run_id)["counts"])
    ledger.admin.execute("UPDATE job_runs SET cancel_requested_at = now() WHERE id = %s", [run_id])
    run = ledger.wait(run_id)
    assert run["state"] == "cancelled"
    assert ledger.effects(run_id) == run["counts"]["effects"] < 1000


@pytest.mark.parametrize(("kind", "name"), [("job", "test.keyed"), ("queue", "lifecycle")])
def test_what_is_paused_waits_and_goes_on_afterwards(ledger: Ledger, tenant_id: UUID, kind: str, name: str) -> None:
    ledger.admin.execute("INSERT INTO job_controls (kind, name, paused_by) VALUES (%s, %s, 'a test')", [kind, name])
    try:
        run_id = ledger.enqueue("test.keyed", tenant_id=tenant_id)
        other = "test.effect" if kind == "job" else None
        if other:
            ledger.wait(ledger.enqueue(other, tenant_id=tenant_id))
        marker = ledger.run(run_id)["created_at"] + timedelta(seconds=0.8)
        wait_until(lambda: ledger.now() > marker)
        run = ledger.run(run_id)
        assert (run["state"], run["publishes"]) == ("pending", 0)
    finally:
        ledger.admin.execute("DELETE FROM job_controls WHERE kind = %s AND name = %s", [kind, name])
    assert ledger.wait(run_id)["state"] == "succeeded"


@pytest.fixture(scope="module")
def poisons(platform: Platform) -> dict[str, UUID]:
    """The tenants of three poisons that take effect side by side: each needs four rescues."""
    tenants = {what: platform.ledger.tenant() for what in ("alone", "in a batch", "reporting")}
    platform.ledger.enqueue("test.poison", tenant_id=tenants["alone"])
    platform.ledger.enqueue("test.poison", {"reports": True}, tenant_id=tenants["reporting"])
    batch = [{"is_poison": place == 3} for place in range(8)]
    platform.ledger.enqueue_many("test.poisoned", batch, tenant_id=tenants["in a batch"])
    return tenants


def test_a_run_that_kills_its_worker_is_a_dead_letter_after_three_rescues(
    ledger: Ledger, poisons: dict[str, UUID]
) -> None:
    (run,) = ledger.wait_for_all(poisons["alone"])
    assert (run["state"], run["rescues"], run["attempt"]) == ("failed", 4, 0)
    assert run["error"] == {"type": "Poison", "message": "its worker died 4 times without progress"}


def test_poison_that_reports_the_same_progress_every_time_ends_too(ledger: Ledger, poisons: dict[str, UUID]) -> None:
    (run,) = ledger.wait_for_all(poisons["reporting"])
    assert (run["state"], run["error"]["type"]) == ("failed", "Poison")


def test_poison_takes_its_batch_along_once(ledger: Ledger, poisons: dict[str, UUID]) -> None:
    runs = ledger.wait_for_all(poisons["in a batch"])
    assert [run["state"] for run in runs if run["args"]["is_poison"]] == ["failed"]
    others = [run for run in runs if not run["args"]["is_poison"]]
    assert {run["state"] for run in others} == {"succeeded"}
    assert max(run["rescues"] for run in others) <= 1
    assert all(ledger.effects(run["id"]) == 1 for run in others)
