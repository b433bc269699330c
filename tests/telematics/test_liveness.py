"""Silent vehicles, low levels and silent connections: alerts that open once and resolve by themselves."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import Connection

from tests.factories import make_connection, make_tenant
from tests.inprocess import Platform, platform_of
from tests.servers import Database

JOB = "telematics.check_liveness"
NOW = datetime.now(UTC).replace(microsecond=0)
TICK = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
# A request of Smartcar's 490 for every 5,467 s of a month, or five of them for the older API; then up to a tenth later.
SMARTCAR: list[tuple[dict[str, Any], timedelta, bool]] = [
    ({}, timedelta(seconds=2 * (5467 + 180)) - TICK, False),
    ({}, timedelta(seconds=2 * (5467 + 180)), True),
    ({"poll_every_s": 7200}, timedelta(seconds=2 * (7200 + 720)) - TICK, False),
    ({"poll_every_s": 7200}, timedelta(seconds=2 * (7200 + 720)), True),
    ({"poll_every_s": 600, "calls_per_vehicle_and_month": 100_000}, timedelta(minutes=30), True),
    ({"poll_every_s": 600}, timedelta(seconds=2 * (5467 + 60)) - TICK, False),
    ({"api": "v2"}, timedelta(seconds=2 * (27_331 + 180)) - TICK, False),
    ({"api": "v2"}, timedelta(seconds=2 * (27_331 + 180)), True),
    ({"poll_every_s": "often"}, timedelta(seconds=2 * (5467 + 180)) - TICK, False),
    ({"poll_every_s": "often"}, timedelta(seconds=2 * (5467 + 180)), True),
]
WRONG_POLLS: list[Any] = ["soon", None, [], {}, "-5", 1e300, "99999999999999999999"]


@pytest.fixture
def platform(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """The platform on plain PostgreSQL: nothing here touches a time series."""
    with platform_of(database, redis_url, monkeypatch) as running:
        yield running


class Fleet:
    """A tenant, its vehicles as other applications and syncs leave them, and its alerts."""

    def __init__(self, platform: Platform, slug: str = "acme") -> None:
        self.platform = platform
        self.admin = platform.admin
        self.tenant_id = make_tenant(platform.admin, slug)

    def connection(self, *, synced: timedelta | None = timedelta(0), **given: Any) -> UUID:
        """Add a connection that was last read to its end so long ago."""
        connection_id = make_connection(self.admin, self.tenant_id, "https://api.samsara.com", **given)
        synced_at = None if synced is None else NOW - synced
        self.admin.execute("UPDATE connections SET last_synced_at = %s WHERE id = %s", [synced_at, connection_id])
        return connection_id

    def vehicles(self, number: int, silence: timedelta | None, **given: Any) -> list[UUID]:
        """Add vehicles whose newest fix is so old at NOW; None never reported."""
        columns = {"kind": "vehicle", "connection_id": None, "name": "Truck"} | given
        rows = self.admin.execute(
            f"INSERT INTO vehicles (tenant_id, {', '.join(columns)})"
            f" SELECT %s, {', '.join(['%s'] * len(columns))} FROM generate_series(1, %s) RETURNING id",
            [self.tenant_id, *columns.values(), number],
        ).fetchall()
        ids = [row[0] for row in rows]
        if silence is not None:
            self.report(ids, NOW - silence)
        return ids

    def vehicle(self, silence: timedelta | None, **given: Any) -> UUID:
        """Add one vehicle."""
        return self.vehicles(1, silence, **given)[0]

    def report(self, vehicles: list[UUID], at: datetime) -> None:
        """Place vehicles by a fix of that time."""
        self.admin.execute(
            "INSERT INTO vehicle_positions (tenant_id, vehicle_id, time, latitude, longitude)"
            " SELECT %s, id, %s, 52.5, 13.4 FROM unnest(%s::uuid[]) AS id"
            " ON CONFLICT (vehicle_id) DO UPDATE SET time = excluded.time",
            [self.tenant_id, at, vehicles],
        )

    def read_level(self, vehicle: UUID, level: str, percent: float, at: datetime = NOW) -> None:
        """Let a vehicle report its fuel or battery."""
        self.admin.execute(
            f"INSERT INTO vehicle_positions (tenant_id, vehicle_id, {level}_percent, {level}_at)"
            f" VALUES (%s, %s, %s, %s) ON CONFLICT (vehicle_id) DO UPDATE"
            f" SET {level}_percent = excluded.{level}_percent, {level}_at = excluded.{level}_at",
            [self.tenant_id, vehicle, percent, at],
        )

    def set(self, kind: str = "vehicle", **thresholds: float | None) -> None:
        """Set all of the tenant's thresholds; what is not named is off."""
        self.admin.execute("DELETE FROM alert_thresholds WHERE tenant_id = %s", [self.tenant_id])
        self.admin.execute(
            f"INSERT INTO alert_thresholds (tenant_id, vehicle_kind, {', '.join(thresholds)})"
            f" VALUES (%s, %s, {', '.join(['%s'] * len(thresholds))})",
            [self.tenant_id, kind, *thresholds.values()],
        )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a worker's transaction of the tenant."""
        from jobs import process

        with process.get_database().tenant_transaction(self.tenant_id) as connection:
            yield connection

    def check(self, now: datetime = NOW) -> dict[str, int]:
        """Check at a time of ours; return what was counted."""
        from jobs.telematics import liveness

        with self.transaction() as connection:
            return liveness.check(connection, now)

    def alerts(self, *, resolved: bool = False) -> list[dict[str, Any]]:
        """Return the tenant's alerts, oldest first."""
        with self.admin.cursor(row_factory=dict_row) as cursor:
            cursor.execute(
                "SELECT * FROM alerts WHERE tenant_id = %s AND (resolved_at IS NOT NULL) = %s ORDER BY created_at",
                [self.tenant_id, resolved],
            )
            return cursor.fetchall()

    def kinds(self) -> dict[str, int]:
        """Return how many alerts of each kind are open."""
        found = [alert["kind"] for alert in self.alerts()]
        return {kind: found.count(kind) for kind in set(found)}


@pytest.fixture
def fleet(platform: Platform) -> Fleet:
    return Fleet(platform)


@pytest.mark.parametrize(
    ("kind", "silence", "opens"),
    [
        ("vehicle", timedelta(minutes=30) - TICK, False),
        ("vehicle", timedelta(minutes=30), True),
        ("vehicle", timedelta(days=400), True),
        ("robot", timedelta(minutes=5) - TICK, False),
        ("robot", timedelta(minutes=5), True),
        ("vehicle", -MINUTE, False),
        ("vehicle", None, False),
    ],
)
def test_a_vehicle_is_offline_from_its_kinds_threshold_on(
    fleet: Fleet, kind: str, silence: timedelta | None, opens: bool
) -> None:
    fleet.vehicle(silence, kind=kind)

    fleet.check()

    assert fleet.kinds() == ({"offline": 1} if opens else {})


def test_the_alert_says_which_vehicle_since_when_and_nothing_of_where(fleet: Fleet) -> None:
    vehicle = fleet.vehicle(HOUR, name="Truck 7")

    fleet.check()

    [alert] = fleet.alerts()
    assert alert["severity"] == "medium"
    assert (alert["vehicle_id"], alert["subject"]) == (vehicle, f"vehicle:{vehicle}")
    assert alert["opened_at"] == NOW - HOUR + 30 * MINUTE
    assert alert["message"] == f"Truck 7 has not reported since {NOW - HOUR:%Y-%m-%d %H:%M} UTC"
    assert set(alert["details"]) == {"last_reported_at", "threshold_s"}
    assert datetime.fromisoformat(alert["details"]["last_reported_at"]) == NOW - HOUR
    assert alert["details"]["threshold_s"] == 1800


@pytest.mark.parametrize("column", ["odometer_at", "engine_hours_at", "fuel_at", "battery_at", "engine_state_at"])
def test_any_meter_is_a_report(fleet: Fleet, column: str) -> None:
    vehicle = fleet.vehicle(HOUR)
    fleet.admin.execute(f"UPDATE vehicle_positions SET {column} = %s WHERE vehicle_id = %s", [NOW, vehicle])

    fleet.check()

    assert fleet.kinds() == {}


@pytest.mark.parametrize("change", ["status = 'retired'", "status = 'sold'", "deleted_at = now()"])
def test_a_vehicle_that_left_the_fleet_has_no_alert_and_keeps_none(fleet: Fleet, change: str) -> None:
    gone, leaving = fleet.vehicles(2, HOUR)
    fleet.read_level(leaving, "fuel", 3, NOW - HOUR)
    fleet.admin.execute(f"UPDATE vehicles SET {change} WHERE id = %s", [gone])
    fleet.check()
    assert fleet.kinds() == {"offline": 1, "low_fuel": 1}
    fleet.admin.execute(f"UPDATE vehicles SET {change} WHERE id = %s", [leaving])

    assert fleet.check()["resolved"] == 2

    assert fleet.kinds() == {}


@pytest.mark.parametrize("change", ["status = 'retired'", "status = 'sold'", "deleted_at = now()"])
def test_a_vehicle_that_left_the_fleet_is_in_no_fence_that_anybody_is_told_of(fleet: Fleet, change: str) -> None:
    leaving, staying = fleet.vehicles(2, MINUTE)
    fence = fleet.platform.value(
        "INSERT INTO geofences (tenant_id, name, kind, center_latitude, center_longitude, radius_m)"
        " VALUES (%s, 'Yard', 'circle', 52.5, 13.4, 100) RETURNING id",
        fleet.tenant_id,
    )
    for vehicle in (leaving, staying):
        fleet.admin.execute(
            "INSERT INTO geofence_presence (tenant_id, vehicle_id, geofence_id, entered_at) VALUES (%s, %s, %s, now())",
            [fleet.tenant_id, vehicle, fence],
        )
        fleet.admin.execute(
            "INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, subject, message, opened_at)"
            " VALUES (%s, 'geofence_entry', 'medium', %s, 'geofence:1:vehicle:' || %s::text, 'It entered', %s)",
            [fleet.tenant_id, vehicle, vehicle, NOW - HOUR],
        )
    fleet.admin.execute(f"UPDATE vehicles SET {change} WHERE id = %s", [leaving])

    assert fleet.check() == {"resolved": 1}

    assert [alert["vehicle_id"] for alert in fleet.alerts()] == [staying]
    assert [alert["resolved_at"] for alert in fleet.alerts(resolved=True)] == [NOW]
    still = fleet.admin.execute("SELECT vehicle_id FROM geofence_presence").fetchall()
    assert ((leaving,) in still) == (change != "deleted_at = now()")
    assert (staying,) in still


@pytest.mark.parametrize("status", ["maintenance", "error", "charging", "idle"])
def test_every_other_status_is_watched(fleet: Fleet, status: str) -> None:
    fleet.vehicle(HOUR, status=status)
    fleet.check()
    assert fleet.kinds() == {"offline": 1}


def test_a_tenants_threshold_holds_for_its_kind_of_vehicle_only(fleet: Fleet) -> None:
    fleet.set("vehicle", offline_after_s=7200)
    fleet.vehicle(2 * HOUR - TICK)
    fleet.vehicle(5 * MINUTE, kind="robot")
    fleet.check()
    assert [alert["opened_at"] for alert in fleet.alerts()] == [NOW]

    fleet.vehicle(2 * HOUR)
    fleet.check()

    assert fleet.kinds() == {"offline": 2}


def test_an_alert_that_is_off_does_not_open_and_what_was_open_resolves(fleet: Fleet) -> None:
    vehicle = fleet.vehicle(HOUR)
    fleet.read_level(vehicle, "fuel", 1, NOW - HOUR)
    fleet.read_level(vehicle, "battery", 1, NOW - HOUR)
    fleet.check()
    assert fleet.kinds() == {"offline": 1, "low_fuel": 1, "low_battery": 1}

    fleet.set("vehicle", offline_after_s=None, low_fuel_percent=None, low_battery_percent=20)

    assert fleet.check() == {"resolved": 2}
    assert fleet.kinds() == {"low_battery": 1}
    assert fleet.check() == {"resolved": 0}


@pytest.mark.parametrize(
    ("level", "percent", "age", "opens"),
    [
        ("fuel", 15.0, MINUTE, False),
        ("fuel", 14.9, MINUTE, True),
        ("fuel", 0.0, MINUTE, True),
        ("battery", 20.0, MINUTE, False),
        ("battery", 19.9, MINUTE, True),
        ("fuel", 3.0, 24 * HOUR - TICK, True),
        ("fuel", 3.0, 24 * HOUR, False),
        ("battery", 3.0, 24 * HOUR, False),
    ],
)
def test_a_level_is_low_below_its_threshold_while_it_is_not_older_than_a_day(
    fleet: Fleet, level: str, percent: float, age: timedelta, opens: bool
) -> None:
    vehicle = fleet.vehicle(MINUTE, name="Van")
    fleet.read_level(vehicle, level, percent, NOW - age)

    fleet.check()

    assert fleet.kinds() == ({f"low_{level}": 1} if opens else {})
    for alert in fleet.alerts():
        assert alert["opened_at"] == NOW - age
        assert alert["message"] == f"Van: {level} at {percent:g} %, below {15 if level == 'fuel' else 20} %"


@pytest.mark.parametrize(
    ("threshold", "percent", "age", "resolves"),
    [
        (15, 15.0, MINUTE, False),
        (15, 19.9, MINUTE, False),
        (15, 20.0, MINUTE, True),
        (15, 90.0, 24 * HOUR, False),
        (95, 99.9, MINUTE, False),
        (95, 100.0, MINUTE, True),
    ],
)
def test_a_low_level_resolves_well_above_its_threshold(
    fleet: Fleet, threshold: float, percent: float, age: timedelta, resolves: bool
) -> None:
    fleet.set("vehicle", low_fuel_percent=threshold)
    vehicle = fleet.vehicle(MINUTE)
    fleet.read_level(vehicle, "fuel", threshold - 1)
    fleet.check()

    fleet.read_level(vehicle, "fuel", percent, NOW - age)
    fleet.check()

    assert fleet.kinds() == ({} if resolves else {"low_fuel": 1})
    assert [alert["resolved_at"] for alert in fleet.alerts(resolved=True)] == ([NOW] if resolves else [])


def test_checking_twice_opens_nothing_twice(fleet: Fleet) -> None:
    connection_id = fleet.connection()
    fleet.vehicles(5, HOUR, connection_id=connection_id)
    fleet.read_level(fleet.vehicle(HOUR), "fuel", 3)
    fleet.vehicle(HOUR)
    first = fleet.check()
    before = fleet.alerts()

    assert first == {"connection_silent": 1, "offline": 1, "low_fuel": 1, "resolved": 0}
    assert fleet.check() == {"resolved": 0}
    assert fleet.check(NOW + MINUTE) == {"resolved": 0}
    assert fleet.alerts() == before


def test_the_job_counts_what_it_opened_and_resolved(fleet: Fleet) -> None:
    back, _ = fleet.vehicles(2, HOUR)

    row = fleet.platform.run(JOB, fleet.tenant_id)
    assert (row["state"], row["counts"]) == ("succeeded", {"offline": 2, "resolved": 0})

    fleet.report([back], datetime.now(UTC))
    row = fleet.platform.run(JOB, fleet.tenant_id)
    assert (row["state"], row["counts"]) == ("succeeded", {"resolved": 1})


def test_two_workers_at_once_open_each_alert_once(fleet: Fleet) -> None:
    """One holds its transaction open until the other waits for it."""
    for _ in range(3):
        fleet.vehicles(40, HOUR, connection_id=fleet.connection())
    fleet.vehicles(40, HOUR)
    counts: list[dict[str, int]] = []
    ready, release = threading.Barrier(2), threading.Event()

    def work() -> None:
        from jobs.telematics import liveness

        with fleet.transaction() as connection:
            ready.wait(10)
            counts.append(liveness.check(connection, NOW))
            release.wait(10)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    wait_for_lock(fleet.admin)
    release.set()
    for worker in workers:
        worker.join(20)

    assert fleet.kinds() == {"connection_silent": 3, "offline": 40}
    assert sorted(count.get("offline", 0) for count in counts) == [0, 40]


def wait_for_lock(admin: psycopg.Connection) -> None:
    """Wait until some session waits for another one's transaction."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while datetime.now(UTC) < deadline:
        row = admin.execute(waiting).fetchone()
        if row is not None and row[0]:
            return
    raise AssertionError("nobody waits: the two did not meet")


def test_a_check_that_was_killed_halfway_leaves_nothing_and_the_next_one_does_it_all(fleet: Fleet) -> None:
    from jobs.telematics import liveness

    back = fleet.vehicle(HOUR)
    fleet.check()
    fleet.report([back], NOW)
    fleet.vehicles(3, HOUR)
    with pytest.raises(KeyboardInterrupt), fleet.transaction() as connection:
        assert liveness.check(connection, NOW) == {"offline": 3, "resolved": 1}
        raise KeyboardInterrupt
    assert [alert["vehicle_id"] for alert in fleet.alerts()] == [back]

    assert fleet.check() == {"offline": 3, "resolved": 1}


def test_the_next_silence_is_an_alert_of_its_own(fleet: Fleet) -> None:
    vehicle = fleet.vehicle(HOUR)
    fleet.check()
    fleet.report([vehicle], NOW)
    fleet.check(NOW + MINUTE)
    assert fleet.kinds() == {}

    fleet.check(NOW + 31 * MINUTE)

    [before], [after] = fleet.alerts(resolved=True), fleet.alerts()
    assert before["id"] != after["id"]
    assert (before["resolved_at"], after["opened_at"]) == (NOW + MINUTE, NOW + 30 * MINUTE)


def test_an_alert_that_was_resolved_by_hand_stays_so_while_the_silence_lasts(fleet: Fleet) -> None:
    vehicle = fleet.vehicle(HOUR)
    fleet.vehicles(3, HOUR, connection_id=fleet.connection())
    fleet.check()
    fleet.admin.execute("UPDATE alerts SET resolved_at = now()")

    assert fleet.check(NOW + MINUTE) == {"resolved": 0}
    assert fleet.kinds() == {}

    fleet.report([vehicle], NOW + MINUTE)
    assert fleet.check(NOW + HOUR)["offline"] == 1


@pytest.mark.parametrize("level", ["fuel", "battery"])
def test_a_level_that_was_resolved_by_hand_opens_again_only_after_it_was_high(fleet: Fleet, level: str) -> None:
    vehicle = fleet.vehicle(MINUTE)
    fleet.read_level(vehicle, level, 10)
    fleet.check()
    fleet.admin.execute("UPDATE alerts SET resolved_at = %s", [NOW])

    for minute, percent in ((1, 10), (2, 5), (3, 22), (4, 5)):
        fleet.read_level(vehicle, level, percent - 3 * (level == "fuel"), NOW + minute * MINUTE)
        assert fleet.check(NOW + minute * MINUTE) == {"resolved": 0}, minute
    assert fleet.kinds() == {}

    fleet.read_level(vehicle, level, 60, NOW + 5 * MINUTE)
    assert fleet.check(NOW + 5 * MINUTE) == {"resolved": 0}
    assert [(alert["resolved_at"], alert["over_at"]) for alert in fleet.alerts(resolved=True)] == [
        (NOW, NOW + 5 * MINUTE)
    ]
    fleet.read_level(vehicle, level, 5, NOW + 6 * MINUTE)
    assert fleet.check(NOW + 6 * MINUTE) == {f"low_{level}": 1, "resolved": 0}


def test_a_level_that_resolved_by_itself_opens_at_the_next_low_value(fleet: Fleet) -> None:
    vehicle = fleet.vehicle(MINUTE)
    for minute, percent, counted in ((0, 5, {"low_fuel": 1, "resolved": 0}), (1, 60, {"resolved": 1})) * 2:
        minute += 2 * len(fleet.alerts(resolved=True))
        fleet.read_level(vehicle, "fuel", percent, NOW + minute * MINUTE)
        assert fleet.check(NOW + minute * MINUTE) == counted


def test_thousands_of_alerts_end_in_a_moment_though_the_planner_knows_of_none(fleet: Fleet) -> None:
    """Row by row, as joins of what is believed to be one row are done, these took 20 s."""
    fleet.admin.execute("ALTER TABLE alerts SET (autovacuum_enabled = false)")
    vehicles = []
    for _ in range(10):
        connection_id = fleet.connection()
        vehicles += fleet.vehicles(200, HOUR, connection_id=connection_id)
        fleet.vehicles(200, MINUTE, connection_id=connection_id)
    fleet.admin.execute(
        "UPDATE vehicle_positions SET fuel_percent = 5, fuel_at = time, battery_percent = 5, battery_at = time"
    )
    assert fleet.check() == {"offline": 2_000, "low_fuel": 4_000, "low_battery": 4_000, "resolved": 0}
    began = time.perf_counter()
    assert fleet.check(NOW + MINUTE) == {"resolved": 0}
    fleet.report(vehicles, NOW + 2 * MINUTE)
    fleet.admin.execute(
        "UPDATE vehicle_positions SET fuel_percent = 90, fuel_at = %(at)s, battery_percent = 90, battery_at = %(at)s",
        {"at": NOW + 2 * MINUTE},
    )

    assert fleet.check(NOW + 3 * MINUTE) == {"resolved": 10_000}

    assert time.perf_counter() - began < 5


def test_a_tenant_sees_and_changes_its_own_vehicles_only(fleet: Fleet) -> None:
    other = Fleet(fleet.platform, "other")
    other.set("vehicle", offline_after_s=60)
    theirs = other.vehicle(5 * MINUTE)
    other.check()
    other.report([theirs], NOW)
    fleet.vehicle(5 * MINUTE)
    fleet.vehicle(HOUR)

    assert fleet.check() == {"offline": 1, "resolved": 0}

    assert fleet.kinds() == {"offline": 1}
    assert [alert["vehicle_id"] for alert in other.alerts()] == [theirs], "their vehicle is back, and not our concern"


@pytest.mark.soak
def test_a_hundred_thousand_vehicles_are_checked_within_a_second(fleet: Fleet) -> None:
    """Measured on two cores: 0.3 s with none silent or 5 % of them, 3 s in the minute that all fall silent."""
    connections = [fleet.connection() for _ in range(20)]
    for connection_id in connections:
        fleet.vehicles(5_000, MINUTE, connection_id=connection_id)
    fleet.admin.execute(
        "UPDATE vehicle_positions SET time = time - interval '1 hour'"
        " WHERE vehicle_id IN (SELECT id FROM vehicles ORDER BY id LIMIT 5000)"
    )
    fleet.admin.execute("VACUUM ANALYZE vehicles, vehicle_positions")
    assert fleet.check() == {"offline": 5_000, "resolved": 0}
    took_s = []
    for _ in range(3):
        began = time.perf_counter()
        assert fleet.check() == {"resolved": 0}
        took_s.append(time.perf_counter() - began)

    assert min(took_s) < 1, took_s


class TestConnections:
    @pytest.mark.parametrize(
        ("provider", "settings", "silence", "opens"),
        [
            ("samsara", {}, 30 * MINUTE, True),
            *(("smartcar", *case) for case in SMARTCAR),
            ("samsara", {"poll_every_s": "3600"}, 2 * HOUR - TICK, False),
            ("samsara", {"poll_every_s": "3600"}, 2 * HOUR, True),
            ("samsara", {"poll_every_s": 60}, 30 * MINUTE, True),
            *(("samsara", {"poll_every_s": wrong}, 30 * MINUTE, True) for wrong in WRONG_POLLS),
        ],
    )
    def test_a_vehicle_is_silent_only_after_two_of_its_connections_polls(
        self, fleet: Fleet, provider: str, settings: dict[str, Any], silence: timedelta, opens: bool
    ) -> None:
        connection_id = fleet.connection(provider=provider, settings=settings)
        fleet.vehicle(silence, connection_id=connection_id)

        fleet.check()

        assert fleet.kinds() == ({"offline": 1} if opens else {})

    @pytest.mark.parametrize(
        ("silent", "heard", "alerts"),
        [
            (1, 0, {"offline": 1}),
            (2, 0, {"connection_silent": 1}),
            (4, 1, {"connection_silent": 1}),
            (3, 1, {"offline": 3}),
            (79, 21, {"offline": 79}),
            (80, 20, {"connection_silent": 1}),
        ],
    )
    def test_most_of_a_connection_silent_is_one_alert_on_the_connection(
        self, fleet: Fleet, silent: int, heard: int, alerts: dict[str, int]
    ) -> None:
        connection_id = fleet.connection()
        fleet.vehicles(silent, HOUR, connection_id=connection_id)
        fleet.vehicles(heard, MINUTE, connection_id=connection_id)

        fleet.check()

        assert fleet.kinds() == alerts

    def test_five_hundred_vehicles_silent_at_once_are_one_alert(self, fleet: Fleet) -> None:
        connection_id = fleet.connection(synced=32 * MINUTE)
        fleet.vehicles(500, 31 * MINUTE, connection_id=connection_id)

        row = fleet.platform.run(JOB, fleet.tenant_id)

        assert row["counts"] == {"connection_silent": 1, "resolved": 0}
        [alert] = fleet.alerts()
        assert (alert["kind"], alert["severity"]) == ("connection_silent", "high")
        assert (alert["connection_id"], alert["vehicle_id"]) == (connection_id, None)
        assert alert["subject"] == f"connection:{connection_id}"
        assert "500 of 500 vehicles are silent; no sync has finished since" in alert["message"]
        assert (alert["details"]["vehicles"], alert["details"]["silent"]) == (500, 500)

    def test_an_outage_that_sets_in_over_minutes_is_one_alert_from_its_first_to_its_last_minute(
        self, fleet: Fleet
    ) -> None:
        """The last reports of the vehicles are spread over five minutes; the clock goes on."""
        connection_id = fleet.connection(synced=timedelta(0))
        for second in range(0, 300, 3):
            fleet.vehicle(timedelta(seconds=second), connection_id=connection_id)

        for minute in range(20, 60):
            fleet.check(NOW + minute * MINUTE)
            assert set(fleet.kinds()) <= {"connection_silent"}, minute

        assert len(fleet.alerts()) == 1

    def test_a_vehicle_among_quiet_ones_that_report_seldom_is_told_of_later_not_never(self, fleet: Fleet) -> None:
        connection_id = fleet.connection()
        fleet.vehicles(9, 25 * MINUTE, connection_id=connection_id)
        fleet.vehicle(45 * MINUTE - TICK, connection_id=connection_id)
        fleet.check()
        assert fleet.kinds() == {}

        fleet.check(NOW + TICK)

        assert fleet.kinds() == {"offline": 1}

    @pytest.mark.parametrize(
        ("synced", "said", "severity"),
        [
            (15 * MINUTE - TICK, "the provider answers, but has nothing new of them", "medium"),
            (15 * MINUTE, "no sync has finished since", "high"),
            (None, "the provider answers, but has nothing new of them", "medium"),
        ],
    )
    def test_the_alert_says_whether_it_is_we_who_do_not_read(
        self, fleet: Fleet, synced: timedelta | None, said: str, severity: str
    ) -> None:
        """A connection that was never read to its end counts from when it was added: just now."""
        fleet.vehicles(3, HOUR, connection_id=fleet.connection(synced=synced))

        fleet.check()

        [alert] = fleet.alerts()
        assert said in alert["message"]
        assert alert["severity"] == severity

    def test_we_do_not_read_after_three_ticks_however_seldom_the_provider_has_news(self, fleet: Fleet) -> None:
        connection_id = fleet.connection(synced=15 * MINUTE, provider="smartcar")
        fleet.vehicles(3, 4 * HOUR, connection_id=connection_id)

        fleet.check()

        assert [alert["details"]["state"] for alert in fleet.alerts()] == ["not_read"]

    def test_an_open_alert_follows_what_it_is_about(self, fleet: Fleet) -> None:
        connection_id = fleet.connection()
        fleet.vehicles(3, HOUR, connection_id=connection_id)
        fleet.check()
        [before] = fleet.alerts()

        fleet.check(NOW + HOUR)

        [after] = fleet.alerts()
        assert (before["id"], before["severity"]) == (after["id"], "medium")
        assert after["severity"] == "high"
        assert "no sync has finished since" in after["message"]

    def test_a_report_from_the_future_hides_no_outage(self, fleet: Fleet) -> None:
        connection_id = fleet.connection()
        fleet.vehicles(5, HOUR, connection_id=connection_id)
        fleet.vehicle(timedelta(days=-10_000), connection_id=connection_id)

        fleet.check()

        assert fleet.kinds() == {"connection_silent": 1}

    def test_vehicles_that_fell_silent_long_before_are_no_part_of_it(self, fleet: Fleet) -> None:
        connection_id = fleet.connection()
        fleet.vehicles(10, timedelta(days=3), connection_id=connection_id)
        fleet.vehicles(3, MINUTE, connection_id=connection_id)
        fleet.check()
        assert fleet.kinds() == {"offline": 10}

        fleet.check(NOW + HOUR)

        assert fleet.kinds() == {"offline": 10, "connection_silent": 1}
        [alert] = [alert for alert in fleet.alerts() if alert["kind"] == "connection_silent"]
        assert (alert["details"]["vehicles"], alert["opened_at"]) == (3, NOW + 29 * MINUTE)

    def test_an_outage_of_days_ends_when_most_are_back_and_those_still_silent_get_their_own(self, fleet: Fleet) -> None:
        connection_id = fleet.connection()
        vehicles = fleet.vehicles(20, timedelta(days=3), connection_id=connection_id)
        fleet.check()
        assert fleet.kinds() == {"connection_silent": 1}

        fleet.report(vehicles[:3], NOW)
        fleet.check(NOW + MINUTE)
        assert fleet.kinds() == {"connection_silent": 1}, "17 of 20 are silent still"

        fleet.report(vehicles[:18], NOW + MINUTE)
        fleet.check(NOW + 2 * MINUTE)
        [alert] = fleet.alerts()
        assert "2 of 20 vehicles are silent; the others report again" in alert["message"]

        # The alert was changed by the server's clock, which has gone on since NOW: long after either.
        fleet.report(vehicles[:18], NOW + 2 * HOUR)
        assert fleet.check(NOW + 2 * HOUR) == {"offline": 2, "resolved": 1}

    def test_an_outage_from_which_all_are_back_is_over_at_once(self, fleet: Fleet) -> None:
        vehicles = fleet.vehicles(20, HOUR, connection_id=fleet.connection())
        fleet.check()
        fleet.report(vehicles, NOW)

        assert fleet.check(NOW + MINUTE) == {"resolved": 1}
        assert fleet.kinds() == {}

    def test_an_outage_that_was_resolved_by_hand_opens_again_only_after_it_was_over(self, fleet: Fleet) -> None:
        connection_id = fleet.connection()
        vehicles = fleet.vehicles(9, HOUR, connection_id=connection_id)
        vehicles += fleet.vehicles(2, 29 * MINUTE, connection_id=connection_id)
        fleet.check()
        fleet.admin.execute("UPDATE alerts SET resolved_at = %s", [NOW])

        for minute in (0, 1, 2, 30, 600):
            assert fleet.check(NOW + minute * MINUTE) == {"resolved": 0}, "the others pass their thresholds, one by one"
        fleet.report(vehicles, NOW + 601 * MINUTE)
        assert fleet.check(NOW + 601 * MINUTE) == {"resolved": 0}
        assert [alert["over_at"] for alert in fleet.alerts(resolved=True)] == [NOW + 601 * MINUTE]

        assert fleet.check(NOW + 640 * MINUTE) == {"connection_silent": 1, "resolved": 0}

    def test_of_an_outage_that_was_resolved_by_hand_those_still_silent_get_their_own_alerts_when_it_is_over(
        self, fleet: Fleet
    ) -> None:
        vehicles = fleet.vehicles(10, HOUR, connection_id=fleet.connection())
        fleet.check()
        fleet.admin.execute("UPDATE alerts SET resolved_at = %s", [NOW])
        fleet.report(vehicles[:8], NOW + MINUTE)

        assert fleet.check(NOW + MINUTE) == {"resolved": 0}
        fleet.admin.execute("ALTER TABLE alerts DISABLE TRIGGER touch_updated_at")
        fleet.admin.execute("UPDATE alerts SET updated_at = %s", [NOW + MINUTE])

        assert fleet.check(NOW + 15 * MINUTE) == {"offline": 2, "resolved": 0}

    def test_an_outage_that_comes_back_while_it_recovers_is_the_same_alert(self, fleet: Fleet) -> None:
        vehicles = fleet.vehicles(10, HOUR, connection_id=fleet.connection())
        fleet.check()
        fleet.report(vehicles[:5], NOW)
        fleet.check(NOW + MINUTE)

        fleet.check(NOW + HOUR)

        [alert] = fleet.alerts()
        assert alert["details"]["state"] == "not_read"
        assert fleet.alerts(resolved=True) == []

    def test_what_was_open_before_an_outage_stays_open_through_it(self, fleet: Fleet) -> None:
        connection_id = fleet.connection()
        fleet.vehicle(HOUR, connection_id=connection_id)
        fleet.vehicles(9, MINUTE, connection_id=connection_id)
        fleet.check()

        fleet.check(NOW + HOUR)

        assert fleet.kinds() == {"offline": 1, "connection_silent": 1}

    @pytest.mark.parametrize("status", ["paused", "reconnect"])
    def test_nobody_expects_points_of_a_connection_that_is_not_read(self, fleet: Fleet, status: str) -> None:
        connection_id = fleet.connection()
        vehicles = fleet.vehicles(4, MINUTE, connection_id=connection_id)
        fleet.admin.execute("UPDATE connections SET status = %s WHERE id = %s", [status, connection_id])
        fleet.read_level(vehicles[0], "battery", 3)

        fleet.check(NOW + HOUR)

        assert fleet.kinds() == ({} if status == "paused" else {"low_battery": 1})

    @pytest.mark.parametrize("status", ["paused", "reconnect"])
    def test_a_connection_that_is_read_no_more_is_silent_no_more_and_its_vehicles_alerts_stay(
        self, fleet: Fleet, status: str
    ) -> None:
        outage, lone = fleet.connection(), fleet.connection()
        fleet.vehicles(4, HOUR, connection_id=outage)
        back = fleet.vehicle(HOUR, connection_id=lone)
        fleet.check()
        assert fleet.kinds() == {"connection_silent": 1, "offline": 1}
        fleet.admin.execute("UPDATE connections SET status = %s", [status])

        assert fleet.check() == {"resolved": 1}
        assert fleet.kinds() == {"offline": 1}
        fleet.report([back], NOW)
        assert fleet.check() == {"resolved": 1}

    def test_a_removed_connection_takes_its_alerts_with_it(self, fleet: Fleet) -> None:
        outage, lone = fleet.connection(), fleet.connection()
        fleet.vehicles(4, HOUR, connection_id=outage)
        fleet.vehicle(HOUR, connection_id=lone)
        fleet.check()
        fleet.admin.execute("UPDATE connections SET deleted_at = now(), status = 'paused'")

        assert fleet.check() == {"resolved": 2}
        assert fleet.check() == {"resolved": 0}

    def test_one_connections_outage_says_nothing_of_another_or_of_vehicles_without_one(self, fleet: Fleet) -> None:
        fleet.vehicles(10, HOUR, connection_id=fleet.connection())
        good = fleet.connection()
        fleet.vehicles(9, MINUTE, connection_id=good)
        fleet.vehicle(HOUR, connection_id=good)
        fleet.vehicles(5, 6 * MINUTE, kind="robot")

        fleet.check()

        assert fleet.kinds() == {"connection_silent": 1, "offline": 6}


def store_page(connection: Connection, vehicles: list[UUID], at: datetime, now: datetime = NOW) -> int:
    """Do what a page of a sync does about liveness; return how many alerts it resolved."""
    from db.queries.liveness import resolve_reported
    from db.timeseries.positions import pack_position, store_positions
    from db.timeseries.staging import stage

    stage(connection)
    fix = (at, 52.5, 13.4, None, None)
    store_positions(connection, [pack_position(each.bytes, fix, None, None, None, None, None) for each in vehicles])
    return resolve_reported(connection, now)


class TestTheNextPoint:
    @pytest.mark.parametrize(
        ("age", "resolves"), [(MINUTE, 1), (30 * MINUTE - TICK, 1), (30 * MINUTE, 0), (45 * MINUTE, 0), (2 * HOUR, 0)]
    )
    def test_resolves_the_silence_unless_it_is_late_itself(self, fleet: Fleet, age: timedelta, resolves: int) -> None:
        silent, other = fleet.vehicles(2, HOUR)
        fleet.check()

        with fleet.transaction() as connection:
            assert store_page(connection, [silent], NOW - age) == resolves
        with fleet.transaction() as connection:
            assert store_page(connection, [silent], NOW - age) == 0

        assert len(fleet.alerts()) == 2 - resolves
        assert other in {alert["vehicle_id"] for alert in fleet.alerts()}
        assert [alert["resolved_at"] for alert in fleet.alerts(resolved=True)] == [NOW] * resolves

    def test_resolves_by_the_threshold_that_was_passed(self, fleet: Fleet) -> None:
        fleet.set("vehicle", offline_after_s=60)
        vehicle = fleet.vehicle(HOUR)
        fleet.check()

        with fleet.transaction() as connection:
            assert store_page(connection, [vehicle], NOW - MINUTE) == 0
        with fleet.transaction() as connection:
            assert store_page(connection, [vehicle], NOW - MINUTE + TICK) == 1

    def test_resolves_no_other_kind(self, fleet: Fleet) -> None:
        vehicle = fleet.vehicle(HOUR)
        fleet.read_level(vehicle, "fuel", 3, NOW - HOUR)
        fleet.check()

        with fleet.transaction() as connection:
            assert store_page(connection, [vehicle], NOW) == 1

        assert fleet.kinds() == {"low_fuel": 1}

    def test_a_page_that_rolled_back_resolved_nothing(self, fleet: Fleet) -> None:
        vehicle = fleet.vehicle(HOUR)
        fleet.check()

        with pytest.raises(KeyboardInterrupt), fleet.transaction() as connection:
            assert store_page(connection, [vehicle], NOW) == 1
            raise KeyboardInterrupt

        assert fleet.kinds() == {"offline": 1}

    @pytest.mark.parametrize("details", ["{}", '{"threshold_s": "soon"}', '{"threshold_s": null}'])
    def test_what_others_wrote_into_an_alert_stops_no_page(self, fleet: Fleet, details: str) -> None:
        vehicle = fleet.vehicle(HOUR)
        fleet.check()
        fleet.admin.execute("UPDATE alerts SET details = %s", [details])

        with fleet.transaction() as connection:
            assert store_page(connection, [vehicle], NOW) == 0

        assert fleet.check() == {"resolved": 1}

    def test_nobody_waits_for_who_is_resolving_the_same(self, fleet: Fleet) -> None:
        vehicle = fleet.vehicle(HOUR)
        fleet.check()
        fleet.report([vehicle], NOW)

        with fleet.transaction() as first:
            assert store_page(first, [], NOW) == 0
            assert check_in(first) == {"resolved": 1}
            with fleet.transaction() as second:
                assert store_page(second, [vehicle], NOW) == 0
            assert fleet.check() == {"resolved": 0}

        assert fleet.kinds() == {}


def check_in(connection: Connection) -> dict[str, int]:
    """Check in a transaction that is open already."""
    from jobs.telematics import liveness

    return liveness.check(connection, NOW)
