"""Fences around which the demo's vehicles drive: circles and polygons, one in ten announced to a dispatcher."""

import json
import math
from uuid import UUID

import psycopg

from integrations.simulator.tracks import track_of

EACH = 100
_M_PER_DEGREE = 111_320.0
_CORNERS = 6

_FENCE = """
    INSERT INTO geofences (tenant_id, name, kind, boundary, center_latitude, center_longitude, radius_m,
                           alert_on_entry, alert_recipients)
    VALUES (%(tenant_id)s, %(name)s, %(kind)s, %(boundary)s, %(latitude)s, %(longitude)s, %(radius_m)s,
            %(announced)s, %(recipients)s)
    ON CONFLICT (tenant_id, name) WHERE deleted_at IS NULL DO NOTHING
"""


def draw(connection: psycopg.Connection, tenant_id: UUID, slug: str, seed: int, vehicles: int) -> None:
    """Draw fences on the roads of a fleet; twice is harmless."""
    fences = [_fence(tenant_id, slug, seed, number, vehicles) for number in range(EACH)]
    with connection.cursor() as cursor:
        cursor.executemany(_FENCE, fences)


def _fence(tenant_id: UUID, slug: str, seed: int, number: int, vehicles: int) -> dict[str, object]:
    track = track_of(seed, number * vehicles // EACH)
    latitude = track.latitude + track.radius_m / _M_PER_DEGREE  # where its vehicle passes, not the middle of its round
    radius_m = 500 + 250.0 * (number % 5)
    is_circle = number % 2 == 0
    return {
        "tenant_id": tenant_id,
        "name": f"{track.city} {'depot' if is_circle else 'zone'} {number + 1:03}",
        "kind": "circle" if is_circle else "polygon",
        "boundary": None if is_circle else json.dumps(_polygon(latitude, track.longitude, radius_m)),
        "latitude": latitude if is_circle else None,
        "longitude": track.longitude if is_circle else None,
        "radius_m": radius_m if is_circle else None,
        "announced": number % 10 == 0,
        "recipients": [f"dispatch@{slug}.example"] if number % 10 == 0 else [],
    }


def _polygon(latitude: float, longitude: float, radius_m: float) -> dict[str, object]:
    corners = [
        [
            longitude + radius_m * math.cos(angle) / (_M_PER_DEGREE * math.cos(math.radians(latitude))),
            latitude + radius_m * math.sin(angle) / _M_PER_DEGREE,
        ]
        for angle in (2 * math.pi * corner / _CORNERS for corner in range(_CORNERS))
    ]
    return {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}
