"""A connection to a self-hosted Traccar, synced against its simulator into a real database."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from integrations.simulator import Account, SimulatorThread
from integrations.simulator.fleet import to_ms
from integrations.simulator.server import FEED_TYPES
from integrations.simulator.traccar import TraccarFault, TraccarThread
from integrations.simulator.traccar_fleet import Backlog
from tests.factories import make_connection, make_tenant
from tests.inprocess import Platform

NOW = datetime.now(UTC).replace(microsecond=0)
SYNC = "telematics.sync_connection"

Key = tuple[str, datetime]


def account(**changes: Any) -> Account:
    """Return an account whose minutes of driving are over, so that every figure is known."""
    given: dict[str, Any] = {"token": "simulated", "vehicles": 12, "start": NOW - timedelta(minutes=5), "end": NOW}
    return Account(**(given | changes))


@pytest.fixture
def server() -> Iterator[TraccarThread]:
    with TraccarThread(account()) as running:
        yield running


class Connection:
    """A tenant's connection to Traccar, and what the database holds of it."""

    def __init__(
        self, platform: Platform, server: TraccarThread, tenant_id: UUID | None = None, **settings: Any
    ) -> None:
        self.platform = platform
        platform.allow(server.url)
        self.tenant_id = tenant_id or make_tenant(platform.admin)
        self.id = make_connection(platform.admin, self.tenant_id, server.url, provider="traccar", settings=settings)

    def sync(self) -> dict[str, Any]:
        """Run one sync to its end."""
        return self.platform.run(SYNC, self.tenant_id, connection_id=self.id)

    def stored(self) -> list[Key]:
        """Return every stored (device, instant)."""
        return stored(self.platform, self.id)

    def rows(self, statement: str) -> list[Any]:
        """Return the rows of a query about the tenant's vehicles."""
        return self.platform.admin.execute(statement.encode()).fetchall()


def stored(platform: Platform, connection_id: UUID) -> list[Key]:
    rows = platform.admin.execute(
        "SELECT v.external_id, t.time FROM telemetry t JOIN vehicles v ON v.id = t.vehicle_id"
        " WHERE v.connection_id = %s",
        [connection_id],
    )
    return [(row[0], row[1]) for row in rows]


def test_a_first_sync_finds_the_vehicles_and_stores_every_point_once(platform: Platform, server: TraccarThread) -> None:
    connection = Connection(platform, server)
    row = connection.sync()

    assert (row["state"], row["error"]) == ("succeeded", None)
    assert row["counts"]["vehicles_created"] == 12
    assert row["counts"]["rejected"] == 0
    points = connection.stored()
    assert len(points) == len(set(points))
    assert set(points) == set(server.fleet.expected(datetime.now(UTC)))
    papers = connection.rows("SELECT external_id, vin, make FROM vehicles ORDER BY 1")
    identities = [account().identity(index) for index in range(12)]
    assert papers == [(each.device_id, each.vin, each.make) for each in identities]


def test_a_second_sync_stores_nothing_again(platform: Platform, server: TraccarThread) -> None:
    connection = Connection(platform, server)
    connection.sync()
    before = connection.rows("SELECT * FROM telemetry ORDER BY vehicle_id, time")

    row = connection.sync()

    assert row["state"] == "succeeded"
    assert row["counts"].get("stored", 0) == 0
    assert connection.rows("SELECT * FROM telemetry ORDER BY vehicle_id, time") == before


def test_everything_read_again_from_the_start_changes_nothing(platform: Platform) -> None:
    """Codes came and went meanwhile: what a sweep repeats of them is older than what is known."""
    tables = ("telemetry", "vehicle_faults", "video_events", "alerts")
    hour = int(NOW.timestamp()) // 3600
    end = datetime.fromtimestamp((hour - hour % 2) * 3600 - 1, UTC)  # of an hour in which engines find codes
    with TraccarThread(account(start=end - timedelta(minutes=70), end=end, interval_s=30)) as server:
        connection = Connection(platform, server)
        connection.sync()
        before = [connection.rows(f"SELECT to_jsonb(t) - 'updated_at' FROM {table} t ORDER BY 1") for table in tables]
        platform.admin.execute("DELETE FROM sync_cursors")

        row = connection.sync()

    assert row["counts"]["stored"] == 0
    assert row["counts"]["duplicates"] > 0
    after = [connection.rows(f"SELECT to_jsonb(t) - 'updated_at' FROM {table} t ORDER BY 1") for table in tables]
    assert after == before
    assert all(before)


def test_what_a_tracker_kept_while_it_was_offline_arrives_with_its_own_times(platform: Platform) -> None:
    """Its live positions had been read before: a sweep finds the older ones."""
    arrives_at = datetime.now(UTC) + timedelta(seconds=2)
    kept = Backlog(3, NOW - timedelta(minutes=12), NOW - timedelta(minutes=8), arrives_at)
    clock = {"ahead": timedelta(0)}
    with TraccarThread(
        account(start=NOW - timedelta(minutes=15)),
        backlogs=[kept],
        clock_ms=lambda: to_ms(datetime.now(UTC) + clock["ahead"]),
    ) as server:
        connection = Connection(platform, server)
        for _ in range(2):
            connection.sync()
        missing = set(server.fleet.expected(arrives_at)) - set(connection.stored())
        assert missing
        assert {device for device, _ in missing} == {account().device_id(3)}

        clock["ahead"] = timedelta(seconds=5)
        assert connection.sync()["counts"].get("stored", 0) == 0, "it came before the next sweep"
        platform.admin.execute("""UPDATE connections SET settings = settings || '{"late_h": 0.000001}'""")
        assert connection.sync()["counts"]["stored"] == len(missing)

        points = connection.stored()
        assert set(points) == set(server.fleet.expected(arrives_at))
        assert len(points) == len(set(points))
    newest = connection.rows("SELECT max(p.time), max(t.time) FROM vehicle_positions p, telemetry t")
    assert newest[0][0] == newest[0][1], "a late point has moved a vehicle back"


def test_alarms_become_safety_events_and_codes_faults(platform: Platform) -> None:
    with TraccarThread(account(vehicles=20, start=NOW - timedelta(minutes=15))) as server:
        connection = Connection(platform, server)
        connection.sync()
        fleet = server.fleet
        indices = {fleet.account.device_id(index): index for index in range(20)}
        points = [(indices[device], to_ms(at), at) for device, at in fleet.expected(datetime.now(UTC))]
    alarms = {
        (fleet.account.device_id(i), at) for i, ms, at in points if fleet.alarm(i, ms) not in (None, "lowBattery")
    }
    events = connection.rows("SELECT v.external_id, e.time FROM video_events e JOIN vehicles v ON v.id = e.vehicle_id")
    assert set(events) == alarms
    assert len(events) == len(alarms) > 0
    named = {fleet.account.device_id(i) for i, ms, _ in points if fleet.codes(i, ms)}
    faults = connection.rows(
        "SELECT DISTINCT v.external_id FROM vehicle_faults f JOIN vehicles v ON v.id = f.vehicle_id"
    )
    assert {row[0] for row in faults} == named


def test_bad_records_are_kept_aside_and_every_good_point_is_stored(platform: Platform, server: TraccarThread) -> None:
    faults = ("wrong_type", "null_island", "foreign_device", "future_time", "unreadable_time", "invalid_fix")
    connection = Connection(platform, server)
    for fault in faults:
        server.simulator.set_faults([TraccarFault(fault, path="/api/reports/route")])
        assert connection.sync()["state"] == "succeeded"

    rows = connection.rows("SELECT DISTINCT reason FROM rejected_records")
    told = {"wrong_type", "null_island", "foreign_device", "time_in_future", "time_unreadable", "fix_invalid"}
    assert {row[0] for row in rows} == told
    assert set(connection.stored()) == set(server.fleet.expected(datetime.now(UTC)))


def test_a_connection_may_be_limited_to_groups(platform: Platform, server: TraccarThread) -> None:
    north = next(group for group, (name, _) in server.fleet.groups().items() if name == "North")
    connection = Connection(platform, server, group_ids=[north])
    connection.sync()
    chosen = {account().device_id(index) for index in range(1, 12, 4)}
    assert {device for device, _ in connection.stored()} == chosen
    assert connection.rows("SELECT count(*) FROM vehicles") == [(3,)]


@pytest.mark.parametrize("settings", [{"group_ids": [999_999]}, {"backfill_h": -1}])
def test_settings_that_cannot_be_end_the_run_with_the_reason(
    platform: Platform, server: TraccarThread, settings: dict[str, Any]
) -> None:
    row = Connection(platform, server, **settings).sync()
    assert row["state"] == "failed"
    assert next(iter(settings)) in row["error"]["message"]


def test_a_revoked_token_cuts_the_connection_off_once(platform: Platform, server: TraccarThread) -> None:
    connection = Connection(platform, server)
    server.next("expired_token", 10)
    connection.sync()
    assert connection.rows("SELECT status FROM connections") == [("reconnect",)]
    assert connection.rows("SELECT kind FROM alerts") == [("connection_rejected",)]


def test_a_tenant_may_have_vehicles_of_two_providers(platform: Platform, server: TraccarThread) -> None:
    paid = account(seed=2, vehicles=5)
    with SimulatorThread(paid) as samsara:
        connection = Connection(platform, server)
        platform.allow(f"{server.url},{samsara.url}")
        other = make_connection(platform.admin, connection.tenant_id, samsara.url)
        for _ in range(2):
            for id_ in (connection.id, other):
                assert platform.run(SYNC, connection.tenant_id, connection_id=id_)["state"] == "succeeded"
        now = datetime.now(UTC)
        expected = {point for types in FEED_TYPES for point in paid.expected(now, types=tuple(types.split(",")))}
        assert expected <= set(stored(platform, other))
        assert set(connection.stored()) == set(server.fleet.expected(now))
    assert connection.rows("SELECT count(*) FROM vehicles") == [(17,)]


def test_one_vehicle_with_two_trackers_is_one_vehicle_of_the_connection_that_came_first(
    platform: Platform, server: TraccarThread
) -> None:
    """Both providers tell the same VIN."""
    same = account(seed=1, vehicles=3)
    with SimulatorThread(same) as samsara:
        connection = Connection(platform, server)
        platform.allow(f"{server.url},{samsara.url}")
        connection.sync()
        other = make_connection(platform.admin, connection.tenant_id, samsara.url, settings={"create_vehicles": False})
        assert platform.run(SYNC, connection.tenant_id, connection_id=other)["state"] == "succeeded"
    assert connection.rows("SELECT count(*) FROM vehicles") == [(12,)]
    assert set(connection.stored()) == set(server.fleet.expected(datetime.now(UTC)))
