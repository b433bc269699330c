"""What reports of fault codes become: rows with a first and a last time, and alerts that resolve themselves."""

from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from db.queries import faults as queries
from db.queries.faults import Fault
from integrations.telematics import FaultCode, FaultReport
from jobs import process
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


def after(known: list[Fault], *reports: FaultReport) -> tuple[list[Fault], Changes]:
    """Return the rows after reports, as the database would hold them."""
    changes = merge(known, [(VEHICLE, each) for each in reports])
    rows = {each.id: each for each in (*known, *changes.added, *changes.changed)}
    return list(rows.values()), changes


def times(rows: list[Fault]) -> set[tuple[str, float, float, float | None]]:
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
        for row in rows
    }


def test_a_code_is_there_from_the_first_report_with_it_to_the_first_without() -> None:
    rows, _ = after([], report(1, MISFIRE), report(5, MISFIRE, OIL), report(9, OIL))

    assert times(rows) == {("P0301", 1, 5, 9), ("SPN 100 FMI 1", 5, 9, None)}


def test_a_code_that_comes_again_is_another_row() -> None:
    rows, _ = after([], report(1, MISFIRE), report(2), report(3, MISFIRE))

    assert times(rows) == {("P0301", 1, 1, 2), ("P0301", 3, 3, None)}


def test_a_report_of_one_protocol_says_nothing_of_the_other() -> None:
    rows, _ = after([], report(1, MISFIRE, OIL), report(2, scope="j1939"))

    assert times(rows) == {("P0301", 1, 1, None), ("SPN 100 FMI 1", 1, 1, 2)}


def test_an_incomplete_report_clears_nothing() -> None:
    rows, _ = after([], report(1, MISFIRE), report(2, OIL, complete=False))

    assert times(rows) == {("P0301", 1, 1, None), ("SPN 100 FMI 1", 2, 2, None)}


def test_what_is_pushed_makes_a_code_worse_and_never_better() -> None:
    pushed = FaultCode("j1939", OIL.code, "medium", 100, 1, OIL.source)

    rows, _ = after([], report(1, OIL), report(2, pushed, complete=False))
    assert [row.severity for row in rows] == ["critical"]
    rows, _ = after(rows, report(3, pushed))
    assert [row.severity for row in rows] == ["medium"]


def test_late_reports_change_nothing_and_are_counted() -> None:
    rows, _ = after([], report(5, MISFIRE), report(9))

    again, changes = after(rows, report(4, OIL, MISFIRE), report(7, MISFIRE))

    assert again == rows
    assert changes.late == 2


def test_a_report_of_one_protocol_is_late_only_beside_its_own() -> None:
    rows, _ = after([], report(5, MISFIRE, scope="obdii"))

    again, changes = after(rows, report(4, OIL, scope="j1939"))

    assert times(again) == {("P0301", 5, 5, None), ("SPN 100 FMI 1", 4, 4, None)}
    assert changes.late == 0


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
    whole, _ = after([], *reports)

    first, _ = after([], *reports[:cut])
    both, _ = after(first, *reports[cut:])
    twice, changes = after(both, *reports)

    assert times(both) == times(whole)
    distinct = len({each.time for each in reports}) == len(reports)
    if distinct and all(each.is_complete for each in reports):
        assert changes.added == [], "a page that is read again brings nothing"
        assert times(twice) == times(whole)


@given(reports_of_a_vehicle)
def test_a_code_is_open_once_and_its_times_are_in_order(reports: list[FaultReport]) -> None:
    rows, _ = after([], *reports)

    still = [row.key for row in rows if row.cleared_at is None]
    assert len(still) == len(set(still))
    for row in rows:
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
        assert [astuple(each)[3] for each in queries.lock_known(connection, [garage.vehicle_id])] == ["P0301"]
