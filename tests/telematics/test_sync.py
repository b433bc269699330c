"""A connection's sync, against a simulated provider over HTTP and a real database."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

import msgspec
import pytest
import redis

from integrations.simulator import FaultPlan, SimulatorThread, expected_faults, expected_safety_events
from integrations.simulator.faults import Scripted
from integrations.simulator.fleet import Account
from integrations.simulator.server import FEED_TYPES
from tests.factories import make_connection, make_tenant
from tests.inprocess import Platform

NOW = datetime.now(UTC).replace(microsecond=0)
SYNC = "telematics.sync_connection"


def account(**changes: Any) -> Account:
    """Return an account whose ten minutes of driving are over, so that every figure is known."""
    given: dict[str, Any] = {"token": "simulated", "vehicles": 12, "start": NOW - timedelta(minutes=4), "end": NOW}
    return Account(**(given | changes))


def expected(of: Account) -> set[tuple[str, datetime]]:
    """Return every (device, instant) that the account's feeds have published."""
    return {point for types in FEED_TYPES for point in of.expected(datetime.now(UTC), types=tuple(types.split(",")))}


def stored(platform: Platform, connection_id: UUID) -> list[tuple[str, datetime]]:
    """Return every stored (device, instant) of a connection."""
    rows = platform.admin.execute(
        "SELECT v.external_id, t.time FROM telemetry t JOIN vehicles v ON v.id = t.vehicle_id"
        " WHERE v.connection_id = %s",
        [connection_id],
    )
    return [(row[0], row[1]) for row in rows]


class Fleet:
    """A tenant with one connection to a simulator."""

    def __init__(self, platform: Platform, simulator: SimulatorThread, **settings: Any) -> None:
        self.platform = platform
        self.simulator = simulator
        platform.allow(simulator.url)
        self.tenant_id = make_tenant(platform.admin)
        self.id = make_connection(platform.admin, self.tenant_id, simulator.url, settings=settings)

    def sync(self, **kwargs: Any) -> dict[str, Any]:
        """Run one sync to its end."""
        run_id = self.platform.enqueue(SYNC, self.tenant_id, connection_id=self.id)
        return self.platform.work(run_id, **kwargs)

    def rejected(self) -> dict[str, int]:
        """Return how many records were kept aside, by reason."""
        rows = self.platform.admin.execute(
            "SELECT reason, sum(occurrences)::int FROM rejected_records WHERE connection_id = %s GROUP BY 1", [self.id]
        )
        return {row[0]: row[1] for row in rows}


@pytest.fixture
def simulator() -> Iterator[SimulatorThread]:
    with SimulatorThread(account()) as running:
        yield running


@pytest.fixture
def fleet(platform: Platform, simulator: SimulatorThread) -> Fleet:
    return Fleet(platform, simulator)


def test_a_first_sync_finds_the_vehicles_and_stores_every_point_once(fleet: Fleet) -> None:
    row = fleet.sync()

    assert row["state"] == "succeeded"
    assert row["counts"]["vehicles_created"] == 12
    points = stored(fleet.platform, fleet.id)
    assert len(points) == len(set(points))
    assert set(points) == expected(fleet.simulator.account)
    assert row["counts"]["rejected"] == 0


def test_a_second_sync_stores_nothing_again(fleet: Fleet) -> None:
    fleet.sync()
    before = stored(fleet.platform, fleet.id)

    row = fleet.sync()

    assert row["state"] == "succeeded"
    assert row["counts"].get("stored", 0) == 0
    assert sorted(stored(fleet.platform, fleet.id)) == sorted(before)


def test_reading_everything_again_from_the_start_changes_nothing(fleet: Fleet) -> None:
    fleet.sync()
    before = fleet.platform.admin.execute("SELECT * FROM telemetry ORDER BY vehicle_id, time").fetchall()
    fleet.platform.admin.execute("DELETE FROM sync_cursors")

    row = fleet.sync()

    assert row["counts"]["stored"] == 0
    assert row["counts"]["duplicates"] > 0
    assert fleet.platform.admin.execute("SELECT * FROM telemetry ORDER BY vehicle_id, time").fetchall() == before


def test_positions_are_the_newest_fix_and_the_newest_of_each_meter(fleet: Fleet) -> None:
    fleet.sync()

    for column, at in (
        ("latitude", "time"),
        ("odometer_km", "odometer_at"),
        ("engine_hours", "engine_hours_at"),
        ("fuel_percent", "fuel_at"),
        ("battery_percent", "battery_at"),
        ("engine_state", "engine_state_at"),
    ):
        wrong = fleet.platform.value(
            f"""
            SELECT count(*) FROM (
                SELECT DISTINCT ON (vehicle_id) vehicle_id, time, {column} AS value FROM telemetry
                WHERE {column} IS NOT NULL ORDER BY vehicle_id, time DESC) newest
            FULL JOIN (SELECT * FROM vehicle_positions WHERE {at} IS NOT NULL) p USING (vehicle_id)
            WHERE newest.value IS DISTINCT FROM p.{column} OR newest.time IS DISTINCT FROM p.{at}
            """
        )
        assert wrong == 0, column
    assert fleet.platform.value("SELECT count(*) FROM vehicle_positions WHERE fuel_percent IS NOT NULL") > 0


def test_an_older_point_never_moves_a_vehicle_back(fleet: Fleet) -> None:
    fleet.sync()
    fleet.platform.admin.execute(
        "UPDATE vehicle_positions SET time = now() + interval '1 minute', latitude = 1, longitude = 2"
    )
    fleet.platform.admin.execute("DELETE FROM sync_cursors")

    fleet.sync()

    assert fleet.platform.value("SELECT count(*) FROM vehicle_positions WHERE (latitude, longitude) <> (1, 2)") == 0


def test_a_slice_that_is_over_goes_on_where_it_stopped(
    platform: Platform, simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_SLICE_S", "0.001")
    monkeypatch.setattr("jobs.telematics.sync._GATHER_READINGS", 1)
    fleet = Fleet(platform, simulator)

    row = fleet.sync(slices=200)

    assert row["state"] == "succeeded"
    assert row["snoozes"] > 3
    assert row["attempt"] == 1
    assert set(stored(platform, fleet.id)) == expected(simulator.account)


@pytest.mark.parametrize("gathered", [1, 100, 100_000])
def test_pages_gathered_or_one_by_one_give_the_same_rows(
    platform: Platform, simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch, gathered: int
) -> None:
    """Late and repeated points among them, so that one transaction meets an instant twice."""
    monkeypatch.setattr("jobs.telematics.sync._GATHER_READINGS", gathered)
    simulator.plan(FaultPlan(late=0.3, duplicate=0.3))
    fleet = Fleet(platform, simulator)

    row = fleet.sync()

    assert row["state"] == "succeeded", row["error"]
    points = stored(platform, fleet.id)
    assert len(points) == len(set(points))
    assert set(points) == expected(simulator.account)
    assert platform.value("SELECT sum(points)::int FROM sync_cursors") == len(points)
    lacking = platform.value(
        """
        SELECT count(*) FROM telemetry t JOIN vehicle_positions p USING (vehicle_id)
        WHERE t.time > p.time AND t.latitude IS NOT NULL OR t.time > p.odometer_at AND t.odometer_km IS NOT NULL
        """
    )
    assert lacking == 0


def test_live_state_is_in_redis_and_told_on_the_tenants_channel(fleet: Fleet, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client, client.pubsub() as channel:
        channel.subscribe(f"fleet:{fleet.tenant_id}:positions")
        channel.get_message(timeout=5)
        fleet.sync()
        told = channel.get_message(timeout=5)
        vehicle_id, latitude = fleet.platform.admin.execute(
            "SELECT vehicle_id, latitude FROM vehicle_positions LIMIT 1"
        ).fetchone() or (None, None)
        status = client.hgetall(f"vehicle:{vehicle_id}:status")
        assert told is not None
        assert json.loads(told["data"])[0]["vehicle_id"]
        assert float(status["latitude"]) == pytest.approx(latitude)
        assert 0 < client.ttl(f"vehicle:{vehicle_id}:status") <= 300


def test_redis_being_down_never_fails_a_sync(
    platform: Platform, simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_REDIS_URL", "redis://127.0.0.1:1/0")
    fleet = Fleet(platform, simulator)

    assert fleet.sync()["state"] == "succeeded"
    assert set(stored(platform, fleet.id)) == expected(simulator.account)


def test_devices_nobody_knows_are_kept_and_their_points_too(platform: Platform, simulator: SimulatorThread) -> None:
    fleet = Fleet(platform, simulator, create_vehicles=False)
    vin = simulator.account.identity(0).vin
    platform.admin.execute(
        "INSERT INTO vehicles (tenant_id, name, vin) VALUES (%s, 'known', %s)", [fleet.tenant_id, vin]
    )

    row = fleet.sync()

    assert row["counts"]["devices_linked"] == 1
    assert platform.value("SELECT count(*) FROM unmatched_devices") == 11
    known = {device for device, _ in stored(platform, fleet.id)}
    assert known == {simulator.account.device_id(0)}
    kept = fleet.rejected()["unmatched_device"]
    of_others = {point for point in expected(simulator.account) if point[0] not in known}
    distinct = platform.value(
        "SELECT count(DISTINCT (device_id, payload::jsonb ->> 'time')) FROM rejected_records"
        " WHERE reason = 'unmatched_device'"
    )
    assert distinct == len(of_others)
    assert kept >= distinct
    assert platform.value("SELECT sum(points)::int FROM unmatched_devices") == row["counts"]["unmatched"]


def test_a_device_that_a_later_list_links_brings_what_was_kept_of_it(
    platform: Platform, simulator: SimulatorThread
) -> None:
    fleet = Fleet(platform, simulator, create_vehicles=False)
    fleet.sync()
    device = simulator.account.device_id(3)
    platform.admin.execute(
        "INSERT INTO vehicles (tenant_id, name, vin) VALUES (%s, 'Four', %s)",
        [fleet.tenant_id, simulator.account.identity(3).vin],
    )
    platform.admin.execute("UPDATE sync_cursors SET completed_at = now() - interval '2 hours' WHERE feed = 'devices'")

    row = fleet.sync()

    assert row["counts"]["devices_linked"] == 1
    assert row["counts"]["adopted"] > 0
    assert set(stored(platform, fleet.id)) == {point for point in expected(simulator.account) if point[0] == device}
    assert platform.value("SELECT count(*) FROM rejected_records WHERE device_id = %s", device) == 0


def test_a_device_that_gets_its_vehicle_brings_the_points_that_were_kept(
    platform: Platform, simulator: SimulatorThread, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(platform, simulator, create_vehicles=False)
    fleet.sync()
    device = simulator.account.device_id(3)
    fleet_jobs = import_module("jobs.cli.main").main

    with pytest.raises(SystemExit) as left:
        fleet_jobs(["devices", "match", str(fleet.id), device, "--create"])

    assert left.value.code in (0, None), capsys.readouterr().err
    assert set(stored(platform, fleet.id)) == {point for point in expected(simulator.account) if point[0] == device}
    assert platform.value("SELECT count(*) FROM rejected_records WHERE device_id = %s", device) == 0
    assert platform.value("SELECT count(*) FROM telemetry WHERE odometer_km IS NOT NULL") > 0


def test_a_token_that_may_not_read_safety_events_still_brings_points_and_it_is_said_once(platform: Platform) -> None:
    with SimulatorThread(account(safety="none")) as simulator:
        fleet = Fleet(platform, simulator)

        states = [fleet.sync()["state"] for _ in range(2)]

    assert states == ["succeeded", "succeeded"]
    assert set(stored(platform, fleet.id)) == expected(simulator.account)
    rows = platform.value("SELECT count(*) FROM rejected_records WHERE reason = 'scope_missing'")
    assert (rows, fleet.rejected()["scope_missing"]) == (1, 2)


def test_a_sync_brings_faults_safety_events_and_charging(platform: Platform) -> None:
    with SimulatorThread(account(events_every_s=30.0)) as simulator:
        fleet = Fleet(platform, simulator)
        fleet.sync()

    admin = platform.admin
    there: dict[str, set[str]] = {}
    for device, code in admin.execute(
        "SELECT v.external_id, f.code FROM vehicle_faults f JOIN vehicles v ON v.id = f.vehicle_id"
        " WHERE f.cleared_at IS NULL"
    ):
        there.setdefault(device, set()).add(code)
    last = {
        each.device_id: set(each.codes)
        for each in sorted(expected_faults(fleet.simulator.account, NOW), key=lambda each: each.time)
    }
    assert there == {device: codes for device, codes in last.items() if codes} != {}
    events = {row[0] for row in admin.execute("SELECT external_id FROM video_events")}
    assert events == set(expected_safety_events(fleet.simulator.account, NOW)) != set()
    assert fleet.platform.value("SELECT count(*) FROM ev_metrics WHERE charging_state IS NOT NULL") > 0


def test_a_cursor_that_the_provider_refuses_begins_its_feed_anew_and_says_so(fleet: Fleet) -> None:
    fleet.sync()
    fleet.platform.admin.execute("UPDATE sync_cursors SET cursor = 'of-another-age' WHERE feed = 'engine'")

    row = fleet.sync()

    assert row["state"] == "succeeded"
    assert row["counts"]["cursors_refused"] == 1
    assert fleet.rejected()["cursor_refused"] == 1
    assert set(stored(fleet.platform, fleet.id)) == expected(fleet.simulator.account)


def test_readings_of_a_device_without_a_vehicle_are_kept_up_to_a_bound_and_counted_beyond(
    platform: Platform, simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.telematics.page.KEPT_PER_DEVICE", 10)
    fleet = Fleet(platform, simulator, create_vehicles=False)

    row = fleet.sync()

    most = platform.value(
        "SELECT max(n) FROM (SELECT count(*) AS n FROM rejected_records WHERE reason = 'unmatched_device'"
        " GROUP BY device_id) d"
    )
    assert 0 < most <= 10
    assert platform.value("SELECT sum(points)::int FROM unmatched_devices") == row["counts"]["unmatched"] > 10 * 12


def test_a_wrong_token_marks_the_connection_and_alerts_once(platform: Platform, simulator: SimulatorThread) -> None:
    platform.allow(simulator.url)
    tenant_id = make_tenant(platform.admin)
    connection_id = make_connection(platform.admin, tenant_id, simulator.url, token="wrong")

    row = platform.run(SYNC, tenant_id, connection_id=connection_id)
    again = platform.run(SYNC, tenant_id, connection_id=connection_id)

    assert row["state"] == "failed"
    assert row["error"]["type"] == "CredentialsRejected"
    assert "wrong" not in json.dumps(row["error"])
    assert again["state"] == "succeeded"
    assert again["counts"] == {"not_active": 1}
    assert platform.value("SELECT status FROM connections") == "reconnect"
    assert platform.value("SELECT count(*) FROM alerts WHERE kind = 'connection_rejected'") == 1


def test_a_connection_of_another_tenant_is_not_there(platform: Platform, simulator: SimulatorThread) -> None:
    fleet = Fleet(platform, simulator)
    other = make_tenant(platform.admin, "other")

    row = platform.run(SYNC, other, connection_id=fleet.id)

    assert row["state"] == "failed"
    assert "no connection" in row["error"]["message"]
    assert stored(platform, fleet.id) == []


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("rate_limit", "succeeded"),
        ("server_error", "succeeded"),
        ("truncated", "pending"),
        ("malformed", "pending"),
        ("html", "succeeded"),
        ("huge", "pending"),
    ],
)
def test_a_faulty_answer_costs_at_most_a_try_and_no_point(
    platform: Platform, simulator: SimulatorThread, fault: str, state: str
) -> None:
    fleet = Fleet(platform, simulator)
    simulator.next(fault, 1, path="/fleet/vehicles/stats/feed")

    row = fleet.sync()
    assert row["state"] == state, row["error"]
    if state == "pending":
        assert row["error"]["type"] in ("TransientError", "BodyTooLarge")
        assert row["attempt"] == 1
        platform.admin.execute("UPDATE job_runs SET run_at = now() WHERE id = %s", [row["id"]])
        row = platform.work(row["id"])

    assert row["state"] == "succeeded"
    points = stored(platform, fleet.id)
    assert len(points) == len(set(points))
    assert set(points) == expected(simulator.account)


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        ("impossible", {"latitude_out_of_range", "longitude_out_of_range"}),
        ("null_island", {"null_island"}),
        ("missing_time", {"time_missing"}),
        ("future_time", {"time_in_future"}),
        ("wrong_types", {"wrong_type"}),
        ("late", set()),
        ("duplicate", set()),
    ],
)
def test_a_bad_record_is_kept_and_counted_and_every_good_one_beside_it_is_stored(
    platform: Platform, simulator: SimulatorThread, fault: str, reasons: set[str]
) -> None:
    simulator.plan(msgspec.convert({fault: 1.0}, FaultPlan))
    fleet = Fleet(platform, simulator)

    row = fleet.sync()

    assert row["state"] == "succeeded", row["error"]
    assert set(stored(platform, fleet.id)) == expected(simulator.account)
    rejected = fleet.rejected()
    assert set(rejected) <= reasons
    assert bool(rejected) == bool(reasons)
    assert row["counts"]["rejected"] >= sum(rejected.values()) >= len(rejected)


def test_an_endless_loop_of_pages_ends_its_feed_for_now_and_says_so(
    platform: Platform, simulator: SimulatorThread
) -> None:
    fleet = Fleet(platform, simulator)
    simulator.plan(FaultPlan(loop=1.0))

    row = fleet.sync()

    assert row["state"] == "succeeded", row["error"]
    assert fleet.rejected()["cursor_loop"] >= 1
    simulator.plan(FaultPlan())
    assert fleet.sync()["state"] == "succeeded"
    assert set(stored(platform, fleet.id)) == expected(simulator.account)


def test_a_token_that_expires_in_the_middle_keeps_what_was_read_and_goes_on_when_it_is_renewed(
    platform: Platform, simulator: SimulatorThread
) -> None:
    fleet = Fleet(platform, simulator)
    simulator.plan(FaultPlan(script=(Scripted("expired_token", 99, None, "/fleet/vehicles/stats/feed"),)))

    assert fleet.sync()["error"]["type"] == "CredentialsRejected"
    assert platform.value("SELECT status FROM connections") == "reconnect"
    assert len(stored(platform, fleet.id)) > 0
    simulator.plan(FaultPlan())
    platform.admin.execute("UPDATE connections SET status = 'active'")
    assert fleet.sync()["state"] == "succeeded"
    assert set(stored(platform, fleet.id)) == expected(simulator.account)
