"""Everything that writes work orders, at once and killed: no number twice, none skipped, no deadlock."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from db.queries.roll_forward import roll_forward
from db.queries.work_orders import open_corrective
from tests.maintenance.garage import Garage
from tests.maintenance.kill import killed_before

VANS = 20


def _fleet(garage: Garage) -> None:
    for number in range(VANS):
        van = garage.vehicle(f"Van {number}", vehicle_type="van")
        for code in ("P0301", "P0302"):
            garage.insert(
                "vehicle_faults",
                vehicle_id=van,
                protocol="obdii",
                code=code,
                severity="critical",
                first_seen_at=garage.now,
                last_seen_at=garage.now,
            )
    garage.schedule(vehicle_type="van", interval_days=30, start_on="2023-01-31")


def test_checks_reports_completions_and_other_applications_at_once(garage: Garage) -> None:
    _fleet(garage)
    van = garage.vehicle("of the application")
    together = threading.Barrier(5)
    failures: list[BaseException] = []
    retried = 0

    def worker(work: Callable[[Garage], Any]) -> Callable[[], None]:
        own = Garage(garage.platform, garage.tenant_id, garage.now)

        def run() -> None:
            nonlocal retried
            together.wait(10)
            for _ in range(6):
                try:
                    work(own)
                except OperationalError:  # what the ledger would run again
                    retried += 1
                except BaseException as error:
                    failures.append(error)

        return run

    def complete(own: Garage) -> None:
        own.admin.execute(
            "UPDATE work_orders SET status = 'completed', completed_at = %s"
            " WHERE id IN (SELECT id FROM work_orders WHERE status = 'open' ORDER BY number LIMIT 5 FOR UPDATE)",
            [own.now],
        )
        own.do(roll_forward, own.now)

    def insert(own: Garage) -> None:
        with psycopg.connect(own.platform.urls.app_url) as app:
            app.execute("SELECT set_config('app.tenant_id', %s, true)", [str(own.tenant_id)])
            for _ in range(3):
                app.execute(
                    "INSERT INTO work_orders (tenant_id, vehicle_id, type, title)"
                    " VALUES (app_tenant_id(), %s, 'corrective', 'x')",
                    [van],
                )

    works: list[Callable[[Garage], Any]] = [
        lambda own: own.check(),
        lambda own: own.check(),
        lambda own: own.do(open_corrective, own.now),
        complete,
        insert,
    ]
    threads = [threading.Thread(target=worker(work)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)

    assert (failures, retried) == ([], 0)
    garage.check()
    garage.do(open_corrective, garage.now)
    orders = garage.orders()
    assert [order["number"] for order in orders] == list(range(1, VANS + 2 * VANS + 18 + 1))
    assert len({(order["vehicle_id"], order["schedule_id"]) for order in orders if order["schedule_id"]}) == VANS


def test_killed_before_any_statement_each_fault_has_one_order_in_the_end(garage: Garage) -> None:
    _fleet(garage)
    kills = 0
    while True:
        try:
            with killed_before(garage.admin, kills) as statements:
                garage.do(open_corrective, garage.now)
        except OperationalError:
            kills += 1
            assert len(garage.orders()) in (0, 2 * VANS)
        else:
            break
    assert kills == len(statements) >= 5
    assert [order["number"] for order in garage.orders()] == list(range(1, 2 * VANS + 1))


@pytest.mark.parametrize("role", ["app_url", "worker_url"])
def test_a_tenant_puts_its_own_services_off_and_no_others(garage: Garage, role: str) -> None:
    _fleet(garage)
    garage.check()
    snooze = "UPDATE maintenance_triggers SET snoozed_until = %s"
    day = (garage.now + timedelta(days=3)).date()
    with psycopg.connect(getattr(garage.platform.urls, role), autocommit=True) as connection:
        assert connection.execute(snooze.encode(), [day]).rowcount == 0, "no tenant, no rows"
        connection.execute("SELECT set_config('app.tenant_id', %s, false)", [str(garage.tenant_id)])
        assert connection.execute(snooze.encode(), [day]).rowcount == VANS
    assert garage.check()["snoozed"] == VANS
