"""Numbers without gaps, statuses that may follow each other, and orders that other applications write."""

import threading
import time
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from tests.factories import make_tenant
from tests.inprocess import Platform
from tests.maintenance.garage import Garage


def _app(garage: Garage) -> psycopg.Connection:
    connection = psycopg.connect(garage.platform.urls.app_url, autocommit=True)
    connection.execute("SELECT set_config('app.tenant_id', %s, false)", [str(garage.tenant_id)])
    return connection


INSERT = (
    "INSERT INTO work_orders (tenant_id, vehicle_id, type, title, source, source_id)"
    " VALUES (app_tenant_id(), %s, 'corrective', 'x', 'driver', %s)"
)


def test_another_application_gets_the_next_number(garage: Garage) -> None:
    van = garage.vehicle()
    with _app(garage) as app:
        for report in "abc":
            app.execute(INSERT, [van, report])
    assert [order["reference"] for order in garage.orders()] == ["WO-000001", "WO-000002", "WO-000003"]


def test_what_a_key_refuses_or_a_conflict_passes_over_spends_no_number(garage: Garage) -> None:
    van = garage.vehicle()
    with _app(garage) as app:
        app.execute(INSERT, [van, "a"])
        with pytest.raises(psycopg.errors.UniqueViolation):
            app.execute(INSERT, [van, "a"])
        app.execute(INSERT + " ON CONFLICT DO NOTHING", [van, "a"])
        app.execute(
            "INSERT INTO work_orders (tenant_id, vehicle_id, type, title, source, source_id)"
            " SELECT app_tenant_id(), %s, 'corrective', 'x', 'driver', s FROM unnest(ARRAY['b', 'b', 'c']) s"
            " ON CONFLICT DO NOTHING",
            [van],
        )
    assert [(order["number"], order["source_id"]) for order in garage.orders()] == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_what_is_inserted_as_closed_has_a_number_of_its_own_while_the_report_is_open(
    garage: Garage, status: str
) -> None:
    van = garage.vehicle()
    closed = INSERT.replace("source_id)", "source_id, status)").replace("%s)", "%s, %s)")
    with _app(garage) as app:
        app.execute(INSERT, [van, "a"])
        app.execute(closed, [van, "a", status])
        app.execute(closed, [van, "a", status])
    assert [(order["number"], order["status"]) for order in garage.orders()] == [(1, "open"), (2, status), (3, status)]


def test_what_is_inserted_while_the_open_order_of_its_report_is_being_closed_has_a_number(garage: Garage) -> None:
    van = garage.vehicle()
    with _app(garage) as closing, _app(garage) as app:
        app.execute(INSERT, [van, "a"])
        pid = app.info.backend_pid
        inserting = threading.Thread(target=app.execute, args=(INSERT, [van, "a"]))
        with closing.transaction():
            closing.execute("UPDATE work_orders SET status = 'completed' WHERE vehicle_id = %s", [van])
            inserting.start()
            while not garage.rows("SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", pid):
                assert inserting.is_alive()
                time.sleep(0.01)
        inserting.join(10)
    assert [(order["number"], order["status"]) for order in garage.orders()] == [(1, "completed"), (2, "open")]


def test_applications_that_insert_at_once_leave_no_gap(garage: Garage) -> None:
    van = garage.vehicle()
    together = threading.Barrier(4)

    def insert(worker: int) -> None:
        with _app(garage) as app:
            together.wait(10)
            for number in range(15):
                try:
                    with app.transaction(force_rollback=number % 3 == 0):
                        app.execute(INSERT, [van, f"{worker if number % 2 else 'same'}-{number}"])
                except psycopg.errors.UniqueViolation:
                    pass

    workers = [threading.Thread(target=insert, args=[n]) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    numbers = [order["number"] for order in garage.orders()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == 4 * 5 + 5, "five of each worker's own and five that they share"


def test_a_person_opens_another_order_for_a_service_whose_own_was_cancelled(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_days=30, start_on="2023-01-31")
    garage.check()
    insert = (
        "INSERT INTO work_orders (tenant_id, vehicle_id, schedule_id, type, title)"
        " VALUES (app_tenant_id(), %s, %s, 'preventive', 'again')"
    )
    with _app(garage) as app:
        with pytest.raises(psycopg.errors.UniqueViolation):
            app.execute(insert, [van, schedule])
        app.execute("UPDATE work_orders SET status = 'cancelled'")
        app.execute(insert, [van, schedule])
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match="schedule_id: not a schedule of this vehicle"):
            app.execute(insert, [garage.vehicle("other"), schedule])
    assert [(o["number"], o["due_cycle"], o["status"]) for o in garage.orders()] == [
        *((1, 1, "cancelled"), (2, 2, "open"))
    ]
    assert "work_orders" not in garage.check(days=1)


SERVICE = (
    "INSERT INTO work_orders (tenant_id, vehicle_id, schedule_id, type, title, status)"
    " VALUES (app_tenant_id(), %s, %s, 'preventive', 'x', %s)"
)


def test_of_a_schedule_that_no_check_has_met_yet_that_is_said(garage: Garage) -> None:
    van, truck = garage.vehicle(vehicle_type="van"), garage.vehicle("Truck", vehicle_type="truck")
    of_van, of_type = garage.schedule(van, interval_days=30), garage.schedule(vehicle_type="van", interval_days=30)
    paused = garage.schedule(van, interval_days=30, is_active=False)
    with _app(garage) as app:
        for schedule in (of_van, of_type):
            with pytest.raises(
                psycopg.errors.ForeignKeyViolation, match="no check has met this schedule yet"
            ) as raised:
                app.execute(SERVICE, [van, schedule, "open"])
            assert "fleet-jobs maintenance check" in str(raised.value.diag.message_hint)
        for vehicle, schedule in ((truck, of_type), (truck, of_van), (van, paused)):
            with pytest.raises(psycopg.errors.ForeignKeyViolation, match="not a schedule of this vehicle"):
                app.execute(SERVICE, [vehicle, schedule, "open"])
    garage.check()
    with _app(garage) as app:
        app.execute(SERVICE, [van, of_van, "open"])
    assert [order["number"] for order in garage.orders()] == [1]


def test_an_order_that_is_inserted_as_cancelled_is_the_one_of_its_cycle(garage: Garage) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_days=30, start_on="2023-02-10")
    garage.check()
    with _app(garage) as app:
        app.execute(SERVICE, [van, schedule, "cancelled"])
    assert "work_orders" not in garage.check(days=20)
    garage.admin.execute("UPDATE maintenance_triggers SET snoozed_until = '2023-03-25'")
    assert garage.check(days=10)["work_orders"] == 1


DELETE = "DELETE FROM maintenance_schedules WHERE id = %s"


@pytest.mark.parametrize("first", ["delete", "insert"])
def test_of_who_deletes_a_schedule_and_who_inserts_an_order_of_it_the_later_is_refused(
    garage: Garage, first: str
) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_days=300)
    garage.check()
    statements: list[tuple[bytes, list[Any]]] = [
        (DELETE.encode(), [schedule]),
        (SERVICE.encode(), [van, schedule, "open"]),
    ]
    if first == "insert":
        statements.reverse()
    refused: list[psycopg.Error] = []
    with _app(garage) as one, _app(garage) as other:

        def follow() -> None:
            try:
                other.execute(*statements[1])
            except psycopg.Error as error:
                refused.append(error)

        following = threading.Thread(target=follow)
        with one.transaction():
            one.execute(*statements[0])
            following.start()
            pid = other.info.backend_pid
            while not garage.rows("SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", pid):
                assert following.is_alive(), refused
                time.sleep(0.01)
        following.join(10)
    assert [type(error) for error in refused] == [psycopg.errors.ForeignKeyViolation]
    dangling = garage.rows(
        "SELECT FROM work_orders w LEFT JOIN maintenance_schedules s ON s.id = w.schedule_id WHERE s.id IS NULL"
    )
    assert dangling == []


@pytest.mark.parametrize("column", ["number", "rolled_at", "cancelled_at", "due_cycle"])
def test_what_is_the_databases_no_application_writes(garage: Garage, column: str) -> None:
    with _app(garage) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(f"UPDATE work_orders SET {column} = NULL".encode())
    with _app(garage) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("DELETE FROM work_orders")


def test_a_schedule_with_work_orders_is_not_deleted_one_without_is(garage: Garage) -> None:
    used = garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    unused = garage.schedule(garage.vehicle("new"), interval_days=30)
    garage.check()
    delete = "DELETE FROM maintenance_schedules WHERE id = %s"
    with _app(garage) as app:
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match="it has work orders"):
            app.execute(delete, [used])
        app.execute(delete, [unused])
    assert [row["schedule_id"] for row in garage.rows("SELECT schedule_id FROM maintenance_triggers")] == [used]


def test_an_order_names_a_schedule_of_its_own_tenant(platform: Platform, garage: Garage) -> None:
    other = Garage(platform, make_tenant(platform.admin, "other"))
    theirs = other.schedule(other.vehicle(), interval_days=30)
    other.check()
    with _app(garage) as app, pytest.raises(psycopg.errors.ForeignKeyViolation, match="not a schedule of this vehicle"):
        app.execute(
            "INSERT INTO work_orders (tenant_id, vehicle_id, schedule_id, type, title)"
            " VALUES (app_tenant_id(), %s, %s, 'preventive', 'x')",
            [garage.vehicle(), theirs],
        )


STATUSES = ("open", "in_progress", "on_hold", "completed", "cancelled")
ALLOWED = {
    "open": {"in_progress", "on_hold", "completed", "cancelled"},
    "in_progress": {"on_hold", "completed", "cancelled"},
    "on_hold": {"open", "in_progress", "completed", "cancelled"},
    "completed": set(),
    "cancelled": set(),
}


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_a_status_follows_only_what_it_may_follow(garage: Garage, before: str, after: str) -> None:
    order = garage.insert("work_orders", vehicle_id=garage.vehicle(), type="corrective", title="x")
    move = "UPDATE work_orders SET status = %s WHERE id = %s"
    if before != "open":
        garage.admin.execute(move, [before, order])
    if after == before or after in ALLOWED[before]:
        garage.admin.execute(move, [after, order])
        [row] = garage.orders()
        assert row["status"] == after
        assert (row["completed_at"] is not None) == (after == "completed")
        assert (row["cancelled_at"] is not None) == (after == "cancelled")
    else:
        with pytest.raises(psycopg.errors.CheckViolation, match=f"work order WO-000001: status: {before} cannot"):
            garage.admin.execute(move, [after, order])


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"interval_days": 0}, "interval_days"),
        ({"interval_days": -1}, "interval_days"),
        ({"interval_months": 0}, "interval_months"),
        ({"interval_distance": 0}, "interval_distance"),
        ({"interval_distance": -5}, "interval_distance"),
        ({"interval_distance": float("nan")}, "interval_distance"),
        ({"interval_distance": float("inf")}, "interval_distance"),
        ({"interval_engine_hours": 0}, "interval_engine_hours"),
        ({}, "interval_missing"),
        ({"interval_days": 1, "vehicle_id": None}, "vehicle_id_or_vehicle_type"),
        ({"interval_days": 1, "vehicle_type": "van"}, "vehicle_id_or_vehicle_type"),
        ({"interval_days": 1, "distance_unit": "league"}, "distance_unit"),
        ({"interval_days": 1, "anchor": "x"}, "anchor"),
        ({"interval_days": 1, "checklist": [1]}, "checklist"),
        ({"interval_days": 1, "checklist": {}}, "checklist"),
        ({"interval_days": 1, "priority": "urgent"}, "priority"),
        ({"interval_days": 1, "soon_days": -1}, "soon_days"),
        ({"interval_days": 1, "tolerance_km": -1}, "tolerance_km"),
        ({"interval_days": 1, "start_km": -1}, "start_km"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_by_the_name_of_its_field(
    garage: Garage, values: dict[str, Any], named: str
) -> None:
    given = {"vehicle_id": garage.vehicle()} | values
    with pytest.raises(psycopg.errors.CheckViolation, match=f"ck_maintenance_schedules_{named}"):
        garage.schedule(**given)


@pytest.mark.parametrize(
    ("values", "named"),
    [({"labour_cost": -1}, "labour_cost"), ({"completion_odometer_km": -1}, "completion_odometer_km")],
)
def test_an_order_that_cannot_be_is_refused_by_the_name_of_its_field(
    garage: Garage, values: dict[str, Any], named: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match=f"ck_work_orders_{named}"):
        garage.insert("work_orders", vehicle_id=garage.vehicle(), type="corrective", title="x", **values)


NEVER = ["infinity", "-infinity", "0044-01-01 BC", "1949-12-31", "5000-01-01"]


@pytest.mark.parametrize("at", NEVER)
@pytest.mark.parametrize("change", ["INSERT", "UPDATE"])
def test_a_completion_that_cannot_be_is_refused_and_the_next_check_works(garage: Garage, change: str, at: str) -> None:
    van = garage.vehicle()
    schedule = garage.schedule(van, interval_days=30, start_on="2023-01-31", anchor="schedule")
    garage.check(days=30)
    statement = {
        "INSERT": "INSERT INTO work_orders (tenant_id, vehicle_id, type, title, status, completed_at)"
        " VALUES (app_tenant_id(), %(van)s, 'corrective', 'x', 'completed', %(at)s)",
        "UPDATE": "UPDATE work_orders SET status = 'completed', completed_at = %(at)s WHERE vehicle_id = %(van)s",
    }[change]
    with _app(garage) as app, pytest.raises(psycopg.errors.CheckViolation, match="completed_at"):
        app.execute(statement.encode(), {"van": van, "at": at})
    garage.check(days=40)
    assert garage.trigger(schedule)["cycle"] == 1
    assert [order["status"] for order in garage.orders()] == ["open"]


@pytest.mark.parametrize("ahead", ["59 minutes", "61 minutes"])
def test_an_order_that_is_inserted_as_completed_is_so_an_hour_ahead_at_most(garage: Garage, ahead: str) -> None:
    insert = (
        "INSERT INTO work_orders (tenant_id, vehicle_id, type, title, status, completed_at)"
        " VALUES (app_tenant_id(), %s, 'corrective', 'x', 'completed', now() + %s::interval)"
    )
    van = garage.vehicle()
    with _app(garage) as app:
        if ahead == "59 minutes":
            app.execute(insert, [van, ahead])
            assert garage.orders()[0]["number"] == 1
        else:
            with pytest.raises(psycopg.errors.CheckViolation, match="completed_at: in the future"):
                app.execute(insert, [van, ahead])


@pytest.mark.parametrize("status", STATUSES)
def test_an_order_that_is_inserted_with_a_status_is_stamped(garage: Garage, status: str) -> None:
    with _app(garage) as app:
        app.execute(
            "INSERT INTO work_orders (tenant_id, vehicle_id, type, title, status)"
            " VALUES (app_tenant_id(), %s, 'corrective', 'x', %s)",
            [garage.vehicle(), status],
        )
    [order] = garage.orders()
    stamped = {name for name in ("started_at", "completed_at", "cancelled_at") if order[name] is not None}
    assert stamped == {"in_progress": {"started_at"}, "completed": {"completed_at"}, "cancelled": {"cancelled_at"}}.get(
        status, set()
    )


@pytest.mark.parametrize("at", NEVER)
def test_a_reading_or_an_inspection_at_a_time_that_cannot_be_is_refused(garage: Garage, at: str) -> None:
    van = garage.vehicle()
    with pytest.raises(psycopg.errors.CheckViolation, match="ck_inspections_inspected_at"):
        garage.insert("inspections", vehicle_id=van, kind="pre_trip", result="failed", inspected_at=at)
    with _app(garage) as app, pytest.raises(psycopg.errors.CheckViolation, match="ck_meter_readings_read_at"):
        app.execute(
            "INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at)"
            " VALUES (app_tenant_id(), %s, 'odometer_km', 5, %s)",
            [van, at],
        )


def test_a_device_that_reports_its_meter_of_the_year_1900_stops_no_check(garage: Garage) -> None:
    van = garage.vehicle()
    garage.drive(van, 500, at=datetime(1900, 1, 1, tzinfo=UTC))
    assert garage.check()["readings"] == 0
    garage.drive(van, 600)
    assert garage.check(days=1)["readings"] == 1
