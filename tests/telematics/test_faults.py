"""What reports of fault codes become: rows with a first and a last time, and alerts that resolve themselves."""

import time
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.queries import faults as queries
from db.queries.faults import Known
from integrations.telematics import FaultCode, FaultReport
from jobs import process
from jobs.telematics import liveness
from jobs.telematics.faults import Changes, merge, write_reports
from tests.factories import make_tenant
from tests.inprocess import Platform

T0 = datetime(2026, 11, 1, tzinfo=UTC)
VEHICLE = uuid4()
MISFIRE = FaultCode("obdii", "P0301", "medium", description="Cylinder 1 misfire")
OIL = FaultCode("j1939", "SPN 100 FMI 1", "critical", 100, 1, "Engine #1", occurrences=3)


def at(minute: float) -> datetime:
    return T0 + timedelta(minutes=minute)


def report(minute: float, *codes: FaultCode, complete: bool = True, scope: str | None = None) -> FaultReport:
    return FaultReport("d1", at(minute), codes, complete, scope)


NOTHING = Known([], {})


def after(known: Known, *reports: FaultReport) -> tuple[Known, Changes]:
    """Return what is known after reports, as the database would hold it."""
    changes = merge(known, [(VEHICLE, each) for each in reports])
    rows = {each.id: each for each in (*known.faults, *changes.added, *changes.changed)}
    return Known(list(rows.values()), known.complete | changes.complete), changes


def times(known: Known) -> set[tuple[str, float, float, float | None]]:
    """Return code, first, last and cleared, in minutes."""

    def minutes(time: datetime) -> float:
        return (time - T0).total_seconds() / 60

    return {
        (
            row.code,
            minutes(row.first_seen_at),
            minutes(row.last_seen_at),
            minutes(row.cleared_at) if row.cleared_at else None,
        )
        for row in known.faults
    }


def test_a_code_is_there_from_the_first_report_with_it_to_the_first_without() -> None:
    known, _ = after(NOTHING, report(1, MISFIRE), report(5, MISFIRE, OIL), report(9, OIL))

    assert times(known) == {("P0301", 1, 5, 9), ("SPN 100 FMI 1", 5, 9, None)}


def test_a_code_that_comes_again_is_another_row() -> None:
    known, _ = after(NOTHING, report(1, MISFIRE), report(2), report(3, MISFIRE))

    assert times(known) == {("P0301", 1, 1, 2), ("P0301", 3, 3, None)}


def test_a_report_of_one_protocol_says_nothing_of_the_other() -> None:
    known, _ = after(NOTHING, report(1, MISFIRE, OIL), report(2, scope="j1939"))

    assert times(known) == {("P0301", 1, 1, None), ("SPN 100 FMI 1", 1, 1, 2)}


def test_an_incomplete_report_clears_nothing() -> None:
    known, _ = after(NOTHING, report(1, MISFIRE), report(2, OIL, complete=False))

    assert times(known) == {("P0301", 1, 1, None), ("SPN 100 FMI 1", 2, 2, None)}


def test_what_is_pushed_makes_a_code_worse_and_never_better() -> None:
    pushed = FaultCode("j1939", OIL.code, "medium", 100, 1, OIL.source)

    known, _ = after(NOTHING, report(1, OIL), report(2, pushed, complete=False))
    assert [row.severity for row in known.faults] == ["critical"]
    known, _ = after(known, report(3, pushed))
    assert [row.severity for row in known.faults] == ["medium"]


def test_late_reports_change_nothing_and_are_counted() -> None:
    known, _ = after(NOTHING, report(5, MISFIRE), report(9))

    again, changes = after(known, report(4, OIL, MISFIRE), report(7, MISFIRE))

    assert again == known
    assert changes.late == 2


def test_a_report_of_one_protocol_is_late_only_beside_its_own() -> None:
    known, _ = after(NOTHING, report(5, MISFIRE, scope="obdii"))

    again, changes = after(known, report(4, OIL, scope="j1939"))

    assert times(again) == {("P0301", 5, 5, None), ("SPN 100 FMI 1", 4, 4, None)}
    assert changes.late == 0


@pytest.mark.parametrize(("scope", "opens"), [(None, False), ("obdii", False), ("j1939", True)])
def test_a_report_without_a_code_makes_older_ones_of_its_scope_late(scope: str | None, opens: bool) -> None:
    known, _ = after(NOTHING, report(9, scope=scope))

    _, of_all = after(known, report(5, MISFIRE))
    _, of_one = after(known, report(5, MISFIRE, scope="obdii"))
    _, without = after(known, report(5, scope="obdii"))

    assert (of_all.added, of_all.late) == ([], 1)
    assert (len(of_one.added), of_one.late, without.late) == ((1, 0, 0) if opens else (0, 1, 1))


CODES = [MISFIRE, FaultCode("obdii", "P0420", "low"), OIL]
reports_of_a_vehicle = st.lists(
    st.tuples(st.integers(0, 30), st.sets(st.sampled_from(range(3))), st.booleans()), max_size=12
).map(
    lambda drawn: [
        report(minute, *(CODES[number] for number in sorted(numbers)), complete=complete)
        for minute, numbers, complete in sorted(drawn, key=lambda each: each[0])
    ]
)


@given(reports_of_a_vehicle, st.integers(0, 12))
def test_pages_may_be_cut_anywhere_and_read_twice(reports: list[FaultReport], cut: int) -> None:
    whole, _ = after(NOTHING, *reports)

    first, _ = after(NOTHING, *reports[:cut])
    both, _ = after(first, *reports[cut:])
    twice, changes = after(both, *reports)

    assert times(both) == times(whole)
    distinct = len({each.time for each in reports}) == len(reports)
    if distinct and all(each.is_complete for each in reports):
        assert changes.added == [], "a page that is read again brings nothing"
        assert times(twice) == times(whole)


@given(reports_of_a_vehicle)
def test_a_code_is_open_once_and_its_times_are_in_order(reports: list[FaultReport]) -> None:
    known, _ = after(NOTHING, *reports)

    still = [row.key for row in known.faults if row.cleared_at is None]
    assert len(still) == len(set(still))
    for row in known.faults:
        assert row.first_seen_at <= row.last_seen_at
        assert row.cleared_at is None or row.last_seen_at < row.cleared_at


class Garage:
    """A tenant with a vehicle, and its fault codes in the database."""

    def __init__(self, platform: Platform, name: str = "Truck 7") -> None:
        self.platform = platform
        self.tenant_id = make_tenant(platform.admin)
        self.vehicle_id: UUID = platform.value(
            "INSERT INTO vehicles (tenant_id, name) VALUES (%s, %s) RETURNING id", self.tenant_id, name
        )

    def write(self, *reports: FaultReport) -> dict[str, int]:
        with process.get_database().tenant_transaction(self.tenant_id) as connection:
            return write_reports(connection, [(self.vehicle_id, each) for each in reports])

    def check(self) -> dict[str, int]:
        with process.get_database().tenant_transaction(self.tenant_id) as connection:
            return liveness.check(connection, datetime.now(UTC))

    def set_threshold(self, severity: str | None) -> None:
        self.platform.admin.execute(
            "INSERT INTO alert_thresholds (tenant_id, vehicle_kind, fault_severity) VALUES (%s, 'vehicle', %s)"
            " ON CONFLICT (tenant_id, vehicle_kind) DO UPDATE SET fault_severity = excluded.fault_severity",
            [self.tenant_id, severity],
        )

    def alerts(self) -> list[Any]:
        return self.platform.admin.execute(
            "SELECT kind, severity, message, opened_at, resolved_at FROM alerts WHERE vehicle_id = %s"
            " ORDER BY opened_at, severity DESC",
            [self.vehicle_id],
        ).fetchall()


def test_codes_are_stored_and_alerts_open_and_resolve(platform: Platform) -> None:
    garage = Garage(platform)

    first = garage.write(report(1, MISFIRE, OIL))
    again = garage.write(report(1, MISFIRE, OIL))
    gone = garage.write(report(6, OIL))

    assert (first["faults"], first["alerts"]) == (2, 2)
    assert (again["faults"], again["alerts"]) == (0, 0)
    assert (gone["faults"], gone["faults_cleared"]) == (0, 1)
    assert garage.alerts() == [
        ("fault_code", "medium", "Truck 7 reports fault code P0301: Cylinder 1 misfire", at(1), at(6)),
        ("fault_code", "critical", "Truck 7 reports fault code SPN 100 FMI 1", at(1), None),
    ]
    row = platform.admin.execute("SELECT spn, fmi, source, occurrences, reports FROM vehicle_faults WHERE spn = 100")
    assert row.fetchall() == [(100, 1, "Engine #1", 3, 2)]


def test_a_code_below_the_tenants_threshold_is_stored_without_an_alert(platform: Platform) -> None:
    garage = Garage(platform)
    platform.admin.execute(
        "INSERT INTO alert_thresholds (tenant_id, vehicle_kind, fault_severity) VALUES (%s, 'vehicle', 'high')",
        [garage.tenant_id],
    )

    counts = garage.write(report(1, MISFIRE, OIL))

    assert counts["faults"] == 2
    assert [row[1] for row in garage.alerts()] == ["critical"]
    platform.admin.execute("UPDATE alert_thresholds SET fault_severity = NULL")
    assert garage.write(report(2, MISFIRE, OIL, FaultCode("obdii", "P0420", "critical")))["alerts"] == 0


def test_what_comes_after_a_report_without_a_code_but_is_older_opens_nothing(platform: Platform) -> None:
    garage = Garage(platform)
    garage.write(report(9))

    assert garage.write(report(5, OIL)) == {
        "fault_reports": 1,
        "fault_reports_late": 1,
        "faults": 0,
        "faults_cleared": 0,
        "alerts": 0,
    }
    garage.write(report(7))
    assert platform.value("SELECT reported_at FROM vehicle_fault_reports WHERE scope = 'all'") == at(9)
    assert garage.write(report(10, OIL))["alerts"] == 1


@pytest.mark.parametrize("details", ['{"fault_id": "mine"}', '{"fault_id": null}', "{}"])
def test_what_others_write_into_an_alert_stops_no_report(platform: Platform, details: str) -> None:
    garage = Garage(platform)
    garage.write(report(1, MISFIRE))
    with psycopg.connect(platform.urls.app_url) as app:
        app.execute("SELECT set_config('app.tenant_id', %s, true)", [str(garage.tenant_id)])
        app.execute("UPDATE alerts SET details = %s", [details])

    assert garage.write(report(2, MISFIRE))["alerts"] == 1, "one that names its fault, for the one that does not"
    assert garage.write(report(3))["faults_cleared"] == 1

    assert [row[-1] is None for row in garage.alerts()] == [False, False]
    assert garage.write(report(4, MISFIRE))["alerts"] == 1


@pytest.mark.parametrize("change", ["status = 'sold'", "status = 'retired'", "deleted_at = now()"])
def test_a_vehicle_that_left_the_fleet_keeps_no_alert_of_a_code(platform: Platform, change: str) -> None:
    garage = Garage(platform)
    garage.write(report(1, MISFIRE))
    platform.admin.execute(f"UPDATE vehicles SET {change}".encode())

    counts = garage.check()

    assert counts == {"resolved": 1}
    assert garage.check() == {"resolved": 0}
    assert [row[-1] is None for row in garage.alerts()] == [False]


def test_a_threshold_that_is_changed_holds_within_a_minute_for_codes_that_are_there(platform: Platform) -> None:
    garage = Garage(platform)
    garage.write(report(1, MISFIRE, OIL))

    garage.set_threshold("high")
    assert garage.check() == {"resolved": 1}
    assert [(row[1], row[-1] is None) for row in garage.alerts()] == [("medium", False), ("critical", True)]
    garage.set_threshold(None)
    assert garage.check() == {"resolved": 1}
    assert garage.write(report(2, MISFIRE, OIL))["alerts"] == 0
    assert garage.check() == {"resolved": 0}


def test_a_code_that_a_lower_threshold_makes_worth_an_alert_gets_it_without_another_report(platform: Platform) -> None:
    garage = Garage(platform)
    garage.set_threshold("high")
    garage.write(report(1, MISFIRE))
    garage.set_threshold("low")

    assert garage.check() == {"fault_code": 1, "resolved": 0}
    assert garage.check() == {"resolved": 0}
    assert [row[3:] for row in garage.alerts()] == [(at(1), None)]


def test_a_page_that_raises_the_threshold_resolves_what_is_below_it(platform: Platform) -> None:
    garage = Garage(platform)
    garage.write(report(1, MISFIRE))
    garage.set_threshold("critical")

    garage.write(report(2, MISFIRE))

    assert [row[-1] is None for row in garage.alerts()] == [False]


def test_a_check_leaves_the_vehicles_of_a_page_that_is_being_written_to_the_next_minute(platform: Platform) -> None:
    garage = Garage(platform)
    garage.write(report(1, MISFIRE))
    garage.set_threshold(None)

    with process.get_database().tenant_transaction(garage.tenant_id) as holding:
        queries.lock_known(holding, [garage.vehicle_id])
        assert garage.check() == {"resolved": 0}
    assert garage.check() == {"resolved": 1}


def test_thousands_of_codes_are_settled_in_a_moment_though_the_planner_knows_of_none(platform: Platform) -> None:
    """Row by row, as joins of what is believed to be one row are done, each check took 8 s."""
    garage = Garage(platform)
    platform.admin.execute("ALTER TABLE alerts SET (autovacuum_enabled = false)")
    platform.admin.execute("ALTER TABLE vehicle_faults SET (autovacuum_enabled = false)")
    platform.admin.execute(
        "WITH v AS (INSERT INTO vehicles (tenant_id, name) SELECT %s, 'Truck' FROM generate_series(1, 2500)"
        " RETURNING id, tenant_id)"
        " INSERT INTO vehicle_faults (tenant_id, vehicle_id, protocol, code, severity, first_seen_at, last_seen_at)"
        " SELECT tenant_id, id, 'obdii', 'P030' || n, 'medium', %s, %s FROM v, generate_series(1, 2) AS n",
        [garage.tenant_id, at(1), at(1)],
    )
    assert garage.check()["fault_code"] == 5_000
    began = time.perf_counter()

    assert garage.check() == {"resolved": 0}
    garage.set_threshold("high")
    assert garage.check() == {"resolved": 5_000}

    assert time.perf_counter() - began < 5


def test_an_erased_vehicle_or_connection_is_looked_for_by_an_index_of_alerts(platform: Platform) -> None:
    """As the foreign keys ask for it, of a table that is not small."""
    platform.admin.execute("SET enable_seqscan = off")
    for column, index in (("vehicle_id", "ix_alerts_vehicle"), ("connection_id", "ix_alerts_connection")):
        plan = platform.admin.execute(
            f"EXPLAIN SELECT FROM ONLY alerts WHERE tenant_id = '{VEHICLE}' AND {column} = '{VEHICLE}' FOR KEY SHARE"
        ).fetchall()
        assert any(f"{index} " in line for (line,) in plan), plan


def test_an_alert_that_a_person_resolved_stays_so_while_the_code_stays(platform: Platform) -> None:
    garage = Garage(platform)
    garage.write(report(1, MISFIRE))
    platform.admin.execute("UPDATE alerts SET resolved_at = now()")

    garage.write(report(2, MISFIRE))
    assert len(garage.alerts()) == 1

    garage.write(report(3), report(4, MISFIRE))
    assert len(garage.alerts()) == 2, "it came again"


def test_a_code_that_gets_worse_makes_its_alert_worse(platform: Platform) -> None:
    garage = Garage(platform)
    garage.write(report(1, MISFIRE))

    garage.write(report(2, FaultCode("obdii", "P0301", "critical")))

    assert [row[1] for row in garage.alerts()] == ["critical"]


def test_what_another_transaction_wrote_meanwhile_is_seen(platform: Platform) -> None:
    garage = Garage(platform)
    database = process.get_database()

    with database.tenant_transaction(garage.tenant_id) as holding:
        write_reports(holding, [(garage.vehicle_id, report(1, MISFIRE))])
        with database.tenant_transaction(garage.tenant_id) as other:
            locked = other.exec_driver_sql(
                "SELECT count(*) FROM (SELECT FROM vehicles FOR NO KEY UPDATE SKIP LOCKED) free"
            ).scalar_one()
    assert locked == 0, "the vehicle's faults are written by one at a time"
    with database.tenant_transaction(garage.tenant_id) as connection:
        assert [astuple(each)[3] for each in queries.lock_known(connection, [garage.vehicle_id]).faults] == ["P0301"]
