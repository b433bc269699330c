"""What a page brings beside points: charging, fault codes, safety events; kept with their vehicles, or kept aside."""

from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

import msgspec
import pytest

from db.queries import telematics
from integrations.telematics import EvReading, FaultCode, FaultReport, Page, Reading, SafetyEvent
from jobs import process
from jobs.telematics.page import prepare, write_readings
from tests.factories import make_connection, make_tenant
from tests.inprocess import Platform

NOW = datetime.now(UTC).replace(microsecond=0)
CRASH = SafetyEvent(
    "e-1", "d1", NOW - timedelta(minutes=40), "crash", ("crash", "harsh_braking"), "critical", 53.4, -2.9, 41.5, 3.2
)


class Fleet:
    """A tenant with a connection and one vehicle, to which pages are written."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.tenant_id = make_tenant(platform.admin)
        self.id = make_connection(platform.admin, self.tenant_id, "http://127.0.0.1:1")
        self.vehicle_id = platform.value(
            "INSERT INTO vehicles (tenant_id, name, connection_id, external_id) VALUES (%s, 'Van 3', %s, 'd1')"
            " RETURNING id",
            self.tenant_id,
            self.id,
        )

    def write(self, *pages: Page, now: datetime = NOW) -> dict[str, int]:
        """Write pages as a sync does."""
        with process.get_database().tenant_transaction(self.tenant_id) as connection:
            account = telematics.find_account(connection, self.id)
            assert account is not None
            return write_readings(connection, account, "feed", prepare(connection, account, pages, now), now)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.platform.admin.execute(statement.encode()).fetchall()


@pytest.fixture
def fleet(platform: Platform) -> Fleet:
    return Fleet(platform)


def page(**records: Any) -> Page:
    return Page([], [], None, False, **records)


def test_charging_is_kept_by_vehicle_and_time_and_gains_what_it_lacked(fleet: Fleet) -> None:
    at = NOW - timedelta(minutes=3)
    counts = fleet.write(page(ev_readings=[EvReading("d1", at, battery_percent=55.0)]))
    again = fleet.write(page(ev_readings=[EvReading("d1", at, 99.0, "charging"), EvReading("d1", at, range_km=120.0)]))
    last = fleet.write(page(ev_readings=[EvReading("d1", at, 55.0, "charging", 120.0)]))

    assert (counts["ev_readings"], again["ev_readings"], last["ev_readings"]) == (1, 1, 0)
    assert fleet.rows("SELECT vehicle_id, time, battery_percent, charging_state, range_km FROM ev_metrics") == [
        (fleet.vehicle_id, at, 55.0, "charging", 120.0)
    ]


def test_a_safety_event_is_one_row_however_often_it_is_told_and_keeps_what_was_known(fleet: Fleet) -> None:
    seen = msgspec.structs.replace(CRASH, video_url="https://films.example/1", state="new")
    coached = msgspec.structs.replace(CRASH, state="coached", labels=("crash",))

    first = fleet.write(page(safety_events=[seen]))
    second = fleet.write(page(safety_events=[coached, coached]))

    assert (first["safety_events"], second["safety_events"], second["safety_events_updated"]) == (1, 0, 1)
    assert fleet.rows(
        "SELECT vehicle_id, external_id, time, kind, labels, severity, speed_kph, state, video_url FROM video_events"
    ) == [
        (
            fleet.vehicle_id,
            "e-1",
            CRASH.time,
            "crash",
            ["crash"],
            "critical",
            41.5,
            "coached",
            "https://films.example/1",
        )
    ]


def test_a_new_critical_event_raises_one_alert_an_old_or_lesser_one_none(fleet: Fleet) -> None:
    old = msgspec.structs.replace(CRASH, event_id="e-2", time=NOW - timedelta(hours=25))
    lesser = msgspec.structs.replace(CRASH, event_id="e-3", severity="high")

    counts = fleet.write(page(safety_events=[CRASH, old, lesser]))
    fleet.write(page(safety_events=[msgspec.structs.replace(CRASH, state="coached")]))

    assert (counts["safety_events"], counts["alerts"]) == (3, 1)
    assert fleet.rows("SELECT kind, severity, message, opened_at FROM alerts") == [
        ("safety_event", "critical", "Van 3: crash", CRASH.time)
    ]


def test_an_event_that_is_corrected_to_critical_raises_its_alert_once_in_its_life(fleet: Fleet) -> None:
    first = fleet.write(page(safety_events=[msgspec.structs.replace(CRASH, kind="harsh_braking", severity="high")]))
    worse = fleet.write(page(safety_events=[CRASH]))
    again = fleet.write(page(safety_events=[CRASH]))
    fleet.platform.admin.execute("UPDATE alerts SET resolved_at = now()")
    looked_at = fleet.write(page(safety_events=[CRASH]))

    assert [told["alerts"] for told in (first, worse, again, looked_at)] == [0, 1, 0, 0]
    assert fleet.rows("SELECT kind, message, opened_at FROM alerts") == [("safety_event", "Van 3: crash", CRASH.time)]


def test_a_page_brings_everything_in_one_transaction(fleet: Fleet) -> None:
    at = NOW - timedelta(minutes=1)
    counts = fleet.write(
        Page(
            [Reading("d1", at, 53.4, -2.9, speed_kph=10.0)],
            [],
            None,
            False,
            [EvReading("d1", at, 40.0)],
            [FaultReport("d1", at, (FaultCode("obdii", "P0301", "medium"),))],
            [CRASH],
        )
    )

    told = {"stored": 1, "ev_readings": 1, "faults": 1, "safety_events": 1, "alerts": 2, "rejected": 0}
    assert told.items() <= counts.items()


def test_records_of_a_device_without_a_vehicle_are_kept_aside_whole(fleet: Fleet) -> None:
    at = NOW - timedelta(minutes=1)
    strangers = page(
        ev_readings=[EvReading("d9", at, 40.0)],
        fault_reports=[FaultReport("d9", at, (FaultCode("obdii", "P0301", "medium"),))],
        safety_events=[msgspec.structs.replace(CRASH, device_id="d9")],
    )

    counts = fleet.write(strangers)

    assert counts["rejected"] == 3
    kept = fleet.rows("SELECT payload FROM rejected_records WHERE reason = 'unmatched_record' AND device_id = 'd9'")
    assert {msgspec.json.decode(row[0], type=FaultReport | None) for row in kept if "P0301" in row[0]} == {
        strangers.fault_reports[0]
    }
    assert (
        fleet.rows("SELECT 1 FROM ev_metrics UNION SELECT 1 FROM vehicle_faults UNION SELECT 1 FROM video_events") == []
    )


def test_a_charging_record_for_which_there_is_no_place_any_more_is_kept_aside(fleet: Fleet) -> None:
    counts = fleet.write(page(ev_readings=[EvReading("d1", NOW - timedelta(days=31), 40.0)]))

    assert (counts["rejected"], counts.get("ev_readings", 0)) == (1, 0)


def test_the_next_point_ends_a_silence_and_a_late_one_does_not(fleet: Fleet) -> None:
    fleet.write(Page([Reading("d1", NOW - timedelta(hours=2), 53.4, -2.9)], [], None, False))
    fleet.platform.run("telematics.check_liveness", fleet.tenant_id)
    assert fleet.rows("SELECT kind, resolved_at FROM alerts") == [("offline", None)]

    late = fleet.write(Page([Reading("d1", NOW - timedelta(minutes=90), 53.4, -2.9)], [], None, False))
    heard = fleet.write(Page([Reading("d1", NOW - timedelta(minutes=1), 53.4, -2.9)], [], None, False))

    assert (late["heard_again"], heard["heard_again"]) == (0, 1)
    assert fleet.rows("SELECT kind, resolved_at FROM alerts") == [("offline", NOW)]


def test_a_device_that_gets_its_vehicle_brings_what_was_kept_beside_its_points(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    at = NOW - timedelta(minutes=1)
    fleet.write(
        Page(
            [Reading("d9", at, 53.4, -2.9)],
            [],
            None,
            False,
            [EvReading("d9", at, 40.0)],
            [FaultReport("d9", at, (FaultCode("obdii", "P0301", "medium"),))],
            [msgspec.structs.replace(CRASH, device_id="d9")],
        )
    )

    with pytest.raises(SystemExit) as left:
        import_module("jobs.cli.main").main(["devices", "match", str(fleet.id), "d9", "--create"])

    printed = capsys.readouterr()
    assert left.value.code in (0, None), printed.err
    assert "1 points and 3 other records that were kept aside are stored" in printed.err
    vehicle_id = UUID(printed.out.strip())
    for table in ("telemetry", "ev_metrics", "vehicle_faults", "video_events"):
        assert fleet.rows(f"SELECT tenant_id, vehicle_id FROM {table}") == [(fleet.tenant_id, vehicle_id)], table
    assert fleet.rows("SELECT 1 FROM rejected_records") == []
