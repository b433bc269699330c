"""What a schedule says flows to its vehicles; what was served stays served."""

from typing import Any

import pytest

from db.queries.maintenance_schedules import Outlook, list_schedules, list_upcoming
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


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ({"interval_days": 30}, {"next_due_date": day("2023-03-11")}),
        ({"interval_months": 1}, {"next_due_date": day("2023-04-01")}),
        ({"interval_distance": 20_000, "start_km": 0}, {"next_due_km": 60_000}),
        ({"interval_engine_hours": 100, "start_engine_hours": 50}, {"next_due_engine_hours": 950}),
    ],
)
def test_an_interval_that_a_grid_gets_later_owes_nothing_for_the_time_before(
    garage: Garage, interval: dict[str, Any], expected: dict[str, Any]
) -> None:
    van = garage.vehicle()
    begun: dict[str, Any] = {"interval_months": 120} if "interval_days" in interval else {"interval_days": 3650}
    schedule = garage.schedule(van, start_on="2019-01-01", anchor="schedule", **begun)
    garage.drive(van, 55_000, hours=900)
    garage.check()
    _set(garage, **{name: value for name, value in interval.items() if name.startswith("start")} or {"soon_days": 7})
    garage.check()
    _set(garage, **interval)
    assert garage.check().get("work_orders") is None
    trigger = garage.trigger(schedule)
    assert {name: trigger[name] for name in expected} == expected


def test_of_one_name_what_a_vehicle_has_of_its_own_goes_before_what_its_type_has(garage: Garage) -> None:
    vans = [garage.vehicle(f"Van {number}", vehicle_type="van") for number in (1, 2)]
    garage.schedule(vehicle_type="van", interval_days=30, start_on="2023-01-31")
    garage.check(days=-30)
    assert len(garage.rows("SELECT FROM maintenance_triggers WHERE is_active")) == 2

    own = garage.schedule(vans[0], interval_days=20, start_on="2023-01-31")
    assert (garage.check()["triggers_ended"], garage.check(days=30)["work_orders"]) == (1, 2)
    assert {(order["vehicle_id"], order["schedule_id"] == own) for order in garage.orders()} == {
        (vans[0], True),
        (vans[1], False),
    }
    assert garage.open_alerts() == [
        ("maintenance_overdue", "Van 1: oil change: due since 2023-02-20"),
        ("maintenance_due", "Van 2: oil change: due today"),
    ]

    def vehicles() -> dict[str, int]:
        listed = garage.do(list_schedules, garage.now, garage.now.date(), 10)
        return {each.vehicle or "type": each.vehicles for each in listed}

    assert vehicles() == {"type": 1, "Van 1": 1}
    garage.admin.execute("UPDATE maintenance_schedules SET name = 'tyres' WHERE vehicle_id IS NOT NULL")
    assert garage.check()["triggers_changed"] == 1, "each is a service of its own"
    assert vehicles() == {"type": 2, "Van 1": 1}


def test_a_type_whose_vehicles_all_have_their_own_waits_for_no_check(garage: Garage) -> None:
    for number in (10, 2):
        garage.schedule(garage.vehicle(f"Van {number}", vehicle_type="van"), interval_days=30)
    garage.check()
    garage.schedule(vehicle_type="van", interval_days=30)

    def outlook() -> Outlook:
        seen: Outlook = garage.do(list_upcoming, garage.now, garage.now.date(), 90, 10)
        return seen

    assert [each.vehicle for each in outlook().upcoming] == ["Van 2", "Van 10"], "as people count"
    assert outlook().unmet == 0
    garage.vehicle("Van 3", vehicle_type="van")
    assert outlook().unmet == 1
