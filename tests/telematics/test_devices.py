"""What a provider's list of vehicles says twice, and what becomes of vehicles whose connection is removed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from db import engine
from db.queries import connections, telematics
from integrations.telematics import Device
from tests.factories import make_connection, make_tenant
from tests.servers import Database


@pytest.fixture
def opened(database: Database) -> Iterator[engine.Database]:
    opened = engine.Database(database.worker_url, database.system_url, pool_size=1)
    yield opened
    opened.close()


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        yield admin


def _take(
    opened: engine.Database, tenant_id: UUID, connection_id: UUID, *devices: Device, create: bool
) -> dict[str, int]:
    with opened.tenant_transaction(tenant_id) as connection:
        return telematics.take_devices(connection, connection_id, devices, create_vehicles=create)


@pytest.mark.parametrize(("create", "counted"), [(False, "devices_unmatched"), (True, "vehicles_created")])
def test_a_device_that_a_page_lists_twice_counts_once_and_the_last_word_holds(
    opened: engine.Database, admin: psycopg.Connection, create: bool, counted: str
) -> None:
    tenant_id = make_tenant(admin)
    connection_id = make_connection(admin, tenant_id, "http://127.0.0.1:1")
    told = (Device("d1", "old"), Device("d2", "other"), Device("d1", "new"))

    counts = _take(opened, tenant_id, connection_id, *told, create=create)

    assert counts[counted] == 2
    table = "vehicles" if create else "unmatched_devices"
    names = admin.execute(f"SELECT external_id, name FROM {table} ORDER BY 1".encode()).fetchall()
    assert names == [("d1", "new"), ("d2", "other")]


def test_a_removed_connections_vehicles_are_linked_again_where_the_account_is_added_anew(
    opened: engine.Database, admin: psycopg.Connection
) -> None:
    tenant_id = make_tenant(admin)
    before, after = (make_connection(admin, tenant_id, "http://127.0.0.1:1") for _ in range(2))
    _take(opened, tenant_id, before, Device("d1", vin="VIN1"), create=True)

    with opened.system_transaction() as connection:
        connections.remove_connection(connection, before)

    counts = _take(opened, tenant_id, after, Device("d1", vin="VIN1"), create=False)
    assert counts["devices_linked"] == 1
    assert admin.execute("SELECT connection_id, external_id FROM vehicles").fetchall() == [(after, "d1")]


@pytest.mark.parametrize(("is_renewed", "status"), [(False, "reconnect"), (True, "active")])
def test_only_the_credentials_that_were_refused_cut_a_connection_off(
    opened: engine.Database, admin: psycopg.Connection, is_renewed: bool, status: str
) -> None:
    tenant_id = make_tenant(admin)
    connection_id = make_connection(admin, tenant_id, "http://127.0.0.1:1")
    with opened.tenant_transaction(tenant_id) as connection:
        account = telematics.find_account(connection, connection_id)
    assert account is not None
    if is_renewed:
        with opened.system_transaction() as connection:
            connections.replace_credentials(connection, connection_id, account.credentials_encrypted, b"new")

    with opened.tenant_transaction(tenant_id) as connection:
        telematics.cut_off(connection, account, "status 401", datetime.now(UTC))

    assert admin.execute("SELECT status FROM connections").fetchone() == (status,)
    assert admin.execute("SELECT count(*) FROM alerts").fetchone() == (int(not is_renewed),)
