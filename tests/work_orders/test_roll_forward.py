"""What is completed becomes history, and its schedule counts from it; never back, never twice."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from db.queries.roll_forward import roll_forward
from tests.inprocess import Platform
from tests.maintenance.garage import MORNING, Garage, day
from tests.maintenance.kill import killed_before


def _only_order(garage: Garage) -> Any:
    [order] = [order for order in garage.orders() if order["status"] not in ("completed", "cancelled")]
    return order["id"]


def _roll(garage: Garage) -> dict[str, int]:
    counts: dict[str, int] = garage.do(roll_forward, garage.now)
    return counts


def test_a_floating_schedule_counts_from_the_completion(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_months=6, start_on="2022-09-01", interval_distance=15_000, start_km=0)
    garage.drive(van, 12_000)
    garage.check()
    garage.pass_days(3)
    garage.complete(_only_order(garage), completion_odometer_km=12_400, labour_cost=120, parts_cost="80.50")

    assert _roll(garage) == {"completed": 1, "rolled": 1, "flagged": 0, "resolved": 1}

    trigger = garage.trigger(schedule)
    assert (trigger["cycle"], trigger["next_due_date"], trigger["next_due_km"]) == (2, day("2023-09-05"), 27_400)
    [record] = garage.rows("SELECT * FROM maintenance_records")
    assert (record["performed_on"], record["odometer_km"], record["odometer_source"], str(record["total_cost"])) == (
        *(day("2023-03-05"), 12_400, "given"),
        "200.50",
    )
    assert garage.open_alerts() == []
    assert _roll(garage) == {}
    assert "work_orders" not in garage.check(days=1)


def test_a_fixed_schedule_goes_to_its_next_line_and_never_drifts(garage: Garage) -> None:
    schedule = garage.schedule(garage.vehicle(), interval_months=1, start_on="2023-01-31", anchor="schedule")
    garage.now = datetime(2023, 1, 31, 6, tzinfo=UTC)
    garage.check()
    due = []
    for _ in range(13):
        found = garage.trigger(schedule)["next_due_date"]
        due.append(found)
        garage.now = datetime.combine(found, datetime.min.time(), UTC) + timedelta(days=1, hours=6)
        garage.check()
        garage.complete(_only_order(garage))
        _roll(garage)
    assert due == [
        *map(day, ["2023-02-28", "2023-03-31", "2023-04-30", "2023-05-31", "2023-06-30", "2023-07-31"]),
        *map(day, ["2023-08-31", "2023-09-30", "2023-10-31", "2023-11-30", "2023-12-31", "2024-01-31", "2024-02-29"]),
    ]


def test_a_fixed_schedule_that_missed_lines_goes_beyond_them(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(
        van, interval_distance=10_000, start_km=0, anchor="schedule", interval_days=100, start_on="2023-03-01"
    )
    garage.drive(van, 9_000)
    garage.check()
    assert garage.trigger(schedule)["next_due_km"] == 10_000
    garage.pass_days(250).drive(van, 34_000)
    garage.check()
    garage.complete(_only_order(garage), completion_odometer_km=34_050)
    _roll(garage)
    trigger = garage.trigger(schedule)
    assert (trigger["next_due_km"], trigger["next_due_date"]) == (40_000, day("2023-12-26"))


@pytest.mark.parametrize(
    ("completed_on", "expected"),
    [
        ("2023-03-26", "2023-05-01"),  # two days before the 1st of April
        ("2023-03-28", "2023-05-01"),
        ("2023-03-24", "2023-04-01"),  # eight days before: the 1st of April is still to come
        ("2023-04-01", "2023-05-01"),
        ("2023-04-27", "2023-06-01"),  # late for one, in time for the next
    ],
)
def test_an_early_completion_within_tolerance_counts_for_its_line(
    garage: Garage, completed_on: str, expected: str
) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_months=1, start_on="2023-03-01", anchor="schedule", tolerance_days=7)
    garage.check()
    assert garage.trigger(schedule)["next_due_date"] == day("2023-04-01")
    garage.now = datetime.combine(date.fromisoformat(completed_on), datetime.min.time(), UTC) + timedelta(hours=9)
    order = garage.insert("work_orders", vehicle_id=van, schedule_id=schedule, type="preventive", title="early")
    garage.admin.execute("UPDATE work_orders SET created_at = %s", [garage.now])
    garage.complete(order)
    _roll(garage)
    assert garage.trigger(schedule)["next_due_date"] == day(expected)


class TestWithoutMeter:
    def test_the_last_reading_before_it_is_taken(self, garage: Garage) -> None:
        van = garage.vehicle()
        schedule = garage.schedule(van, interval_distance=10_000, start_km=0)
        garage.drive(van, 10_100)
        garage.check()
        garage.pass_days(1)
        garage.complete(_only_order(garage), at=garage.now)
        garage.drive(van, 11_000, at=garage.now + timedelta(hours=5))
        assert garage.check(days=1)["flagged"] == 0, "the check rolls first what was completed"
        assert garage.trigger(schedule)["next_due_km"] == 20_100
        assert garage.rows("SELECT odometer_source FROM maintenance_records") == [{"odometer_source": "reading"}]

    def test_a_stale_one_is_projected_and_the_service_is_not_due_again_at_once(self, garage: Garage) -> None:
        van = garage.vehicle()
        schedule = garage.schedule(van, interval_distance=2_000, start_km=0, soon_km=0)
        garage.drive(van, 1_000)
        garage.check()
        garage.pass_days(9).drive(van, 1_900)
        garage.check()
        garage.pass_days(30)
        assert garage.check()["work_orders"] == 1
        garage.complete(_only_order(garage))
        assert _roll(garage)["flagged"] == 0
        assert garage.trigger(schedule)["next_due_km"] == pytest.approx(6_900, abs=10)
        assert "work_orders" not in garage.check(days=1)

    def test_without_any_it_is_flagged_and_waits_for_the_next_reading(self, garage: Garage) -> None:
        van = garage.vehicle()
        schedule = garage.schedule(van, interval_distance=10_000, start_km=0, interval_days=30, start_on="2023-01-31")
        garage.check()
        garage.complete(_only_order(garage))
        assert _roll(garage)["flagged"] == 1
        [(kind, message)] = garage.open_alerts()
        assert (kind, message) == (
            "work_order_flagged",
            "WO-000001: completed without an odometer: the distance counts from the next reading",
        )
        assert garage.trigger(schedule)["next_due_km"] is None
        garage.drive(van, 55_000, at=garage.now + timedelta(hours=3))
        assert "work_orders" not in garage.check(days=1)
        assert garage.trigger(schedule)["next_due_km"] == 65_000

    def test_one_that_cannot_be_is_set_aside_and_flagged(self, garage: Garage) -> None:
        van = garage.vehicle()
        schedule = garage.schedule(van, interval_distance=10_000, start_km=0)
        garage.drive(van, 10_100)
        garage.check()
        garage.complete(_only_order(garage), completion_odometer_km=110_000)
        assert _roll(garage)["flagged"] == 1
        assert garage.trigger(schedule)["next_due_km"] == 20_100
        assert garage.rows("SELECT state, source FROM meter_readings WHERE value = 110000") == [
            {"state": "quarantined", "source": "work_order"}
        ]


def test_cancelling_does_not_roll_forward(garage: Garage) -> None:
    schedule = garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.check()
    before = garage.trigger(schedule)
    garage.admin.execute("UPDATE work_orders SET status = 'cancelled'")
    assert _roll(garage) == {}
    assert garage.trigger(schedule) == before


def test_the_day_of_the_completion_is_the_tenants(garage: Garage) -> None:
    garage.admin.execute("UPDATE tenants SET time_zone = 'Pacific/Auckland'")
    schedule = garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.check()
    garage.complete(_only_order(garage), at=datetime(2023, 3, 2, 12, tzinfo=UTC))  # 01:00 on the 3rd there
    _roll(garage)
    assert garage.trigger(schedule)["base_on"] == day("2023-03-03")


def test_a_completion_before_the_last_service_moves_nothing_and_is_flagged(garage: Garage) -> None:
    schedule = garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.check()
    garage.complete(_only_order(garage), at=datetime(2023, 1, 5, tzinfo=UTC))
    assert _roll(garage)["flagged"] == 1
    assert garage.trigger(schedule)["base_on"] == day("2023-01-31")


def test_a_corrective_order_is_recorded_too(garage: Garage) -> None:
    van = garage.vehicle()
    order = garage.insert("work_orders", vehicle_id=van, type="corrective", title="brakes")
    garage.complete(order, completion_odometer_km=500, at=MORNING)
    assert _roll(garage) == {"completed": 1, "rolled": 0, "flagged": 0, "resolved": 0}
    [record] = garage.rows("SELECT * FROM maintenance_records")
    assert (record["work_order_id"], record["odometer_km"], record["schedule_id"]) == (order, 500, None)


def test_killed_before_any_statement_the_next_run_rolls_once(garage: Garage) -> None:
    schedule = garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.check()
    garage.complete(_only_order(garage))
    kills = 0
    while True:
        try:
            with killed_before(garage.admin, kills) as statements:
                _roll(garage)
        except OperationalError:
            kills += 1
            assert garage.trigger(schedule)["cycle"] == (
                1 if garage.rows("SELECT 1 FROM work_orders WHERE rolled_at IS NULL") else 2
            )
        else:
            break
    assert kills == len(statements) == 8
    assert garage.trigger(schedule)["cycle"] == 2
    assert len(garage.rows("SELECT FROM maintenance_records")) == 1


@pytest.mark.parametrize("moment", ["INSERT INTO meter_readings", "UPDATE maintenance_triggers"])
def test_an_order_that_is_completed_while_others_are_rolled_waits_with_its_meter(garage: Garage, moment: str) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_distance=500, start_km=400)
    garage.drive(van, 1_000)
    garage.check()
    waiting = _only_order(garage)
    garage.complete(garage.insert("work_orders", vehicle_id=garage.vehicle("other"), type="corrective", title="tyres"))

    def complete(_: Any, __: Any, statement: str, *___: Any) -> None:
        if moment in statement:
            garage.complete(waiting, at=garage.now + timedelta(seconds=1), completion_odometer_km=1_400)

    with garage.transaction() as connection:
        event.listen(connection, "before_cursor_execute", complete)
        assert roll_forward(connection, garage.now)["completed"] == 1
    assert garage.orders()[0]["status"] == "completed" and garage.trigger(schedule)["base_km"] == 400
    assert _roll(garage)["rolled"] == 1
    assert garage.trigger(schedule)["base_km"] == 1_400
    assert garage.rows("SELECT odometer_source FROM maintenance_records WHERE odometer_km = 1400") == [
        {"odometer_source": "given"}
    ]


def test_what_was_completed_a_minute_before_the_check_is_not_told_as_due(garage: Garage) -> None:
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-02-10", soon_days=0)
    garage.check()
    van = garage.rows("SELECT vehicle_id, schedule_id FROM maintenance_triggers")[0]
    order = garage.insert("work_orders", type="preventive", title="early", **van)
    garage.pass_days(11)
    garage.complete(order)
    counts = garage.check()
    assert counts["rolled"] == 1
    assert "due" not in counts and garage.open_alerts() == []


def test_the_job_rolls_and_says_what_it_did(platform: Platform, garage: Garage) -> None:
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.check()
    garage.complete(_only_order(garage))
    row = platform.run("work_orders.roll_forward", garage.tenant_id)
    assert (row["state"], row["counts"]["rolled"]) == ("succeeded", 1)
