"""Ticks as rows of the ledger: written once however many beats there are, caught up with when there were none."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg.rows import dict_row

from db.engine import Database as Engines
from jobs.timetable import Daily, Entry, Every
from tests.ledger.ledger import Ledger
from tests.ledger.processes import processes, wait_until
from tests.servers import Database


@dataclass
class Beats:
    """A database, and the step that a beat makes again and again."""

    database: Database
    admin: psycopg.Connection[dict[str, Any]]

    def step(self, *entries: Entry) -> float:
        """Write what is due, as one beat does."""
        from jobs.scheduler import write_due_ticks

        with self.engines() as engines:
            return write_due_ticks(engines, entries)

    @contextmanager
    def engines(self) -> Iterator[Engines]:
        """Lend the connections of one beat."""
        engines = Engines(self.database.worker_url, self.database.system_url)
        try:
            yield engines
        finally:
            engines.close()

    def was_down_since(self, at: datetime) -> None:
        """Let every entry have come no further than this."""
        self.admin.execute("UPDATE schedule_ticks SET last_tick_at = %s", [at])

    def now(self) -> datetime:
        """Return the database's time."""
        at: datetime = self.admin.execute("SELECT clock_timestamp() AS at").fetchall()[0]["at"]
        return at

    def runs(self) -> list[dict[str, Any]]:
        """Return every run, oldest tick first."""
        return self.admin.execute("SELECT * FROM job_runs ORDER BY nominal_at, tick_key").fetchall()

    def tenant(self, time_zone: str = "UTC", **columns: Any) -> UUID:
        """Make a tenant."""
        tenant_id = uuid4()
        values = {"id": tenant_id, "slug": f"t-{tenant_id}", "name": "A tenant", "time_zone": time_zone, **columns}
        names = ", ".join(values)
        places = ", ".join(["%s"] * len(values))
        self.admin.execute(f"INSERT INTO tenants ({names}) VALUES ({places})".encode(), list(values.values()))
        return tenant_id

    def connection(self, tenant_id: UUID, status: str = "active", deleted_at: datetime | None = None) -> UUID:
        """Make a provider's connection."""
        row = self.admin.execute(
            "INSERT INTO connections (tenant_id, provider, name, credentials_encrypted, status, deleted_at)"
            " VALUES (%s, 'samsara', gen_random_uuid()::text, '', %s, %s) RETURNING id",
            [tenant_id, status, deleted_at],
        ).fetchall()
        found: UUID = row[0]["id"]
        return found


@pytest.fixture
def beats(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beats]:
    for name, value in (
        ("FLEET_DATABASE_URL", database.worker_url),
        ("FLEET_SYSTEM_DATABASE_URL", database.system_url),
        ("FLEET_REDIS_URL", redis_url),
    ):
        monkeypatch.setenv(name, value)
    from jobs.job import load_jobs
    from jobs.settings import get_settings

    load_jobs()
    with psycopg.connect(database.admin_url, autocommit=True, row_factory=dict_row) as admin:
        yield Beats(database, admin)
    get_settings.cache_clear()


PING = "platform.ping"


def test_an_entry_that_is_new_starts_now_and_brings_back_nothing(beats: Beats) -> None:
    beats.step(Entry(PING, Every(1), catch_up="all"))
    assert len(beats.runs()) <= 1
    assert beats.step(Entry(PING, Daily(time(6)))) <= 5


@pytest.mark.parametrize(("catch_up", "expected"), [("latest", 1), ("all", 10), ("skip", 0)])
def test_a_beat_that_was_down_catches_up_by_policy(beats: Beats, catch_up: Any, expected: int) -> None:
    entry = Entry(PING, Every(3600), catch_up=catch_up)
    beats.step(entry)
    now = beats.now()
    last = now.replace(minute=0, second=0, microsecond=0)
    if now - last < timedelta(seconds=90):
        last -= timedelta(hours=1)  # a tick of this minute would be late, not missed
        entry = Entry(PING, Every(7200), catch_up=catch_up)
    beats.was_down_since(now - timedelta(hours=10) if entry.when == Every(3600) else now - timedelta(hours=20))
    beats.step(entry)
    ticks = [run["nominal_at"] for run in beats.runs()]
    assert len(ticks) == expected
    assert sorted(set(ticks)) == ticks
    beats.step(entry)
    assert len(beats.runs()) == expected


def test_two_beats_side_by_side_write_each_tick_once_per_subject(beats: Beats) -> None:
    tenants = [beats.tenant("Europe/Berlin"), beats.tenant("Asia/Tokyo"), beats.tenant("America/New_York")]
    connections = [beats.connection(tenant_id) for tenant_id in tenants]
    entries = (
        Entry(PING, Every(60), catch_up="all"),
        Entry("telematics.sync_connection", Every(300), per="connection", catch_up="latest"),
        Entry("retention.purge_history", Daily(time(6)), per="tenant", zone="tenant", catch_up="all"),
    )
    beats.step(*entries)
    since = beats.now() - timedelta(days=3)
    beats.admin.execute("UPDATE schedule_ticks SET last_tick_at = %s WHERE entry <> %s", [since, PING])
    beats.admin.execute("UPDATE schedule_ticks SET last_tick_at = now() - INTERVAL '2 hours' WHERE entry = %s", [PING])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: beats.step(*entries), range(12)))
    runs = beats.runs()
    assert len({run["tick_key"] for run in runs}) == len(runs)
    pings = [run["nominal_at"] for run in runs if run["job"] == PING]
    assert pings == [pings[0] + timedelta(minutes=n) for n in range(len(pings))]
    assert len(pings) >= 120
    synced = [run for run in runs if run["job"] == "telematics.sync_connection"]
    assert {run["args"]["connection_id"] for run in synced} == {str(each) for each in connections}
    for tenant_id in tenants:
        purges = [run for run in runs if run["job"] == "retention.purge_history" and run["tenant_id"] == tenant_id]
        assert len(purges) == 3


def test_a_tick_at_the_tenants_clock_comes_when_its_morning_does(beats: Beats) -> None:
    zones = ("Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham")
    tenants = {beats.tenant(zone): zone for zone in zones}
    entry = Entry(PING, Daily(time(6, 30)), per="tenant", zone="tenant", catch_up="all")
    beats.step(entry)
    beats.was_down_since(beats.now() - timedelta(days=2))
    beats.step(entry)
    runs = beats.runs()
    assert len(runs) == 2 * len(zones)
    for run in runs:
        local = run["nominal_at"].astimezone(ZoneInfo(tenants[run["tenant_id"]]))
        assert local.time() == time(6, 30)


def test_a_tenant_in_a_zone_that_was_never_seen_starts_now(beats: Beats) -> None:
    entry = Entry(PING, Every(3600), per="tenant", zone="tenant", catch_up="all")
    beats.tenant("Europe/Berlin")
    beats.step(entry)
    beats.was_down_since(beats.now() - timedelta(hours=5))
    newcomer = beats.tenant("Asia/Tokyo")
    beats.step(entry)
    assert len(beats.runs()) == 5
    assert newcomer not in {run["tenant_id"] for run in beats.runs()}


def test_only_active_subjects_tick(beats: Beats) -> None:
    now = beats.now()
    tenant_id = beats.tenant()
    active = beats.connection(tenant_id)
    beats.connection(tenant_id, status="paused")
    beats.connection(tenant_id, status="reconnect")
    beats.connection(tenant_id, deleted_at=now)
    for gone in (beats.tenant(is_active=False), beats.tenant(deleted_at=now)):
        beats.connection(gone)
    entries = (
        Entry("telematics.sync_connection", Every(3600), per="connection"),
        Entry(PING, Every(3600), per="tenant"),
    )
    beats.step(*entries)
    beats.was_down_since(now - timedelta(hours=2))
    beats.step(*entries)
    runs = {run["job"]: run for run in beats.runs()}
    assert len(beats.runs()) == 2
    assert runs["telematics.sync_connection"]["args"] == {"connection_id": str(active)}
    assert runs[PING]["tenant_id"] == tenant_id


def test_a_tick_whose_run_before_is_not_over_is_recorded_as_skipped(beats: Beats) -> None:
    entry = Entry("retention.purge_history", Every(3600), catch_up="all")
    beats.step(entry)
    beats.was_down_since(beats.now() - timedelta(hours=3))
    beats.step(entry)
    states = [run["state"] for run in beats.runs()]
    assert states == ["pending", "skipped", "skipped"]
    skipped = beats.runs()[1]
    assert skipped["error"] == {"type": "Skipped", "message": "the run before is not over"}
    assert skipped["finished_at"] is not None
    beats.admin.execute("UPDATE job_runs SET state = 'succeeded', finished_at = now() WHERE state = 'pending'")
    beats.was_down_since(beats.now() - timedelta(hours=4))
    beats.step(entry)
    assert sorted(run["state"] for run in beats.runs()) == ["pending", "skipped", "skipped", "succeeded"]


def test_a_run_says_for_which_tick_it_is_and_who_asked(beats: Beats) -> None:
    entry = Entry(PING, Every(3600))
    beats.step(entry)
    beats.was_down_since(beats.now() - timedelta(hours=1))
    beats.step(entry)
    (run,) = beats.runs()
    assert run["tick_key"] == f"{PING}/platform/{run['nominal_at']:%Y-%m-%dT%H:%M:%SZ}"
    assert (run["requested_by"], run["nominal_at"].minute, run["state"]) == ("beat", 0, "pending")


def test_a_beat_rests_until_the_next_tick_and_no_longer_than_five_seconds(beats: Beats) -> None:
    assert 0.05 <= beats.step(Entry(PING, Every(2))) <= 2
    assert beats.step(Entry("retention.purge_history", Daily(time(3, 30), weekday=0, day=31))) <= 5


@pytest.mark.parametrize(
    "override",
    [
        "no.such_job=60",
        "platform.ping",
        "=60",
        *(f"telematics.sync_connection={wrong}" for wrong in ("", "1.5", "0", "-5")),
    ],
)
def test_an_override_that_makes_no_sense_is_refused_by_name(beats: Beats, override: str) -> None:
    from jobs.scheduler import timetable

    with pytest.raises(ValueError, match="FLEET_SCHEDULE_EVERY: expected an entry's job=seconds"):
        timetable([override])


def test_an_override_changes_the_interval_of_its_entry_only(beats: Beats) -> None:
    from jobs.scheduler import timetable

    plain = {entry.job: entry for entry in timetable([])}
    changed = {entry.job: entry for entry in timetable(["telematics.sync_connection=60"])}
    assert changed.pop("telematics.sync_connection").when == Every(60)
    assert plain.pop("telematics.sync_connection").when == Every(300)
    assert changed == plain


def test_every_entry_of_the_timetable_names_a_job_and_its_arguments(beats: Beats) -> None:
    from beat_schedule import TIMETABLE
    from jobs.job import JOBS

    assert len({entry.job for entry in TIMETABLE}) == len(TIMETABLE), "an entry is known by its job"
    for entry in TIMETABLE:
        job = JOBS[entry.job]
        assert (job.scope == "system") == (entry.per == "platform"), entry.job
        given = {**entry.args, **({"connection_id": str(uuid4())} if entry.per == "connection" else {})}
        job.contract.parse(json.loads(json.dumps(given)))


def test_beats_that_are_killed_and_started_again_leave_no_tick_out_and_write_none_twice(
    database: Database, redis_url: str, tmp_path: Path
) -> None:
    with processes(database, redis_url, tmp_path) as started:
        started.define()
        ledger = Ledger(database)

        def ticks() -> list[datetime]:
            return sorted(run["nominal_at"] for run in ledger.runs(None))  # those caught up with came at one instant

        def at_least(wanted: int) -> None:
            wait_until(lambda: len(ticks()) >= wanted, what=f"{wanted} ticks")

        started.beat("beat-1")
        started.beat("beat-2")
        at_least(3)
        started.kill("beat-1")
        at_least(len(ticks()) + 2)
        started.kill("beat-2")
        stopped = ledger.now()
        wait_until(lambda: ledger.now() > stopped + timedelta(seconds=3))
        started.restart("beat-1")
        at_least(len(ticks()) + 4)
        assert started.stop("beat-1") == 0
        found = ticks()
        assert found == [found[0] + timedelta(seconds=n) for n in range(len(found))]
        assert found[-1] > stopped + timedelta(seconds=2)
        ledger.close()
