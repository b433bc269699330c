"""What is overdue is told again every week, until it is done, put off, or somebody is at it."""

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from tests.factories import make_tenant
from tests.maintenance.garage import Garage


@pytest.fixture
def overdue(garage: Garage) -> Garage:
    """A service that is told as overdue this morning."""
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-26")
    garage.check()
    assert _alert(garage)["kind"] == "maintenance_overdue"
    return garage


def _alert(garage: Garage) -> dict[str, Any]:
    [row] = garage.rows("SELECT * FROM alerts WHERE resolved_at IS NULL AND kind LIKE 'maintenance%%'")
    return row


def test_it_is_told_again_every_week_and_once(overdue: Garage) -> None:
    for morning in range(1, 22):
        counts = overdue.check(days=1)
        assert counts.get("reminded") == (1 if morning % 7 == 0 else None), morning
        assert "reminded" not in overdue.check()
        assert _alert(overdue)["reminders"] == morning // 7
    assert overdue.rows("SELECT count(*) FROM alerts") == [{"count": 1}]


def test_whoever_was_told_is_told_again(garage: Garage) -> None:
    garage.insert("users", email="ann@acme.example")
    garage.insert("notification_preferences", category="maintenance", channel="email")
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-26")
    told = []
    for days in (0, 1, 6, 0, 6, 1):
        garage.check(days=days)
        told.append(garage.rows("SELECT count(*) FROM notifications")[0]["count"])
        garage.admin.execute("UPDATE notifications SET state = 'sent' WHERE state <> 'sent'")
    assert told == [1, 1, 2, 2, 2, 3]


def test_a_reminder_says_what_is_so_by_then(overdue: Garage) -> None:
    [order] = overdue.orders()
    overdue.admin.execute("UPDATE vehicles SET name = 'Van 7'")
    overdue.admin.execute('UPDATE alerts SET details = details || \'{"seen_by": "Ann"}\'')
    overdue.check(days=7)
    alert = _alert(overdue)
    assert alert["message"] == "Van 7: oil change: due since 2023-02-25"
    told = {name: alert["details"][name] for name in ("reminders", "vehicle_name", "work_order_number", "seen_by")}
    assert told == {"reminders": 1, "vehicle_name": "Van 7", "work_order_number": order["reference"], "seen_by": "Ann"}
    assert alert["details"]["status"] == "overdue"


def test_weeks_in_which_nobody_checked_are_told_of_once(overdue: Garage) -> None:
    assert overdue.check(days=40)["reminded"] == 1
    assert _alert(overdue)["reminders"] == 5
    assert "reminded" not in overdue.check(days=1)
    assert overdue.check(days=1)["reminded"] == 1


@pytest.mark.parametrize("status", ["in_progress", "on_hold"])
def test_whoever_is_at_it_is_not_reminded(overdue: Garage, status: str) -> None:
    overdue.admin.execute("UPDATE work_orders SET status = %s", [status])
    assert "reminded" not in overdue.check(days=8)
    overdue.admin.execute("UPDATE work_orders SET status = 'on_hold'")
    overdue.admin.execute("UPDATE work_orders SET status = 'open'")
    assert overdue.check(days=1)["reminded"] == 1


def test_a_cancelled_order_leaves_the_service_overdue_and_its_reminders_with_it(overdue: Garage) -> None:
    overdue.admin.execute("UPDATE work_orders SET status = 'cancelled'")
    assert overdue.check(days=7)["reminded"] == 1
    assert _alert(overdue)["details"]["work_order_id"] is None


def test_what_is_put_off_is_not_told_again_and_then_counts_from_its_day(overdue: Garage) -> None:
    overdue.admin.execute("UPDATE maintenance_triggers SET snoozed_until = '2023-03-20'")
    assert "reminded" not in overdue.check(days=7)
    assert overdue.check(days=11)["alerts"] == 1
    assert "reminded" not in overdue.check(days=6)
    assert overdue.check(days=1)["reminded"] == 1


def test_what_is_done_is_not_told_again(overdue: Garage) -> None:
    [order] = overdue.orders()
    overdue.complete(order["id"])
    assert "reminded" not in overdue.check(days=7)


def test_a_reading_that_takes_a_forecast_back_is_no_reason_to_remind(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_distance=15_000, start_km=0)
    for number in range(11):
        garage.pass_days(1).drive(van, 10_000 + 300 * number)
        garage.check()
    garage.check(days=8)
    assert _alert(garage)["kind"] == "maintenance_overdue", "by forecast"
    garage.pass_days(8).drive(van, 13_050)
    assert "reminded" not in garage.check()
    garage.pass_days(1).drive(van, 15_400)
    assert garage.check()["reminded"] == 1


@pytest.mark.parametrize(("zone", "later"), [("Europe/Berlin", -1), ("America/New_York", 1)])
def test_a_week_is_seven_mornings_of_the_tenant_also_when_the_clocks_change(
    garage: Garage, zone: str, later: int
) -> None:
    garage.tenant_id = make_tenant(garage.admin, "dst", zone)
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-01")
    spring = {"Europe/Berlin": datetime(2023, 3, 22, 5, tzinfo=UTC), "America/New_York": None}[zone]
    garage.now = spring or datetime(2023, 11, 1, 10, tzinfo=UTC)
    garage.check()
    garage.pass_days(7 + later / 24)  # six o'clock again, an hour less or more than seven days later
    assert garage.check()["reminded"] == 1


@pytest.mark.parametrize("at", ["infinity", "-infinity", "0044-01-01 BC"])
def test_an_alert_that_another_application_moves_to_where_no_calendar_is_stops_no_check(
    overdue: Garage, at: str
) -> None:
    overdue.admin.execute("UPDATE alerts SET opened_at = %s", [at])
    assert "reminded" not in overdue.check(days=8)


def test_reminders_have_an_end(overdue: Garage) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="ck_alerts_reminders"):
        overdue.admin.execute("UPDATE alerts SET reminders = 1001")
    overdue.admin.execute("UPDATE alerts SET opened_at = '1950-01-01'")
    assert overdue.check()["reminded"] == 1
    assert _alert(overdue)["reminders"] == 1000
    assert "reminded" not in overdue.check(days=7)


def test_a_service_that_has_become_critical_since_is_told_again_as_that(overdue: Garage) -> None:
    overdue.admin.execute("UPDATE maintenance_schedules SET priority = 'critical'")
    overdue.check(days=7)
    assert (_alert(overdue)["severity"], _alert(overdue)["reminders"]) == ("critical", 1)
