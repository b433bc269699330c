"""Real tracks over real places: buses of Liverpool, set down in San Francisco."""

import json
import math
import random
from datetime import datetime
from itertools import pairwise
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import Connection, text

from db.engine import Database
from jobs.telematics.geofences.shapes import ShapeError, read_boundary
from tests import servers
from tests.telematics.geofences import oracle
from tests.telematics.geofences.places import Fix, Fleet, circle, draw_here, make_fleet, report, scratch, told
from tests.telematics.geofences.shared_data import buses, neighbourhoods

LIVERPOOL, SAN_FRANCISCO = (53.434, -2.939), (37.765, -122.44)


def moved(track: list[tuple[datetime, float, float]], scale: float = 1.6) -> list[tuple[datetime, float, float]]:
    """Set a track down in San Francisco, a little larger."""
    return [
        (
            time,
            SAN_FRANCISCO[0] + scale * (latitude - LIVERPOOL[0]),
            SAN_FRANCISCO[1] + scale * (longitude - LIVERPOOL[1]),
        )
        for time, latitude, longitude in track
    ]


def _is_shape(boundary: Any) -> bool:
    try:
        read_boundary(boundary)
    except ShapeError:
        return False
    return True


@pytest.fixture(scope="module")
def fences() -> list[dict[str, Any]]:
    """Every neighbourhood that is a valid polygon, as it is and with each option, and circles around stops."""
    boundaries = [boundary for boundary in neighbourhoods().values() if _is_shape(boundary)]
    plain = [{"kind": "polygon", "boundary": boundary} for boundary in boundaries]
    options: list[dict[str, Any]] = [{"confirm_fixes": 2}, {"dwell_s": 300}, {"exit_distance_m": 150.0}]
    others = [{**fence, **options[number % 3]} for number, fence in enumerate(plain)]
    stops = [fix for track in buses().values() for fix in moved(track)[::25]]
    circles = [circle(stop[2], stop[1], 120.0 + number) for number, stop in enumerate(stops)]
    return plain + others + circles


@pytest.fixture(scope="module")
def tracks() -> list[list[tuple[datetime, float, float]]]:
    return [moved(track) for _, track in sorted(buses().items())]


def fixes_of(tracks: list[list[tuple[datetime, float, float]]]) -> list[Fix]:
    found = [(vehicle, *fix) for vehicle, track in enumerate(tracks) for fix in track]
    return sorted(found, key=lambda fix: fix[1])


@pytest.mark.parametrize("seed", range(3))
def test_the_events_of_real_tracks_are_those_of_an_independent_evaluation_in_any_slicing(
    engine: Database, admin: Any, fences: list[dict[str, Any]], tracks: list[Any], seed: int
) -> None:
    fleet = make_fleet(admin, "buses", len(tracks))
    fixes = fixes_of(tracks)
    rng = random.Random(seed)
    cuts = sorted({0, len(fixes), *(rng.randrange(len(fixes)) for _ in range((0, 12, 400)[seed]))})
    with scratch(engine, fleet) as connection:
        ids = draw_here(connection, fences)
        for start, stop in pairwise(cuts):
            report(connection, fleet, fixes[start:stop])
        found = told(connection)
    expected = [
        (fleet.vehicles[vehicle], ids[number], *event)
        for vehicle, track in enumerate(tracks)
        for number, fence in enumerate(fences)
        for event in _expected(fence, track)
    ]
    assert sorted(found) == sorted(expected)
    assert len(found) > 1_000
    assert {event[2] for event in found} == {"entry", "exit", "dwell"}


_known: dict[int, list[oracle.Told]] = {}


def _expected(fence: dict[str, Any], track: list[tuple[datetime, float, float]]) -> list[oracle.Told]:
    """Exact fractions take their time: once for all slicings."""
    key = hash((repr(fence), repr(track[0])))
    if key not in _known:
        west, south, east, north = _box(fence)
        near = [south <= latitude <= north and west <= longitude <= east for _, latitude, longitude in track]
        _known[key] = oracle.events_of(fence, track) if any(near) else []
    return _known[key]


def _box(fence: dict[str, Any]) -> tuple[float, float, float, float]:
    if fence["kind"] == "circle":
        reach = math.degrees(fence["radius_m"] / oracle.RADIUS_M)
        wide = 2 * reach / math.cos(math.radians(fence["center_latitude"]))
        x, y = fence["center_longitude"], fence["center_latitude"]
        return x - wide, y - 2 * reach, x + wide, y + 2 * reach
    boundary = fence["boundary"]
    polygons = boundary["coordinates"] if boundary["type"] == "MultiPolygon" else [boundary["coordinates"]]
    positions = [position for rings in polygons for ring in rings for position in ring]
    longitudes, latitudes = [position[0] for position in positions], [position[1] for position in positions]
    return min(longitudes), min(latitudes), max(longitudes), max(latitudes)


# Membership by PostGIS, and what follows from it by a window: nothing here is ours.
BY_POSTGIS = """
    WITH fence AS MATERIALIZED (
        SELECT id, kind, ST_GeomFromGeoJSON(boundary) AS flat, radius_m,
               CAST(ST_MakePoint(center_longitude, center_latitude) AS geography) AS center
        FROM geofences
    ),
    covered AS (
        SELECT f.vehicle_id, g.id AS geofence_id, f.time, f.latitude, f.longitude,
               CASE g.kind
               WHEN 'polygon' THEN ST_Covers(g.flat, ST_SetSRID(ST_MakePoint(f.longitude, f.latitude), 4326))
               ELSE ST_DWithin(g.center, CAST(ST_MakePoint(f.longitude, f.latitude) AS geography), g.radius_m, false)
               END AS inside
        FROM jsonb_to_recordset(CAST(:fixes AS jsonb)) AS f
            (vehicle_id uuid, time timestamptz, latitude float8, longitude float8)
        CROSS JOIN fence g
    ),
    changed AS (
        SELECT *, lag(inside, 1, false) OVER (PARTITION BY vehicle_id, geofence_id ORDER BY time) AS was FROM covered
    )
    SELECT vehicle_id, geofence_id, CASE WHEN inside THEN 'entry' ELSE 'exit' END, time, latitude, longitude
    FROM changed WHERE inside <> was
"""


def by_postgis(connection: Connection, fleet: Fleet, fixes: list[Fix]) -> list[sqlalchemy.Row[Any]]:
    listed = [
        {
            "vehicle_id": str(fleet.vehicles[fix[0]]),
            "time": fix[1].isoformat(),
            "latitude": fix[2],
            "longitude": fix[3],
        }
        for fix in fixes
    ]
    return list(connection.execute(text(BY_POSTGIS), {"fixes": json.dumps(listed)}))


def test_the_events_of_real_tracks_are_those_of_postgis(
    postgis_database: servers.Database, fences: list[dict[str, Any]], tracks: list[Any]
) -> None:
    plain = [fence for fence in fences if not {"confirm_fixes", "dwell_s", "exit_distance_m"} & set(fence)]
    fixes = fixes_of(tracks)
    with psycopg.connect(postgis_database.admin_url, autocommit=True) as admin:
        fleet = make_fleet(admin, "buses", len(tracks))
    opened = Database(postgis_database.worker_url, postgis_database.system_url, pool_size=2)
    try:
        with scratch(opened, fleet) as connection:
            draw_here(connection, plain)
            for start in range(0, len(fixes), 250):
                report(connection, fleet, fixes[start : start + 250])
            found = told(connection)
            expected = by_postgis(connection, fleet, fixes)
    finally:
        opened.close()
    assert sorted(found) == sorted(tuple(row) for row in expected)
    assert len(found) > 500
