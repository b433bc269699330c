"""The check twice, by two workers at once, killed at any statement: the same orders and alerts, no number lost."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from jobs.job import load_jobs
from tests.factories import make_tenant
from tests.inprocess import Platform
from tests.maintenance.garage import Garage
from tests.maintenance.kill import killed_before

VANS = 40


def _fill(garage: Garage) -> None:
    for number in range(VANS):
        garage.drive(garage.vehicle(f"Van {number}", vehicle_type="van"), 15_100)
    garage.schedule(vehicle_type="van", interval_distance=15_000, start_km=0, checklist=["drain"])
    garage.schedule(vehicle_type="van", name="inspection", interval_months=12, start_on="2022-03-10")


def _effects(garage: Garage) -> list[Any]:
    orders = [(o["number"], o["vehicle_id"], o["schedule_id"], o["due_cycle"], o["status"]) for o in garage.orders()]
    lines = garage.rows("SELECT work_order_id, position FROM work_order_lines ORDER BY 1, 2")
    alerts = garage.rows("SELECT id, kind, subject, resolved_at FROM alerts ORDER BY id")
    return [orders, lines, alerts]


def _assert_exact(garage: Garage) -> None:
    assert [order["number"] for order in garage.orders()] == list(range(1, VANS + 1))
    assert len(garage.rows("SELECT FROM work_order_lines")) == VANS
    kinds = [kind for kind, _ in garage.open_alerts()]
    assert (kinds.count("maintenance_due"), kinds.count("maintenance_due_soon"), len(kinds)) == (VANS, VANS, 2 * VANS)
    assert len(garage.rows("SELECT FROM alerts")) == 2 * VANS
    assert garage.rows("SELECT last_number FROM work_order_counters") == [{"last_number": VANS}]


def test_the_check_twice_is_the_check_once(garage: Garage) -> None:
    _fill(garage)
    garage.check()
    _assert_exact(garage)
    before = _effects(garage)
    again = garage.check()
    assert {name for name in again if again[name]} == {"due", "due_soon"}
    assert _effects(garage) == before


def test_two_workers_at_once_open_each_order_once(garage: Garage) -> None:
    _fill(garage)
    together = threading.Barrier(4)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            together.wait(10)
            Garage(garage.platform, garage.tenant_id, garage.now).check()
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert failures == []
    _assert_exact(garage)


def test_killed_before_any_statement_the_next_check_finishes_the_work_once(garage: Garage) -> None:
    _fill(garage)
    kills = 0
    while True:
        try:
            with killed_before(garage.admin, kills) as statements:
                garage.check()
        except OperationalError:
            kills += 1
            assert len(garage.orders()) in (0, VANS), "all or nothing"
            assert len(garage.rows("SELECT FROM alerts")) in (0, 2 * VANS)
        else:
            break
    assert kills == len(statements) >= 9, "each statement and each commit was cut off once"
    _assert_exact(garage)
    before = _effects(garage)
    garage.check()
    assert _effects(garage) == before


@pytest.mark.parametrize("statement", [2, 7, 12, 15])
def test_a_run_whose_session_is_killed_is_tried_again_and_finishes(platform: Platform, statement: int) -> None:
    garage = Garage(platform, make_tenant(platform.admin))
    _fill(garage)
    run_id = platform.enqueue("maintenance.check_due", garage.tenant_id)
    garage.now = platform.row(run_id)["now"]
    platform.admin.execute("UPDATE vehicle_positions SET odometer_at = %s", [garage.now])
    with killed_before(platform.admin, statement) as statements:
        row = platform.work(run_id)
    assert (row["state"], row["attempt"]) == ("pending", 1), statements
    platform.admin.execute("UPDATE job_runs SET run_at = now() WHERE id = %s", [run_id])
    row = platform.work(run_id)
    assert (row["state"], row["attempt"]) == ("succeeded", 2)
    assert [order["number"] for order in garage.orders()] == list(range(1, len(garage.orders()) + 1))
    assert len(garage.orders()) == 2 * VANS, "the inspection is years overdue by now"


def test_a_number_that_was_rolled_back_is_given_again(garage: Garage) -> None:
    van = garage.vehicle()
    insert = "INSERT INTO work_orders (tenant_id, vehicle_id, type, title) VALUES (%s, %s, 'corrective', 'x')"
    with garage.admin.transaction(force_rollback=True):
        garage.admin.execute(insert, [garage.tenant_id, van])
    garage.schedule(van, interval_days=30, start_on="2023-01-31")
    garage.check()
    garage.admin.execute(insert, [garage.tenant_id, van])
    assert [order["reference"] for order in garage.orders()] == ["WO-000001", "WO-000002"]


def test_the_job_counts_what_it_did_and_the_timetable_runs_it_at_six_in_the_tenants_zone(platform: Platform) -> None:
    from beat_schedule import TIMETABLE

    garage = Garage(platform, make_tenant(platform.admin))
    row = platform.run("maintenance.check_due", garage.tenant_id)
    assert row["state"] == "succeeded"
    garage.now = row["started_at"]
    garage.schedule(garage.vehicle(), interval_days=30, start_on=(garage.now - timedelta(days=30)).date())
    row = platform.run("maintenance.check_due", garage.tenant_id)
    assert (row["counts"]["triggers_made"], row["counts"]["work_orders"], row["counts"]["due"]) == (1, 1, 1)

    [entry] = [entry for entry in TIMETABLE if entry.job == "maintenance.check_due"]
    assert (str(entry.when), entry.per, entry.zone) == ("daily at 06:00", "tenant", "tenant")
    assert load_jobs()["maintenance.check_due"].unique_by == ()


def test_a_check_leaves_other_tenants_alone(platform: Platform) -> None:
    mine, theirs = (Garage(platform, make_tenant(platform.admin, slug)) for slug in ("mine", "theirs"))
    for garage in (mine, theirs):
        garage.schedule(garage.vehicle(), interval_days=30, start_on="2023-01-31")
    mine.check()
    assert (len(mine.orders()), len(theirs.orders())) == (1, 0)
    assert len(mine.rows("SELECT FROM maintenance_triggers")) == 1
