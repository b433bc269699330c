"""What was there before tenants took turns and fan-outs were bounded: cut, kept, and still told."""

from collections.abc import Iterator

import psycopg
import pytest

from db import migrate
from tests.factories import make_tenant
from tests.schema.older import database_at
from tests.servers import Database, PostgresServer


@pytest.fixture
def before(postgres_server: PostgresServer) -> Iterator[Database]:
    """A database as the release before left it."""
    with database_at(postgres_server, "0013") as database:
        yield database


def test_alerts_and_fences_of_the_release_before_keep_their_first_recipients(before: Database) -> None:
    with psycopg.connect(before.admin_url, autocommit=True) as admin:
        tenant_id = make_tenant(admin)
        recipients = [f"a{number}@acme.example" for number in range(300)]
        admin.execute(
            "INSERT INTO webhook_endpoints (tenant_id, name, secret_encrypted) VALUES (%s, 'erp', '')", [tenant_id]
        )
        admin.execute(
            "INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at, recipients)"
            " VALUES (%s, 'offline', 'low', '1', 'x', now(), %s), (%s, 'offline', 'low', '2', 'x', now(), '{b}')",
            [tenant_id, recipients, tenant_id],
        )
        admin.execute(
            "INSERT INTO geofences (tenant_id, name, kind, center_latitude, center_longitude, radius_m,"
            " alert_recipients) VALUES (%s, 'Depot', 'circle', 52, 13, 100, %s)",
            [tenant_id, recipients],
        )

        migrate.upgrade(before.migrator_url)

        rows = admin.execute("SELECT recipients FROM alerts ORDER BY subject").fetchall()
        assert rows == [(recipients[:200],), (["b"],)]
        assert admin.execute("SELECT alert_recipients FROM geofences").fetchall() == [(recipients[:200],)]
        states = "SELECT channel, while_open, count(*) FROM notifications GROUP BY 1, 2 ORDER BY 1"
        assert admin.execute(states).fetchall() == [("email", True, 301), ("webhook", False, 2)]
        admin.execute("UPDATE alerts SET severity = 'high' WHERE subject = '2'")
        admin.execute("UPDATE alerts SET resolved_at = now()")
        told = (
            "SELECT channel, is_resolution, severity, count(*) FROM notifications WHERE dedupe_key LIKE '%:%:%:%'"
            " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        assert admin.execute(told).fetchall() == [
            ("email", False, "high", 1),
            ("webhook", False, "high", 1),
            ("webhook", True, "high", 1),
            ("webhook", True, "low", 1),
        ]
