"""The timetable as printed: last ticks from the ledger, next ones computed, in whose zone."""

from datetime import UTC, datetime, time

import psycopg
import pytest

from jobs.timetable import Daily, Entry, Every
from tests.cli.conftest import Cli
from tests.factories import make_tenant

ENTRIES = (
    Entry("platform.ping", Every(60), args={"deep": True}),
    Entry("retention.purge_history", Daily(time(3, 30)), zone="tenant", per="tenant"),
)


@pytest.fixture(autouse=True)
def _timetable(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs import scheduler

    monkeypatch.setattr(scheduler, "TIMETABLE", ENTRIES)


def test_an_entry_that_ticks_by_the_tenants_clock_is_shown_by_it(cli: Cli, admin: psycopg.Connection) -> None:
    make_tenant(admin, "berlin", "Europe/Berlin")
    make_tenant(admin, "tokyo", "Asia/Tokyo")
    for zone, last in (("Europe/Berlin", "2026-01-05 02:30Z"), ("Asia/Tokyo", "2026-01-05 18:30Z")):
        admin.execute("INSERT INTO schedule_ticks VALUES ('retention.purge_history', %s, %s)", [zone, last])

    _, of_all = cli("schedule", "--json").objects
    _, of_berlin = cli("schedule", "--json", "--tenant", "berlin").objects
    _, of_tokyo = cli("schedule", "--json", "--tenant", "tokyo").objects

    assert (of_berlin["zone"], of_tokyo["zone"], of_all["zone"]) == ("Europe/Berlin", "Asia/Tokyo", "tenant's")
    assert of_berlin["last_tick_at"] == "2026-01-05T02:30:00Z"
    assert of_all["last_tick_at"] == of_tokyo["last_tick_at"] == "2026-01-05T18:30:00Z"
    nexts = [datetime.fromisoformat(each["next_tick_at"]) for each in (of_berlin, of_tokyo)]
    assert datetime.fromisoformat(of_all["next_tick_at"]) == min(nexts) > datetime.now(UTC)
    lines = cli("schedule", "--tenant", "berlin").out.splitlines()
    assert "next (Europe/Berlin)" in lines[0]
    assert "Mon 05 Jan 03:30:00" in lines[2]


def test_an_interval_that_this_deployment_overrides_is_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_SCHEDULE_EVERY", "platform.ping=7")

    out = cli("schedule").out

    assert "every 7 s" in out and "not yet" in out and "deep=True" in out


def test_an_override_of_nothing_is_a_bad_setting(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_SCHEDULE_EVERY", "platform.pong=7")

    answer = cli("schedule")

    assert answer.status == 2
    assert "FLEET_SCHEDULE_EVERY: expected an entry's job=seconds, got 'platform.pong'" in answer.line


def test_the_jobs_are_listed_with_their_arguments(cli: Cli) -> None:
    from jobs.job import load_jobs

    assert {each["job"] for each in cli("jobs", "--json").objects} == set(load_jobs())
    assert "connection_id*:uuid" in cli("jobs").out
