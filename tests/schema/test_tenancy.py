"""One tenant's transaction neither reads nor writes another's rows: every relation of the catalogue, every role."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import create_engine, text

from db.timeseries.partitions import SERIES, make_partitions
from tests.schema.catalogue import (
    GLOBAL,
    Connection,
    Relation,
    connect,
    has_hypertables,
    identifier,
    relations,
    storage,
    tenant_relations,
)
from tests.schema.conftest import TwoTenants

REFUSALS = ("42501", "44000", "55000")  # a privilege or a policy; a view's check; a view that cannot be written
ROLES = ("fleet_worker", "fleet_app", "fleet_readonly")


class Undo(Exception):
    """Rolls back what a test did."""


def _url(tenants: TwoTenants, role: str) -> str:
    database = tenants.database
    return {"fleet_worker": database.worker_url, "fleet_app": database.app_url}.get(role, database.readonly_url)


@contextmanager
def _as(tenants: TwoTenants, role: str, tenant_id: UUID | None) -> Iterator[Connection]:
    with connect(_url(tenants, role)) as connection:
        connection.execute("SET default_transaction_read_only = off")  # a reader may; its privileges must suffice
        if tenant_id is not None:
            connection.execute("SELECT set_config('app.tenant_id', %s, false)", [str(tenant_id)])
        yield connection


def _attempt(
    connection: Connection, statement: sql.SQL | sql.Composed, *values: Any
) -> tuple[str | None, list[Any], int]:
    """Run a statement and undo it. Returns the sqlstate of its refusal, its rows, and how many it touched."""
    rows: list[Any] = []
    touched = 0
    try:
        with connection.transaction():
            cursor = connection.execute(statement, values)
            rows = cursor.fetchall() if cursor.description else []
            touched = cursor.rowcount
            raise Undo
    except Undo:
        return None, rows, touched
    except psycopg.Error as error:
        return error.sqlstate, [], 0


def _tenant(relation: Relation) -> sql.Identifier:
    assert relation.tenant_column is not None
    return sql.Identifier(relation.tenant_column)


def _rows_of(tenants: TwoTenants, relation: Relation, tenant_id: UUID) -> list[dict[str, Any]]:
    table = storage(tenants.admin, relation.name)
    statement = f"SELECT to_jsonb(t) AS row FROM {table} t WHERE {relation.tenant_column} = %s ORDER BY 1::text"
    return [row["row"] for row in tenants.admin.execute(statement.encode(), [tenant_id]).fetchall()]


def test_every_relation_has_a_tenant_or_is_known_to_be_the_platforms(tenants: TwoTenants) -> None:
    without = {each.name for each in relations(tenants.admin) if each.tenant_column is None}
    assert without == GLOBAL


def test_every_table_with_a_tenant_enforces_row_level_security_also_on_its_owner(tenants: TwoTenants) -> None:
    tables = [each for each in tenant_relations(tenants.admin) if each.kind in ("r", "p")]
    assert [each.name for each in tables if not (each.is_secured and each.is_forced)] == []
    policies = tenants.admin.execute(
        "SELECT tablename, array_agg(policyname || ' ' || cmd || ' ' || permissive) AS all FROM pg_policies GROUP BY 1"
    ).fetchall()
    found = {row["tablename"]: row["all"] for row in policies}
    expected = {each.name: ["tenant_isolation ALL PERMISSIVE"] for each in tables}
    assert found == expected, "one policy a table: a second one would widen it"
    assert {each.kind for each in tenant_relations(tenants.admin)} <= {"r", "p", "v"}


def test_every_view_asks_as_its_reader_or_is_a_barrier(tenants: TwoTenants) -> None:
    views = [each for each in relations(tenants.admin) if each.kind == "v"]
    hyper = {series.table for series in SERIES} if has_hypertables(tenants.admin) else set()
    for view in views:
        expected = "security_barrier=true" if view.name in hyper else "security_invoker=true"
        assert expected in (view.options or []), view.name
    assert hyper <= {view.name for view in views}


def test_both_tenants_have_a_row_in_everything(tenants: TwoTenants) -> None:
    for relation in tenant_relations(tenants.admin):
        for tenant_id in (tenants.mine, tenants.theirs):
            assert len(_rows_of(tenants, relation, tenant_id)) == 1, relation.name


@pytest.mark.parametrize("role", ROLES)
def test_a_tenant_reads_its_own_rows_only(tenants: TwoTenants, role: str) -> None:
    readable = 0
    with _as(tenants, role, tenants.mine) as connection:
        for relation in tenant_relations(tenants.admin):
            statement = sql.SQL("SELECT {} AS tenant FROM {}").format(_tenant(relation), identifier(relation))
            refusal, rows, _ = _attempt(connection, statement)
            if refusal is None:
                readable += 1
                assert [row["tenant"] for row in rows] == [tenants.mine], relation.name
            assert refusal in (None, "42501"), relation.name
    assert readable >= 20


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("setting", [None, ""])
def test_without_a_tenant_nothing_is_seen_and_nothing_written(
    tenants: TwoTenants, role: str, setting: str | None
) -> None:
    with _as(tenants, role, None) as connection:
        if setting is not None:
            connection.execute("SELECT set_config('app.tenant_id', %s, false)", [setting])
        for relation in tenant_relations(tenants.admin):
            name, column = identifier(relation), _tenant(relation)
            refusal, rows, _ = _attempt(connection, sql.SQL("SELECT {} FROM {}").format(column, name))
            assert (refusal, rows) in ((None, []), ("42501", [])), relation.name
            refusal, _, touched = _attempt(connection, sql.SQL("UPDATE {0} SET {1} = {1}").format(name, column))
            assert touched == 0, relation.name
            refusal, _, touched = _attempt(connection, sql.SQL("DELETE FROM {}").format(name))
            assert touched == 0, relation.name
            (row,) = _rows_of(tenants, relation, tenants.theirs)
            assert _insert(connection, relation, _with_fresh_key(row, relation))[0] in REFUSALS, relation.name


def _insert(
    connection: Connection, relation: Relation, row: dict[str, Any], then: str = ""
) -> tuple[str | None, list[Any], int]:
    written = connection.execute(_WRITTEN, [relation.name]).fetchall()
    statement = sql.SQL(
        "INSERT INTO {name} ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::{name}, %s) "
        + then
        + " RETURNING {column}"
    ).format(
        name=identifier(relation),
        columns=sql.SQL(", ").join(sql.Identifier(each["name"]) for each in written),
        column=_tenant(relation),
    )
    return _attempt(connection, statement, Jsonb(row))


_WRITTEN = """
    SELECT attname AS name FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
"""Nobody writes a generated column."""


def _with_fresh_key(row: dict[str, Any], relation: Relation) -> dict[str, Any]:
    fresh = {"id": str(uuid4()), "person_id": str(uuid4()), "time": str(datetime.now(UTC) - timedelta(hours=1))}
    fresh.pop(str(relation.tenant_column), None)
    return {name: fresh.get(name, value) for name, value in row.items()}


@pytest.mark.parametrize("role", ROLES)
def test_a_tenant_writes_no_row_of_another(tenants: TwoTenants, role: str) -> None:
    before = {each.name: _rows_of(tenants, each, tenants.theirs) for each in tenant_relations(tenants.admin)}
    with _as(tenants, role, tenants.mine) as connection:
        for relation in tenant_relations(tenants.admin):
            name, column, theirs = identifier(relation), _tenant(relation), sql.Literal(tenants.theirs)
            for statement in (
                sql.SQL("UPDATE {0} SET {1} = {1} WHERE {1} = {2}").format(name, column, theirs),
                sql.SQL("UPDATE {0} SET {1} = {1} WHERE {1} = {2} RETURNING {1}").format(name, column, theirs),
                sql.SQL("DELETE FROM {0} WHERE {1} = {2}").format(name, column, theirs),
                sql.SQL("DELETE FROM {0} WHERE {1} = {2} RETURNING {1}").format(name, column, theirs),
            ):
                refusal, rows, touched = _attempt(connection, statement)
                assert (touched, rows) == (0, []), relation.name
                assert refusal in (None, *REFUSALS), (relation.name, refusal)
            take = sql.SQL("UPDATE {0} SET {1} = {2} WHERE {1} = {3}")
            given = take.format(name, column, theirs, sql.Literal(tenants.mine))
            assert _attempt(connection, given)[0] in REFUSALS, relation.name
    assert before == {each.name: _rows_of(tenants, each, tenants.theirs) for each in tenant_relations(tenants.admin)}


@pytest.mark.parametrize("role", ROLES)
def test_a_tenant_adds_no_row_to_another_and_takes_none_by_a_conflict(tenants: TwoTenants, role: str) -> None:
    with _as(tenants, role, tenants.mine) as connection:
        for relation in tenant_relations(tenants.admin):
            assert relation.tenant_column is not None
            (theirs,) = _rows_of(tenants, relation, tenants.theirs)
            column = relation.tenant_column
            for then in ("", "ON CONFLICT DO NOTHING"):
                refusal, *_ = _insert(connection, relation, _with_fresh_key(theirs, relation), then)
                assert refusal in REFUSALS, (relation.name, then, refusal)
                refusal, rows, touched = _insert(connection, relation, theirs, then)
                assert (rows, touched) == ([], 0), relation.name  # a view looks for the key before it checks the row
            if key := _primary_key(tenants, relation):
                disguised = {**theirs, column: str(tenants.mine)} if column not in key else theirs
                then = f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {column} = excluded.{column}"
                refusal, rows, touched = _insert(connection, relation, disguised, then)
                assert refusal is not None, (relation.name, rows)
                assert touched == 0, relation.name


def _primary_key(tenants: TwoTenants, relation: Relation) -> list[str]:
    rows = tenants.admin.execute(
        "SELECT a.attname AS name FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
        " AND a.attnum = ANY(i.indkey) WHERE i.indrelid = %s::regclass AND i.indisprimary",
        [storage(tenants.admin, relation.name)],
    )
    return [row["name"] for row in rows]


@pytest.mark.parametrize("role", ROLES)
def test_copy_is_no_way_around(tenants: TwoTenants, role: str) -> None:
    for relation in tenant_relations(tenants.admin):
        with _as(tenants, role, tenants.mine) as connection:
            columns = sql.SQL("{} ({})").format(identifier(relation), _tenant(relation))
            told = b""
            try:
                with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(columns)) as copy:
                    told = b"".join(bytes(data) for data in copy)
            except psycopg.Error as error:
                assert error.sqlstate in (*REFUSALS, "42809"), relation.name  # 42809: a view is not copied
            else:
                assert set(told.decode().split()) <= {str(tenants.mine)}, relation.name
        with _as(tenants, role, tenants.mine) as connection:
            give = sql.SQL("COPY {} FROM STDIN").format(columns)
            with pytest.raises(psycopg.Error) as refused, connection.cursor().copy(give) as copy:
                copy.write(f"{tenants.theirs}\n")
            assert refused.value.sqlstate in (*REFUSALS, "42809", "0A000"), relation.name  # 0A000: not under a policy


@pytest.mark.parametrize("role", ROLES)
def test_a_cheap_function_in_a_condition_sees_no_row_of_another(tenants: TwoTenants, role: str) -> None:
    with _as(tenants, role, tenants.mine) as connection:
        notices: list[str] = []
        connection.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
        connection.execute(
            "CREATE FUNCTION pg_temp.peek(uuid) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS"
            " $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"
        )
        for relation in tenant_relations(tenants.admin):
            statement = sql.SQL("SELECT 1 FROM {} WHERE pg_temp.peek({})")
            _attempt(connection, statement.format(identifier(relation), _tenant(relation)))
        assert set(notices) == {str(tenants.mine)}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "escape",
    [
        "SET ROLE fleet_owner",
        "SET ROLE fleet_system",
        "SET SESSION AUTHORIZATION fleet_system",
        "SET session_replication_role = replica",
        "CREATE TABLE public.mine (tenant_id uuid)",
        "ALTER TABLE vehicles DISABLE ROW LEVEL SECURITY",
        "TRUNCATE vehicles",
        "CREATE FUNCTION public.app_tenant_id() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY tenants TO PROGRAM 'cat'",
        "SET row_security = off; SELECT * FROM vehicles",
        "INSERT INTO job_definitions SELECT * FROM job_definitions",
        "INSERT INTO job_controls (kind, name, paused_by) VALUES ('queue', 'lifecycle', 'me')",
        "UPDATE schedule_ticks SET last_tick_at = now()",
        "DELETE FROM worker_heartbeats",
        "UPDATE alembic_version SET version_num = '0001'",
    ],
)
def test_no_role_of_tenants_work_escapes(tenants: TwoTenants, role: str, escape: str) -> None:
    with _as(tenants, role, tenants.mine) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(escape.encode())


def test_partitions_cannot_be_reached_past_their_table_nor_those_of_next_month(tenants: TwoTenants) -> None:
    engine = create_engine(tenants.database.system_url)
    with engine.begin() as owner:
        owner.execute(text("SET LOCAL ROLE fleet_owner"))
        make_partitions(owner, datetime.now(UTC) + timedelta(days=30))
    engine.dispose()
    parts = [each for each in relations(tenants.admin) if each.is_partition]
    assert bool(parts) != has_hypertables(tenants.admin)
    hidden = [f"public.{each.name}" for each in parts]
    if has_hypertables(tenants.admin):
        chunks = tenants.admin.execute(
            "SELECT format('%I.%I', chunk_schema, chunk_name) AS name FROM timescaledb_information.chunks"
        ).fetchall()
        hidden = [f"hyper.{series.table}" for series in SERIES] + [row["name"] for row in chunks]
    assert len(hidden) >= 8
    for role in ROLES:
        with _as(tenants, role, tenants.mine) as connection:
            for table in hidden:
                for statement in (
                    f"SELECT 1 FROM {table}",
                    f"DELETE FROM {table}",
                    f"INSERT INTO {table} DEFAULT VALUES",
                ):
                    assert _attempt(connection, sql.SQL(statement))[0] == "42501", (role, statement)


@pytest.mark.parametrize("role", ["fleet_app", "fleet_readonly"])
@pytest.mark.parametrize(
    "look",
    [
        "SELECT credentials_encrypted FROM connections",
        "SELECT * FROM connections",
        "SELECT to_jsonb(c) FROM connections c",
        "SELECT c FROM connections c",
        "SELECT 1 FROM connections WHERE credentials_encrypted = ''",
        "SELECT id FROM connections ORDER BY credentials_encrypted",
        "SELECT string_agg(credentials_encrypted, '') FROM connections",
        "COPY connections TO STDOUT",
        "UPDATE connections SET name = name RETURNING credentials_encrypted",
        "SELECT stavalues1 FROM pg_statistic",
    ],
)
def test_other_applications_read_no_credentials_in_any_way(tenants: TwoTenants, role: str, look: str) -> None:
    with _as(tenants, role, tenants.mine) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(look.encode())


SECRETS = {
    "connections": {"credentials_encrypted"},
    "users": {"password_hash", "mfa_secret_encrypted"},
    "residents": {"medical_notes_encrypted"},
    "person_keys": {"wrapped_key"},
}
"""Columns that open something."""

_COLUMN_RIGHTS = """
    SELECT a.attname AS name, has_column_privilege(%s, a.attrelid, a.attnum, 'SELECT') AS may
    FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""


@pytest.mark.parametrize(
    ("role", "kept"),
    [
        ("fleet_system", set()),
        ("fleet_worker", {"users", "residents"}),
        ("fleet_app", {"connections", "person_keys"}),
        ("fleet_readonly", set(SECRETS)),
    ],
)
def test_secrets_are_read_only_by_the_roles_that_need_them_and_the_rest_by_all(
    tenants: TwoTenants, role: str, kept: set[str]
) -> None:
    for table, secrets in SECRETS.items():
        rows = tenants.admin.execute(_COLUMN_RIGHTS, [role, table]).fetchall()
        assert secrets <= {row["name"] for row in rows}
        hidden = {row["name"] for row in rows if not row["may"]}
        if table == "person_keys" and table in kept:
            assert hidden == {row["name"] for row in rows}, "nothing of it"
        else:
            assert hidden == (secrets if table in kept else set()), table


@pytest.mark.parametrize(
    ("role", "look"),
    [
        (role, look)
        for role in ("fleet_worker", "fleet_readonly")
        for look in (
            "SELECT password_hash FROM users",
            "SELECT mfa_secret_encrypted FROM users",
            "SELECT * FROM users",
            "SELECT to_jsonb(u) FROM users u",
            "SELECT 1 FROM users WHERE password_hash LIKE '$2b$%'",
            "COPY users TO STDOUT",
            "SELECT medical_notes_encrypted FROM residents",
            "SELECT r FROM residents r",
            "SELECT id FROM residents ORDER BY medical_notes_encrypted",
        )
    ]
    + [(role, "SELECT person_id FROM person_keys") for role in ("fleet_app", "fleet_readonly")],
)
def test_secrets_of_people_are_read_in_no_way_by_other_roles(tenants: TwoTenants, role: str, look: str) -> None:
    with _as(tenants, role, tenants.mine) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(look.encode())


def test_a_worker_reads_the_credentials_of_its_tenant_only(tenants: TwoTenants) -> None:
    with _as(tenants, "fleet_worker", tenants.mine) as connection:
        rows = connection.execute(
            "SELECT tenant_id FROM connections WHERE credentials_encrypted IS NOT NULL"
        ).fetchall()
        assert [row["tenant_id"] for row in rows] == [tenants.mine]
        theirs = "UPDATE connections SET credentials_encrypted = '' WHERE tenant_id = %s"
        assert connection.execute(theirs, [tenants.theirs]).rowcount == 0


@pytest.mark.parametrize("role", ["fleet_worker", "fleet_app"])
@pytest.mark.parametrize("series", [series.table for series in SERIES])
def test_the_time_series_keys_of_another_tenants_vehicle_cannot_be_occupied(
    tenants: TwoTenants, role: str, series: str
) -> None:
    key, owners = ("sensor_id", "sensors") if series == "sensor_readings" else ("vehicle_id", "vehicles")
    needed = {"vehicle_logs": ("level, message", "'info', 'x'"), "sensor_readings": ("value", "1")}
    names, values = needed.get(series, ("raw", "'{}'"))
    insert = f"INSERT INTO {series} (tenant_id, {key}, time, {names}) VALUES (%s, %s, now(), {values})"

    def owned_by(tenant_id: UUID) -> UUID:
        (row,) = tenants.admin.execute(f"SELECT id FROM {owners} WHERE tenant_id = %s".encode(), [tenant_id]).fetchall()
        found: UUID = row["id"]
        return found

    with _as(tenants, role, tenants.mine) as connection:
        for then in ("", " ON CONFLICT DO NOTHING"):
            statement = sql.SQL(insert + then)
            refusal, *_ = _attempt(connection, statement, tenants.mine, owned_by(tenants.theirs))
            assert refusal == "44000"
            refusal, _, touched = _attempt(connection, statement, tenants.mine, owned_by(tenants.mine))
            assert (refusal, touched) == (None, 1)
        if role == "fleet_worker":
            moved = sql.SQL(f"UPDATE {series} SET {key} = %s")
            assert _attempt(connection, moved, owned_by(tenants.theirs))[0] == "44000"


def test_only_owner_and_system_see_past_the_policies_and_nobody_is_a_superuser(tenants: TwoTenants) -> None:
    rows = tenants.admin.execute("SELECT * FROM pg_roles WHERE rolname LIKE 'fleet%'").fetchall()
    assert {row["rolname"] for row in rows if row["rolbypassrls"]} == {"fleet_owner", "fleet_system"}
    assert [row["rolname"] for row in rows if row["rolsuper"] or row["rolcreaterole"] or row["rolreplication"]] == []
    assert {row["rolname"] for row in rows if not row["rolcanlogin"]} == {"fleet_owner"}
    members = tenants.admin.execute(
        "SELECT member::regrole::text AS who FROM pg_auth_members WHERE roleid = 'fleet_owner'::regrole"
    ).fetchall()
    assert {row["who"] for row in members} == {"fleet_migrator", "fleet_system"}


def test_what_runs_as_its_owner_has_a_path_of_its_own(tenants: TwoTenants) -> None:
    rows = tenants.admin.execute(
        "SELECT p.oid::regprocedure::text AS name, p.proconfig AS config FROM pg_proc p"
        " WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef"
        " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
    ).fetchall()
    assert len(rows) >= 4
    for row in rows:
        (path,) = [setting for setting in row["config"] or [] if setting.startswith("search_path=")]
        assert path.startswith("search_path=pg_catalog"), row["name"]
        assert path.endswith("pg_temp"), row["name"]


CALLABLE = {
    "app_tenant_id": {"fleet_migrator", "fleet_worker", "fleet_system", "fleet_app", "fleet_readonly"},
    "enqueue_job": {"fleet_worker", "fleet_system", "fleet_app"},
    "enqueue_jobs": {"fleet_worker", "fleet_system", "fleet_app"},
    "job_unique_key": {"fleet_system"},
}
"""Who may call what; any other function is the owner's, also a trigger's: it fires without."""


def test_every_function_is_only_for_the_roles_that_call_it(tenants: TwoTenants) -> None:
    rows = tenants.admin.execute(
        "SELECT p.proname AS name, has_function_privilege('public', p.oid, 'EXECUTE') AS is_open,"
        " ARRAY(SELECT r.rolname::text FROM aclexplode(p.proacl) a JOIN pg_roles r ON r.oid = a.grantee"
        "       WHERE a.grantee <> p.proowner) AS callers"
        " FROM pg_proc p WHERE p.pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'hyper'))"
        " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
    ).fetchall()
    assert len(rows) >= 18
    assert [row["name"] for row in rows if row["is_open"]] == []
    assert {row["name"]: set(row["callers"]) for row in rows if row["callers"]} == CALLABLE


def test_nothing_is_granted_to_everybody(tenants: TwoTenants) -> None:
    for each in relations(tenants.admin):
        (row,) = tenants.admin.execute(
            "SELECT has_table_privilege('public', %s::regclass, 'SELECT, INSERT, UPDATE, DELETE') AS any",
            [f"public.{each.name}"],
        ).fetchall()
        assert not row["any"], each.name
