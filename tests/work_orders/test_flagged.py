"""A completion that was flagged is settled once its meter is known, or once a later service counts instead."""

from typing import Any
from uuid import UUID

import pytest

from db.queries.quarantine import accept_reading
from tests.maintenance.garage import Garage


def _flagged(garage: Garage) -> list[str]:
    return [message for kind, message in garage.open_alerts() if kind == "work_order_flagged"]


def _complete(garage: Garage, **values: Any) -> UUID:
    [order] = [order for order in garage.orders() if order["status"] == "open"]
    garage.complete(order["id"], **values)
    found: UUID = order["id"]
    return found


@pytest.fixture
def van(garage: Garage) -> UUID:
    """A van whose service goes by days and by an odometer that nobody has read."""
    van = garage.vehicle()
    garage.schedule(
        van, interval_distance=10_000, interval_engine_hours=400, interval_days=30, start_on="2023-01-31", soon_days=0
    )
    garage.check()
    _complete(garage)
    assert garage.check(days=1)["flagged"] == 1
    return van


def test_without_a_meter_it_is_settled_once_both_are_read(garage: Garage, van: UUID) -> None:
    garage.pass_days(1).drive(van, km=5_000)
    assert garage.check()["unflagged"] == 0
    assert len(_flagged(garage)) == 1
    garage.pass_days(1).drive(van, hours=80)
    assert garage.check()["unflagged"] == 1
    assert garage.check()["unflagged"] == 0
    assert _flagged(garage) == []


def test_a_reading_from_before_the_completion_settles_nothing(garage: Garage, van: UUID) -> None:
    [order] = garage.orders()
    garage.drive(van, 5_000, 80, at=order["completed_at"])
    assert garage.check()["unflagged"] == 0


def test_a_later_service_counts_instead(garage: Garage, van: UUID) -> None:
    garage.check(days=31)
    _complete(garage)
    assert garage.check()["flagged"] == 1
    assert garage.check()["unflagged"] == 1
    assert [message[:9] for message in _flagged(garage)] == ["WO-000002"]


@pytest.mark.parametrize("schedule", [True, False])
def test_a_meter_that_was_set_aside_is_settled_once_a_person_believes_it(garage: Garage, schedule: bool) -> None:
    from jobs import process

    van = garage.vehicle()
    garage.drive(van, 10_100)
    if schedule:
        garage.schedule(van, interval_distance=10_000, start_km=0)
    else:
        garage.insert("work_orders", vehicle_id=van, type="corrective", title="brakes")
    garage.check()
    _complete(garage, completion_odometer_km=110_000)
    garage.check()
    garage.pass_days(1).drive(van, 10_300)
    assert garage.check()["unflagged"] == 0, "another reading says nothing of that one"
    [waiting] = garage.rows("SELECT id FROM meter_readings WHERE state = 'quarantined'")
    with process.get_database().system_transaction() as connection:
        assert accept_reading(connection, waiting["id"], replaced=False)
    assert garage.check()["unflagged"] == 1
    assert _flagged(garage) == []


def test_a_completion_before_the_service_that_it_follows_waits_for_the_next_or_a_person(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_days=30, interval_distance=50_000, start_on="2023-01-31")
    garage.check()
    [order] = garage.orders()
    garage.complete(order["id"], at=order["created_at"].replace(month=1, day=5))
    garage.check()
    garage.pass_days(1).drive(van, 100)
    garage.check()
    assert "nothing moves" in _flagged(garage)[0]


@pytest.mark.parametrize("details", ['{"missing_meters": 7}', '{"missing_meters": {"odometer_km": 1}}'])
def test_what_other_applications_write_into_an_alert_stops_no_check(garage: Garage, van: UUID, details: str) -> None:
    garage.admin.execute("UPDATE alerts SET details = %s", [details])
    garage.admin.execute(
        "INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at)"
        " VALUES (%s, 'work_order_flagged', 'low', 'work_order:x', 'x', now())",
        [garage.tenant_id],
    )
    garage.pass_days(1).drive(van, 5_000, 80)
    assert garage.check()["unflagged"] == 0


def test_a_vehicles_name_may_be_as_long_as_the_table_takes_it(garage: Garage) -> None:
    van = garage.vehicle("é" * 32_768)
    garage.schedule(van, interval_distance=1_000, interval_days=30, start_on="2023-01-31")
    garage.check()
    [order] = garage.orders()
    garage.complete(order["id"])
    assert garage.check()["flagged"] == 1
    [alert] = garage.rows("SELECT * FROM alerts WHERE kind = 'work_order_flagged'")
    assert alert["details"]["vehicle_name"] == "é" * 200
