"""What a morning finds due, what it opens and whom it tells."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.queries.due_list import list_opened, list_told
from db.queries.meters import take_readings
from jobs.maintenance.check import rehearse
from tests.factories import make_tenant
from tests.inprocess import Platform
from tests.maintenance.garage import MORNING, Garage, day


def test_a_service_is_told_soon_then_due_then_overdue_and_has_one_work_order(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_distance=15_000, start_km=0, checklist=["drain", "fill"])
    garage.drive(van, 13_500)
    garage.check()
    assert garage.open_alerts() == [] and garage.orders() == []

    garage.pass_days(1).drive(van, 14_100)
    assert garage.check()["due_soon"] == 1
    assert garage.open_alerts() == [("maintenance_due_soon", "Van 1: oil change: 14,100 of 15,000 km")]
    assert garage.orders() == []

    garage.pass_days(1).drive(van, 15_020)
    assert garage.check()["work_orders"] == 1
    assert garage.open_alerts() == [("maintenance_due", "Van 1: oil change: 15,020 of 15,000 km")]
    [order] = garage.orders()
    assert (order["reference"], order["title"], order["priority"], order["due_cycle"], order["odometer_km"]) == (
        *("WO-000001", "oil change", "medium", 1),
        15_020,
    )
    lines = garage.rows("SELECT position, description FROM work_order_lines ORDER BY position")
    assert [(line["position"], line["description"]) for line in lines] == [(1, "drain"), (2, "fill")]

    garage.pass_days(1).drive(van, 15_400)
    counts = garage.check()
    assert (counts["overdue"], counts["raised"], counts.get("work_orders")) == (1, 1, None)
    assert garage.open_alerts() == [("maintenance_overdue", "Van 1: oil change: 15,400 of 15,000 km")]
    assert [order["priority"] for order in garage.orders()] == ["high"]


@pytest.mark.parametrize(
    ("schedule", "meters", "reason"),
    [
        ({"interval_days": 30, "start_on": "2023-01-31"}, {}, "due today"),
        ({"interval_days": 30, "start_on": "2023-01-29"}, {}, "due since 2023-02-28"),
        ({"interval_days": 30, "start_on": "2023-02-10"}, {}, "due on 2023-03-12"),
        ({"interval_months": 1, "start_on": "2023-01-31"}, {}, "due since 2023-02-28"),
        ({"interval_distance": 100, "start_km": 0}, {"km": 99.9}, "99 of 100 km"),
        ({"interval_distance": 100, "distance_unit": "mi", "start_km": 0}, {"km": 160.9344}, "100 of 100 mi"),
        ({"interval_engine_hours": 500, "start_engine_hours": 1000}, {"hours": 1499}, "499 of 500 engine hours"),
        (
            {"interval_days": 30, "start_on": "2023-02-10", "interval_distance": 100, "start_km": 0},
            {"km": 100},
            "100 of 100 km",
        ),
        (
            {"interval_days": 30, "start_on": "2023-01-31", "interval_distance": 100, "start_km": 0},
            {"km": 100},
            "due today; 100 of 100 km",
        ),
    ],
)
def test_whichever_comes_first_is_the_reason(
    garage: Garage, schedule: dict[str, Any], meters: dict[str, Any], reason: str
) -> None:
    van = garage.vehicle()
    garage.schedule(van, **schedule)
    if meters:
        garage.drive(van, **meters)
    garage.check()
    [(_, message)] = garage.open_alerts()
    assert message == f"Van 1: oil change: {reason}"


def test_the_alert_carries_what_a_message_needs(garage: Garage) -> None:
    van = garage.vehicle()
    vendor = garage.insert("vendors", name="Harbour Garage")
    schedule = garage.schedule(
        van, interval_days=30, start_on="2023-01-31", vendor_id=vendor, priority="critical", checklist=["look"]
    )
    garage.check()

    [order] = garage.orders()
    [alert] = garage.rows("SELECT * FROM alerts")
    assert alert["details"] == {
        "schedule_id": str(schedule),
        "schedule_name": "oil change",
        "vehicle_id": str(van),
        "vehicle_name": "Van 1",
        "work_order_id": str(order["id"]),
        "work_order_number": "WO-000001",
        "status": "due",
        "reason": "oil change: due today",
        "predicted_on": "2023-03-02",
        "due_on": "2023-03-02",
        "due_km": None,
        "due_engine_hours": None,
        "vendor_name": "Harbour Garage",
        "checklist": ["look"],
    }
    assert (order["vendor_id"], order["priority"], order["due_on"]) == (vendor, "critical", day("2023-03-02"))


def test_a_schedule_of_a_type_is_for_every_vehicle_in_use_of_it(garage: Garage) -> None:
    fleet: dict[str, dict[str, Any]] = {"a": {}, "b": {}, "sold": {"status": "sold"}, "retired": {"status": "retired"}}
    for name, values in (fleet | {"gone": {"deleted_at": MORNING}}).items():
        garage.vehicle(name, vehicle_type="van", **values)
    garage.vehicle("truck", vehicle_type="truck")
    garage.schedule(vehicle_type="van", interval_days=10, start_on="2023-01-01")
    assert garage.check()["triggers_made"] == 2

    garage.vehicle("late", vehicle_type="van")
    counts = garage.check(days=1)
    assert (counts["triggers_made"], counts["work_orders"]) == (1, 1)
    assert [order["number"] for order in garage.orders()] == [1, 2, 3]


@pytest.mark.parametrize(
    "end",
    [
        "UPDATE vehicles SET status = 'retired'",
        "UPDATE vehicles SET status = 'sold'",
        "UPDATE vehicles SET deleted_at = now()",
        "UPDATE maintenance_schedules SET is_active = false",
        "UPDATE maintenance_schedules SET deleted_at = now()",
    ],
)
def test_what_is_no_more_in_use_is_told_no_more(garage: Garage, end: str) -> None:
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-02-10")
    garage.check()
    assert len(garage.open_alerts()) == 1

    garage.admin.execute(end.encode())
    counts = garage.check(days=30)
    assert (counts["triggers_ended"], counts["resolved"], counts.get("work_orders")) == (1, 1, None)
    assert garage.open_alerts() == [] and garage.orders() == []


def test_cycles_that_were_missed_open_one_order(garage: Garage) -> None:
    garage.schedule(garage.vehicle(), interval_days=10)
    garage.check()
    assert garage.check(days=1000)["work_orders"] == 1
    assert "work_orders" not in garage.check(days=10)
    assert len(garage.orders()) == 1


def test_a_snoozed_service_is_silent_until_its_day(garage: Garage) -> None:
    schedule = garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.admin.execute("UPDATE maintenance_schedules SET soon_days = 10")
    garage.check(days=-3)
    garage.admin.execute("UPDATE maintenance_triggers SET snoozed_until = '2023-03-09'")

    assert garage.check(days=3)["snoozed"] == 1
    assert garage.open_alerts() == [] and garage.orders() == []
    assert garage.check(days=6).get("work_orders") is None
    assert garage.check(days=1)["work_orders"] == 1
    assert garage.trigger(schedule)["cycle"] == 1


def test_a_cancelled_order_is_not_opened_again_until_somebody_puts_the_service_off(garage: Garage) -> None:
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.check()
    garage.admin.execute("UPDATE work_orders SET status = 'cancelled'")

    assert "work_orders" not in garage.check(days=1)
    assert [kind for kind, _ in garage.open_alerts()] == ["maintenance_due"], "it is still due"
    garage.check(days=9)
    [alert] = garage.rows("SELECT kind, details FROM alerts WHERE resolved_at IS NULL")
    assert (alert["kind"], alert["details"]["work_order_id"]) == ("maintenance_overdue", None)
    garage.pass_days(-9)

    garage.admin.execute("UPDATE maintenance_triggers SET snoozed_until = '2023-03-05'")
    assert "work_orders" not in garage.check(days=1)
    assert garage.check(days=1)["work_orders"] == 1
    assert [order["due_cycle"] for order in garage.orders()] == [1, 2]


@pytest.mark.parametrize("status", ["in_progress", "on_hold"])
def test_an_order_that_is_begun_or_on_hold_is_the_open_one(garage: Garage, status: str) -> None:
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.check()
    garage.admin.execute("UPDATE work_orders SET status = %s", [status])
    garage.admin.execute("UPDATE maintenance_triggers SET cycle = cycle + 1")
    assert "work_orders" not in garage.check(days=1)


def test_the_day_is_the_tenants_own(platform: Platform) -> None:
    for zone, expected in (("Pacific/Auckland", 1), ("America/Los_Angeles", None)):
        garage = Garage(platform, make_tenant(platform.admin, zone.split("/")[1].lower().replace("_", "-"), zone))
        garage.schedule(garage.vehicle(), interval_days=1, start_on="2023-03-01", soon_days=0)
        garage.now = datetime(2023, 3, 2, 5, tzinfo=UTC)  # still the 1st in Los Angeles
        assert garage.check().get("work_orders") == expected, zone


def test_a_priority_that_a_person_chose_is_not_raised(garage: Garage) -> None:
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.check()
    garage.admin.execute("UPDATE work_orders SET priority = 'low'")
    garage.check(days=20)
    assert [order["priority"] for order in garage.orders()] == ["low"]


def test_what_is_found_overdue_at_first_is_opened_with_a_raised_priority(garage: Garage) -> None:
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-01")
    garage.check()
    assert [order["priority"] for order in garage.orders()] == ["high"]
    garage.check(days=1)
    assert [order["priority"] for order in garage.orders()] == ["high"]


def test_a_silent_meter_is_projected_by_the_use_of_the_last_thirty_days(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_distance=10_000, start_km=0, soon_km=500)
    for week in range(5):
        garage.drive(van, 5000 + week * 700)
        garage.check()
        garage.pass_days(7)
    assert garage.rows("SELECT per_day FROM vehicle_meters") == [{"per_day": pytest.approx(100)}]
    garage.now = MORNING + timedelta(days=28)  # 7,800 km an hour ago, then silence

    garage.pass_days(18)
    assert garage.check()["due_soon"] == 1
    assert garage.open_alerts() == [
        ("maintenance_due_soon", "Van 1: oil change: 9,600 of 10,000 km, forecast: the last reading is 18 days old")
    ]
    [alert] = garage.rows("SELECT details FROM alerts WHERE resolved_at IS NULL")
    assert alert["details"]["predicted_on"] == str((MORNING + timedelta(days=28 + 22)).date())

    assert garage.check(days=5)["work_orders"] == 1
    [order] = garage.orders()
    assert order["odometer_km"] == 7800, "an order shows what was read, not what is guessed"


@pytest.mark.parametrize("per_day", [None, 0, 400])
@pytest.mark.parametrize(
    ("interval", "meters"),
    [
        ({"interval_distance": 15_000, "start_km": 0}, {"km": 15_400}),
        ({"interval_engine_hours": 500, "start_engine_hours": 0}, {"hours": 620}),
    ],
)
def test_what_a_meter_makes_due_is_due_today_however_the_vehicle_is_used(
    garage: Garage, interval: dict[str, Any], meters: dict[str, Any], per_day: float | None
) -> None:
    van = garage.vehicle()
    garage.schedule(van, **interval)
    garage.drive(van, **meters)
    garage.do(take_readings, garage.now)
    garage.admin.execute("UPDATE vehicle_meters SET per_day = %s", [per_day])
    garage.check()
    [order] = garage.orders()
    assert order["due_on"] == MORNING.date()
    [alert] = garage.rows("SELECT details FROM alerts WHERE kind = 'maintenance_overdue'")
    assert alert["details"]["predicted_on"] == str(MORNING.date())


def test_what_its_day_made_due_keeps_that_day(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_days=30, start_on="2023-01-20", interval_distance=1000, start_km=0)
    garage.drive(van, 5000)
    garage.check()
    assert [order["due_on"] for order in garage.orders()] == [day("2023-02-19")]


_KINDS_TOLD = "SELECT kind, count(*) FROM alerts WHERE kind LIKE 'maintenance_%%' GROUP BY kind ORDER BY kind"


def _told(garage: Garage) -> dict[str, int]:
    return {row["kind"]: row["count"] for row in garage.rows(_KINDS_TOLD)}


def _forecast_due(garage: Garage) -> tuple[UUID, UUID]:
    """Return a vehicle and its schedule: 13,000 of 15,000 km read, eight silent days ago, and overdue by forecast."""
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_distance=15_000, start_km=0)
    for number in range(11):
        garage.pass_days(1).drive(van, 10_000 + 300 * number)
        garage.check()
    for _ in range(8):
        garage.check(days=1)
    return van, schedule


def test_a_forecast_that_a_reading_takes_back_and_that_comes_true_is_told_once(garage: Garage) -> None:
    van, schedule = _forecast_due(garage)
    once = {"maintenance_due_soon": 1, "maintenance_due": 1, "maintenance_overdue": 1}
    assert _told(garage) == once
    for km in (13_050, 14_100, 15_050, 15_400):
        garage.pass_days(2).drive(van, km)
        garage.check()
        assert [kind for kind, _ in garage.open_alerts()] == ["maintenance_overdue"], "until it is done"
    assert _told(garage) == once

    [order] = garage.orders()
    garage.complete(order["id"], completion_odometer_km=15_400)
    garage.check()
    assert garage.open_alerts() == []
    garage.pass_days(30).drive(van, 29_500)
    garage.check()
    assert _told(garage) == once | {"maintenance_due_soon": 2}, "the next cycle is told anew"
    assert garage.trigger(schedule)["cycle"] == 2


def test_a_changed_schedule_that_makes_a_service_due_later_resolves_what_was_told(garage: Garage) -> None:
    van, _ = _forecast_due(garage)
    garage.admin.execute("UPDATE maintenance_schedules SET interval_distance = 40000")
    garage.check(days=1)
    assert garage.open_alerts() == []
    garage.admin.execute("UPDATE maintenance_schedules SET interval_distance = 14000")
    garage.pass_days(1).drive(van, 13_500)
    garage.check()
    assert [kind for kind, _ in garage.open_alerts()] == ["maintenance_due_soon"]


def test_what_was_put_off_is_told_again_on_its_day(garage: Garage) -> None:
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.check()
    garage.admin.execute("UPDATE maintenance_triggers SET snoozed_until = '2023-03-04'")
    garage.check(days=1)
    assert garage.open_alerts() == []
    garage.check(days=1)
    garage.check()
    assert _told(garage) == {"maintenance_due": 2}


def test_a_forecast_ends_after_ninety_days_of_silence(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_distance=20_000, start_km=0, soon_km=0)
    garage.drive(van, 1000)
    garage.check()
    garage.pass_days(10).drive(van, 2000)
    garage.check()
    assert "due" not in garage.check(days=400), "2,000 km and 90 days of 100 km are 11,000"


def test_a_meter_whose_use_nobody_knows_is_not_called_a_forecast(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_distance=1_000, start_km=0)
    garage.drive(van, 990)
    garage.check()
    garage.admin.execute("UPDATE alerts SET resolved_at = now()")
    garage.check(days=20)
    assert garage.open_alerts() == [("maintenance_due_soon", "Van 1: oil change: 990 of 1,000 km")]


def test_an_alert_carries_the_beginning_of_a_checklist_and_the_order_all_of_it(garage: Garage) -> None:
    lines = [str(number) + "ö" * 200 for number in range(150)]
    garage.schedule(garage.vehicle("v" * 1000), interval_days=30, start_on="2023-01-31", checklist=lines)
    garage.check()
    [details] = [row["details"] for row in garage.rows("SELECT details FROM alerts")]
    assert details["checklist"] == [line[:200] for line in lines[:20]]
    assert len(details["vehicle_name"]) == 200
    assert [row["description"] for row in garage.rows("SELECT * FROM work_order_lines ORDER BY position")] == lines


def test_what_others_add_to_an_alert_stops_no_reminder(garage: Garage) -> None:
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-20", checklist=["ö" * 200] * 20)
    garage.check()
    garage.admin.execute("UPDATE alerts SET details = details || jsonb_build_object('note', repeat('x', 50000))")
    assert garage.check(days=7)["reminded"] == 1
    [details] = [row["details"] for row in garage.rows("SELECT details FROM alerts WHERE kind = 'maintenance_overdue'")]
    assert (details["reminders"], "note" in details, len(details["checklist"])) == (1, False, 20)


def test_an_order_keeps_the_meters_that_made_it_due(garage: Garage) -> None:
    _forecast_due(garage)
    [order] = garage.orders()
    assert order["odometer_km"] == 13_000
    assert order["due_odometer_km"] == pytest.approx(15_100)
    assert (order["engine_hours"], order["due_engine_hours"]) == (None, None)


def test_services_that_fall_due_together_are_numbered_alike_by_whoever_finds_them_first(garage: Garage) -> None:
    for number in range(12):
        garage.schedule(
            garage.vehicle(f"Van {number}"), name=f"service {number % 3}", interval_days=30, start_on="2023-01-31"
        )
    with garage.transaction() as rehearsed:
        transaction = rehearsed.begin_nested()
        rehearse(rehearsed, garage.now)
        before = [(each.reference, each.vehicle) for each in list_opened(rehearsed, garage.now)]
        told = [each.message for each in list_told(rehearsed, garage.now)]
        transaction.rollback()
    garage.check()
    assert garage.do(lambda real: [(each.reference, each.vehicle) for each in list_opened(real, garage.now)]) == before
    assert [message.split(":")[0] for message in told] == [f"Van {number}" for number in range(12)]


def test_what_a_person_writes_at_this_moment_is_raised_tomorrow_and_nobody_waits(garage: Garage) -> None:
    vans = [garage.vehicle(f"Van {number}") for number in (1, 2)]
    for van in vans:
        garage.schedule(van, interval_days=30, start_on="2023-01-31")
    garage.check()
    garage.pass_days(10)
    with psycopg.connect(garage.platform.urls.app_url) as writing:
        writing.execute("SELECT set_config('app.tenant_id', %s, true)", [str(garage.tenant_id)])
        writing.execute("UPDATE work_orders SET status = 'in_progress' WHERE number = 1")
        assert garage.check()["raised"] == 1
        writing.execute(
            "INSERT INTO work_orders (tenant_id, vehicle_id, type, title)"
            " VALUES (app_tenant_id(), %s, 'corrective', 'x')",
            [vans[1]],
        )
    assert [order["priority"] for order in garage.orders()] == ["medium", "high", "medium"]
    assert garage.check(days=1)["raised"] == 1
    assert [order["priority"] for order in garage.orders()] == ["high", "high", "medium"]


def test_a_service_that_a_person_puts_off_at_this_moment_is_changed_tomorrow_and_nobody_waits(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_days=300)
    garage.check()
    garage.admin.execute("UPDATE maintenance_schedules SET interval_days = 200")
    with psycopg.connect(garage.platform.urls.app_url) as writing:
        writing.execute("SELECT set_config('app.tenant_id', %s, true)", [str(garage.tenant_id)])
        writing.execute("UPDATE maintenance_triggers SET snoozed_until = '2030-01-01'")
        assert garage.check()["triggers_changed"] == 0
        writing.execute(
            "INSERT INTO work_orders (tenant_id, vehicle_id, type, title)"
            " VALUES (app_tenant_id(), %s, 'corrective', 'x')",
            [van],
        )
    assert garage.check(days=1)["triggers_changed"] == 1
    assert garage.trigger(schedule)["interval_days"] == 200


def test_a_vehicles_name_may_be_as_long_as_the_table_takes_it(garage: Garage) -> None:
    garage.schedule(garage.vehicle("é" * 32_768), interval_days=30, start_on="2023-01-31")
    assert garage.check()["alerts"] == 1
    [alert] = garage.rows("SELECT * FROM alerts")
    assert alert["details"]["vehicle_name"] == "é" * 200
