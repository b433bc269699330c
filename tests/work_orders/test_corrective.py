"""What machines and people report becomes one corrective work order."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.queries.work_orders import Report, create_order, open_corrective, settle_opened
from tests.factories import make_tenant
from tests.inprocess import Platform
from tests.maintenance.garage import Garage


def _fault(garage: Garage, vehicle_id: UUID, code: str = "P0301", severity: str = "high", **values: Any) -> UUID:
    at = garage.now - timedelta(minutes=10)
    given = {"first_seen_at": at, "last_seen_at": at, "description": "misfire"} | values
    return garage.insert(
        "vehicle_faults", vehicle_id=vehicle_id, protocol="obdii", code=code, severity=severity, **given
    )


def _open(garage: Garage) -> int:
    opened: int = garage.do(open_corrective, garage.now)
    return opened


def test_grave_faults_anomalies_and_failed_inspections_open_one_order_each(garage: Garage) -> None:
    van = garage.vehicle()
    _fault(garage, van)
    _fault(garage, van, "P0420", "medium")
    anomaly = {"vehicle_id": van, "message": "pressure falls", "detected_at": garage.now}
    garage.insert("anomaly_alerts", kind="tyre", severity="critical", **anomaly)
    garage.insert("anomaly_alerts", kind="tyre", severity="low", **anomaly)
    garage.insert("inspections", vehicle_id=van, kind="pre_trip", result="failed", inspected_at=garage.now)
    garage.insert("inspections", vehicle_id=van, kind="pre_trip", result="passed", inspected_at=garage.now)

    assert _open(garage) == 3
    assert _open(garage) == 0
    told = {(o["source"], o["priority"], o["title"], o["type"]) for o in garage.orders()}
    assert told == {
        ("fault_code", "high", "Fault code P0301", "corrective"),
        ("anomaly", "critical", "Anomaly: tyre", "corrective"),
        ("inspection", "high", "Failed pre-trip inspection", "corrective"),
    }
    assert [order["number"] for order in garage.orders()] == [1, 2, 3]


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_a_fault_that_is_still_there_opens_no_second_order_one_that_comes_back_does(
    garage: Garage, status: str
) -> None:
    van = garage.vehicle()
    fault = _fault(garage, van)
    assert _open(garage) == 1
    garage.admin.execute("UPDATE work_orders SET status = %s", [status])
    garage.pass_days(1)
    assert _open(garage) == 0

    garage.admin.execute("UPDATE vehicle_faults SET cleared_at = last_seen_at + interval '1 s' WHERE id = %s", [fault])
    garage.pass_days(1)
    _fault(garage, van)
    assert _open(garage) == 1


def test_a_fault_that_flickers_while_its_order_is_open_opens_no_second_one(garage: Garage) -> None:
    van = garage.vehicle()
    fault = _fault(garage, van)
    assert _open(garage) == 1
    garage.admin.execute("UPDATE vehicle_faults SET cleared_at = last_seen_at + interval '1 s' WHERE id = %s", [fault])
    garage.pass_days(1)
    _fault(garage, van)
    assert _open(garage) == 0


def test_what_is_old_or_of_a_vehicle_out_of_use_opens_nothing(garage: Garage) -> None:
    old = garage.now - timedelta(days=40)
    _fault(garage, garage.vehicle(), first_seen_at=old, last_seen_at=old)
    _fault(garage, garage.vehicle("sold", status="sold"))
    assert _open(garage) == 0


def test_fault_codes_that_are_alike_in_all_that_an_order_keeps_of_them_have_one_order(garage: Garage) -> None:
    van = garage.vehicle()
    for severity, source in (("high", "a"), ("critical", "b"), ("high", "c")):
        _fault(garage, van, "c" * 200, severity, source=source)
    assert _open(garage) == 1
    _fault(garage, garage.vehicle("other"))
    assert _open(garage) == 1
    assert [(order["number"], order["priority"]) for order in garage.orders()] == [(1, "critical"), (2, "high")]


def _told(garage: Garage) -> list[dict[str, Any]]:
    return garage.rows("SELECT * FROM alerts WHERE kind = 'work_order_opened' ORDER BY message")


@pytest.mark.parametrize(
    ("kind", "summary", "title", "description"),
    [
        ("post_trip", None, "Failed post-trip inspection", "Failed post-trip inspection"),
        ("safety", " \n ", "Failed safety inspection", "Failed safety inspection\n\n \n "),
        ("other", None, "Failed inspection", "Failed inspection"),
        (
            *("periodic", "Brake light\n broken ", "Brake light broken"),
            "Failed periodic inspection\n\nBrake light\n broken ",
        ),
        ("periodic", "x" * 300, "x" * 200, "Failed periodic inspection\n\n" + "x" * 300),
    ],
)
def test_an_inspection_is_called_by_what_was_found(
    garage: Garage, kind: str, summary: str | None, title: str, description: str
) -> None:
    garage.insert(
        "inspections", vehicle_id=garage.vehicle(), kind=kind, result="failed", inspected_at=garage.now, summary=summary
    )
    assert _open(garage) == 1
    [order] = garage.orders()
    assert (order["title"], order["description"]) == (title, description)


def test_whoever_has_to_repair_something_is_told_of_the_order_until_it_is_closed(garage: Garage) -> None:
    van = garage.vehicle()
    garage.insert(
        "inspections",
        vehicle_id=van,
        kind="pre_trip",
        result="failed",
        severity="critical",
        inspected_at=garage.now,
        summary="Brake light broken",
    )
    report = Report(van, "driver_report", "r-1", "Mirror broken", "left one", "medium", None, None, None)
    assert _open(garage) == 1
    for _ in range(2):
        garage.do(create_order, report, garage.now)
        _open(garage)

    first, second = garage.orders()
    told = _told(garage)
    assert [(alert["severity"], alert["subject"], alert["message"], alert["vehicle_id"]) for alert in told] == [
        ("critical", f"work_order:{first['id']}", "Van 1: Brake light broken", van),
        ("medium", f"work_order:{second['id']}", "Van 1: Mirror broken", van),
    ]
    assert told[0]["details"] == {
        "work_order_id": str(first["id"]),
        "work_order_number": "WO-000001",
        "title": "Brake light broken",
        "vehicle_id": str(van),
        "vehicle_name": "Van 1",
        "source": "inspection",
        "reason": "Failed pre-trip inspection",
    }
    assert (told[1]["details"]["source"], told[1]["details"]["reason"]) == ("driver_report", "left one")

    garage.admin.execute("UPDATE work_orders SET status = 'on_hold'")
    assert garage.do(settle_opened, garage.now) == 0
    for order, status in ((first, "cancelled"), (second, "completed")):
        garage.admin.execute("UPDATE work_orders SET status = %s WHERE id = %s", [status, order["id"]])
        assert garage.do(settle_opened, garage.now) == 1
        assert garage.do(settle_opened, garage.now) == 0
    _open(garage)
    garage.do(create_order, report, garage.now)
    assert len(_told(garage)) == 2, "what is closed was told once"


def test_what_an_open_alert_tells_of_is_not_told_again(garage: Garage) -> None:
    van = garage.vehicle()
    for code in ("P0301", "P0420"):
        _fault(garage, van, code)
    _fault(garage, van, "P0500", source="engine")
    anomalies = [
        garage.insert(
            "anomaly_alerts", vehicle_id=van, kind=kind, severity="high", message="falls", detected_at=garage.now
        )
        for kind in ("tyre", "battery")
    ]
    subjects = {
        f"vehicle:{van}:fault:obdii:P0301:": ("fault_code", None),
        f"vehicle:{van}:fault:obdii:P0500:engine": ("fault_code", None),
        f"vehicle:{van}:fault:obdii:P0420:": ("fault_code", garage.now),
        f"anomaly:{anomalies[0]}": ("anomaly", None),
    }
    for subject, (kind, resolved_at) in subjects.items():
        garage.insert(
            "alerts",
            kind=kind,
            severity="high",
            subject=subject,
            message="x",
            opened_at=garage.now,
            resolved_at=resolved_at,
        )
    assert _open(garage) == 5
    assert [alert["message"] for alert in _told(garage)] == ["Van 1: Anomaly: battery", "Van 1: Fault code P0420"]


def test_a_run_settles_and_opens_and_people_are_told(platform: Platform, garage: Garage) -> None:
    garage.now = datetime.now(UTC)
    garage.insert("users", email="ann@acme.example")
    garage.admin.execute("INSERT INTO notification_preferences (tenant_id) VALUES (%s)", [garage.tenant_id])
    garage.insert("inspections", vehicle_id=garage.vehicle(), kind="pre_trip", result="failed", inspected_at=garage.now)
    assert platform.run("work_orders.open_corrective", garage.tenant_id)["counts"] == {"resolved": 0, "opened": 1}
    [told] = garage.rows("SELECT category, kind, severity FROM notifications")
    assert told == {"category": "maintenance", "kind": "work_order_opened", "severity": "high"}
    garage.admin.execute("UPDATE work_orders SET status = 'completed'")
    assert platform.run("work_orders.open_corrective", garage.tenant_id)["counts"] == {"resolved": 1, "opened": 0}


REPORT = {"source": "driver_report", "source_id": "r-1", "title": "Mirror broken"}


def test_another_application_asks_for_an_order_and_asking_twice_is_asking_once(
    platform: Platform, garage: Garage
) -> None:
    van = garage.vehicle()
    given = REPORT | {"vehicle_id": str(van), "priority": "high", "due_on": "2023-04-01"}
    for expected in (1, 0):
        row = platform.run("work_orders.create", garage.tenant_id, **given)
        assert (row["state"], row["counts"]) == ("succeeded", {"opened": expected})
    [order] = garage.orders()
    assert (order["title"], order["priority"], order["source_id"], str(order["due_on"])) == (
        *("Mirror broken", "high", "r-1"),
        "2023-04-01",
    )
    garage.complete(order["id"])
    assert platform.run("work_orders.create", garage.tenant_id, **given)["counts"] == {"opened": 0}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"source": "Bad Source"}, "source: expected a word"),
        ({"priority": "urgent"}, "priority: expected one of low, medium, high, critical"),
        ({"title": " "}, "title: empty"),
        ({"title": "x" * 201}, "title: 201 characters, more than 200"),
        ({"source_id": ""}, "source_id: empty"),
        ({"description": "x" * 10_001}, "description: 10001 characters, more than 10000"),
        ({"due_on": "1949-12-31"}, "due_on: 1949-12-31: expected a day from 1950-01-01 to 2200-01-01"),
        ({"due_on": "9999-01-01"}, "due_on: 9999-01-01: expected a day from 1950-01-01 to 2200-01-01"),
        ({"vehicle_id": str(uuid4())}, "vehicle_id: nothing of this tenant has this id"),
        ({"vendor_id": str(uuid4())}, "vendor_id: nothing of this tenant has this id"),
        ({"facility_id": str(uuid4())}, "facility_id: nothing of this tenant has this id"),
    ],
)
def test_a_bad_report_is_a_dead_letter_that_names_the_field(
    platform: Platform, garage: Garage, change: dict[str, str], told: str
) -> None:
    given = REPORT | {"vehicle_id": str(garage.vehicle())} | change
    row = platform.run("work_orders.create", garage.tenant_id, **given)
    assert row["state"] == "failed"
    assert told in row["error"]["message"]
    assert garage.orders() == []


def test_another_tenants_vehicle_is_unknown(platform: Platform, garage: Garage) -> None:
    theirs = Garage(platform, make_tenant(platform.admin, "theirs")).vehicle()
    row = platform.run("work_orders.create", garage.tenant_id, **REPORT, vehicle_id=str(theirs))
    assert "vehicle_id: nothing of this tenant" in row["error"]["message"]


def test_a_batch_of_reports_with_a_bad_one_opens_the_others(platform: Platform, garage: Garage) -> None:
    from jobs import execution
    from jobs.job import load_jobs

    van = str(garage.vehicle())
    reports = [REPORT | {"vehicle_id": van, "source_id": f"r-{n}"} for n in range(5)]
    reports[2]["vehicle_id"] = str(uuid4())
    ids = [platform.enqueue("work_orders.create", garage.tenant_id, **report) for report in reports]
    execution.execute(load_jobs()["work_orders.create"], ids)
    states = [platform.row(run_id)["state"] for run_id in ids]
    assert states == ["succeeded", "succeeded", "failed", "succeeded", "succeeded"]
    assert [order["number"] for order in garage.orders()] == [1, 2, 3, 4]


def test_a_vehicles_name_may_be_as_long_as_the_table_takes_it(garage: Garage) -> None:
    van = garage.vehicle("é" * 32_768)
    garage.insert("inspections", vehicle_id=van, kind="other", result="failed", inspected_at=garage.now)
    assert garage.do(open_corrective, garage.now) == 1
    [alert] = garage.rows("SELECT * FROM alerts")
    assert alert["details"]["vehicle_name"] == "é" * 200
