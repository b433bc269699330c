"""The whole sync beside the bare storing of its rows: `python -m benchmarks.bench_sync`, one line of JSON at the end.

Ours is everything from the HTTP request to the commit: pages over HTTP, decoding, matching, points, latest positions,
cursors, progress in the ledger, live state in Valkey. Beside it, in the same run and the same pages: a COPY of the same
rows to a temporary table and one INSERT ON CONFLICT, alone; and the loop that inserts and updates row by row.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any
from uuid import UUID, uuid4

import psycopg
import requests

from benchmarks.bench_geofence import boundary
from benchmarks.provider import TOKEN
from benchmarks.servers import Servers, serve
from db.encryption import Keyring, connection_context, new_key
from integrations.http import HttpSession
from integrations.samsara import Samsara
from jobs.embedded.process import free_port

BOUNDS = {"ratio_to_copy": 0.5, "ratio_to_loop": 50.0}
BOUNDS_WITH_FENCES = {"ratio_to_copy": 0.4}
LOOP_ROWS = 1_500
Row = tuple[Any, ...]


def main() -> int:
    """Measure, print, and return 1 where a ratio is below its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vehicles", type=int, default=5_120)
    parser.add_argument("--minutes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fences", type=int, default=0, help="polygons where the vehicles drive")
    parser.add_argument("--no-check", dest="check", action="store_false", help="succeed whatever the ratios")
    options = parser.parse_args()
    with serve() as servers, closing(Bench(servers, options.vehicles, options.minutes)) as bench:
        figures = bench.measure(options.rounds, options.fences)
    bounds = BOUNDS_WITH_FENCES if options.fences else BOUNDS
    missed = [name for name, bound in bounds.items() if figures[name] < bound]
    for name in missed:
        print(f"{name} is {figures[name]}, below {bounds[name]}")
    print(json.dumps({"benchmark": "sync", **figures, "at_least": bounds}))
    return 1 if missed and options.check else 0


class Bench:
    """One tenant, one connection, one simulated provider in a process of its own."""

    def __init__(self, servers: Servers, vehicles: int, minutes: int) -> None:
        self.vehicles = vehicles
        self.crossings = 0
        self.port = free_port()
        key = new_key()
        self.url = f"http://127.0.0.1:{self.port}"
        os.environ.update(servers.settings())
        os.environ.update(
            FLEET_ENCRYPTION_KEYS=key, FLEET_PROVIDER_ORIGINS=self.url, FLEET_SLICE_S="3600", FLEET_LOG_LEVEL="WARNING"
        )
        print(f"rendering {minutes} minutes of {vehicles} vehicles", flush=True)
        servers.start("provider", "-m", "benchmarks.provider", str(self.port), str(vehicles), str(minutes))
        from db.migrate import upgrade
        from db.queries.definitions import write_definitions
        from jobs import process
        from jobs.job import definitions

        upgrade(servers.url("fleet_migrator"))
        with process.get_database().system_transaction() as connection:
            write_definitions(connection, definitions())
        self.admin = psycopg.connect(servers.postgres.admin_url_of("fleet"), autocommit=True)
        self.tenant_id, self.connection_id = self._connect(key)
        self.servers = servers
        self._wait_for_provider()

    def _connect(self, key: str) -> tuple[UUID, UUID]:
        tenant_id, connection_id = uuid4(), uuid4()
        secret = Keyring.from_settings([key]).encrypt(
            json.dumps({"token": TOKEN}).encode(), associated=connection_context(tenant_id, connection_id)
        )
        self.admin.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, 'bench', 'Bench')", [tenant_id])
        self.admin.execute(
            "INSERT INTO connections (id, tenant_id, provider, name, base_url, credentials_encrypted, settings)"
            " VALUES (%s, %s, 'samsara', 'bench', %s, %s, %s)",
            [connection_id, tenant_id, self.url, secret, '{"create_vehicles": true, "requests_per_s": 10000}'],
        )
        return tenant_id, connection_id

    def _wait_for_provider(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            self.servers.check()
            try:
                requests.get(f"{self.url}/_stats", timeout=5)
            except requests.ConnectionError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError("the provider did not start")

    def measure(self, rounds: int, fences: int) -> dict[str, Any]:
        """Take turns; what counts is the ratio of medians."""
        self.sync()  # finds the vehicles, and warms everything
        self.draw(fences)
        pages = self.pages()
        rates: dict[str, list[float]] = {"sync": [], "copy": [], "loop": []}
        turns: dict[str, Callable[[], tuple[int, float]]] = {
            "sync": self.sync,
            "copy": lambda: self.copy(pages),
            "loop": lambda: self.loop(pages),
        }
        for number in range(rounds):
            for name, turn in turns.items():
                self.empty()
                rows, seconds = turn()
                rates[name].append(rows / seconds)
                print(f"round {number + 1}: {name:5} {rows:8} rows {rows / seconds:9.0f}/s", flush=True)
        median = {name: statistics.median(each) for name, each in rates.items()}
        return {
            "vehicles": self.vehicles,
            "points": sum(map(len, pages)),
            "fences": fences,
            "crossings": self.crossings,
            "sync_per_s": round(median["sync"]),
            "copy_per_s": round(median["copy"]),
            "loop_per_s": round(median["loop"]),
            "ratio_to_copy": round(median["sync"] / median["copy"], 2),
            "ratio_to_loop": round(median["sync"] / median["loop"], 1),
        }

    def close(self) -> None:
        """Leave the servers, before they stop."""
        from jobs import process

        self.admin.close()
        process.close()

    def draw(self, fences: int) -> None:
        """Draw fences around places where vehicles are; some 500 m across."""
        random.seed(20_261_120)
        places = self.admin.execute(
            "SELECT latitude, longitude FROM telemetry WHERE latitude IS NOT NULL"
            " ORDER BY md5(vehicle_id::text || time) LIMIT %s",
            [fences],
        ).fetchall()
        with self.admin.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO geofences (tenant_id, name, boundary) VALUES (%s, %s, %s)",
                [
                    (
                        self.tenant_id,
                        f"Fence {number}",
                        json.dumps(boundary(place[0], place[1], random.uniform(0.001, 0.004))),
                    )
                    for number, place in enumerate(places)
                ],
            )

    def empty(self) -> None:
        """Forget every point, and that any was read; the vehicles stay known."""
        self.admin.execute("TRUNCATE telemetry, vehicle_positions, geofence_presence, geofence_events")
        self.admin.execute("UPDATE sync_cursors SET cursor = NULL WHERE NOT feed LIKE 'snapshot:%'")
        self.admin.execute("VACUUM ANALYZE vehicles")
        self.admin.execute("CHECKPOINT")

    def sync(self) -> tuple[int, float]:
        """Run one sync from the feeds' start to their end."""
        from jobs import execution, process
        from jobs.client import enqueue
        from jobs.job import load_jobs

        job = load_jobs()["telematics.sync_connection"]
        with process.get_database().system_transaction() as connection:
            run_id = enqueue(connection, job, {"connection_id": self.connection_id}, tenant_id=self.tenant_id)
        started = time.perf_counter()
        execution.execute(job, [run_id])
        seconds = time.perf_counter() - started
        state, counts, error = self.admin.execute(
            "SELECT state, counts, error FROM job_runs WHERE id = %s", [run_id]
        ).fetchone() or (None, {}, None)
        if state != "succeeded":
            raise RuntimeError(f"the sync ended {state}: {error}")
        self.crossings = counts.get("geofence_events", 0)
        return counts["stored"] + counts["enriched"] + counts["duplicates"], seconds

    def pages(self) -> list[list[Row]]:
        """Read the same pages again, as rows ready to be stored."""
        vehicles: dict[str, UUID] = dict(self.admin.execute("SELECT external_id, id FROM vehicles").fetchall())
        provider = Samsara(HttpSession(), TOKEN, self.url)
        pages: list[list[Row]] = []
        for feed in provider.feeds:
            cursor, has_more = None, True
            while has_more:
                page = provider.read_feed(feed, cursor)
                cursor, has_more = page.cursor, page.has_more
                pages.append(
                    [
                        (
                            self.tenant_id,
                            vehicles[r.device_id],
                            r.time,
                            r.latitude,
                            r.longitude,
                            r.heading_deg,
                            r.speed_kph,
                            r.odometer_km,
                            r.engine_hours,
                            r.fuel_percent,
                            r.battery_percent,
                            r.engine_state,
                        )
                        for r in page.readings
                    ]
                )
        provider.close()
        return pages

    def copy(self, pages: list[list[Row]]) -> tuple[int, float]:
        """Store the rows and nothing else: COPY to a temporary table, INSERT ON CONFLICT, a transaction a page."""
        started = time.perf_counter()
        with psycopg.connect(self.servers.url("fleet_worker")) as connection:
            for page in pages:
                with connection.transaction():
                    connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(self.tenant_id)])
                    copy_page(connection, page)
        return sum(map(len, pages)), time.perf_counter() - started

    def loop(self, pages: list[list[Row]]) -> tuple[int, float]:
        """Insert, update and look for a fence, vehicle by vehicle, each committed by itself."""
        rows = [row for page in pages for row in page if row[3] is not None][:LOOP_ROWS]
        started = time.perf_counter()
        with psycopg.connect(self.servers.postgres.admin_url_of("fleet"), autocommit=True) as connection:
            for row in rows:
                connection.execute(
                    "INSERT INTO telemetry (tenant_id, vehicle_id, time, latitude, longitude)"
                    " VALUES (%s, %s, %s, %s, %s)",
                    row[:5],
                )
                connection.execute("UPDATE vehicles SET updated_at = now() WHERE id = %s", [row[1]])
                connection.execute(
                    "SELECT id FROM facilities WHERE latitude BETWEEN %s AND %s AND longitude BETWEEN %s AND %s",
                    [row[3] - 0.01, row[3] + 0.01, row[4] - 0.01, row[4] + 0.01],
                )
        return len(rows), time.perf_counter() - started


COLUMNS = (
    "tenant_id, vehicle_id, time, latitude, longitude, heading_deg, speed_kph, odometer_km, engine_hours,"
    " fuel_percent, battery_percent, engine_state"
)
TYPES = [
    "uuid",
    "uuid",
    "timestamptz",
    "float8",
    "float8",
    "float4",
    "float4",
    "float8",
    "float8",
    "float4",
    "float4",
    "text",
]


def copy_page(connection: psycopg.Connection, page: list[Row]) -> None:
    """Store a page as a careful driver user would: binary COPY by the driver's own adapters."""
    connection.execute(
        "CREATE TEMPORARY TABLE IF NOT EXISTS bare (tenant_id uuid, vehicle_id uuid, time timestamptz, latitude float8,"
        " longitude float8, heading_deg float4, speed_kph float4, odometer_km float8, engine_hours float8,"
        " fuel_percent float4, battery_percent float4, engine_state text) ON COMMIT DELETE ROWS"
    )
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY bare ({COLUMNS}) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(TYPES)
            for row in page:
                copy.write_row(row)
        cursor.execute(f"INSERT INTO telemetry ({COLUMNS}) SELECT {COLUMNS} FROM bare ON CONFLICT DO NOTHING")


if __name__ == "__main__":
    raise SystemExit(main())
