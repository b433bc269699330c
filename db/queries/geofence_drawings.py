"""Fences as operators draw, list and remove them; over all tenants, so every statement names its tenant."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam


@dataclass(frozen=True, slots=True)
class Drawing:
    """A fence to be; `options` has only those that were said, the others stay or have their default."""

    name: str
    kind: str
    boundary: dict[str, Any] | None = None
    center_latitude: float | None = None
    center_longitude: float | None = None
    radius_m: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DrawnFence:
    """A fence with all its settings."""

    id: UUID
    name: str
    kind: str
    boundary: dict[str, Any] | None
    center_latitude: float | None
    center_longitude: float | None
    radius_m: float | None
    alert_on_entry: bool
    alert_on_exit: bool
    alert_recipients: list[str]
    confirm_fixes: int
    exit_distance_m: float
    dwell_s: int | None
    is_active: bool


_GIVEN = """
    given AS (
        SELECT n.*, o.*, n.options ? 'dwell_s' AS has_dwell
        FROM jsonb_to_recordset(:drawings) AS n (name text, kind text, boundary jsonb, center_latitude float8,
                 center_longitude float8, radius_m float8, options jsonb),
             jsonb_to_record(n.options) AS o (alert_on_entry boolean, alert_on_exit boolean, alert_recipients text[],
                 confirm_fixes smallint, exit_distance_m float8, dwell_s integer, is_active boolean)
    )
"""
_SHAPE = ("kind", "boundary", "center_latitude", "center_longitude", "radius_m")
_KEPT = ("alert_on_entry", "alert_on_exit", "alert_recipients", "confirm_fixes", "exit_distance_m", "is_active")
_AFTER = {
    **{name: f"n.{name}" for name in _SHAPE},
    **{name: f"coalesce(n.{name}, g.{name})" for name in _KEPT},
    "dwell_s": "CASE WHEN n.has_dwell THEN n.dwell_s ELSE g.dwell_s END",
}
_DEFAULTS = {
    "alert_on_entry": "false",
    "alert_on_exit": "false",
    "alert_recipients": "'{}'",
    "confirm_fixes": "1",
    "exit_distance_m": "0",
    "is_active": "true",
}
_DRAW = text(
    f"""
    WITH {_GIVEN},
    updated AS (
        UPDATE geofences g SET {", ".join(f"{name} = {value}" for name, value in _AFTER.items())}
        FROM given n
        WHERE g.tenant_id = :tenant_id AND g.name = n.name AND g.deleted_at IS NULL
          AND ({", ".join(f"g.{name}" for name in _AFTER)}) IS DISTINCT FROM ({", ".join(_AFTER.values())})
        RETURNING g.name
    ),
    created AS (
        INSERT INTO geofences (tenant_id, name, {", ".join(_SHAPE)}, {", ".join(_KEPT)}, dwell_s)
        SELECT :tenant_id, n.name, {", ".join(f"n.{name}" for name in _SHAPE)},
               {", ".join(f"coalesce(n.{name}, {_DEFAULTS[name]})" for name in _KEPT)}, n.dwell_s
        FROM given n
        WHERE NOT EXISTS (SELECT FROM geofences g
                          WHERE g.tenant_id = :tenant_id AND g.name = n.name AND g.deleted_at IS NULL)
        ORDER BY n.name
        RETURNING name
    )
    SELECT name, 'updated' FROM updated UNION ALL SELECT name, 'created' FROM created
    """
).bindparams(bindparam("drawings", type_=JSONB))


def draw_fences(connection: Connection, tenant_id: UUID, drawings: Sequence[Drawing]) -> dict[str, str]:
    """Create or change a tenant's fences, known by their names.

    Returns:
        Of each name `created` or `updated`; one that is so already is absent.

    Raises:
        sqlalchemy.exc.IntegrityError: the database refuses a shape, or somebody else draws the same at this moment.
    """
    listed = [
        {
            "name": each.name,
            "kind": each.kind,
            "boundary": each.boundary,
            "center_latitude": each.center_latitude,
            "center_longitude": each.center_longitude,
            "radius_m": each.radius_m,
            "options": each.options,
        }
        for each in drawings
    ]
    return {row[0]: row[1] for row in connection.execute(_DRAW, {"tenant_id": tenant_id, "drawings": listed})}


_DRAWN = text(
    """
    SELECT id, name, kind, boundary, center_latitude, center_longitude, radius_m, alert_on_entry, alert_on_exit,
           alert_recipients, confirm_fixes, exit_distance_m, dwell_s, is_active
    FROM geofences WHERE tenant_id = :tenant_id AND deleted_at IS NULL ORDER BY name
    """
)


def read_drawn(connection: Connection, tenant_id: UUID) -> list[DrawnFence]:
    """Return every fence of a tenant, by name."""
    return [DrawnFence(*row) for row in connection.execute(_DRAWN, {"tenant_id": tenant_id})]


_REMOVE = text(
    """
    UPDATE geofences SET deleted_at = now(), is_active = false
    WHERE tenant_id = :tenant_id AND name = :name AND deleted_at IS NULL
    """
)


def remove_fence(connection: Connection, tenant_id: UUID, name: str) -> bool:
    """Remove a fence; its events stay. False where there is none of that name."""
    return connection.execute(_REMOVE, {"tenant_id": tenant_id, "name": name}).rowcount == 1


@dataclass(frozen=True, slots=True)
class FenceRow:
    """A fence as a line of a list."""

    id: UUID
    tenant: str
    name: str
    kind: str
    is_active: bool
    inside: int
    newest_event_at: datetime | None
    alert_on_entry: bool
    alert_on_exit: bool
    problem: str | None
    now: datetime


_LIST = text(
    """
    SELECT g.id, t.slug, g.name, g.kind, g.is_active,
           (SELECT count(*) FROM geofence_presence p
            WHERE p.tenant_id = g.tenant_id AND p.geofence_id = g.id AND p.entered_at IS NOT NULL),
           (SELECT max(e.time) FROM geofence_events e WHERE e.geofence_id = g.id),
           g.alert_on_entry, g.alert_on_exit, g.problem, now()
    FROM geofences g JOIN tenants t ON t.id = g.tenant_id
    WHERE g.deleted_at IS NULL AND (CAST(:tenant_id AS uuid) IS NULL OR g.tenant_id = :tenant_id)
    ORDER BY t.slug, g.name
    """
)


def list_fences(connection: Connection, tenant_id: UUID | None) -> list[FenceRow]:
    """Return the fences of one tenant, or of all."""
    return [FenceRow(*row) for row in connection.execute(_LIST, {"tenant_id": tenant_id})]


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as a line of a list."""

    time: datetime
    kind: str
    vehicle: str
    geofence: str
    latitude: float
    longitude: float
    vehicle_id: UUID
    geofence_id: UUID


_EVENTS = text(
    """
    SELECT e.time, e.kind, v.name, g.name, e.latitude, e.longitude, e.vehicle_id, e.geofence_id
    FROM geofence_events e JOIN vehicles v ON v.id = e.vehicle_id JOIN geofences g ON g.id = e.geofence_id
    WHERE e.tenant_id = :tenant_id ORDER BY e.time DESC, e.kind, v.name, g.name LIMIT :most
    """
)


def list_events(connection: Connection, tenant_id: UUID, most: int) -> list[EventRow]:
    """Return a tenant's newest events."""
    return [EventRow(*row) for row in connection.execute(_EVENTS, {"tenant_id": tenant_id, "most": most})]
