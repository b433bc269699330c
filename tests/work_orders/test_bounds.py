"""Times and numbers that cannot be: refused where they are written, and put right where they were before."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.migrate import head, upgrade
from tests.factories import make_tenant
from tests.maintenance.garage import Garage
from tests.schema.older import database_at
from tests.servers import Database, PostgresServer

NEVER = ["infinity", "-infinity", "0044-01-01 BC", "1949-12-31", "5000-01-01"]
_TIMES = [
    *(("work_orders", column) for column in ("due_on", "started_at", "cancelled_at", "created_at")),
    ("work_order_lines", "done_at"),
    *(("purchase_orders", column) for column in ("ordered_on", "expected_on", "received_on")),
    *(("anomaly_alerts", column) for column in ("detected_at", "resolved_at")),
]
_NUMBERS = [
    *(("work_orders", column) for column in ("labour_cost", "parts_cost")),
    *(("work_order_lines", column) for column in ("quantity", "unit_cost")),
    ("purchase_orders", "total_cost"),
]


def _fill(admin: psycopg.Connection, tenant_id: UUID) -> None:
    """Write one row of each table; the order is cancelled."""
    admin.execute(
        """
        WITH v AS (INSERT INTO vehicles (tenant_id, name) VALUES (%(t)s, 'Van 1') RETURNING id),
        o AS (INSERT INTO work_orders (tenant_id, vehicle_id, type, title, status, number)
              SELECT %(t)s, id, 'corrective', 'x', 'cancelled', 1 FROM v RETURNING id),
        d AS (INSERT INTO vendors (tenant_id, name) VALUES (%(t)s, 'Garage') RETURNING id),
        p AS (INSERT INTO purchase_orders (tenant_id, number, vendor_id) SELECT %(t)s, '1', id FROM d),
        a AS (INSERT INTO anomaly_alerts (tenant_id, vehicle_id, kind, severity, message, detected_at, created_at)
              SELECT %(t)s, id, 'x', 'high', 'x', now(), '2020-02-02Z' FROM v)
        INSERT INTO work_order_lines (tenant_id, work_order_id, position, description) SELECT %(t)s, id, 1, 'x' FROM o
        """,
        {"t": tenant_id},
    )


@pytest.mark.parametrize(("table", "column"), _TIMES)
def test_a_time_that_cannot_be_is_refused_by_the_name_of_its_field(garage: Garage, table: str, column: str) -> None:
    _fill(garage.admin, garage.tenant_id)
    for at in NEVER:
        with pytest.raises(psycopg.errors.CheckViolation, match=f"ck_{table}_{column}_range"):
            garage.admin.execute(f"UPDATE {table} SET {column} = %s".encode(), [at])
    for at in ("1950-01-01", "2200-01-01"):
        garage.admin.execute(f"UPDATE {table} SET {column} = %s".encode(), [at])


@pytest.mark.parametrize(("table", "column"), _NUMBERS)
def test_a_cost_that_is_no_number_is_refused_by_the_name_of_its_field(garage: Garage, table: str, column: str) -> None:
    _fill(garage.admin, garage.tenant_id)
    for cost in ("NaN", "-0.01"):
        with pytest.raises(psycopg.errors.CheckViolation, match=f"ck_{table}_{column}"):
            garage.admin.execute(f"UPDATE {table} SET {column} = %s".encode(), [cost])
    garage.admin.execute(f"UPDATE {table} SET {column} = 99999999.99".encode())


@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity"])
def test_a_score_that_is_no_number_is_refused(garage: Garage, score: str) -> None:
    _fill(garage.admin, garage.tenant_id)
    garage.admin.execute("UPDATE anomaly_alerts SET score = -1e300")
    with pytest.raises(psycopg.errors.CheckViolation, match="ck_anomaly_alerts_score"):
        garage.admin.execute("UPDATE anomaly_alerts SET score = %s", [score])


@pytest.fixture
def older(postgres_server: PostgresServer) -> Iterator[Database]:
    """A database of the release before the bounds."""
    with database_at(postgres_server, "0012") as database:
        yield database


@pytest.mark.parametrize("at", NEVER)
def test_rows_that_cannot_be_do_not_stop_the_migration(older: Database, at: str) -> None:
    with psycopg.connect(older.admin_url, autocommit=True) as admin:
        _fill(admin, make_tenant(admin))
        for table, column in _TIMES:
            admin.execute(f"UPDATE {table} SET {column} = %s".encode(), [at])
        for table, column in _NUMBERS:
            admin.execute(f"UPDATE {table} SET {column} = 'NaN'".encode())
        admin.execute("UPDATE anomaly_alerts SET score = 'NaN'")

        assert upgrade(older.migrator_url) == ("0012", head())

        def values(table: str) -> dict[str, Any]:
            row = admin.execute(f"SELECT to_jsonb(x) FROM {table} x".encode()).fetchone()
            assert row is not None
            found: dict[str, Any] = row[0]
            return found

        assert {column: values(table)[column] for table, column in _NUMBERS} == dict.fromkeys(
            (column for _, column in _NUMBERS), 0
        )
        cleared = {(table, column) for table, column in _TIMES if values(table)[column] is None}
        assert cleared == {
            *(("work_orders", "due_on"), ("work_orders", "started_at"), ("work_order_lines", "done_at")),
            *(("purchase_orders", column) for column in ("ordered_on", "expected_on", "received_on")),
        }
        assert values("anomaly_alerts")["score"] is None
        assert values("anomaly_alerts")["detected_at"].startswith("2020-02-02"), "when it was written"
        assert json.dumps(values("work_orders"), allow_nan=False)
