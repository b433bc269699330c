"""What the database says that it contains, and a row of a tenant for anything that can hold one."""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

Connection = psycopg.Connection[dict[str, Any]]

GLOBAL = {
    "alembic_version",
    "channel_outages",
    "job_controls",
    "job_definitions",
    "permissions",
    "role_permissions",
    "roles",
    "schedule_ticks",
    "worker_heartbeats",
}
"""Relations of the whole platform; every other one has a tenant."""

_RELATIONS = """
    SELECT c.relname AS name, c.relkind::text AS kind, c.relispartition AS is_partition,
           c.relrowsecurity AS is_secured, c.relforcerowsecurity AS is_forced, c.reloptions AS options,
           CASE WHEN c.relname = 'tenants' THEN 'id'
                WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
                THEN 'tenant_id' END AS tenant_column
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.relname
"""
_COLUMNS = """
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
           a.attnotnull AND NOT a.atthasdef AS is_needed,
           (SELECT string_agg(pg_get_constraintdef(k.oid), ' ') FROM pg_constraint k
            WHERE k.conrelid = a.attrelid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum]) AS check
    FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_VALUES = {
    "uuid": "gen_random_uuid()",
    "uuid[]": "'{}'",
    "text": "gen_random_uuid()::text",
    "text[]": "'{}'",
    "timestamp with time zone": "now()",
    "date": "current_date",
    "bytea": "'\\x00'",
    "jsonb": "'{}'",
    "boolean": "true",
    "smallint": "1",
    "integer": "1",
    "bigint": "1",
    "real": "1",
    "double precision": "1",
    "numeric": "1",
    "numeric(10,2)": "1",
    "inet": "'::1'",
}
_ALSO = {
    ("tenants", "slug"): "'t-' || gen_random_uuid()",
    ("person_keys", "wrapped_key"): "'\\x00'",
    ("geofences", "boundary"): '\'{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}\'',
    ("geofences", "name"): "gen_random_uuid()",
    ("maintenance_schedules", "vehicle_type"): "'van'",
    ("maintenance_schedules", "interval_days"): "30",
    ("maintenance_triggers", "base_on"): "'2020-01-01'",
    ("maintenance_triggers", "interval_days"): "30",
}
"""What constraints over several columns, or over a pattern, ask for."""


@dataclass(frozen=True)
class Relation:
    """A table, partition or view of schema public."""

    name: str
    kind: str
    is_partition: bool
    is_secured: bool
    is_forced: bool
    options: list[str] | None
    tenant_column: str | None


def connect(url: str) -> Connection:
    """Connect so that each statement is its own transaction, unless one is opened."""
    return psycopg.connect(url, autocommit=True, row_factory=dict_row)


def relations(admin: Connection) -> list[Relation]:
    """Return every relation of schema public that is not an extension's."""
    return [Relation(**row) for row in admin.execute(_RELATIONS)]


def tenant_relations(admin: Connection) -> list[Relation]:
    """Return the relations that hold rows of tenants, partitions aside."""
    return [each for each in relations(admin) if each.tenant_column and not each.is_partition]


def has_hypertables(admin: Connection) -> bool:
    """Tell whether TimescaleDB stores the time series."""
    return admin.execute("SELECT to_regclass('hyper.telemetry') AS found").fetchall()[0]["found"] is not None


def storage(admin: Connection, relation: str) -> str:
    """Return what holds the relation's rows: a view of a hypertable shows another table's."""
    hyper = admin.execute("SELECT to_regclass('hyper.' || %s) AS found", [relation]).fetchall()[0]["found"]
    return str(hyper or relation)


def fill(admin: Connection, tenant_id: UUID) -> None:
    """Give a tenant one row in every table that can hold one, related or not."""
    with admin.transaction():
        admin.execute("SET LOCAL session_replication_role = replica")  # no foreign keys, no triggers
        for relation in tenant_relations(admin):
            if relation.kind != "v" or storage(admin, relation.name) != relation.name:
                _insert(admin, relation, tenant_id)
        _relate(admin, tenant_id)


def _insert(admin: Connection, relation: Relation, tenant_id: UUID) -> None:
    table = storage(admin, relation.name)
    names, values = [], []
    for column in admin.execute(_COLUMNS, [table]).fetchall():
        if column["name"] == relation.tenant_column:
            names.append(column["name"])
            values.append(f"'{tenant_id}'")
        elif column["is_needed"] or (relation.name, column["name"]) in _ALSO:
            names.append(column["name"])
            values.append(_value(relation.name, column))
    statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(values)})"
    admin.execute(statement.encode())


def _value(relation: str, column: dict[str, Any]) -> str:
    if allowed := re.search(r"ARRAY\['([^']*)'", column["check"] or ""):
        return f"'{allowed[1]}'"
    if (relation, column["name"]) in _ALSO:
        return _ALSO[relation, column["name"]]
    assert column["type"] in _VALUES, f"{relation}.{column['name']}: no value for type {column['type']} in catalogue.py"
    return _VALUES[column["type"]]


def _relate(admin: Connection, tenant_id: UUID) -> None:
    """Let positions, time series and triggers be of the tenant's own vehicle, so that only the tenant is wrong."""
    owned = [("vehicle_positions", "vehicle_id"), ("sensor_readings", "sensor_id")]
    owned += [(series, "vehicle_id") for series in ("telemetry", "ev_metrics", "vehicle_logs")]
    owned += [("maintenance_triggers", "vehicle_id"), ("maintenance_triggers", "schedule_id")]
    of_column = {"vehicle_id": "vehicles", "sensor_id": "sensors", "schedule_id": "maintenance_schedules"}
    for relation, column in owned:
        owners = of_column[column]
        own = f"(SELECT id FROM {owners} WHERE tenant_id = %(t)s LIMIT 1)"
        statement = f"UPDATE {storage(admin, relation)} SET {column} = {own} WHERE tenant_id = %(t)s"
        admin.execute(statement.encode(), {"t": tenant_id})


def identifier(relation: Relation) -> sql.Identifier:
    """Return the relation's name for a statement."""
    return sql.Identifier(relation.name)
