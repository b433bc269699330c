"""What a schedule says flows to its vehicles; what was served stays served."""

from typing import Any

import pytest

from tests.maintenance.garage import Garage, day


def _set(garage: Garage, **values: Any) -> None:
    setting = ", ".join(f"{name} = %s" for name in values)
    garage.admin.execute(f"UPDATE maintenance_schedules SET {setting}".encode(), list(values.values()))


def test_a_new_schedule_counts_from_the_day_and_the_meter_at_which_it_meets_its_vehicle(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_days=10, interval_distance=1_000, interval_engine_hours=100)
    garage.drive(van, 7_000)
    garage.check()
    trigger = garage.trigger(schedule)
    assert (trigger["next_due_date"], trigger["next_due_km"]) == (day("2023-03-12"), 8_000)
    assert trigger["next_due_engine_hours"] is None

    garage.pass_days(1).drive(van, 7_100, hours=40)
    assert garage.check()["triggers_changed"] == 1
    trigger = garage.trigger(schedule)
    assert (trigger["next_due_date"], trigger["next_due_km"], trigger["next_due_engine_hours"]) == (
        *(day("2023-03-12"), 8_000),
        140,
    )


def test_a_grid_begins_with_its_first_line_that_is_not_behind(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(
        van, interval_months=1, start_on="2022-01-31", interval_distance=15_000, start_km=0, anchor="schedule"
    )
    garage.drive(van, 150_000)
    garage.check()
    trigger = garage.trigger(schedule)
    assert (trigger["next_due_date"], trigger["next_due_km"]) == (day("2023-03-31"), 150_000)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"interval_months": 3}, "2023-05-31"),
        ({"interval_months": 1}, "2023-03-31"),
        ({"interval_months": None, "interval_days": 10}, "2023-03-10"),
        ({"start_on": "2023-02-20"}, "2023-08-20"),
        ({"name": "x", "priority": "high"}, "2023-08-28"),
    ],
)
def test_a_changed_schedule_changes_when_its_vehicles_are_due(
    garage: Garage, change: dict[str, Any], expected: str
) -> None:
    schedule = garage.schedule(garage.vehicle(), interval_months=6, start_on="2023-02-28")
    garage.check()
    assert garage.trigger(schedule)["next_due_date"] == day("2023-08-28")
    _set(garage, **change)
    garage.check()
    if change.get("interval_months"):
        expected = expected.replace("31", "28")
    assert garage.trigger(schedule)["next_due_date"] == day(expected)
    assert garage.check()["triggers_changed"] == 0


def test_a_grid_of_another_interval_keeps_what_was_served(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_distance=10_000, start_km=0, anchor="schedule")
    garage.drive(van, 41_000)
    garage.check()
    assert garage.trigger(schedule)["next_due_km"] == 50_000
    _set(garage, interval_distance=15_000)
    garage.check()
    assert garage.trigger(schedule)["next_due_km"] == 45_000
    _set(garage, anchor="completion")
    garage.check()
    trigger = garage.trigger(schedule)
    assert (trigger["base_km"], trigger["next_due_km"]) == (30_000, 45_000)


def test_a_vehicle_that_comes_back_into_use_goes_on_with_its_cycle(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_days=30, start_on="2023-02-20")
    garage.check()
    garage.admin.execute("UPDATE vehicles SET status = 'retired'")
    garage.check(days=1)
    assert not garage.trigger(schedule)["is_active"]
    garage.admin.execute("UPDATE vehicles SET status = 'active'")
    garage.check(days=1)
    trigger = garage.trigger(schedule)
    assert (trigger["is_active"], trigger["next_due_date"], trigger["cycle"]) == (True, day("2023-03-22"), 1)


def test_spans_and_tolerances_never_outgrow_their_interval(garage: Garage) -> None:
    schedule = garage.schedule(garage.vehicle(), interval_days=2, interval_distance=100)
    garage.check()
    trigger = garage.trigger(schedule)
    assert (trigger["soon_days"], trigger["tolerance_days"]) == (1, 0)
    assert (trigger["soon_km"], trigger["tolerance_km"]) == (50, 25)


def test_the_view_of_what_is_overdue_compares_now(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_days=30, start_on="2023-01-31")
    garage.schedule(van, "not yet", interval_days=30_000)
    garage.check()
    [row] = garage.rows("SELECT schedule_name, vehicle_name, next_due_date FROM maintenance_overdue")
    assert row == {"schedule_name": "oil change", "vehicle_name": "Van 1", "next_due_date": day("2023-03-02")}
