"""What the revision of completions makes of a database that was in use before it."""

import psycopg

from db.migrate import upgrade
from tests.factories import make_tenant
from tests.schema.older import database_at
from tests.servers import PostgresServer


def test_costs_that_never_reached_the_history_and_meters_of_inspections_are_made_good(server: PostgresServer) -> None:
    with database_at(server, "0014") as database, psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            """
            WITH v AS (INSERT INTO vehicles (tenant_id, name) VALUES (%(t)s, 'Van 1') RETURNING id),
            i AS (INSERT INTO inspections (tenant_id, vehicle_id, kind, result, inspected_at, odometer_km)
                  SELECT %(t)s, id, 'other', 'passed', now() - make_interval(months => 11 * y), 100 * (4 - y)
                  FROM v, generate_series(1, 3) y),
            w AS (INSERT INTO work_orders (tenant_id, vehicle_id, type, title, status, rolled_at, labour_cost)
                  SELECT %(t)s, id, 'corrective', 'x', 'completed', now(), cost FROM v, (VALUES (5), (0)) AS c (cost)
                  RETURNING id, vehicle_id, labour_cost)
            INSERT INTO maintenance_records (work_order_id, tenant_id, vehicle_id, performed_on, total_cost)
            SELECT id, %(t)s, vehicle_id, now(), CASE labour_cost WHEN 0 THEN numeric 'NaN' ELSE 0 END FROM w
            """,
            {"t": make_tenant(admin)},
        )
        upgrade(database.migrator_url)
        costs = admin.execute("SELECT total_cost::float8 FROM maintenance_records ORDER BY 1").fetchall()
        assert costs == [(0,), (5,)]
        readings = admin.execute("SELECT value, source, state FROM meter_readings ORDER BY value").fetchall()
        assert readings == [(200, "inspection", "reported"), (300, "inspection", "reported")]
