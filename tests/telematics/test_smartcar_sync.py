"""A Smartcar connection's sync from its consent to the rows, against a simulated provider and a real database."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from db.queries.telematics import Account
from integrations.errors import PermanentError, RateLimited
from integrations.simulator.smartcar import SmartcarThread
from integrations.simulator.smartcar_fleet import SmartcarAccount
from integrations.smartcar.schedule import Schedule
from tests.inprocess import Platform, platform_of
from tests.servers import Database
from tests.telematics.smartcar import Owner

VEHICLES = 12


@pytest.fixture
def platform(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    with platform_of(database, redis_url, monkeypatch) as running:
        yield running


@pytest.fixture
def simulator() -> Iterator[SmartcarThread]:
    with SmartcarThread(SmartcarAccount(vehicles=VEHICLES)) as running:
        yield running


@pytest.fixture
def owner(platform: Platform, simulator: SmartcarThread) -> Owner:
    return Owner(platform, simulator, poll_every_s=1800)


def due_now(owner: Owner) -> None:
    """Let every vehicle's turn come, as time would."""
    cursor = owner.platform.value("SELECT cursor FROM sync_cursors WHERE feed = 'vehicles'")
    schedule = Schedule(cursor)
    schedule.due = dict.fromkeys(schedule.due, schedule.listed_s)
    owner.platform.admin.execute("UPDATE sync_cursors SET cursor = %s WHERE feed = 'vehicles'", [schedule.write()])


def due_of(owner: Owner) -> dict[str, int]:
    return Schedule(owner.platform.value("SELECT cursor FROM sync_cursors WHERE feed = 'vehicles'")).due


def points(owner: Owner) -> set[tuple[Any, ...]]:
    rows = owner.platform.admin.execute(
        "SELECT v.external_id, t.time, t.latitude, t.odometer_km, t.fuel_percent, t.battery_percent"
        " FROM telemetry t JOIN vehicles v ON v.id = t.vehicle_id"
    ).fetchall()
    assert len(rows) == len({(row[0], row[1]) for row in rows})
    return set(rows)


@pytest.mark.parametrize("api", ["v3", "v2"])
def test_a_first_sync_makes_the_vehicles_and_stores_what_each_has_last_said(
    api: str, platform: Platform, simulator: SmartcarThread
) -> None:
    owner = Owner(platform, simulator, api=api)

    row = owner.sync()

    assert row["state"] == "succeeded", row["error"]
    assert row["counts"]["vehicles_created"] == VEHICLES
    vins = platform.admin.execute("SELECT external_id, vin FROM vehicles").fetchall()
    account = owner.account
    assert dict(vins) == {account.vehicle_id(index): account.identity(index).vin for index in range(VEHICLES)}
    stored = points(owner)
    assert len({point[0] for point in stored if point[2] is not None}) == VEHICLES
    assert len({point[0] for point in stored if point[3] is not None}) == VEHICLES
    assert (owner.rejected(), row["counts"]["rejected"]) == ({}, 0)
    assert platform.value("SELECT count(*) FROM ev_metrics WHERE charging_state IS NOT NULL") > 0


def test_fault_codes_arrive_with_the_points(owner: Owner) -> None:
    owner.sync()

    codes = owner.platform.admin.execute("SELECT DISTINCT code FROM vehicle_faults ORDER BY 1").fetchall()
    assert codes == [("P0171",), ("P0301",), ("P0420",)]


def test_a_vehicle_that_the_tenant_has_is_linked_by_its_vin(platform: Platform, simulator: SmartcarThread) -> None:
    owner = Owner(platform, simulator, create_vehicles=False)
    vin = owner.account.identity(3).vin
    platform.admin.execute(
        "INSERT INTO vehicles (tenant_id, name, vin) VALUES (%s, 'mine', %s)", [owner.tenant_id, vin]
    )

    row = owner.sync()

    assert (row["counts"]["devices_linked"], row["counts"]["devices_unmatched"]) == (1, VEHICLES - 1)
    assert platform.value("SELECT external_id FROM vehicles") == owner.account.vehicle_id(3)
    assert {point[0] for point in points(owner)} == {owner.account.vehicle_id(3)}


def test_between_two_turns_a_sync_asks_nothing_and_takes_nothing_from_the_bucket(owner: Owner, redis_url: str) -> None:
    owner.sync()
    asked = owner.simulator.simulator.stats()["requests"]

    rows = [owner.sync() for _ in range(3)]

    assert [row["state"] for row in rows] == ["succeeded"] * 3
    assert owner.simulator.simulator.stats()["requests"] == asked
    with redis.Redis.from_url(redis_url) as client:
        [name] = client.keys("fleet:bucket:smartcar:*")
        assert owner.account.client_id.encode() not in name
        assert float(client.hget(name, "left")) == pytest.approx(120 - asked, abs=1)


def test_the_same_values_read_again_are_stored_once(owner: Owner) -> None:
    owner.sync()
    before = points(owner)
    due_now(owner)

    row = owner.sync()

    assert row["counts"]["duplicates"] > 0
    assert points(owner) >= before


def test_one_vehicle_that_is_refused_waits_alone_and_still_waits_after_a_restart(owner: Owner) -> None:
    first, second = owner.account.vehicle_id(0), owner.account.vehicle_id(1)
    owner.sync()
    owner.simulator.simulator.next("vehicle_request_limit", path=f"{first}/signals")
    owner.simulator.simulator.next("vehicle_rate", path=f"{second}/signals", retry_after_s=7200)
    due_now(owner)

    row = owner.sync()

    assert row["state"] == "succeeded"
    due, now = due_of(owner), time.time()
    assert sorted(due, key=due.__getitem__)[-1] == first
    assert 7200 - 60 < due[second] - now < 7200 + 400
    assert owner.rejected() == {"vehicle_refused": 2}
    assert owner.value("status") == "active"


@pytest.mark.parametrize(("fault", "said"), [("account_failed", "AUTHENTICATION_FAILED"), ("suspended", "SUSPENDED")])
def test_an_account_that_is_cut_off_is_marked_and_its_owner_told_once(fault: str, said: str, owner: Owner) -> None:
    owner.simulator.simulator.next(fault)

    row, again = owner.sync(), owner.sync()

    assert (row["state"], row["error"]["type"]) == ("failed", "CredentialsRejected")
    assert again["counts"] == {"not_active": 1}
    assert said in owner.value("status_reason")
    assert [is_over for _, is_over in owner.alerts()] == [False]
    assert owner.renewals() == 0, "no renewal helps where the owner must act"


class TestAccess:
    def test_that_runs_out_is_renewed_before_the_first_request(self, owner: Owner) -> None:
        owner.expire_access()

        row = owner.sync()

        assert row["state"] == "succeeded"
        assert (owner.renewals(), owner.simulator.simulator.by_status[401]) == (1, 0)

    def test_that_is_refused_in_the_middle_is_renewed_once_and_the_slice_goes_on(self, owner: Owner) -> None:
        owner.simulator.simulator.next("authentication", path="/signals")

        row = owner.sync()

        assert row["state"] == "succeeded"
        assert owner.renewals() == 1
        assert len({point[0] for point in points(owner)}) == VEHICLES

    def test_that_is_refused_again_at_once_is_the_owners_matter(self, owner: Owner) -> None:
        owner.simulator.simulator.next("authentication", 2, path="/v3/")

        row = owner.sync()

        assert (row["state"], row["error"]["type"]) == ("failed", "AccessExpired")
        assert (owner.value("status"), owner.renewals()) == ("reconnect", 1)
        assert [is_over for _, is_over in owner.alerts()] == [False]

    def test_of_an_application_is_got_anew_each_hour_without_anything_to_lose(self, owner: Owner) -> None:
        account = owner.account
        owner.keep({"client_id": account.client_id, "client_secret": account.client_secret, "user_id": account.user_id})

        row = owner.sync()

        assert row["state"] == "succeeded"
        assert owner.simulator.simulator.tokens.granted == {"client_credentials": 1}
        assert owner.value("renew_before") is None


class TestBucket:
    def test_an_empty_one_postpones_the_run_for_as_long_as_it_takes(
        self, platform: Platform, simulator: SmartcarThread
    ) -> None:
        owner = Owner(platform, simulator, bucket_size=5, bucket_per_min=2)

        row = owner.sync()

        assert (row["state"], row["error"]["type"]) == ("pending", "RateLimited")
        assert timedelta(seconds=20) < row["run_at"] - row["now"] <= timedelta(seconds=30)
        assert simulator.simulator.stats()["requests"] == 5

    def test_is_shared_by_papers_and_values_in_turns(self, platform: Platform, redis_url: str) -> None:
        with SmartcarThread(SmartcarAccount(vehicles=30)) as simulator:
            owner = Owner(platform, simulator, bucket_size=4, bucket_per_min=0.1)
            asked, states = [], []
            for _ in range(4):
                fill_again(redis_url)
                row = owner.sync()
                states.append((row["state"], row["error"]["type"]))
                end_runs(owner)
                asked.append((requests(owner, "-vin"), requests(owner, "/signals")))

        assert states == [("pending", "RateLimited")] * 4
        assert asked == [(3, 0), (3, 3), (7, 3), (7, 7)], "a page of the list each, three VINs, three polls, four, four"

    def test_has_room_for_values_beside_a_few_papers_and_those_follow_at_the_next_syncs(
        self, platform: Platform
    ) -> None:
        with SmartcarThread(SmartcarAccount(vehicles=45)) as simulator:
            owner = Owner(platform, simulator, poll_every_s=1800)
            rows = [owner.sync() for _ in range(4)]

            assert [row["state"] for row in rows] == ["succeeded"] * 4
            assert [row["counts"]["vehicles_created"] for row in rows] == [20, 20, 5, 0]
            assert (requests(owner, "-vin"), requests(owner, "/signals")) == (45, 45)

    @pytest.mark.parametrize(("setting", "given"), [("bucket_size", "abc"), ("bucket_per_min", [1])])
    def test_that_cannot_be_is_said_by_its_name(self, setting: str, given: object, owner: Owner) -> None:
        from jobs.telematics import pace

        with pytest.raises(PermanentError, match=f"settings: {setting}: expected a number"):
            pace.wait_for_turn(account_of(owner, **{setting: given}), "client")

    def test_is_shared_by_the_connections_of_one_application_and_by_no_other(
        self, platform: Platform, owner: Owner
    ) -> None:
        from jobs.telematics import pace

        one, other = account_of(owner, bucket_size=2), account_of(owner, bucket_size=2)
        pace.wait_for_turn(one, "client")
        pace.wait_for_turn(other, "client")

        with pytest.raises(RateLimited) as limited:
            pace.wait_for_turn(one, "client")
        pace.wait_for_turn(one, "another client")
        assert 25 < limited.value.retry_after_s <= 30

    def test_fills_again_by_the_servers_clock(self, owner: Owner) -> None:
        from jobs.telematics import pace

        account = account_of(owner, bucket_size=1, bucket_per_min=120)
        started = time.monotonic()
        for _ in range(3):
            pace.wait_for_turn(account, "client")

        assert 0.9 < time.monotonic() - started < 2.5

    def test_is_kept_by_each_process_where_redis_is_down(self, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
        from jobs import watchers
        from jobs.settings import get_settings
        from jobs.telematics import pace

        watchers.forget()
        monkeypatch.setenv("FLEET_REDIS_URL", "redis://127.0.0.1:1/0")
        get_settings.cache_clear()
        account = account_of(owner, bucket_size=1)
        pace.wait_for_turn(account, "client")

        with pytest.raises(RateLimited):
            pace.wait_for_turn(account, "client")


def requests(owner: Owner, ending: str) -> int:
    """Return how often the provider was asked at addresses that end so."""
    return sum(times for path, times in owner.simulator.simulator.by_path.items() if path.endswith(ending))


def fill_again(redis_url: str) -> None:
    """Fill every bucket, as time would."""
    with redis.Redis.from_url(redis_url) as client:
        for name in client.scan_iter("fleet:bucket:*"):
            client.delete(name)


def end_runs(owner: Owner) -> None:
    """Let no run wait any more, so that the next sync begins at once."""
    owner.platform.admin.execute("UPDATE job_runs SET state = 'cancelled', finished_at = now() WHERE state = 'pending'")


def account_of(owner: Owner, **settings: Any) -> Account:
    return Account(owner.id, owner.tenant_id, "smartcar", "x", None, b"", {"bucket_per_min": 2} | settings, "active")
