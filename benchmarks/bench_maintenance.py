"""The due check beside the bare SELECT of what is due: `python -m benchmarks.bench_maintenance`, one line of JSON.

Ours finds what is due, numbers and opens its work orders with their checklists, and writes the alerts and the
notification of each that the database hangs on them, to the commit. Beside it, in the same run on the same rows: the
same finding as a SELECT (what `fleet-jobs maintenance` shows), fetched by a client that writes nothing; the plainest
SELECT of what is due, without reasons and forecasts; and the loop that opens an order and an alert for each row by
itself. The steps before the check (meters, quarantine, completed orders, triggers) are measured too.
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg

from benchmarks.servers import Servers, serve

BOUND = 0.2
LOOP_ROWS = 500
_FILL = """
    INSERT INTO vehicles (tenant_id, name, vehicle_type)
    SELECT %(tenant)s, 'Van ' || n, 'van' FROM generate_series(1, %(vehicles)s) n;
    INSERT INTO vehicle_positions (vehicle_id, tenant_id, time, latitude, longitude, odometer_km, odometer_at,
                                   engine_hours, engine_hours_at)
    SELECT id, tenant_id, now(), 52, 13, 100000, now() - interval '1 hour', 4000, now() - interval '1 hour'
    FROM vehicles WHERE tenant_id = %(tenant)s;
    INSERT INTO vendors (tenant_id, name) VALUES (%(tenant)s, 'Garage');
    INSERT INTO users (tenant_id, email) VALUES (%(tenant)s, 'fleet.manager@example.com');
    INSERT INTO notification_preferences (tenant_id, category, channel) VALUES (%(tenant)s, 'maintenance', 'email');
    INSERT INTO maintenance_schedules (tenant_id, vehicle_id, name, interval_months, interval_distance, start_on,
                                       start_km, checklist, vendor_id)
    SELECT %(tenant)s, v.id, 'service ' || s, 12, 20000, current_date - 30 - s,
           CASE WHEN row_number() OVER () %% 20 = 0 THEN 79900 ELSE 90000 END, '["inspect", "replace"]', d.id
    FROM vehicles v CROSS JOIN generate_series(1, %(each)s) s, vendors d
    WHERE v.tenant_id = %(tenant)s AND d.tenant_id = %(tenant)s;
"""
_SELECT = """
    SELECT t.id, t.cycle, s.name, s.priority, s.vendor_id, s.checklist, v.id, v.name, m.value, t.next_due_km,
           t.next_due_date
    FROM maintenance_triggers t
    JOIN maintenance_schedules s ON s.id = t.schedule_id
    JOIN vehicles v ON v.id = t.vehicle_id
    LEFT JOIN vehicle_meters m ON m.vehicle_id = t.vehicle_id AND m.meter = 'odometer_km'
    LEFT JOIN vehicle_meters h ON h.vehicle_id = t.vehicle_id AND h.meter = 'engine_hours'
    WHERE t.is_active AND s.is_active AND s.deleted_at IS NULL
      AND v.deleted_at IS NULL AND v.status NOT IN ('retired', 'sold')
      AND (t.next_due_date <= current_date OR m.value >= t.next_due_km OR h.value >= t.next_due_engine_hours)
"""


def main() -> int:
    """Measure, print, and return 1 where the ratio is below its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vehicles", type=int, default=20_000)
    parser.add_argument("--each", type=int, default=10, help="schedules a vehicle")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-check", dest="check", action="store_false", help="succeed whatever the ratio")
    options = parser.parse_args()
    with serve() as servers, closing(Bench(servers, options.vehicles, options.each)) as bench:
        figures = bench.measure(options.rounds)
    if missed := figures["ratio_to_select"] < BOUND:
        print(f"ratio_to_select is {figures['ratio_to_select']}, below {BOUND}")
    print(json.dumps({"benchmark": "maintenance", **figures, "at_least": {"ratio_to_select": BOUND}}))
    return 1 if missed and options.check else 0


class Bench:
    """One tenant with many schedules, one in twenty of them due."""

    def __init__(self, servers: Servers, vehicles: int, each: int) -> None:
        os.environ.update(servers.settings() | {"FLEET_LOG_LEVEL": "WARNING"})
        from db.migrate import upgrade

        upgrade(servers.url("fleet_migrator"))
        self.servers, self.schedules, self.tenant_id = servers, vehicles * each, uuid4()
        self.admin = psycopg.connect(servers.postgres.admin_url_of("fleet"), autocommit=True)
        self.admin.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, 'bench', 'Bench')", [self.tenant_id])
        print(f"filling: {vehicles} vehicles, {self.schedules} schedules", flush=True)
        values = {"tenant": self.tenant_id, "vehicles": vehicles, "each": each}
        for statement in _FILL.split(";")[:-1]:
            self.admin.execute(statement.encode(), values)
        self.admin.execute("VACUUM ANALYZE")

    def measure(self, rounds: int) -> dict[str, Any]:
        """Take turns; what counts is the ratio of medians."""
        self.run({})  # makes the triggers, and warms everything
        seconds: dict[str, list[float]] = defaultdict(list)
        for number in range(rounds):
            self.forget()
            due = self.select(seconds)
            counts = self.run(seconds)
            notifications = self.notifications()
            assert counts["work_orders"] == counts["alerts"] == counts["due"] == due == notifications, counts
            again = self.run(defaultdict(list), seconds["again"])
            assert "work_orders" not in again and "alerts" not in again, again
            told = ", ".join(f"{name} {1000 * each[-1]:.0f} ms" for name, each in seconds.items())
            print(f"round {number + 1}: {told}", flush=True)
        median = {name: statistics.median(each) for name, each in seconds.items()}
        loop_s = self.loop() * due
        return {
            "schedules": self.schedules,
            "due": due,
            "notifications": notifications,
            **{f"{name}_ms": round(1000 * each) for name, each in median.items()},
            "loop_ms": round(1000 * loop_s),
            "ratio_to_select": round(median["select"] / median["check"], 2),
            "ratio_to_plain_select": round(median["plain_select"] / median["check"], 2),
            "times_faster_than_loop": round(loop_s / median["check"], 1),
        }

    def forget(self) -> None:
        """Take back what a check did, meters and triggers excepted."""
        self.admin.execute("TRUNCATE work_orders, alerts, notifications, work_order_counters CASCADE")
        self.admin.execute("UPDATE vehicle_positions SET odometer_at = odometer_at + interval '1 second'")
        self.admin.execute("VACUUM ANALYZE")
        self.admin.execute("CHECKPOINT")

    def run(self, seconds: dict[str, list[float]], whole: list[float] | None = None) -> dict[str, int]:
        """Do what the job does, each step its own transaction."""
        from jobs import process
        from jobs.maintenance.check import STEPS

        counts: dict[str, int] = {}
        started = time.perf_counter()
        for name, step in zip(("meters", "quarantine", "completed", "triggers", "check"), STEPS, strict=True):
            step_started = time.perf_counter()
            with process.get_database().tenant_transaction(self.tenant_id) as connection:
                counts |= step(connection, datetime.now(UTC))
            seconds.setdefault(name, []).append(time.perf_counter() - step_started)
        if whole is not None:
            whole.append(time.perf_counter() - started)
        return counts

    def select(self, seconds: dict[str, list[float]]) -> int:
        """Find and fetch what is due, and do nothing with it. Returns how many are due."""
        from db.queries.due_list import list_due
        from jobs import process

        with process.get_database().tenant_transaction(self.tenant_id) as connection:
            started = time.perf_counter()
            found = len(list_due(connection, datetime.now(UTC), datetime.now(UTC).date()))
            seconds["select"].append(time.perf_counter() - started)
        with psycopg.connect(self.servers.url("fleet_worker")) as plain:
            plain.execute("SELECT set_config('app.tenant_id', %s, true)", [str(self.tenant_id)])
            started = time.perf_counter()
            assert len(plain.execute(_SELECT.encode()).fetchall()) == found
            seconds["plain_select"].append(time.perf_counter() - started)
        return found

    def loop(self) -> float:
        """Return the seconds a row of opening an order and an alert one by one, each committed by itself."""
        self.forget()
        with psycopg.connect(self.servers.url("fleet_worker")) as connection:
            connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(self.tenant_id)])
            rows = connection.execute(_SELECT.encode()).fetchall()[:LOOP_ROWS]
            connection.commit()
            started = time.perf_counter()
            for row in rows:
                connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(self.tenant_id)])
                connection.execute(
                    "INSERT INTO work_orders (tenant_id, vehicle_id, type, title) VALUES (%s, %s, 'preventive', %s)",
                    [self.tenant_id, row[6], row[2]],
                )
                connection.execute(
                    "INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, subject, message, opened_at)"
                    " VALUES (%s, 'maintenance_due', 'medium', %s, %s, %s, %s)",
                    [self.tenant_id, row[6], f"maintenance:{row[0]}", row[2], datetime.now(UTC)],
                )
                connection.commit()
            return (time.perf_counter() - started) / len(rows)

    def notifications(self) -> int:
        """Return how many notifications the check wrote."""
        row = self.admin.execute("SELECT count(*) FROM notifications").fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Leave the servers, before they stop."""
        from jobs import process

        self.admin.close()
        process.close()


if __name__ == "__main__":
    raise SystemExit(main())
