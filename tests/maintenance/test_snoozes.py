"""A service that is put off until a day or a meter, whichever comes first."""

from typing import Any

import psycopg
import pytest

from db.queries.quarantine import accept_reading
from tests.maintenance.garage import Garage


@pytest.fixture
def due(garage: Garage) -> Garage:
    """A service of a van that is due, at 15,100 km and 910 engine hours, and has its order."""
    van = garage.vehicle()
    garage.schedule(van, interval_distance=15_000, start_km=0)
    garage.drive(van, 15_100, 910)
    garage.check()
    assert [kind for kind, _ in garage.open_alerts()] == ["maintenance_due"]
    return garage


def _drive(garage: Garage, km: float, hours: float) -> None:
    [van] = garage.rows("SELECT id FROM vehicles")
    garage.pass_days(1).drive(van["id"], km, hours)


def _put_off(garage: Garage, day: str | None = None, km: float | None = None, hours: float | None = None) -> None:
    garage.admin.execute(
        "UPDATE maintenance_triggers SET snoozed_until = %s, snoozed_until_km = %s, snoozed_until_engine_hours = %s",
        [day, km, hours],
    )


def _accept_replaced(garage: Garage) -> None:
    from jobs import process

    [waiting] = garage.rows("SELECT id FROM meter_readings WHERE state = 'quarantined'")
    with process.get_database().system_transaction() as connection:
        assert accept_reading(connection, waiting["id"], replaced=True)


@pytest.mark.parametrize(
    ("limits", "is_over"),
    [
        ({"km": 15_200}, "km"),
        ({"hours": 920}, "hours"),
        ({"day": "2023-03-04"}, "day"),
        ({"km": 15_200, "hours": 5_000}, "km"),
        ({"km": 99_000, "hours": 920, "day": "2024-01-01"}, "hours"),
        ({"km": 99_000, "hours": 5_000, "day": "2023-03-04"}, "day"),
    ],
)
def test_it_is_put_off_until_the_first_of_its_limits(due: Garage, limits: dict[str, Any], is_over: str) -> None:
    _put_off(due, **limits)
    _drive(due, 15_150, 915)
    counts = due.check()
    assert (counts["snoozed"], counts["resolved"], counts.get("due")) == (1, 1, None)
    assert due.open_alerts() == []

    _drive(due, 15_200 if is_over == "km" else 15_151, 920 if is_over == "hours" else 916)
    assert (due.check().get("snoozed"), due.check().get("due")) == (None, 1)
    assert [kind for kind, _ in due.open_alerts()] == ["maintenance_due"]


@pytest.mark.parametrize(("km", "shown"), [(16_000, 0), (15_401, 0), (15_400, 1), (None, 1)])
def test_the_view_of_what_is_overdue_leaves_out_what_is_put_off(due: Garage, km: float | None, shown: int) -> None:
    _drive(due, 15_400, 915)
    due.check()
    _put_off(due, km=km)
    assert len(due.rows("SELECT * FROM maintenance_overdue")) == shown


def test_a_meter_that_nobody_knows_puts_nothing_off(garage: Garage) -> None:
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.check()
    _put_off(garage, km=50_000)
    assert (garage.check(days=1).get("snoozed"), len(garage.open_alerts())) == (None, 1)
    assert len(garage.rows("SELECT FROM maintenance_overdue")) == 1
    _put_off(garage, km=50_000, day="2023-03-05")
    assert garage.check(days=1)["snoozed"] == 1
    assert "snoozed" not in garage.check(days=1)


def test_a_silent_meter_reaches_its_limit_by_forecast(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_days=30, start_on="2023-01-31")
    for number in range(11):
        garage.pass_days(1).drive(van, 10_000 + 100 * number)
        garage.check()
    _put_off(garage, km=12_000)
    assert garage.check(days=9)["snoozed"] == 1
    assert "snoozed" not in garage.check(days=1)


def test_what_told_of_a_service_that_is_no_longer_conspicuous_is_resolved_too(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_distance=15_000, start_km=0)
    for number in range(11):
        garage.pass_days(1).drive(van, 10_000 + 300 * number)
        garage.check()
    garage.check(days=8)
    garage.pass_days(1).drive(van, 13_050)
    garage.check()
    assert [kind for kind, _ in garage.open_alerts()] == ["maintenance_overdue"], "a reading took the forecast back"
    _put_off(garage, km=14_000)
    assert garage.check()["resolved"] == 1
    assert garage.open_alerts() == []


def test_a_service_that_is_done_is_put_off_no_more(due: Garage) -> None:
    _put_off(due, "2024-01-01", 40_000, 5_000)
    [order] = due.orders()
    due.complete(order["id"], completion_odometer_km=15_120)
    due.check()
    [trigger] = due.rows("SELECT * FROM maintenance_triggers")
    assert [trigger[f"snoozed_until{unit}"] for unit in ("", "_km", "_engine_hours")] == [None, None, None]


@pytest.mark.parametrize("limit", [{"km": 15_200}, {"hours": 920}])
def test_putting_off_a_service_whose_order_was_cancelled_asks_for_another(due: Garage, limit: dict[str, Any]) -> None:
    due.admin.execute("UPDATE work_orders SET status = 'cancelled'")
    _put_off(due, **limit)
    assert "work_orders" not in due.check()
    _drive(due, 15_200, 920)
    assert due.check()["work_orders"] == 1
    assert [order["due_cycle"] for order in due.orders()] == [1, 2]


def test_of_a_replaced_odometer_the_limit_moves_with_the_service(due: Garage) -> None:
    _put_off(due, km=16_000, hours=1_000)
    _drive(due, 100, 915)
    due.check()
    _accept_replaced(due)
    [trigger] = due.rows("SELECT * FROM maintenance_triggers")
    assert (trigger["snoozed_until_km"], trigger["snoozed_until_engine_hours"]) == (1_000, 1_000)
    assert due.check()["snoozed"] == 1
    _drive(due, 1_000, 916)
    assert "snoozed" not in due.check()


@pytest.mark.parametrize("limits", [("2023-06-01", None), (None, 16_000), ("2023-06-01", 16_000)])
def test_a_replaced_odometer_begins_no_cycle_of_a_service_that_is_put_off(
    due: Garage, limits: tuple[str | None, float | None]
) -> None:
    _put_off(due, *limits)
    due.admin.execute("UPDATE work_orders SET status = 'cancelled'")
    _drive(due, 100, 915)
    due.check()
    _accept_replaced(due)
    [trigger] = due.rows("SELECT * FROM maintenance_triggers")
    assert (trigger["cycle"], trigger["next_due_km"]) == (1, 0)


@pytest.mark.parametrize(("column", "value"), [("km", "NaN"), ("km", -1), ("km", 10_000_001), ("engine_hours", "inf")])
def test_a_limit_that_no_meter_shows_is_refused(due: Garage, column: str, value: Any) -> None:
    name = f"snoozed_until_{column}"
    with pytest.raises(psycopg.errors.CheckViolation, match=f"ck_maintenance_triggers_{name}"):
        due.admin.execute(f"UPDATE maintenance_triggers SET {name} = %s".encode(), [value])
