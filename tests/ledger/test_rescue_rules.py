"""When a run is taken from its worker, and when a run nobody knows is given up."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from tests.inprocess import Platform, platform_of
from tests.servers import Database


@pytest.fixture
def platform(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    with platform_of(database, redis_url, monkeypatch) as running:
        yield running


def claimed(platform: Platform, *, claimed_s_ago: int = 0) -> tuple[UUID, UUID]:
    """Return a run and the token with which a living worker holds it."""
    from db.queries import ledger
    from jobs import process

    run_id, token, worker_id = platform.enqueue("retention.purge_history"), uuid4(), uuid4()
    with process.get_database().statement() as connection:
        ledger.beat(connection, worker_id, "here", 1, "a worker", [token])
        assert len(ledger.claim(connection, "retention.purge_history", [run_id], token, worker_id)) == 1
    platform.admin.execute(
        "UPDATE job_runs SET claimed_at = now() - make_interval(secs => %s) WHERE id = %s", [claimed_s_ago, run_id]
    )
    return run_id, token


def test_progress_within_a_slice_does_not_forgive_the_deaths_before(platform: Platform) -> None:
    """Else a page that kills its worker would be read for ever, after the healthy ones before it."""
    from db.queries import ledger
    from jobs import process

    run_id, token = claimed(platform)
    platform.admin.execute("UPDATE job_runs SET rescues = 2 WHERE id = %s", [run_id])
    with process.get_database().statement() as connection:
        assert ledger.report(connection, run_id, token, {"pages": 7}, {"stage": "gps"})
        assert platform.row(run_id)["rescues"] == 2
        assert ledger.postpone(connection, run_id, token, delay_s=0, costs_a_try=False, progressed=True)
    assert platform.row(run_id)["rescues"] == 0


@pytest.mark.parametrize(("claimed_s_ago", "state"), [(1700, "running"), (1900, "pending")])
def test_a_claim_lasts_no_longer_than_the_visibility_timeout_whatever_its_worker_says(
    platform: Platform, claimed_s_ago: int, state: str
) -> None:
    """In a thread nothing else ends a job that hangs."""
    from db.queries import relay
    from jobs import process

    run_id, _ = claimed(platform, claimed_s_ago=claimed_s_ago)
    with process.get_database().statement() as connection:
        relay.rescue(connection, 8.0, 1800.0)
    assert platform.row(run_id)["state"] == state


@pytest.mark.parametrize(("is_defined", "state"), [(True, "pending"), (False, "failed")])
def test_a_job_that_only_a_newer_release_knows_waits_for_it(platform: Platform, is_defined: bool, state: str) -> None:
    from jobs import process
    from jobs.app import app
    from jobs.job import load_jobs
    from jobs.relay import Relay
    from jobs.settings import get_settings

    run_id = platform.enqueue("retention.purge_history")
    if not is_defined:
        platform.admin.execute("DELETE FROM job_definitions WHERE job = 'retention.purge_history'")
    older = {name: job for name, job in load_jobs().items() if name != "retention.purge_history"}
    Relay(process.get_database(), app, older, get_settings()).publish()
    row = platform.row(run_id)
    assert (row["state"], row["published_at"]) == (state, None)


def test_a_message_for_a_job_that_nobody_has_is_kept_as_a_dead_letter_once(platform: Platform) -> None:
    from jobs.execution import keep_unknown

    message_id = uuid4()
    for _ in range(2):
        keep_unknown("billing.send_invoice", str(message_id), ([], {"invoice": 7}, {}))
    keep_unknown("billing.send_invoice", str(uuid4()), ([], {"run_ids": [str(uuid4())]}, {}))
    row = platform.row(message_id)
    assert (row["state"], row["args"]) == ("failed", {"invoice": 7})
    assert row["error"]["message"] == "billing.send_invoice: this release has no such job"
    assert platform.value("SELECT count(*) FROM job_runs") == 1
