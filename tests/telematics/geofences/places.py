"""A tenant's fences and vehicles in a real database, and pages of fixes as a sync brings them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from db.engine import Database
from db.timeseries.points import pack_point
from jobs.telematics.geofences import pages
from tests.factories import make_tenant

START = datetime(2026, 11, 20, 7, 0, tzinfo=UTC)
Fix = tuple[int, datetime, float, float]
"""Number of the vehicle, time, latitude, longitude."""


def square(west: float, south: float, east: float, north: float) -> list[list[float]]:
    """Return the ring of a box."""
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def polygon(*rings: Sequence[Sequence[float]], **options: Any) -> dict[str, Any]:
    """Return a fence of one polygon."""
    return {"kind": "polygon", "boundary": {"type": "Polygon", "coordinates": list(rings)}, **options}


def circle(longitude: float, latitude: float, radius_m: float, **options: Any) -> dict[str, Any]:
    """Return a round fence."""
    center = {"center_longitude": longitude, "center_latitude": latitude, "radius_m": radius_m}
    return {"kind": "circle", **center, **options}


def at(minute: float) -> datetime:
    """Return an instant of the track."""
    return START + timedelta(minutes=minute)


@dataclass
class Fleet:
    """A tenant and its vehicles."""

    tenant_id: UUID
    vehicles: list[UUID]


def make_fleet(admin: psycopg.Connection, slug: str = "acme", vehicles: int = 3) -> Fleet:
    """Insert a tenant with vehicles."""
    tenant_id = make_tenant(admin, slug)
    rows = admin.execute(
        "INSERT INTO vehicles (tenant_id, name) SELECT %s, 'Van ' || n FROM generate_series(1, %s) n RETURNING id",
        [tenant_id, vehicles],
    ).fetchall()
    return Fleet(tenant_id, [row[0] for row in rows])


def draw(admin: psycopg.Connection, fleet: Fleet, name: str = "Yard", **fence: Any) -> UUID:
    """Insert a fence as an application would."""
    columns = {"tenant_id": fleet.tenant_id, "name": name, **fence}
    values = [Jsonb(value) if isinstance(value, dict) else value for value in columns.values()]
    places = ", ".join(["%s"] * len(values))
    statement = f"INSERT INTO geofences ({', '.join(columns)}) VALUES ({places}) RETURNING id"
    row = admin.execute(statement.encode(), values).fetchone()
    assert row is not None
    return UUID(str(row[0]))


class Undo(Exception):
    """Rolls back what a page did."""


_DRAW = text(
    "INSERT INTO geofences (tenant_id, name, kind, boundary, center_latitude, center_longitude, radius_m,"
    " confirm_fixes, exit_distance_m, dwell_s) VALUES (app_tenant_id(), :name, :kind, :boundary, :center_latitude,"
    " :center_longitude, :radius_m, coalesce(:confirm_fixes, 1), coalesce(:exit_distance_m, 0), :dwell_s)"
    " RETURNING id"
).bindparams(bindparam("boundary", type_=JSONB(none_as_null=True)))
_COLUMNS = (
    "boundary",
    "center_latitude",
    "center_longitude",
    "radius_m",
    "confirm_fixes",
    "exit_distance_m",
    "dwell_s",
)


def draw_here(connection: Connection, fences: Sequence[dict[str, Any]]) -> list[UUID]:
    """Draw fences in an open transaction."""
    found = []
    for number, fence in enumerate(fences):
        values = {name: fence.get(name) for name in _COLUMNS}
        drawn = connection.execute(_DRAW, {"name": f"Fence {number}", "kind": fence["kind"], **values})
        found.append(drawn.scalar_one())
    return found


def pack(fleet: Fleet, fixes: Iterable[Fix]) -> list[bytes]:
    """Return fixes as a page's packed points."""
    nothing = (None,) * 8
    return [
        pack_point(fleet.vehicles[vehicle].bytes, time, latitude, longitude, *nothing)
        for vehicle, time, latitude, longitude in fixes
    ]


def report(connection: Connection, fleet: Fleet, fixes: Iterable[Fix], now: datetime | None = None) -> dict[str, int]:
    """Evaluate a page in an open transaction."""
    located = pages.locate(connection, fleet.tenant_id, pack(fleet, fixes))
    if located is None:
        return {}
    counts = pages.cross(connection, fleet.tenant_id, located, now or at(0))
    pages.advance(connection, located.fixes)
    return counts


@contextmanager
def scratch(database: Database, fleet: Fleet) -> Iterator[Connection]:
    """Open a transaction of the tenant, and undo it."""
    with database.tenant_transaction(fleet.tenant_id) as connection:
        yield connection
        connection.rollback()


Told = tuple[UUID, UUID, str, datetime, float, float]


def told(connection: Connection) -> list[Told]:
    """Return every event: vehicle, fence, kind, time, latitude, longitude."""
    rows = connection.execute(
        text("SELECT vehicle_id, geofence_id, kind, time, latitude, longitude FROM geofence_events ORDER BY 1, 2, 4, 3")
    )
    return [(row[0], row[1], row[2], row[3], row[4], row[5]) for row in rows]
