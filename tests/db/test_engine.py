"""How a process holds on to the database: not for ever, and without telling what it asked."""

import math
import socket

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import engine
from jobs.execution import _may_work_later
from tests.factories import make_tenant
from tests.servers import Database


def test_a_server_that_vanished_is_noticed_within_seconds(database: Database) -> None:
    opened = engine.Database(database.worker_url, database.system_url, pool_size=1)
    with opened.statement() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.socket(fileno=socket.dup(driver.fileno())) as wire:
            assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 15_000
            probes = [
                wire.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ]
            assert probes[0] + probes[1] * probes[2] <= 30
    opened.close()


def test_an_error_does_not_tell_what_was_asked_with(database: Database) -> None:
    opened = engine.Database(database.worker_url, database.system_url, pool_size=1)
    with pytest.raises(DBAPIError) as failed, opened.statement() as connection:
        connection.execute(text("SELECT 1 / 0 WHERE :name <> ''"), {"name": "Ada Lovelace"})
    assert "Ada" not in str(failed.value)
    opened.close()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"x": 1e5000}', {"x": math.inf}),
        ('{"x": -1e5000}', {"x": -math.inf}),
        ('{"x": 12345678901234567890}', {"x": 12345678901234567890}),
        ('{"x": 1.5, "y": null}', {"x": 1.5, "y": None}),
        ('{"x": ' + "[" * 3000 + "]" * 3000 + "}", {}),
    ],
)
def test_nothing_that_others_write_into_a_document_breaks_its_reader(
    database: Database, written: str, read: dict[str, object]
) -> None:
    opened = engine.Database(database.worker_url, database.system_url, pool_size=1)
    with opened.statement() as connection:
        assert connection.execute(text("SELECT CAST(:written AS jsonb)"), {"written": written}).scalar_one() == read
    opened.close()


def test_a_primary_that_became_a_replica_is_waited_for(database: Database) -> None:
    opened = engine.Database(database.worker_url, database.system_url, pool_size=1)
    with pytest.raises(DBAPIError) as failed, opened.system_transaction() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(text("DELETE FROM job_controls"))
    assert _may_work_later(failed.value)
    opened.close()


@pytest.mark.parametrize("has_replica", [True, False], ids=["replica", "primary"])
def test_reports_read_one_tenant_and_a_replica_is_never_written_to(database: Database, has_replica: bool) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        tenants = [make_tenant(admin, slug) for slug in ("ours", "theirs")]
    opened = engine.Database(
        database.worker_url, database.system_url, database.readonly_url if has_replica else None, pool_size=1
    )
    try:
        with opened.read_transaction(tenants[0]) as connection:
            assert connection.execute(text("SELECT slug FROM tenants")).scalars().all() == ["ours"]
            role = connection.execute(text("SELECT current_user")).scalar_one()
        assert role == ("fleet_readonly" if has_replica else "fleet_worker")
        if has_replica:
            with pytest.raises(DBAPIError) as refused, opened.read_transaction(tenants[0]) as connection:
                connection.execute(text("UPDATE vehicles SET name = 'x'"))
            assert getattr(refused.value.orig, "sqlstate", None) in ("25006", "42501")
    finally:
        opened.close()
