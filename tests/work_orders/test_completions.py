"""What comes with a completion and after it: costs, corrections, meters that nobody knew, and history."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.queries.roll_forward import roll_forward
from tests.maintenance.garage import MORNING, Garage, day

IN_ONE_DATABASE = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_number = itertools.count(1)


def _app(garage: Garage) -> psycopg.Connection:
    app = psycopg.connect(garage.platform.urls.app_url, autocommit=True)
    app.execute("SELECT set_config('app.tenant_id', %s, false)", [str(garage.tenant_id)])
    return app


def _roll(garage: Garage) -> dict[str, int]:
    counts: dict[str, int] = garage.do(roll_forward, garage.now)
    return counts


def _completed(garage: Garage, van: UUID, at: datetime, **values: Any) -> UUID:
    order = garage.insert("work_orders", vehicle_id=van, type="corrective", title="brakes")
    garage.complete(order, at=at, **values)
    return order


class TestAfterItCounts:
    @pytest.fixture
    def order(self, garage: Garage) -> UUID:
        order = _completed(garage, garage.vehicle(), MORNING, completion_odometer_km=100)
        _roll(garage)
        return order

    def test_costs_that_come_later_reach_the_record(self, garage: Garage, order: UUID) -> None:
        with _app(garage) as app:
            app.execute("UPDATE work_orders SET labour_cost = 120, notes = 'invoice 7'")
            app.execute("UPDATE work_orders SET parts_cost = 80.5")
        assert garage.rows("SELECT total_cost::text FROM maintenance_records") == [{"total_cost": "200.50"}]

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("completed_at", "2023-02-20"),
            ("completion_odometer_km", 999),
            ("completion_odometer_km", None),
            ("completion_engine_hours", 7),
        ],
    )
    def test_what_a_schedule_has_counted_by_is_not_changed(
        self, garage: Garage, order: UUID, column: str, value: Any
    ) -> None:
        with _app(garage) as app, pytest.raises(psycopg.errors.CheckViolation, match=f"{column} is counted already"):
            app.execute(f"UPDATE work_orders SET {column} = %s".encode(), [value])

    def test_who_writes_all_columns_back_as_they_are_may(self, garage: Garage, order: UUID) -> None:
        with _app(garage) as app:
            app.execute(
                "UPDATE work_orders SET status = status, completed_at = completed_at, parts_cost = 5,"
                " completion_odometer_km = 100, completion_engine_hours = NULL"
            )
        assert garage.rows("SELECT total_cost::text FROM maintenance_records") == [{"total_cost": "5.00"}]

    def test_no_cost_is_no_number(self, garage: Garage, order: UUID) -> None:
        with pytest.raises(psycopg.errors.CheckViolation, match="ck_maintenance_records_total_cost"):
            garage.admin.execute("UPDATE maintenance_records SET total_cost = 'NaN'")


def test_before_it_counts_a_completion_can_be_put_right(garage: Garage) -> None:
    _completed(garage, garage.vehicle(), MORNING, completion_odometer_km=100)
    with _app(garage) as app:
        app.execute("UPDATE work_orders SET completion_odometer_km = 120")
    _roll(garage)
    assert garage.rows("SELECT odometer_km FROM maintenance_records") == [{"odometer_km": 120}]


class TestMetersOfOneBatch:
    def _states(self, garage: Garage) -> list[tuple[float, str]]:
        rows = garage.rows("SELECT value, state FROM meter_readings ORDER BY read_at")
        return [(row["value"], row["state"]) for row in rows]

    def test_they_are_judged_beside_each_other_the_oldest_first(self, garage: Garage) -> None:
        van = garage.vehicle()
        garage.drive(van, 50_000)
        garage.check()
        for hours, km in ((2, 52_000), (5, 50_001), (3, 50_100), (4, 52_300)):
            _completed(garage, van, MORNING + timedelta(hours=hours), completion_odometer_km=km)
        garage.now += timedelta(hours=6)
        assert _roll(garage)["flagged"] == 2
        assert self._states(garage) == [
            *((50_000, "accepted"), (52_000, "accepted"), (50_100, "quarantined")),
            *((52_300, "accepted"), (50_001, "quarantined")),
        ]
        assert garage.rows("SELECT value FROM vehicle_meters") == [{"value": 52_300}]

    def test_of_a_history_that_begins_with_a_typing_error_one_person_is_asked(self, garage: Garage) -> None:
        van = garage.vehicle()
        for days, km in ((10, 900_000), (8, 45_000), (6, 46_000)):
            _completed(garage, van, MORNING - timedelta(days=days), completion_odometer_km=km)
        assert _roll(garage)["flagged"] == 2
        assert self._states(garage) == [(900_000, "accepted"), (45_000, "quarantined"), (46_000, "quarantined")]

    def test_a_history_of_years_is_believed_beside_todays_reading(self, garage: Garage) -> None:
        van = garage.vehicle()
        garage.drive(van, 300_000)
        garage.check()
        for year, km in ((2015, 20_000), (2018, 120_000), (2021, 240_000)):
            _completed(garage, van, datetime(year, 6, 1, tzinfo=UTC), completion_odometer_km=km)
        assert _roll(garage)["flagged"] == 0
        assert {state for _, state in self._states(garage)} == {"accepted"}


class TestGridWithoutMeter:
    def test_the_next_reading_chooses_its_line(self, garage: Garage) -> None:
        van = garage.vehicle()
        schedule = garage.schedule(
            van, interval_distance=10_000, start_km=0, interval_days=30, start_on="2023-01-31", anchor="schedule"
        )
        garage.check()
        [order] = garage.orders()
        garage.complete(order["id"])
        assert _roll(garage)["flagged"] == 1
        garage.drive(van, 55_000, at=garage.now + timedelta(hours=3))
        assert "work_orders" not in garage.check(days=1)
        assert garage.open_alerts() == [] or all(kind == "work_order_flagged" for kind, _ in garage.open_alerts())
        assert garage.trigger(schedule)["next_due_km"] == 60_000
        garage.pass_days(3).drive(van, 60_100)
        assert garage.check()["work_orders"] == 1, "the line after that is due like any other"

    def test_a_reading_that_came_before_the_roll_chooses_it_at_once(self, garage: Garage) -> None:
        van = garage.vehicle()
        schedule = garage.schedule(
            van, interval_distance=10_000, start_km=0, interval_days=30, start_on="2023-01-31", anchor="schedule"
        )
        garage.check()
        [order] = garage.orders()
        garage.complete(order["id"])
        garage.drive(van, 59_900, at=garage.now + timedelta(hours=3))
        assert "work_orders" not in garage.check(days=1)
        assert garage.trigger(schedule)["next_due_km"] == 70_000, "within the tolerance before a line"

    @IN_ONE_DATABASE
    @given(
        interval=st.integers(100, 50_000),
        start=st.integers(0, 100_000),
        value=st.integers(1, 900_000),
        hours=st.integers(1, 24 * 40),
    )
    def test_whatever_is_read_next_nothing_is_due_at_once_and_no_line_moves_back(
        self, garage: Garage, interval: int, start: int, value: int, hours: int
    ) -> None:
        van = garage.vehicle(f"Van {next(_number)}")
        garage.now = MORNING
        schedule = garage.schedule(
            van,
            interval_distance=interval,
            start_km=start,
            interval_months=12,
            start_on="2022-03-02",
            anchor="schedule",
        )
        garage.check()
        before = garage.trigger(schedule)
        [order] = [order for order in garage.orders() if order["schedule_id"] == schedule]
        garage.complete(order["id"])
        _roll(garage)
        garage.drive(van, value, at=garage.now + timedelta(hours=hours))
        garage.check(days=hours / 24)
        after = garage.trigger(schedule)
        assert after["next_due_km"] > value and after["next_due_km"] >= before["next_due_km"]
        assert (after["next_due_km"] - start) % interval == 0
        assert after["awaits_km_since"] is None
        assert len([order for order in garage.orders() if order["schedule_id"] == schedule]) == 1


@pytest.mark.parametrize(("reading", "line"), [(55_000, 60_000), (9_900, 10_000), (1, 10_000)])
def test_a_grid_whose_vehicle_nobody_has_read_owes_nothing_behind_its_first_reading(
    garage: Garage, reading: float, line: float
) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_distance=10_000, start_km=0, anchor="schedule")
    garage.check()
    assert garage.orders() == []

    garage.pass_days(1).drive(van, km=reading)
    for _ in range(2):
        counts = garage.check()
    assert (counts.get("due", 0), counts.get("overdue", 0), garage.orders()) == (0, 0, [])
    assert garage.trigger(schedule)["next_due_km"] == line


def test_an_order_that_a_forecast_opened_serves_the_line_that_it_was_opened_for(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_distance=10_000, start_km=0, anchor="schedule", soon_km=0)
    for days in range(11):
        garage.pass_days(1).drive(van, 7_000 + 100 * days)
        garage.check()
    garage.check(days=25)
    [order] = garage.orders()
    assert order["due_odometer_km"] >= 10_000 > order["odometer_km"]
    garage.complete(order["id"], completion_odometer_km=9_000)
    garage.check(days=1)
    garage.pass_days(9).drive(van, 10_005)
    garage.check()
    assert garage.trigger(schedule)["next_due_km"] == 20_000
    assert len(garage.orders()) == 1


class TestHistory:
    @pytest.fixture
    def schedule(self, garage: Garage) -> UUID:
        """A service of a grid that is due on this day, with no order yet."""
        schedule = garage.schedule(garage.vehicle(), interval_months=12, start_on="2022-03-20", anchor="schedule")
        garage.check()
        garage.now = datetime(2023, 3, 20, 5, tzinfo=UTC)
        return schedule

    def _insert(self, garage: Garage, schedule: UUID, completed_on: str) -> None:
        with _app(garage) as app:
            app.execute(
                "INSERT INTO work_orders (tenant_id, vehicle_id, schedule_id, type, title, status, completed_at)"
                " SELECT app_tenant_id(), vehicle_id, schedule_id, 'preventive', 'x', 'completed', %s"
                " FROM maintenance_triggers WHERE schedule_id = %s",
                [completed_on, schedule],
            )
        garage.admin.execute("UPDATE work_orders SET created_at = %s", [garage.now])

    def test_an_old_completion_that_is_inserted_serves_no_line_of_today_and_is_flagged(
        self, garage: Garage, schedule: UUID
    ) -> None:
        self._insert(garage, schedule, "2021-06-01")
        counts = garage.check()
        assert garage.trigger(schedule)["next_due_date"] == day("2023-03-20")
        assert (counts["flagged"], counts["work_orders"]) == (1, 1)
        [flag] = [message for kind, message in garage.open_alerts() if kind == "work_order_flagged"]
        assert flag == "WO-000001: completed before the service that it follows: nothing moves"

    def test_one_of_these_days_serves_it(self, garage: Garage, schedule: UUID) -> None:
        self._insert(garage, schedule, "2023-03-19")
        counts = garage.check()
        assert garage.trigger(schedule)["next_due_date"] == day("2024-03-20")
        assert counts["flagged"] == 0 and "work_orders" not in counts

    def test_an_order_that_was_open_serves_its_line_however_early_it_says_it_was_done(
        self, garage: Garage, schedule: UUID
    ) -> None:
        garage.check()
        [order] = garage.orders()
        garage.complete(order["id"], at=datetime(2023, 2, 1, tzinfo=UTC))
        assert _roll(garage)["flagged"] == 0
        assert garage.trigger(schedule)["next_due_date"] == day("2024-03-20")

    def test_an_old_completion_without_a_meter_leaves_the_distance_as_it_counts(self, garage: Garage) -> None:
        van = garage.vehicle()
        floating = garage.schedule(van, interval_distance=10_000, interval_days=400, start_on="2023-03-01")
        garage.drive(van, 5_000)
        garage.check()
        self._insert(garage, floating, "2021-06-01")
        assert _roll(garage)["flagged"] == 1
        assert garage.trigger(floating)["next_due_km"] == 15_000
