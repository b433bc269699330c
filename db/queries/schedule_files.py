"""Schedules from a file into the table and back, known by vehicle or type, and name. Transactions of one tenant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from db.queries.maintenance_schedules import WITHOUT_LOOPS
from db.queries.work_order_numbers import hold

_TENANT = "(SELECT app_tenant_id())"
BLANK = " \t\r\n\u00a0"
"""What stands around names in tables that people typed, and is no part of them."""


def _bare(name: str) -> str:
    return f"btrim({name}, E' \\t\\r\\n\\u00a0')"


# The columns that a file may give: their types, and what an empty one is in a table that never leaves them NULL.
_GIVEN = {
    "description": ("text", "NULL"),
    "interval_days": ("integer", "NULL"),
    "interval_months": ("integer", "NULL"),
    "interval_distance": ("float8", "NULL"),
    "distance_unit": ("text", "'km'"),
    "interval_engine_hours": ("float8", "NULL"),
    "anchor": ("text", "'completion'"),
    "start_on": ("date", "NULL"),
    "start_km": ("float8", "NULL"),
    "start_engine_hours": ("float8", "NULL"),
    "soon_days": ("integer", "14"),
    "soon_km": ("float8", "1000"),
    "soon_engine_hours": ("float8", "25"),
    "tolerance_days": ("integer", "3"),
    "tolerance_km": ("float8", "250"),
    "tolerance_engine_hours": ("float8", "10"),
    "checklist": ("jsonb", "'[]'"),
    "priority": ("text", "'medium'"),
    "vendor": ("text", "NULL"),
    "facility": ("text", "NULL"),
    "is_active": ("boolean", "true"),
}
COLUMNS = ("vehicle", "vehicle_type", "name", *_GIVEN)
"""What a file may say of a schedule. `vehicle`, `vendor` and `facility` are names for the ids of the table."""

_REFERENCES = {"vendor": "vendors", "facility": "facilities"}
_STORED = [f"{name}_id" if name in _REFERENCES else name for name in _GIVEN]


def _found(name: str) -> str:
    """Who or what a reference means: an id, of what was deleted too, or the name of what is there."""
    rows = f"FROM {_REFERENCES[name]} WHERE tenant_id = {_TENANT}"
    return f"""
    found_{name} AS (
        SELECT DISTINCT ON (w.reference) w.reference, m.id
        FROM (SELECT DISTINCT {name} AS reference FROM given WHERE {name} IS NOT NULL) w
        JOIN (SELECT CAST(id AS text) AS reference, id, 1 AS place {rows}
              UNION ALL SELECT {_bare("name")}, id, 2 {rows} AND deleted_at IS NULL) m
            ON m.reference = w.reference
        ORDER BY w.reference, m.place, m.id
    )"""


def _after(name: str) -> str:
    """What a column becomes: what the file says, its default where that is nothing; what is where it says nothing."""
    stored = f"{name}_id" if name in _REFERENCES else name
    given = f"{name}.id" if name in _REFERENCES else f"coalesce(g.{name}, {_GIVEN[name][1]})"
    return f"CASE WHEN s.id IS NULL OR g.said ? '{name}' THEN {given} ELSE s.{stored} END AS {stored}"


def _subject(alias: str) -> str:
    """What a schedule is for, as one value that rows can be joined by."""
    return f"coalesce('vehicle ' || {alias}.vehicle_id, 'type ' || {_bare(f'{alias}.vehicle_type')})"


_INTERVALS = "p.interval_days, p.interval_months, p.interval_distance, p.interval_engine_hours"
# An id is meant before a VIN, a VIN before a name. Materialized, so that each side is gone through once: of how many
# rows the file has the planner knows nothing.
_PLAN = f"""
    given AS MATERIALIZED (
        SELECT r.*, o.*
        FROM jsonb_to_recordset(:rows)
                 AS r (line integer, vehicle text, vehicle_type text, name text, said jsonb),
             jsonb_to_record(r.said) AS o ({", ".join(f"{name} {kind}" for name, (kind, _) in _GIVEN.items())})
    ),
    wanted AS MATERIALIZED (
        SELECT DISTINCT g.vehicle AS reference, k.place, k.key FROM given g,
            LATERAL (VALUES (1, lower(g.vehicle)), (2, lower(g.vehicle)), (3, g.vehicle)) AS k (place, key)
        WHERE g.vehicle IS NOT NULL
    ),
    called AS MATERIALIZED (
        SELECT v.id, k.place, k.key FROM vehicles v,
            LATERAL (VALUES (1, CAST(v.id AS text)), (2, lower({_bare("v.vin")})), (3, {_bare("v.name")}))
                AS k (place, key)
        WHERE v.tenant_id = {_TENANT} AND v.deleted_at IS NULL
    ),
    found_vehicle AS (
        SELECT reference, (array_agg(id))[1] AS id, count(*) AS found
        FROM (
            SELECT w.reference, c.id, w.place, min(w.place) OVER (PARTITION BY w.reference) AS nearest
            FROM wanted w JOIN called c ON c.place = w.place AND c.key = w.key
        ) n
        WHERE place = nearest GROUP BY reference
    ),
    {", ".join(map(_found, _REFERENCES))},
    meant AS (
        SELECT g.*, v.id AS vehicle_id, v.found AS vehicles_found
        FROM given g LEFT JOIN found_vehicle v ON v.reference = g.vehicle
    ),
    known AS (
        SELECT {_subject("s")} AS subject, {_bare("s.name")} AS name, (array_agg(s.id))[1] AS id, count(*) AS found
        FROM maintenance_schedules s WHERE s.tenant_id = {_TENANT} AND s.deleted_at IS NULL GROUP BY 1, 2
    ),
    planned AS MATERIALIZED (
        SELECT g.line, g.name, g.vehicle, g.vehicle_id, g.vehicle_type, g.vehicles_found, s.id AS schedule_id,
               k.found AS schedules_found, g.vendor, g.facility,
               first_value(g.line) OVER (PARTITION BY {_subject("g")}, g.name ORDER BY g.line) AS first_line,
               {", ".join(map(_after, _GIVEN))}
        FROM meant g
        LEFT JOIN found_vendor vendor ON vendor.reference = g.vendor
        LEFT JOIN found_facility facility ON facility.reference = g.facility
        LEFT JOIN known k ON k.subject = {_subject("g")} AND k.name = g.name
        LEFT JOIN maintenance_schedules s ON s.id = k.id
    ),
    plan AS MATERIALIZED (
        SELECT p.*,
               CASE WHEN s.id IS NULL THEN 'added'
                    WHEN ({", ".join(f"p.{name}" for name in _STORED)})
                         IS DISTINCT FROM ({", ".join(f"s.{name}" for name in _STORED)}) THEN 'changed'
                    ELSE 'unchanged' END AS outcome,
               CASE WHEN p.vehicle IS NOT NULL AND p.vehicle_id IS NULL
                        THEN 'vehicle: none has this VIN, id or name'
                    WHEN p.vehicles_found > 1
                        THEN 'vehicle: ' || p.vehicles_found || ' have this name: give the VIN or the id'
                    WHEN p.vendor IS NOT NULL AND p.vendor_id IS NULL THEN 'vendor: none has this name'
                    WHEN p.facility IS NOT NULL AND p.facility_id IS NULL THEN 'facility: none has this name'
                    WHEN p.first_line < p.line THEN 'name: the same as in ' || p.first_line
                    WHEN p.schedules_found > 1
                        THEN 'name: ' || p.schedules_found || ' schedules have it already: remove all but one'
                    WHEN num_nonnulls({_INTERVALS}) = 0
                        THEN 'interval_days, interval_months, interval_distance, interval_engine_hours: all are missing'
               END AS problem
        FROM planned p LEFT JOIN maintenance_schedules s ON s.id = p.schedule_id
    )
"""
_JUDGE = text(f"WITH {_PLAN} SELECT line, outcome, problem FROM plan ORDER BY line").bindparams(
    bindparam("rows", type_=JSONB)
)
_PUT = text(
    f"""
    WITH {_PLAN},
    changed AS (
        UPDATE maintenance_schedules s SET {", ".join(f"{name} = p.{name}" for name in _STORED)}
        FROM plan p WHERE s.id = p.schedule_id AND p.problem IS NULL AND p.outcome = 'changed'
        RETURNING 1
    ),
    added AS (
        INSERT INTO maintenance_schedules (tenant_id, vehicle_id, vehicle_type, name, {", ".join(_STORED)})
        SELECT app_tenant_id(), p.vehicle_id, p.vehicle_type, p.name, {", ".join(f"p.{name}" for name in _STORED)}
        FROM plan p WHERE p.problem IS NULL AND p.outcome = 'added' ORDER BY p.line
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM added), (SELECT count(*) FROM changed)
    """
).bindparams(bindparam("rows", type_=JSONB))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a line of a file: added, changed or unchanged, unless there is a problem."""

    line: int
    outcome: str
    problem: str | None


def judge_schedules(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[Verdict]:
    """Say what each row would become, by line; nothing is written.

    No constraint keeps two schedules of a vehicle or type from having one name. Who means to put them holds the
    tenant's counter first, so that of two imports at once the second finds what the first has put.

    Args:
        rows: `line`, `vehicle` or `vehicle_type`, `name`, and `said`: what else the file gives, of `COLUMNS`.
    """
    connection.execute(WITHOUT_LOOPS)
    return [Verdict(*row) for row in connection.execute(_JUDGE, {"rows": list(rows)})]


def put_schedules(connection: Connection, rows: Sequence[dict[str, Any]], now: datetime) -> tuple[int, int]:
    """Add and change a tenant's schedules; twice is harmless. What has a problem is passed over.

    Returns:
        How many were added, and how many changed.

    Raises:
        sqlalchemy.exc.IntegrityError: a constraint refuses a value.
    """
    hold(connection, now)
    added, changed = connection.execute(_PUT, {"rows": list(rows)}).one()
    return added, changed


def _exported(name: str) -> str:
    return f"coalesce({name}.name, CAST(s.{name}_id AS text))" if name in _REFERENCES else f"s.{name}"


# A vehicle as `import` finds it again: by its VIN, by its name where nothing else is called so, else by its id.
_EXPORT = text(
    f"""
    WITH fleet AS MATERIALIZED (
        SELECT v.id, {_bare("v.vin")} AS vin, {_bare("v.name")} AS name,
               count(*) OVER (PARTITION BY lower({_bare("v.vin")})) AS of_vin,
               count(*) OVER (PARTITION BY {_bare("v.name")}) AS of_name
        FROM vehicles v WHERE v.tenant_id = {_TENANT} AND v.deleted_at IS NULL
    ),
    called AS MATERIALIZED (
        SELECT v.id, CASE WHEN v.vin <> '' AND v.of_vin = 1 THEN v.vin
                          WHEN v.name <> '' AND v.of_name = 1 AND o.vin IS NULL THEN v.name
                          ELSE CAST(v.id AS text) END AS reference
        FROM fleet v LEFT JOIN (SELECT DISTINCT lower(vin) AS vin FROM fleet) o ON o.vin = lower(v.name)
    )
    SELECT v.reference,
           s.vehicle_type, s.name, {", ".join(map(_exported, _GIVEN))}
    FROM maintenance_schedules s
    LEFT JOIN called v ON v.id = s.vehicle_id
    LEFT JOIN vendors vendor ON vendor.id = s.vendor_id AND vendor.deleted_at IS NULL
    LEFT JOIN facilities facility ON facility.id = s.facility_id AND facility.deleted_at IS NULL
    WHERE s.tenant_id = {_TENANT} AND s.deleted_at IS NULL AND (s.vehicle_id IS NULL OR v.id IS NOT NULL)
    ORDER BY s.vehicle_type NULLS FIRST, s.name, v.reference, s.id
    """
)


def export_schedules(connection: Connection) -> list[dict[str, Any]]:
    """Return the tenant's schedules as a file says them, by `COLUMNS`; without those of deleted vehicles."""
    connection.execute(WITHOUT_LOOPS)
    return [dict(zip(COLUMNS, row, strict=True)) for row in connection.execute(_EXPORT)]
