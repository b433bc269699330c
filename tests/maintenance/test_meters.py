"""What devices and people read off: believed where it can be, else set aside for a person, never lost."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from db.queries.quarantine import accept_reading, list_quarantined
from tests.inprocess import Platform
from tests.maintenance.garage import MORNING, Garage


def _readings(garage: Garage) -> list[tuple[float, str]]:
    rows = garage.rows("SELECT value, state FROM meter_readings ORDER BY read_at")
    return [(row["value"], row["state"]) for row in rows]


def _accept(garage: Garage, value: float, *, replaced: bool = False) -> None:
    """Accept as the command does, over all tenants."""
    from jobs import process

    [row] = garage.rows("SELECT id FROM meter_readings WHERE value = %s AND state = 'quarantined'", value)
    with process.get_database().system_transaction() as connection:
        assert accept_reading(connection, row["id"], replaced=replaced)
        assert not accept_reading(connection, row["id"], replaced=replaced)


def test_each_morning_keeps_one_reading_of_each_meter(garage: Garage) -> None:
    van = garage.vehicle()
    for km, hours in ((1000, 50), (1200, 55), (1200, 55)):
        garage.drive(van, km, hours)
        garage.check()
        garage.check()
        garage.pass_days(1)
    assert len(_readings(garage)) == 6
    meters = garage.rows("SELECT meter, value, per_day FROM vehicle_meters ORDER BY meter")
    assert [(row["meter"], row["value"], row["per_day"]) for row in meters] == [
        ("engine_hours", 55, pytest.approx(2.5)),
        ("odometer_km", 1200, pytest.approx(100)),
    ]


@pytest.mark.parametrize(
    ("first", "then", "days", "state"),
    [
        (50_000, 52_500, 1, "accepted"),
        (50_000, 52_501, 1, "quarantined"),
        (50_000, 60_000, 4, "accepted"),
        (50_000, 49_999.5, 1, "accepted"),  # rounded differently
        (50_000, 49_900, 1, "quarantined"),
        (50_000, 150_000, 1, "quarantined"),
        (50_000, 150_000, 400, "quarantined"),  # however long it was silent
        (50_000, 120_000, 60, "accepted"),
        (50_000, 12, 30, "quarantined"),
    ],
)
def test_an_odometer_that_jumps_or_runs_backwards_is_set_aside(
    garage: Garage, first: float, then: float, days: float, state: str
) -> None:
    van = garage.vehicle()
    garage.drive(van, first)
    garage.check()
    garage.pass_days(days).drive(van, then)
    garage.check()
    assert _readings(garage) == [(first, "accepted"), (then, state)]
    assert garage.rows("SELECT value FROM vehicle_meters") == [{"value": then if state == "accepted" else first}]


@pytest.mark.parametrize(("hours", "state"), [(124, "accepted"), (124.5, "quarantined"), (99, "quarantined")])
def test_engine_hours_run_at_most_a_day_a_day(garage: Garage, hours: float, state: str) -> None:
    van = garage.vehicle()
    garage.drive(van, hours=100)
    garage.check()
    garage.pass_days(1).drive(van, hours=hours)
    garage.check()
    assert _readings(garage) == [(100, "accepted"), (hours, state)]


def test_what_was_set_aside_says_why_and_services_go_by_what_is_believed(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_distance=10_000, start_km=45_000)
    garage.drive(van, 50_000)
    garage.check()
    garage.pass_days(1).drive(van, 150_000)
    assert "due" not in garage.check()
    told = "Van 1: the odometer jumps by 100000.0 in 1.0 days; services go by the reading before"
    assert garage.open_alerts() == [("maintenance_meter_quarantined", told)]
    [found] = garage.do(list_quarantined, garage.tenant_id, 10)
    assert (found.reason, found.vehicle, found.value, found.accepted_value) == (
        *("jumps by 100000.0 in 1.0 days", "Van 1"),
        *(150_000, 50_000),
    )

    garage.pass_days(1).drive(van, 150_100)
    assert garage.check()["meters_doubted"] == 0, "told once"
    garage.pass_days(1).drive(van, 50_900)
    assert garage.check()["meters_believed"] == 1
    assert garage.open_alerts() == []


def test_of_a_replaced_odometer_services_count_on_with_the_distance_driven_since(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_distance=15_000, start_km=145_000)
    garage.drive(van, 150_000)
    garage.check()
    garage.pass_days(1).drive(van, 40)
    garage.check()
    garage.pass_days(1).drive(van, 300)
    garage.check()

    _accept(garage, 40, replaced=True)
    garage.check()

    assert garage.trigger(schedule)["next_due_km"] == 10_040, "5,000 of 15,000 km were driven"
    assert _readings(garage) == [(150_000, "superseded"), (40, "accepted"), (300, "accepted")]
    assert garage.rows("SELECT value FROM vehicle_meters") == [{"value": 300}]


def test_a_reading_that_a_person_believes_overrules_what_contradicts_it(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_distance=15_000, start_km=45_000)
    garage.insert("meter_readings", vehicle_id=van, meter="odometer_km", value=510_000, read_at=MORNING)
    garage.pass_days(1).drive(van, 51_000)
    garage.check()
    assert _readings(garage) == [(510_000, "accepted"), (51_000, "quarantined")]

    _accept(garage, 51_000)

    assert _readings(garage) == [(510_000, "superseded"), (51_000, "accepted")]
    assert garage.trigger(schedule)["next_due_km"] == 60_000
    assert garage.rows("SELECT value FROM vehicle_meters") == [{"value": 51_000}]


def test_readings_by_hand_are_judged_in_the_order_of_their_times(garage: Garage) -> None:
    van = garage.vehicle()
    garage.pass_days(10)
    for day, value in ((3, 3_300), (1, 1_000), (2, 9_999), (4, 3_200), (5, 3_400)):
        garage.insert(
            "meter_readings",
            vehicle_id=van,
            meter="odometer_km",
            value=value,
            read_at=MORNING + timedelta(days=day),
        )
    counts = garage.check()
    assert (counts["readings"], counts["quarantined"]) == (3, 2)
    assert _readings(garage) == [
        *((1_000, "accepted"), (9_999, "quarantined"), (3_300, "accepted")),
        *((3_200, "quarantined"), (3_400, "accepted")),
    ]


def test_a_reading_that_comes_late_must_fit_between_its_neighbours(garage: Garage) -> None:
    van = garage.vehicle()
    garage.drive(van, 1_000)
    garage.check()
    garage.pass_days(10).drive(van, 2_000)
    garage.check()
    for day, value in ((3, 1_300), (4, 2_300)):
        at = MORNING + timedelta(days=day)
        garage.insert("meter_readings", vehicle_id=van, meter="odometer_km", value=value, read_at=at)
    garage.check()
    assert _readings(garage) == [
        *((1_000, "accepted"), (1_300, "accepted"), (2_300, "quarantined"), (2_000, "accepted"))
    ]
    assert garage.rows("SELECT value FROM vehicle_meters") == [{"value": 2_000}]


def test_other_applications_report_readings_and_do_not_judge_them(platform: Platform, garage: Garage) -> None:
    van = garage.vehicle()
    insert = (
        "INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at{0})"
        " VALUES (app_tenant_id(), %s, 'odometer_km', 5, now(){1})"
    )
    with psycopg.connect(platform.urls.app_url, autocommit=True) as app:
        app.execute("SELECT set_config('app.tenant_id', %s, false)", [str(garage.tenant_id)])
        app.execute(insert.format("", "").encode(), [van])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(insert.format(", state", ", 'accepted'").encode(), [van])
    assert [state for _, state in _readings(garage)] == ["reported"]


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1e9])
def test_a_value_that_no_meter_shows_is_refused(garage: Garage, value: Any) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="ck_meter_readings_value"):
        garage.insert("meter_readings", vehicle_id=garage.vehicle(), meter="odometer_km", value=value, read_at=MORNING)


def test_a_vehicles_name_may_be_as_long_as_the_table_takes_it(garage: Garage) -> None:
    van, other = garage.vehicle("é" * 32_768), garage.vehicle("Van 2")
    garage.schedule(other, interval_days=30, start_on="2023-01-31")
    garage.drive(van, 1_000)
    garage.check()
    garage.pass_days(1).drive(van, 900_000)
    assert garage.check()["meters_doubted"] == 1
    [alert] = garage.rows("SELECT * FROM alerts WHERE kind = 'maintenance_meter_quarantined'")
    assert alert["details"]["vehicle_name"] == "é" * 200
    assert len(garage.orders()) == 1
