"""Other applications hold rows for as long as they like: who holds the counter passes them over, or soon gives up."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from db.engine import set_tenant
from db.queries.maintenance import check_due as open_due
from db.queries.maintenance_triggers import expand_schedules
from db.queries.quarantine import accept_reading
from db.queries.roll_forward import roll_forward
from db.queries.schedule_files import put_schedules
from db.queries.work_order_numbers import hold
from db.queries.work_orders import open_corrective, settle_opened
from tests.maintenance.garage import Garage

INSERT = (
    "INSERT INTO work_orders (tenant_id, vehicle_id, type, title)"
    " SELECT app_tenant_id(), id, 'corrective', 'x' FROM vehicles LIMIT 1"
)


@contextmanager
def _beside(garage: Garage, statement: str, work: Callable[[], Any]) -> Iterator[dict[str, Any]]:
    """Do `work` while an application's transaction has done `statement`, which then opens a work order and ends."""
    done: dict[str, Any] = {}

    def run() -> None:
        started = time.monotonic()
        try:
            done["result"] = work()
        except OperationalError as error:
            done["error"] = error.orig
        done["seconds"] = time.monotonic() - started

    with psycopg.connect(garage.platform.urls.app_url) as app:
        app.execute("SELECT set_config('app.tenant_id', %s, true)", [str(garage.tenant_id)])
        assert app.execute(statement.encode()).rowcount
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(3)
        done["waited"] = thread.is_alive()
        app.execute(INSERT)
        app.commit()
    thread.join(20)
    yield done


@pytest.fixture
def completed(garage: Garage) -> list[UUID]:
    """Two services of two vans, whose orders are completed."""
    schedules = [
        garage.schedule(garage.vehicle(name), interval_days=30, start_on="2023-01-31") for name in ("Van 1", "Van 2")
    ]
    garage.check()
    for order in garage.orders():
        garage.complete(order["id"])
    return schedules


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE maintenance_triggers SET snoozed_until = '2023-04-01' WHERE schedule_id = '{}'",
        "UPDATE work_orders SET notes = 'typing' WHERE schedule_id = '{}'",
    ],
)
def test_a_service_that_is_being_written_to_is_rolled_by_the_next_run_and_the_others_by_this(
    garage: Garage, completed: list[UUID], statement: str
) -> None:
    locked, free = completed
    with _beside(garage, statement.format(locked), lambda: garage.do(roll_forward, garage.now)) as done:
        assert (done["waited"], done.get("error"), done["result"]["rolled"]) == (False, None, 1)
    assert [garage.trigger(schedule)["cycle"] for schedule in (locked, free)] == [1, 2]
    assert garage.do(roll_forward, garage.now)["rolled"] == 1
    assert garage.trigger(locked)["cycle"] == 2
    assert len(garage.rows("SELECT FROM maintenance_records")) == 2


def test_an_alert_that_is_being_written_to_is_resolved_by_the_next_check(garage: Garage, completed: list[UUID]) -> None:
    statement = "UPDATE alerts SET details = details WHERE vehicle_id = (SELECT id FROM vehicles WHERE name = 'Van 1')"
    with _beside(garage, statement, lambda: garage.do(roll_forward, garage.now)) as done:
        assert (done["waited"], done.get("error"), done["result"]["rolled"]) == (False, None, 2)
    assert [message[:5] for _, message in garage.open_alerts()] == ["Van 1"]
    garage.check()
    assert garage.open_alerts() == []


@pytest.mark.parametrize(
    ("late", "meanwhile"),
    [
        (8, "SELECT"),  # reminded
        (0, "UPDATE maintenance_triggers SET is_active = false"),  # resolved
    ],
)
def test_an_alert_that_is_being_written_to_is_told_again_or_resolved_by_the_next_check(
    garage: Garage, late: int, meanwhile: str
) -> None:
    for name in ("Van 1", "Van 2"):
        garage.schedule(garage.vehicle(name), interval_days=30, start_on="2022-12-31")
    garage.check()
    garage.pass_days(late)
    garage.admin.execute(meanwhile.encode())
    statement = "UPDATE alerts SET details = details WHERE vehicle_id = (SELECT id FROM vehicles WHERE name = 'Van 1')"
    word = "reminded" if late else "resolved"
    with _beside(garage, statement, lambda: garage.do(open_due, garage.now)) as done:
        assert (done["waited"], done.get("error"), done["result"].get(word)) == (False, None, 1)
    assert garage.do(open_due, garage.now)[word] == 1
    assert word not in garage.do(open_due, garage.now)


def test_what_is_worse_is_told_beside_a_lesser_alert_that_is_being_written_to(garage: Garage) -> None:
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    garage.check()
    garage.pass_days(10)
    with _beside(garage, "UPDATE alerts SET details = details", lambda: garage.do(open_due, garage.now)) as done:
        assert (done["waited"], done.get("error"), done["result"]["alerts"]) == (False, None, 1)
    kinds = ["maintenance_due", "maintenance_overdue"]
    assert sorted(kind for kind, _ in garage.open_alerts()) == kinds
    counts = garage.do(open_due, garage.now)
    assert (counts["resolved"], counts.get("alerts")) == (1, None)
    assert [kind for kind, _ in garage.open_alerts()] == kinds[1:]
    assert "resolved" not in garage.do(open_due, garage.now)


def _order(garage: Garage) -> None:
    for name in ("Van 1", "Van 2"):
        garage.schedule(garage.vehicle(name), interval_days=30, start_on="2023-01-31")


def _expanded(garage: Garage) -> None:
    _order(garage)
    garage.do(expand_schedules, garage.now)


def _completed(garage: Garage) -> None:
    _order(garage)
    garage.check()
    for order in garage.orders():
        garage.complete(order["id"])


def _failed(garage: Garage) -> None:
    for name in ("Van 1", "Van 2"):
        van = garage.vehicle(name)
        garage.insert("inspections", vehicle_id=van, kind="other", result="failed", inspected_at=garage.now)


@pytest.mark.parametrize(
    ("prepare", "work", "count"),
    [
        (_order, expand_schedules, lambda result: result["triggers_made"]),
        (_expanded, open_due, lambda result: (result["work_orders"] + result["alerts"]) / 2),
        (_completed, roll_forward, lambda result: result["rolled"]),
        (_failed, open_corrective, lambda result: result),
    ],
)
def test_a_vehicle_that_somebody_has_locked_gets_its_own_in_the_next_run_and_the_others_in_this(
    garage: Garage, prepare: Any, work: Any, count: Any
) -> None:
    prepare(garage)
    statement = "SELECT FROM vehicles WHERE name = 'Van 1' FOR UPDATE"
    with _beside(garage, statement, lambda: garage.do(work, garage.now)) as done:
        assert (done["waited"], done.get("error")) == (False, None)
        assert count(done["result"]) == 1
    assert count(garage.do(work, garage.now)) == 1


def test_of_what_is_not_passed_over_a_run_tries_again_rather_than_the_application(garage: Garage) -> None:
    vendor = garage.insert("vendors", name="Garage & Sons")
    garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31", vendor_id=vendor)
    garage.do(expand_schedules, garage.now)
    with _beside(garage, "SELECT FROM vendors FOR UPDATE", lambda: garage.do(open_due, garage.now)) as done:
        assert not done["waited"]
        assert isinstance(done["error"], psycopg.errors.LockNotAvailable)
    assert garage.do(open_due, garage.now)["work_orders"] == 1


def test_a_person_who_imports_tries_again_rather_than_the_application(garage: Garage) -> None:
    from jobs import process

    garage.vehicle()
    garage.schedule(vehicle_type="van", interval_days=300)
    given = {"line": 2, "vehicle": None, "vehicle_type": "van", "name": "oil change", "said": {"interval_days": 200}}

    def put() -> tuple[int, int]:
        with process.get_database().system_transaction() as connection:
            set_tenant(connection, garage.tenant_id)
            return put_schedules(connection, [given], garage.now)

    with _beside(garage, "UPDATE maintenance_schedules SET description = 'typing'", put) as done:
        assert not done["waited"]
        assert isinstance(done["error"], psycopg.errors.LockNotAvailable)
    assert put() == (0, 1)


def test_a_service_may_be_put_off_beside_an_order_of_it(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_days=300)
    garage.check()

    def insert() -> None:
        with psycopg.connect(garage.platform.urls.app_url) as app:
            app.execute("SELECT set_config('app.tenant_id', %s, true)", [str(garage.tenant_id)])
            app.execute(
                "INSERT INTO work_orders (tenant_id, vehicle_id, schedule_id, type, title)"
                " VALUES (app_tenant_id(), %s, %s, 'preventive', 'early')",
                [van, schedule],
            )

    with _beside(garage, "UPDATE maintenance_triggers SET snoozed_until = '2023-05-01'", insert) as done:
        assert not done["waited"]
    assert sorted(order["type"] for order in garage.orders()) == ["corrective", "preventive"]


def test_what_was_told_of_an_order_is_resolved_by_the_next_run_where_somebody_writes_to_it(garage: Garage) -> None:
    _failed(garage)
    garage.do(open_corrective, garage.now)
    garage.admin.execute("UPDATE work_orders SET status = 'completed'")
    statement = "UPDATE alerts SET details = details WHERE vehicle_id = (SELECT id FROM vehicles WHERE name = 'Van 1')"
    with _beside(garage, statement, lambda: garage.do(settle_opened, garage.now)) as done:
        assert (done["waited"], done.get("error"), done["result"]) == (False, None, 1)
    assert garage.do(settle_opened, garage.now) == 1


def _accept(reading: UUID) -> bool:
    from jobs import process

    with process.get_database().system_transaction() as connection:
        return accept_reading(connection, reading, replaced=True)


@pytest.fixture
def replaced(garage: Garage) -> UUID:
    """The first reading of a new instrument, set aside, of a van whose service counts by the old one."""
    van = garage.vehicle()
    garage.schedule(van, interval_distance=15_000, start_km=136_000)
    garage.drive(van, 150_000)
    garage.check()
    garage.pass_days(1).drive(van, 40)
    garage.check()
    garage.pass_days(0.1)
    [reading] = garage.rows("SELECT id FROM meter_readings WHERE state = 'quarantined'")
    found: UUID = reading["id"]
    return found


def test_a_person_who_accepts_a_reading_tries_again_rather_than_the_application(garage: Garage, replaced: UUID) -> None:
    statement = "UPDATE maintenance_triggers SET snoozed_until = '2023-04-01'"
    with _beside(garage, statement, lambda: _accept(replaced)) as done:
        assert not done["waited"]
        assert isinstance(done["error"], psycopg.errors.LockNotAvailable)
    assert _accept(replaced)


def test_a_reading_is_accepted_before_or_after_a_roll_forward_and_not_within_it(garage: Garage, replaced: UUID) -> None:
    from jobs import process

    [order] = garage.orders() or [{"id": _open_order(garage)}]
    garage.complete(order["id"])
    with process.get_database().system_transaction() as connection:
        assert accept_reading(connection, replaced, replaced=True)
        thread = threading.Thread(target=lambda: garage.do(roll_forward, garage.now))
        thread.start()
        time.sleep(0.5)
    thread.join(20)
    [trigger] = garage.rows("SELECT base_km, next_due_km FROM maintenance_triggers")
    assert trigger == {"base_km": 40, "next_due_km": 15_040}


def _open_order(garage: Garage) -> UUID:
    [trigger] = garage.rows("SELECT vehicle_id, schedule_id FROM maintenance_triggers")
    return garage.insert("work_orders", type="preventive", title="early", **trigger)


def test_readings_are_taken_before_or_after_a_roll_forward_and_not_within_it(garage: Garage) -> None:
    from jobs.maintenance.check import STEPS

    taken = threading.Event()

    def take() -> None:
        garage.do(STEPS[0], garage.now)
        taken.set()

    with garage.transaction() as connection:
        hold(connection, garage.now)
        thread = threading.Thread(target=take)
        thread.start()
        assert not taken.wait(0.5)
    thread.join(20)
    assert taken.is_set()


def test_a_reading_that_is_being_corrected_is_judged_by_the_next_check(garage: Garage) -> None:
    van = garage.vehicle()
    for hours, km in ((2, 700), (1, 900)):
        garage.insert(
            "inspections",
            vehicle_id=van,
            kind="periodic",
            result="passed",
            inspected_at=garage.now.replace(hour=hours),
            odometer_km=km,
        )
    other = garage.vehicle("Van 2")
    garage.insert("meter_readings", vehicle_id=other, meter="odometer_km", value=5, read_at=garage.now)
    from jobs.maintenance.check import STEPS

    correct = "UPDATE inspections SET odometer_km = 600 WHERE odometer_km = 900"
    with _beside(garage, correct, lambda: garage.do(STEPS[0], garage.now)) as done:
        assert (done["waited"], done["result"]["readings"]) == (False, 1), "what comes after it waits too"
    assert garage.check()["readings"] == 2
    found = garage.rows("SELECT value, state FROM meter_readings WHERE vehicle_id = %s ORDER BY value", van)
    assert found == [{"value": 600, "state": "accepted"}, {"value": 700, "state": "accepted"}]
