"""Readings that come late, from the future, in masses or with an inspection; and the use a day that outlives them."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.queries.quarantine import FutureReadingError, accept_reading, reject_reading
from db.queries.reported import judge_reported
from jobs.maintenance import check
from tests.inprocess import Platform
from tests.maintenance.garage import MORNING, Garage


def _readings(garage: Garage) -> list[tuple[float, str]]:
    rows = garage.rows("SELECT value, state FROM meter_readings ORDER BY read_at")
    return [(row["value"], row["state"]) for row in rows]


def _report(garage: Garage, van: UUID, km: float, at: datetime) -> UUID:
    return garage.insert("meter_readings", vehicle_id=van, meter="odometer_km", value=km, read_at=at)


def _waiting(garage: Garage) -> UUID:
    [row] = garage.rows("SELECT id FROM meter_readings WHERE state = 'quarantined'")
    found: UUID = row["id"]
    return found


def _system(work: Any, *values: Any, **named: Any) -> Any:
    from jobs import process

    with process.get_database().system_transaction() as connection:
        return work(connection, *values, **named)


class TestLate:
    def test_one_far_too_low_is_set_aside_and_the_forecast_stays(self, garage: Garage) -> None:
        van = garage.vehicle()
        garage.schedule(van, interval_distance=100_000, start_km=0)
        garage.pass_days(20).drive(van, 50_000)
        garage.check()
        _report(garage, van, 10, garage.now - timedelta(days=2))
        garage.pass_days(1).drive(van, 50_100)
        garage.check()
        assert _readings(garage) == [(10, "quarantined"), (50_000, "accepted"), (50_100, "accepted")]
        assert garage.rows("SELECT reason FROM meter_readings WHERE value = 10") == [
            {"reason": "is 49990.0 below a reading of 2.0 days later"}
        ]
        assert "due" not in garage.check(days=4)
        assert garage.open_alerts() == [], "nobody is asked about what a later reading has settled"

    @pytest.mark.parametrize(
        ("km", "days_before", "state"),
        [
            (45_001, 2, "accepted"),
            (44_999, 2, "quarantined"),
            (10, 20, "accepted"),
            (10, 19, "quarantined"),
            (10, 400, "accepted"),
        ],
    )
    def test_it_may_be_as_far_below_a_later_one_as_that_may_be_above_it(
        self, garage: Garage, km: float, days_before: int, state: str
    ) -> None:
        van = garage.vehicle()
        garage.drive(van, 50_000, at=garage.now)
        garage.check()
        _report(garage, van, km, garage.now - timedelta(days=days_before))
        garage.check()
        assert _readings(garage)[0] == (km, state)


class TestInTheFuture:
    @pytest.fixture
    def reading(self, garage: Garage) -> UUID:
        """One of next year, of a van that is read every day."""
        van = garage.vehicle()
        garage.now = datetime.now(UTC)
        garage.drive(van, 50_000)
        garage.check()
        reading = _report(garage, van, 50_001, garage.now + timedelta(days=365))
        garage.check()
        return reading

    def test_it_is_told_until_a_later_reading_is_believed_and_not_until_its_day(
        self, garage: Garage, reading: UUID
    ) -> None:
        told = "Van 1: the odometer read in the future; services go by the reading before"
        assert garage.open_alerts() == [("maintenance_meter_quarantined", told)]
        [van] = garage.rows("SELECT id FROM vehicles")
        garage.pass_days(1).drive(van["id"], 50_100)
        assert garage.check()["meters_believed"] == 1
        assert garage.open_alerts() == []
        assert garage.check(days=1)["meters_doubted"] == 0

    def test_it_is_not_accepted_before_its_time(self, garage: Garage, reading: UUID) -> None:
        with pytest.raises(FutureReadingError):
            _system(accept_reading, reading, replaced=False)
        assert _readings(garage) == [(50_000, "accepted"), (50_001, "quarantined")]

    def test_it_is_dismissed(self, garage: Garage, reading: UUID) -> None:
        assert _system(reject_reading, reading)
        assert not _system(reject_reading, reading)
        assert garage.check()["meters_believed"] == 1
        assert (garage.open_alerts(), _readings(garage)[1]) == ([], (50_001, "superseded"))

    def test_a_device_whose_clock_is_days_ahead_is_told(self, garage: Garage) -> None:
        van = garage.vehicle()
        garage.drive(van, 50_000)
        garage.check()
        garage.drive(van, 61_000, at=garage.now + timedelta(days=300))
        assert garage.check(days=1)["meters_doubted"] == 1
        assert garage.check(days=1)["quarantined"] == 0, "once"
        assert _readings(garage) == [(50_000, "accepted"), (61_000, "quarantined")]

    def test_a_device_whose_clock_is_hours_ahead_is_believed_once_its_time_has_come(self, garage: Garage) -> None:
        van = garage.vehicle()
        garage.drive(van, 50_000, at=garage.now + timedelta(hours=5))
        assert garage.check()["readings"] == 0
        assert garage.check(days=1)["readings"] == 1
        assert _readings(garage) == [(50_000, "accepted")]


def test_a_dismissed_meter_of_a_completion_settles_its_flag(garage: Garage) -> None:
    van = garage.vehicle()
    garage.drive(van, 10_100)
    garage.check()
    order = garage.insert("work_orders", vehicle_id=van, type="corrective", title="brakes")
    garage.complete(order, completion_odometer_km=110_000)
    assert garage.check()["flagged"] == 1
    assert _system(reject_reading, _waiting(garage))
    assert garage.check()["unflagged"] == 1
    assert garage.open_alerts() == []


class TestInMasses:
    def _backlog(self, garage: Garage, vans: int, each: int) -> None:
        for number in range(vans):
            garage.vehicle(f"Van {number}")
        garage.admin.execute(
            "INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at)"
            " SELECT v.tenant_id, v.id, 'odometer_km', CASE WHEN n %% 10 = 9 THEN 0 ELSE n END,"
            "        timestamptz '2023-02-01' + n * interval '10 minutes'"
            " FROM vehicles v, generate_series(1, %s) n",
            [each],
        )

    def test_all_that_wait_of_a_meter_are_judged_by_one_check(self, garage: Garage) -> None:
        self._backlog(garage, 1, 1_440)
        counts = garage.check()
        assert (counts["readings"], counts["quarantined"]) == (1_296, 144)
        assert garage.rows("SELECT value, round(per_day::numeric, 3)::float8 AS per_day FROM vehicle_meters") == [
            {"value": 1_440, "per_day": pytest.approx(144, rel=1e-3)}
        ]

    def test_more_than_a_slice_of_them_is_judged_slice_by_slice_before_anything_is_due(
        self, platform: Platform, garage: Garage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(check, "judge_reported", partial(judge_reported, most=50))
        self._backlog(garage, 3, 40)
        row = platform.run("maintenance.check_due", garage.tenant_id)
        assert (row["state"], row["counts"]["readings"], row["counts"]["quarantined"]) == ("succeeded", 108, 12)
        assert garage.rows("SELECT DISTINCT value FROM vehicle_meters") == [{"value": 40}]

    def test_where_a_slice_ends_changes_nothing(self, garage: Garage) -> None:
        self._backlog(garage, 2, 60)
        garage.check()
        at_once = _readings(garage)
        garage.admin.execute("DELETE FROM vehicle_meters")
        garage.admin.execute("UPDATE meter_readings SET state = 'reported', reason = NULL")
        slices = 1
        while garage.do(judge_reported, garage.now, most=7).is_more:
            slices += 1
        assert slices == 120 // 7 + 1
        assert _readings(garage) == at_once


def test_the_use_a_day_outlives_a_replaced_instrument(garage: Garage) -> None:
    van = garage.vehicle()
    garage.schedule(van, interval_distance=3_000, start_km=0, soon_km=0)
    for days in range(11):
        garage.pass_days(1).drive(van, 1_000 + 100 * days)
        garage.check()
    garage.pass_days(1).drive(van, 5)
    garage.check()
    assert _system(accept_reading, _waiting(garage), replaced=True)
    assert garage.rows("SELECT value, per_day FROM vehicle_meters") == [{"value": 5, "per_day": pytest.approx(100)}]
    assert garage.check(days=60)["work_orders"] == 1, "a silent vehicle is forecast"


class TestOfInspections:
    def _inspect(self, garage: Garage, van: UUID, **values: Any) -> UUID:
        given = {"kind": "periodic", "result": "passed", "inspected_at": garage.now - timedelta(hours=1)} | values
        return garage.insert("inspections", vehicle_id=van, **given)

    def test_they_are_judged_like_any_other(self, garage: Garage) -> None:
        van = garage.vehicle()
        garage.schedule(van, interval_distance=10_000, start_km=0)
        self._inspect(garage, van, odometer_km=12_000, engine_hours=300)
        assert garage.check()["work_orders"] == 1
        assert garage.rows("SELECT meter, value, source, state FROM meter_readings ORDER BY meter") == [
            {"meter": "engine_hours", "value": 300, "source": "inspection", "state": "accepted"},
            {"meter": "odometer_km", "value": 12_000, "source": "inspection", "state": "accepted"},
        ]

    def test_a_corrected_one_takes_its_own_place_until_it_is_believed(self, garage: Garage) -> None:
        van = garage.vehicle()
        garage.drive(van, 11_900, at=garage.now - timedelta(days=1))
        garage.check()
        inspection = self._inspect(garage, van, odometer_km=120_000)
        garage.check()
        assert _readings(garage)[1] == (120_000, "quarantined")
        garage.admin.execute("UPDATE inspections SET odometer_km = 12000 WHERE id = %s", [inspection])
        garage.check()
        assert _readings(garage)[1] == (12_000, "accepted")
        garage.admin.execute("UPDATE inspections SET odometer_km = 12001 WHERE id = %s", [inspection])
        garage.check()
        assert _readings(garage)[1] == (12_000, "accepted"), "services count by it"

    def test_other_applications_report_them_so_for_their_own_vehicles_only(self, garage: Garage) -> None:
        van = garage.vehicle()
        with psycopg.connect(garage.platform.urls.app_url, autocommit=True) as app:
            app.execute("SELECT set_config('app.tenant_id', %s, false)", [str(garage.tenant_id)])
            app.execute(
                "INSERT INTO inspections (tenant_id, vehicle_id, kind, result, inspected_at, odometer_km)"
                " VALUES (app_tenant_id(), %s, 'safety', 'passed', %s, 7)",
                [van, MORNING],
            )
            app.execute("UPDATE inspections SET odometer_km = NULL")
        assert _readings(garage) == [(7, "superseded")]


@pytest.mark.parametrize("corrected", ["engine_hours = 10", "summary = 'typing'", "engine_hours = NULL"])
def test_a_reading_that_was_dismissed_is_not_asked_about_again_for_another_that_was_corrected(
    garage: Garage, corrected: str
) -> None:
    van = garage.vehicle()
    for days, km in ((3, 1_000), (1, 900_000)):
        garage.insert(
            "inspections",
            vehicle_id=van,
            kind="periodic",
            result="passed",
            inspected_at=garage.now - timedelta(days=days),
            odometer_km=km,
            engine_hours=5,
        )
    garage.check()
    [reading] = garage.rows("SELECT id FROM meter_readings WHERE state = 'quarantined'")
    assert _system(reject_reading, reading["id"])
    garage.admin.execute(f"UPDATE inspections SET {corrected} WHERE odometer_km = 900000".encode())
    assert garage.check()["quarantined"] == 0
    assert garage.rows("SELECT value FROM meter_readings WHERE state = 'superseded'") == [{"value": 900_000}]
    garage.admin.execute("UPDATE inspections SET odometer_km = 1010 WHERE odometer_km = 900000")
    garage.check()
    kilometres = "SELECT value, state FROM meter_readings WHERE meter = 'odometer_km' ORDER BY value"
    assert garage.rows(kilometres) == [{"value": 1_000, "state": "accepted"}, {"value": 1_010, "state": "accepted"}]
