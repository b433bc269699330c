"""What other applications write and our jobs read: bounded where it is written, mended where it was before."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from db.migrate import head, upgrade
from tests.factories import make_tenant
from tests.notifications.conftest import Desk, Inbox
from tests.schema.older import database_at
from tests.servers import Database, PostgresServer

BOMB = "1e131071"
"""A number of 12 bytes whose text has 131,072 digits."""
_MANY = ", ".join([BOMB] * 8300)
OBJECTS = ("alerts.details", "anomaly_alerts.details")
ARRAYS = ("inspections.defects", "maintenance_schedules.checklist")
TEXTS = (
    *("alerts.message", "vehicles.name", "vehicles.vehicle_type", "users.first_name", "users.last_name"),
    *("users.locale", "maintenance_schedules.description", "maintenance_schedules.vehicle_type"),
)
BAD_OBJECTS = (
    *(
        '{"a": ' + "[" * 100 + "]" * 100 + "}",
        f'{{"a": [{_MANY}]}}',
        f'{{"a": {BOMB}}}',
        f'{{"a": {{"b": [-{BOMB}]}}}}',
        "[]",
        "1",
    ),
    '{"a": "' + "x" * 65536 + '"}',
    '{"a": [' + ", ".join(["1e-16383"] * 100) + "]}",
)
BAD_ARRAYS = (f"[{_MANY}]", f"[[{BOMB}]]", "{}", '["' + "x" * 65536 + '"]')


def _fill(admin: psycopg.Connection, slug: str = "acme") -> None:
    """Write one row of each table."""
    admin.execute(
        """
        WITH v AS (INSERT INTO vehicles (tenant_id, name) VALUES (%(t)s, 'Van 1') RETURNING id),
        u AS (INSERT INTO users (tenant_id, email) VALUES (%(t)s, 'ann@acme.example')),
        a AS (INSERT INTO anomaly_alerts (tenant_id, vehicle_id, kind, severity, message, detected_at)
              SELECT %(t)s, id, 'x', 'low', 'x', now() FROM v),
        i AS (INSERT INTO inspections (tenant_id, vehicle_id, kind, result, inspected_at)
              SELECT %(t)s, id, 'other', 'passed', now() FROM v),
        s AS (INSERT INTO maintenance_schedules (tenant_id, vehicle_type, name, interval_days)
              VALUES (%(t)s, 'van', 'x', 30))
        INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at)
        SELECT %(t)s, 'x', 'low', 'x', 'x', now() FROM v
        """,
        {"t": make_tenant(admin, slug)},
    )


def _get(admin: psycopg.Connection, column: str) -> Any:
    table, name = column.split(".")
    row = admin.execute(f"SELECT {name} FROM {table}".encode()).fetchone()
    return row and row[0]


def _set(admin: psycopg.Connection, column: str, value: Any) -> None:
    table, name = column.split(".")
    admin.execute(f"UPDATE {table} SET {name} = %s".encode(), [value])


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection]:
    """A connection to a database with one row of each table."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        _fill(connection)
        yield connection


@pytest.mark.parametrize(
    ("column", "document"),
    [
        *((column, bad) for column in OBJECTS for bad in BAD_OBJECTS),
        *((column, bad) for column in ARRAYS for bad in BAD_ARRAYS),
    ],
)
def test_a_document_that_is_none_or_that_nobody_could_read_is_refused(
    admin: psycopg.Connection, column: str, document: str
) -> None:
    with pytest.raises(psycopg.Error, match=f"ck_{column.replace('.', '_')}|string buffer"):
        _set(admin, column, document)
    assert _get(admin, column) in ({}, [])


@pytest.mark.parametrize("column", TEXTS)
def test_a_text_has_a_length(admin: psycopg.Connection, column: str) -> None:
    if column.endswith("_schedules.vehicle_type"):
        admin.execute("UPDATE maintenance_schedules SET vehicle_id = NULL")
    _set(admin, column, "x" * 10_000)
    with pytest.raises(psycopg.errors.CheckViolation, match=f"ck_{column.replace('.', '_')}_size"):
        _set(admin, column, "x" * 300_000)


def test_what_people_write_fits(admin: psycopg.Connection) -> None:
    _set(admin, "maintenance_schedules.checklist", Jsonb(["ö" * 100] * 200))
    _set(admin, "alerts.details", Jsonb({"deep": [[[1e300, -1e300, "1e131071", None]]]}))


@pytest.mark.parametrize("column", OBJECTS)
def test_a_document_is_bounded_by_its_text_and_not_by_how_it_is_stored(admin: psycopg.Connection, column: str) -> None:
    numbers = [n % 10 for n in range(21_800)]  # 261 KB as they are stored
    _set(admin, column, Jsonb({"n": numbers}))
    assert _get(admin, column) == {"n": numbers}
    with pytest.raises(psycopg.errors.CheckViolation, match=f"ck_{column.replace('.', '_')}_size"):
        _set(admin, column, Jsonb({"n": [*numbers, *[0] * 50]}))


def test_a_list_is_bounded_by_its_text(admin: psycopg.Connection) -> None:
    _set(admin, "alerts.recipients", ["x" * 32_000, "y" * 33_535])
    with pytest.raises(psycopg.errors.CheckViolation, match="ck_alerts_recipients_size"):
        _set(admin, "alerts.recipients", ["x" * 32_000, "y" * 33_536])


@pytest.mark.parametrize("bomb", BAD_OBJECTS[:4])
def test_one_tenants_document_that_nobody_could_read_stops_no_mail_of_another(
    told: Desk, inbox: Inbox, bomb: str
) -> None:
    other = Desk(told.platform, "other")
    with psycopg.connect(told.platform.urls.app_url) as application:
        application.execute("SELECT set_config('app.tenant_id', %s, true)", [str(other.tenant_id)])
        with pytest.raises(psycopg.Error, match=r"ck_alerts_details_size|string buffer"):
            application.execute(
                "INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at, details, recipients)"
                " VALUES (app_tenant_id(), 'offline', 'critical', 'x', 'x', now(), %s, '{bob@other.example}')",
                [bomb],
            )
    told.alert(vehicle_id=told.vehicle("Van 12"))
    told.deliver()
    assert inbox.to == ["ann@acme.example"]


_DEFINED = """
    INSERT INTO job_definitions (job, queue, scope, is_public, max_attempts, priority, parameters, description)
    VALUES ('x.y', 'lifecycle', 'tenant', true, 1, 100, '{"a": {"type": "any", "required": false}}', '')
"""


@pytest.mark.parametrize(
    ("arguments", "told_of"),
    [
        ('{"a": "' + "x" * 70_000 + '"}', "arguments: 700[0-9]{2} bytes, more than 65536"),
        (f'{{"a": [[{BOMB}]]}}', "arguments: a number beyond 1e300"),
        ('{"a": ' + "[" * 99 + "]" * 99 + "}", "arguments: nested deeper than 64 levels"),
    ],
)
@pytest.mark.parametrize("door", ["enqueue_job('x.y', %s::jsonb)", "enqueue_jobs('x.y', ARRAY['{}', %s]::jsonb[])"])
def test_arguments_have_a_size(told: Desk, arguments: str, told_of: str, door: str) -> None:
    told.admin.execute(_DEFINED.encode())
    with psycopg.connect(told.platform.urls.app_url) as application:
        application.execute("SELECT set_config('app.tenant_id', %s, true)", [str(told.tenant_id)])
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=told_of):
            application.execute(f"SELECT {door}".encode(), [arguments])


def test_arguments_are_bounded_by_their_text(told: Desk) -> None:
    told.admin.execute(_DEFINED.encode())
    for count in (21_800, 21_850):
        arguments = Jsonb({"a": [n % 10 for n in range(count)]})
        if count == 21_800:
            told.admin.execute("SELECT enqueue_job('x.y', %s, tenant_id => %s)", [arguments, told.tenant_id])
            told.admin.execute("UPDATE job_runs SET priority = 5 WHERE job = 'x.y'")
        else:
            with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"arguments: 655\d\d bytes, more than"):
                told.admin.execute("SELECT enqueue_job('x.y', %s, tenant_id => %s)", [arguments, told.tenant_id])


def test_what_the_bounds_of_before_have_let_pass_can_be_written_again_and_restored(
    postgres_server: PostgresServer,
) -> None:
    """Stored it was small, because it is compressed."""
    with (
        database_at(postgres_server, "0012") as older,
        psycopg.connect(older.admin_url, autocommit=True) as admin,
    ):
        _fill(admin)
        numbers = [n % 10 for n in range(10_000)]
        admin.execute(
            "UPDATE alerts SET details = %s, recipients = ARRAY[repeat('x', 3000000)]", [Jsonb({"n": numbers})]
        )
        admin.execute(
            "INSERT INTO job_runs (job, queue, tenant_id, args, state)"
            " SELECT 'x.y', 'x', id, '{\"a\": 1}', 'pending' FROM tenants"
        )
        upgrade(older.migrator_url)
        assert admin.execute("SELECT details, recipients FROM alerts").fetchall() == [({"n": numbers}, [])]
        admin.execute("""UPDATE alerts SET details = details || '{"seen": true}'""")
        for table in ("alerts", "job_runs"):
            admin.execute(f"CREATE TABLE restored (LIKE {table} INCLUDING CONSTRAINTS)".encode())
            with admin.cursor() as cursor:
                with cursor.copy(f"COPY {table} TO STDOUT".encode()) as dump:
                    rows = [bytes(row) for row in dump]
                with cursor.copy(b"COPY restored FROM STDIN") as restore:
                    for row in rows:
                        restore.write(row)
            assert admin.execute("SELECT count(*) FROM restored").fetchone() == (1,)
            admin.execute("DROP TABLE restored")


def test_arguments_that_were_replayed_by_the_release_before_are_refused_or_dropped(
    postgres_server: PostgresServer,
) -> None:
    """It weighed them as they are stored, and what is stored is compressed."""
    with (
        database_at(postgres_server, "0018") as older,
        psycopg.connect(older.admin_url, autocommit=True) as admin,
    ):
        tenant_id = make_tenant(admin)
        admin.execute(
            "INSERT INTO job_runs (job, queue, tenant_id, args, state, finished_at)"
            " SELECT 'x.y', 'x', %s, jsonb_build_object('a', repeat('x', 1000000), 'b', n), 'failed', now()"
            " FROM generate_series(1, 3) n",
            [tenant_id],
        )
        admin.execute("UPDATE job_runs SET state = 'pending', finished_at = NULL WHERE args @> '{\"b\": 1}'")
        admin.execute(
            "UPDATE job_runs SET state = 'running', finished_at = NULL, claim_token = gen_random_uuid()"
            " WHERE args @> '{\"b\": 2}'"
        )
        upgrade(older.migrator_url)
        dropped = {"dropped": "more than 65536 bytes"}
        runs = admin.execute("SELECT state, args - 'a', error ->> 'type' FROM job_runs ORDER BY state, args").fetchall()
        assert sorted(runs, key=str) == [
            ("failed", {"b": 3}, None),
            ("failed", dropped, "InvalidArguments"),
            ("running", dropped, None),
        ]


@pytest.fixture
def older(postgres_server: PostgresServer) -> Iterator[Database]:
    """A database of the release before the bounds."""
    with database_at(postgres_server, "0015") as database:
        yield database


def test_rows_that_nobody_could_read_do_not_stop_the_migration(older: Database) -> None:
    deep = "[" * 3000 + "]" * 3000
    with psycopg.connect(older.admin_url, autocommit=True) as admin:
        _fill(admin)
        _fill(admin, "other")
        of_other = "WHERE tenant_id = (SELECT id FROM tenants WHERE slug = 'other')"
        admin.execute(f"UPDATE alerts SET details = %s {of_other}".encode(), [f'{{"checklist": [{_MANY}], "b": 1}}'])
        admin.execute(f"UPDATE anomaly_alerts SET details = %s {of_other}".encode(), [f'{{"a": {deep}}}'])
        admin.execute(f"UPDATE inspections SET defects = %s {of_other}".encode(), [f"[{_MANY}]"])
        admin.execute(
            f"UPDATE maintenance_schedules SET checklist = to_jsonb(ARRAY[repeat('x', 99999)]) {of_other}".encode()
        )
        admin.execute(f"UPDATE vehicles SET name = repeat('x', 1000000) {of_other}".encode())
        admin.execute(f"UPDATE alerts SET message = repeat('ö', 1000000) {of_other}".encode())
        for state in ("pending", "running", "failed"):
            admin.execute(
                "INSERT INTO job_runs (job, queue, tenant_id, args, state, claim_token, finished_at)"
                " SELECT 'x.y', 'x', t.id, x.args::jsonb, %(state)s,"
                "        CASE %(state)s WHEN 'running' THEN gen_random_uuid() END,"
                "        CASE %(state)s WHEN 'failed' THEN now() END"
                " FROM tenants t, (VALUES (%(bomb)s), ('{}')) AS x (args) WHERE slug = 'other'",
                {"state": state, "bomb": f'{{"a": [{_MANY}]}}'},
            )

        assert upgrade(older.migrator_url) == ("0015", head())

        def of(column: str) -> list[Any]:
            table, name = column.split(".")
            rows = admin.execute(
                f"SELECT x.{name} FROM {table} x JOIN tenants t ON t.id = x.tenant_id ORDER BY slug".encode()
            )
            return [row[0] for row in rows]

        dropped = {"dropped": "more than 65536 bytes"}
        assert of("alerts.details") == [{}, {"b": 1}]
        assert of("anomaly_alerts.details") == [{}, dropped]
        assert of("inspections.defects") == [[], []]
        assert of("maintenance_schedules.checklist") == [[], []]
        assert [len(name) for name in of("vehicles.name")] == [5, 16_384]
        assert [len(message) for message in of("alerts.message")] == [1, 65_536]
        runs = admin.execute(
            "SELECT state, args, error ->> 'type' FROM job_runs WHERE state <> 'failed' OR error IS NOT"
            " NULL ORDER BY state, args"
        ).fetchall()
        assert runs == [
            ("failed", dropped, "InvalidArguments"),
            ("pending", {}, None),
            ("running", {}, None),
            ("running", dropped, None),
        ]
