"""Readings are forgotten after two years and resolved alerts after one; what is still gone by is not."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from db.queries import history
from tests.inprocess import Platform
from tests.maintenance.garage import Garage

PURGE = "retention.purge_history"


def _purge(platform: Platform) -> dict[str, int]:
    counts: dict[str, int] = platform.run(PURGE)["counts"]
    assert {name: number for name, number in platform.run(PURGE)["counts"].items() if number} == {}
    return counts


def _read(garage: Garage, van: UUID, days: int, value: float, state: str = "accepted") -> None:
    garage.insert(
        "meter_readings",
        vehicle_id=van,
        meter="odometer_km",
        value=value,
        read_at=datetime.now(UTC) - timedelta(days=days),
        state=state,
        reason="jumps" if state == "quarantined" else None,
    )


def _believe(garage: Garage, van: UUID, days: int) -> None:
    garage.admin.execute(
        "INSERT INTO vehicle_meters (tenant_id, vehicle_id, meter, value, read_at, per_day)"
        " VALUES (%s, %s, 'odometer_km', 9, now() - make_interval(days => %s), 1)",
        [garage.tenant_id, van, days],
    )


def _kept(garage: Garage) -> list[float]:
    return [row["value"] for row in garage.rows("SELECT value FROM meter_readings ORDER BY value")]


def test_readings_of_two_years_ago_go_but_for_those_that_wait(platform: Platform, garage: Garage) -> None:
    van = garage.vehicle()
    _believe(garage, van, 1)
    for value, (days, state) in enumerate(
        [(800, "accepted"), (799, "superseded"), (798, "quarantined"), (797, "reported"), (700, "accepted")]
    ):
        _read(garage, van, days, value, state)
    assert _purge(platform)["meter_readings"] == 2
    assert _kept(garage) == [2, 3, 4]


def test_of_a_vehicle_that_fell_silent_the_newest_reading_and_its_use_a_day_stay(
    platform: Platform, garage: Garage
) -> None:
    van = garage.vehicle()
    _believe(garage, van, 900)
    for value, days in enumerate([931, 929, 915, 900]):
        _read(garage, van, days, value)
    assert _purge(platform)["meter_readings"] == 1
    assert _kept(garage) == [1, 2, 3]


def test_a_meter_goes_on_after_its_history_was_forgotten(platform: Platform, garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_distance=15_000, start_km=0)
    garage.now = datetime.now(UTC) - timedelta(days=760)
    for number in range(4):
        garage.pass_days(10).drive(van, 1_000 + 500 * number)
        garage.check()
    before = garage.rows("SELECT value, read_at, per_day FROM vehicle_meters")
    assert _purge(platform)["meter_readings"] == 0, "the newest, and the thirty days before it"
    assert garage.rows("SELECT value, read_at, per_day FROM vehicle_meters") == before
    garage.now = datetime.now(UTC)
    garage.drive(van, 14_900)
    garage.check()
    assert _purge(platform)["meter_readings"] == 3
    assert _kept(garage) == [2_500, 14_900]
    assert [message for _, message in garage.open_alerts()] == ["Van 1: oil change: 14,900 of 15,000 km"]


def _alert(garage: Garage, subject: str, kind: str = "maintenance_due", **values: Any) -> None:
    old = datetime.now(UTC) - timedelta(days=366)
    given = {"opened_at": old, "resolved_at": old, "severity": "low", "message": "x"} | values
    garage.insert("alerts", subject=subject, kind=kind, **given)


def _subjects(garage: Garage) -> list[str]:
    return [row["subject"] for row in garage.rows("SELECT subject FROM alerts ORDER BY subject, opened_at")]


def test_alerts_that_were_resolved_a_year_ago_go(platform: Platform, garage: Garage) -> None:
    recent = datetime.now(UTC) - timedelta(days=364)
    _alert(garage, "gone")
    _alert(garage, "resolved later", resolved_at=recent)
    _alert(garage, "still open", resolved_at=None)
    _alert(garage, "recent", opened_at=recent, resolved_at=recent)
    assert _purge(platform)["alerts"] == 1
    assert _subjects(garage) == ["recent", "resolved later", "still open"]


def test_what_a_person_resolved_while_its_cause_lasts_stays(platform: Platform, garage: Garage) -> None:
    van, old = garage.vehicle(), datetime.now(UTC) - timedelta(days=366)
    for subject, cleared in (("fault that is there", None), ("fault that is gone", old + timedelta(days=1))):
        fault = garage.insert(
            "vehicle_faults",
            vehicle_id=van,
            protocol="obdii",
            code=subject,
            severity="high",
            first_seen_at=old,
            last_seen_at=old,
            cleared_at=cleared,
        )
        _alert(garage, subject, "fault_code", vehicle_id=van, details={"fault_id": str(fault)})
    _alert(garage, "low and not over", "low_fuel")
    _alert(garage, "low and over", "low_fuel", over_at=old)
    _alert(garage, "silent", "offline", opened_at=old - timedelta(days=9))
    _alert(garage, "silent", "offline")
    assert _purge(platform)["alerts"] == 3
    assert _subjects(garage) == ["fault that is there", "low and not over", "silent"]


def test_batches_are_bounded_and_follow_each_other(
    platform: Platform, garage: Garage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs import process

    monkeypatch.setattr(history, "BATCH", 2)
    vans = [garage.vehicle(name) for name in ("a", "b")]
    for van in vans:
        _believe(garage, van, 1)
        for number in range(3):
            _read(garage, van, 800 + number, number)
            _alert(garage, f"{van}:{number}")
    with process.get_database().system_transaction() as connection:
        removed = history.purge(connection, datetime.now(UTC))
    assert (removed["meter_readings"], removed["alerts"]) == (2, 2)
    assert len(_kept(garage)) == len(_subjects(garage)) == 4
