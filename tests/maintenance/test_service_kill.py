"""Everything is killed while services fall due and are done: each is one work order, and every mail is told of once."""

import json
import random
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.factories import make_tenant
from tests.ledger.chaos import BEATS, PREFORK, RELAYS, THREADED, Chaos
from tests.ledger.processes import FAST, QUIET, processes, wait_until
from tests.notifications.conftest import Inbox
from tests.servers import Database, PrivateServers

FAULTS = {"child": 4, "worker": 6, "relay": 3, "beat": 2, "flushall": 3, "valkey": 1, "postgres": 1, "freeze": 1}
TENANTS, VEHICLES, USERS = 3, 50, 25
INTERVAL_KM = 10
CELERY = (sys.executable, "-m", "celery", "-A", "jobs.app")
FLEET_JOBS = str(Path(sys.executable).with_name("fleet-jobs"))
EVERY_S = {
    "maintenance.check_due": 2,
    "work_orders.roll_forward": 1,
    "notifications.deliver": 1,
}


class ServiceChaos(Chaos):
    """The same faults against workers that find what is due and tell of it."""

    def start(self) -> None:
        """Start relays, beats, and workers of both queues: two of processes, one of threads."""
        for name in RELAYS:
            self.processes.start(name, [FLEET_JOBS, "relay"])
        for name in (*PREFORK, THREADED):
            pool = ("--pool", "threads", "-c", "3") if name == THREADED else ("--pool", "prefork", "-c", "2")
            queues = ("-Q", "maintenance,notifications")
            self.processes.start(name, [*CELERY, "worker", *queues, *pool, "-n", f"{name}@%h", *QUIET])
        for name in BEATS:
            self.processes.start(name, [*CELERY, "beat"])


class Workshop:
    """Another application: vehicles drive on, and mechanics complete what is open; it never waits for the platform."""

    def __init__(self, database: Database, fleets: dict[UUID, list[UUID]]) -> None:
        self._database = database
        self._fleets = fleets
        self._km = {vehicle: 0.0 for fleet in fleets.values() for vehicle in fleet}
        self._random = random.Random(20261120)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workshop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            try:
                self._work(self._random.choice(list(self._fleets)))
            except psycopg.Error:
                continue  # the server is away; what did not commit did not happen

    def _work(self, tenant_id: UUID) -> None:
        driven = self._random.sample(self._fleets[tenant_id], 5)
        km = {vehicle: self._km[vehicle] + self._random.choice([1, INTERVAL_KM + 1]) for vehicle in driven}
        with psycopg.connect(self._database.app_url) as connection:
            connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant_id)])
            for vehicle, reading in km.items():
                connection.execute(
                    "INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at)"
                    " VALUES (app_tenant_id(), %s, 'odometer_km', %s, clock_timestamp())",
                    [vehicle, reading],
                )
                if self._random.random() < 0.5:
                    connection.execute(
                        "UPDATE work_orders SET status = 'completed', completion_odometer_km = %s, labour_cost = 1"
                        " WHERE vehicle_id = %s AND status = 'open'",
                        [reading, vehicle],
                    )
        self._km |= km


@pytest.mark.kill
@pytest.mark.timeout(240)
def test_each_due_service_is_one_order_and_told_of_once_whatever_is_killed(
    private_servers: PrivateServers, tmp_path: Path, record_property: Any
) -> None:
    inbox = Inbox()
    inbox.start()
    settings = FAST | {
        "FLEET_SCHEDULE_EVERY": ",".join(f"{job}={seconds}" for job, seconds in EVERY_S.items()),
        "FLEET_SMTP_URL": inbox.url,
        "FLEET_MAIL_FROM": "Fleet <fleet@jobs.example>",
    }
    try:
        with processes(private_servers.database, private_servers.redis_url, tmp_path, settings) as started:
            started.define()
            with psycopg.connect(private_servers.database.admin_url, autocommit=True) as admin:
                admin.execute("ALTER DATABASE fleet SET synchronous_commit = on")
                fleets = dict(_found(admin, number) for number in range(TENANTS))
            workshop = Workshop(private_servers.database, fleets)
            workshop.start()
            chaos = ServiceChaos(private_servers, started, 4.0, 20261120)
            chaos.start()
            with psycopg.connect(private_servers.database.admin_url, autocommit=True) as admin:
                done = "SELECT count(*) > 100 FROM maintenance_records"
                wait_until(lambda: admin.execute(done).fetchone() == (True,), 60, what="a hundred services to be done")
            kinds = [kind for kind, times in FAULTS.items() for _ in range(times)]
            chaos.rage(kinds[::2], 12)
            inbox.stop()
            chaos.rage(kinds[1::2], 12)
            inbox.start()
            workshop.stop()
            chaos.heal()
            with psycopg.connect(private_servers.database.admin_url, autocommit=True) as admin:
                figures = _check(admin, started, inbox)
    finally:
        inbox.stop()
    figures["faults"] = sum(chaos.done.values())
    sys.stdout.write(json.dumps(figures) + "\n")
    record_property("figures", figures)


def _found(admin: psycopg.Connection, number: int) -> tuple[UUID, list[UUID]]:
    """Found a tenant whose vehicles all have a service every few kilometres, and whose users want to be told."""
    tenant_id = make_tenant(admin, f"tenant-{number}")
    vehicles = [
        row[0]
        for row in admin.execute(
            "INSERT INTO vehicles (tenant_id, name, vehicle_type)"
            " SELECT %s, 'Van ' || g, 'van' FROM generate_series(1, %s) AS g RETURNING id",
            [tenant_id, VEHICLES],
        ).fetchall()
    ]
    admin.execute(
        "INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at)"
        " SELECT %s, v, 'odometer_km', 0, now() - interval '1 minute' FROM unnest(%s::uuid[]) AS v",
        [tenant_id, vehicles],
    )
    admin.execute(
        "INSERT INTO maintenance_schedules (tenant_id, vehicle_type, name, interval_distance, start_km)"
        " VALUES (%s, 'van', 'oil change', %s, 0)",
        [tenant_id, INTERVAL_KM],
    )
    admin.execute(
        "INSERT INTO users (tenant_id, email) SELECT %s, 'u' || g || '@' || %s || '.example'"
        " FROM generate_series(1, %s) AS g",
        [tenant_id, f"tenant-{number}", USERS],
    )
    admin.execute("INSERT INTO notification_preferences (tenant_id, min_severity) VALUES (%s, 'medium')", [tenant_id])
    return tenant_id, vehicles


def _check(admin: psycopg.Connection, started: Any, inbox: Inbox) -> dict[str, int]:
    def value(statement: str, *values: Any) -> Any:
        row = admin.execute(statement.encode(), values).fetchone()
        return row and row[0]

    healed = datetime.now(UTC)
    checked = "SELECT count(*) FROM job_runs WHERE job = 'maintenance.check_due' AND state = 'succeeded'"
    wait_until(
        lambda: value(f"{checked} AND claimed_at > %s", healed) >= 2 * TENANTS, 60, what="checks after the last fault"
    )
    # What a killed worker had claimed is free again after three minutes: they pass.
    admin.execute("UPDATE notifications SET claimed_until = now() - interval '1 s' WHERE claimed_until > now()")
    due = "SELECT count(*) FROM notifications WHERE state IN ('pending', 'ready')"
    _pass_time_until(admin, lambda: value(due) == 0)
    for name in BEATS:
        started.stop(name)
    unfinished = (
        "SELECT count(*) FROM job_runs WHERE queue IN ('maintenance', 'notifications')"
        " AND state IN ('pending', 'running')"
    )
    wait_until(lambda: value(unfinished) == 0, 40, what="every run to end")
    failed = "SELECT job || ': ' || (error ->> 'message') FROM job_runs WHERE state = 'failed' LIMIT 1"
    assert value(failed) is None
    return _orders(value) | _messages(value, inbox)


def _pass_time_until(admin: psycopg.Connection, is_over: Any) -> None:
    """Let the minutes pass that storms and failed tries are held back for."""

    def look() -> bool:
        admin.execute(
            "UPDATE notifications SET next_attempt_at = next_attempt_at - interval '3 minutes',"
            " planned_at = planned_at - interval '3 minutes' WHERE state IN ('pending', 'ready', 'sent')"
        )
        threading.Event().wait(1)
        return bool(is_over())

    wait_until(look, 90, what="everything to be told")


def _orders(value: Any) -> dict[str, int]:
    """No number is missing, no cycle left out or opened twice, nothing that was done is forgotten."""
    assert (
        value(
            "SELECT count(*) FROM tenants t WHERE (SELECT count(*) FROM work_orders w WHERE w.tenant_id = t.id)"
            " <> (SELECT coalesce(max(number), 0) FROM work_orders w WHERE w.tenant_id = t.id)"
        )
        == 0
    )
    assert (
        value(
            "SELECT count(*) FROM (SELECT count(*) AS n, max(due_cycle) AS last FROM work_orders"
            " GROUP BY vehicle_id, schedule_id) o WHERE n <> last"
        )
        == 0
    )
    assert (
        value(
            "SELECT count(*) FROM work_orders w FULL JOIN maintenance_records r ON r.work_order_id = w.id"
            " WHERE (w.status = 'completed') IS DISTINCT FROM (r.work_order_id IS NOT NULL)"
        )
        == 0
    )
    is_due = "k.value >= t.next_due_km"
    has_order = (
        "EXISTS (SELECT FROM work_orders w WHERE w.vehicle_id = t.vehicle_id AND w.schedule_id = t.schedule_id"
        " AND w.status = 'open')"
    )
    assert (
        value(
            "SELECT count(*) FROM maintenance_triggers t JOIN vehicle_meters k ON k.vehicle_id = t.vehicle_id"
            f" WHERE ({is_due}) <> {has_order}"
        )
        == 0
    )
    assert value("SELECT count(*) FROM meter_readings WHERE state IN ('quarantined', 'reported')") == 0
    return {
        "work_orders": value("SELECT count(*) FROM work_orders"),
        "completed": value("SELECT count(*) FROM maintenance_records"),
    }


def _messages(value: Any, inbox: Inbox) -> dict[str, int]:
    """Each alert has one notification a user; each came to an end; each mail is known by its id."""
    told = "a.kind IN ('maintenance_due', 'maintenance_overdue')"
    assert (
        value(
            f"SELECT count(*) FROM (SELECT subject, kind, details -> 'due_km' FROM alerts a WHERE {told}"
            " GROUP BY 1, 2, 3 HAVING count(*) > 1) twice"
        )
        == 0
    )
    assert (
        value(
            f"SELECT count(*) FROM alerts a WHERE {told} AND {USERS} <>"
            " (SELECT count(DISTINCT user_id) FROM notifications n WHERE n.alert_id = a.id)"
        )
        == 0
    )
    alerts = value(f"SELECT count(*) FROM alerts a WHERE {told}")
    assert value("SELECT count(*) FROM notifications WHERE alert_id IS NOT NULL") == alerts * USERS
    assert value("SELECT count(*) FROM notifications WHERE state NOT IN ('sent', 'folded', 'suppressed')") == 0
    assert value("SELECT count(*) FROM notifications WHERE state = 'suppressed' AND reason <> 'resolved'") == 0
    assert (
        value(
            "SELECT count(*) FROM notifications n WHERE state = 'folded' AND NOT EXISTS"
            " (SELECT FROM notifications s WHERE s.id = n.folded_into)"
        )
        == 0
    )
    arrived = Counter(mail.id for mail in inbox.mails)
    sent = value("SELECT array_agg('<' || id || '@jobs.example>') FROM notifications WHERE state = 'sent'")
    assert set(sent) <= arrived.keys(), "a mail is said to be sent that no server has taken"
    unknown = arrived.keys() - set(sent)
    assert value(
        "SELECT count(*) FROM notifications WHERE '<' || id || '@jobs.example>' = ANY (%s)", sorted(unknown)
    ) == len(unknown), "every mail is one of ours"
    return {"alerts": alerts, "mails": len(arrived), "repeated_under_their_id": arrived.total() - len(arrived)}
