"""The schema of a release: reached from nothing, twice, by several at once; and the ones that it refuses."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import create_engine

from db.migrate import SchemaError, check_schema, current, head, upgrade
from db.roles import bootstrap
from tests.schema.catalogue import Connection, connect, has_hypertables
from tests.schema.conftest import TwoTenants
from tests.servers import BOOTSTRAP_LOCK, Database, PostgresServer

STRATEGIES = {"null", "keyed hash", "drop key", "generalise to year", "constant false", "redact text"}
PERSONAL = re.compile(
    r"(^|_)(e?mail|phone|mobile|first_name|last_name|full_name|contact_name|birth|gender|ssn|license_number"
    r"|license_plate|vin|password|mfa|secret|ip|photo|emergency|medical|diagnos\w*|consent|wheelchair|payload|iban)(_|$)"
)
MIGRATE = "import os; from db.migrate import upgrade; upgrade(os.environ['URL'])"
_SHAPE = """
    SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) AS column
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
      AND a.attnum > 0 AND NOT a.attisdropped
"""


@pytest.fixture
def empty(server: PostgresServer) -> Iterator[Database]:
    """A database in which nothing was ever migrated."""
    database = server.database(f"fleet_{uuid4().hex[:16]}")
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {database.name}".encode())
        admin.execute("SELECT pg_advisory_lock(%s)", [BOOTSTRAP_LOCK])
        bootstrap(database.admin_url, database.passwords)
    yield database
    server.drop(database.name)


def _check(database: Database) -> str:
    engine = create_engine(database.system_url)
    try:
        with engine.connect() as connection:
            check_schema(connection)
            return str(current(connection))
    finally:
        engine.dispose()


def test_a_database_is_migrated_from_nothing_by_whoever_comes_first_and_once(empty: Database) -> None:
    with pytest.raises(SchemaError, match="no schema yet: run `fleet-jobs migrate`"):
        _check(empty)
    racing = [
        subprocess.Popen([sys.executable, "-c", MIGRATE], env={**os.environ, "URL": empty.migrator_url})
        for _ in range(2)
    ]
    assert [process.wait(60) for process in racing] == [0, 0]
    assert upgrade(empty.migrator_url) == (head(), head())
    assert _check(empty) == head()


@pytest.mark.parametrize(
    ("revision", "told"),
    [
        ("0003", f"the database is at 0003, this release needs {head()}: run `fleet-jobs migrate`"),
        ("9999", f"the database is at 9999, newer than this release \\({head()}\\): run a newer release"),
    ],
)
def test_another_releases_schema_is_refused(tenants: TwoTenants, revision: str, told: str) -> None:
    tenants.admin.execute("UPDATE alembic_version SET version_num = %s", [revision])
    try:
        with pytest.raises(SchemaError, match=told):
            _check(tenants.database)
        if revision == "9999":
            with pytest.raises(SchemaError, match=told):
                upgrade(tenants.database.migrator_url)
    finally:
        tenants.admin.execute("UPDATE alembic_version SET version_num = %s", [head()])


def test_both_storages_have_the_same_names_and_columns(postgres_server: PostgresServer, tenants: TwoTenants) -> None:
    with postgres_server.fresh_database() as native, connect(native.admin_url) as admin:
        assert _shape(tenants.admin) == _shape(admin)


def _shape(admin: Connection) -> set[str]:
    return {row["column"] for row in admin.execute(_SHAPE)}


def test_every_column_that_looks_personal_names_how_it_is_anonymised(tenants: TwoTenants) -> None:
    rows = tenants.admin.execute(
        "SELECT c.relname AS table, a.attname AS column, col_description(c.oid, a.attnum) AS comment"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'hyper'))"
        " AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped"
    ).fetchall()
    personal = [row for row in rows if PERSONAL.search(row["column"])]
    assert len(personal) >= 25
    silent = [f"{row['table']}.{row['column']}" for row in personal if not str(row["comment"]).startswith("personal: ")]
    assert silent == []
    told = {row["comment"].removeprefix("personal: ") for row in rows if str(row["comment"]).startswith("personal: ")}
    assert told <= STRATEGIES


_UNTOUCHED = """
    SELECT c.relname AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'updated_at'
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'touch_updated_at')
"""


def test_every_table_knows_when_its_rows_change(tenants: TwoTenants) -> None:
    """`updated_at` is kept by a trigger, or by the statements of the ledger itself."""
    rows = tenants.admin.execute(_UNTOUCHED).fetchall()
    assert {row["name"] for row in rows} == {"job_runs", "job_definitions", "schedule_ticks"}


def test_the_storage_is_the_one_that_the_cluster_offers(request: pytest.FixtureRequest, tenants: TwoTenants) -> None:
    assert has_hypertables(tenants.admin) == ("timescale" in request.node.name)
