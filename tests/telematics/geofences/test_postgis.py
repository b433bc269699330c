"""PostGIS beside us: it agrees on random scenes, and its columns serve other applications."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from sqlalchemy import text

from db.engine import Database
from jobs.telematics.geofences import cache
from tests import servers
from tests.telematics.geofences.places import (
    Fix,
    Fleet,
    at,
    circle,
    draw,
    draw_here,
    make_fleet,
    polygon,
    report,
    scratch,
    square,
    told,
)
from tests.telematics.geofences.test_events import _is_shape, scenes
from tests.telematics.geofences.test_real_data import by_postgis

YARD = polygon(square(0, 0, 2, 2))
GENERATED = "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE udt_name = 'geography'"


@pytest.fixture
def gis(postgis_database: servers.Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgis_database.admin_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def gis_fleet(gis: psycopg.Connection) -> Fleet:
    return make_fleet(gis)


@pytest.fixture
def gis_engine(postgis_database: servers.Database) -> Iterator[Database]:
    opened = Database(postgis_database.worker_url, postgis_database.system_url, pool_size=2)
    yield opened
    opened.close()
    cache.forget()


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(scenes())
def test_random_scenes_have_the_events_of_postgis(
    gis_engine: Database, gis_fleet: Fleet, scene: tuple[list[dict[str, Any]], list[Fix], list[int]]
) -> None:
    drawn, fixes, cuts = scene
    places = [fix[3] for fix in fixes] + [position[0] for fence in drawn for ring in _rings(fence) for position in ring]
    assume(all(abs(longitude) < 170 for longitude in places))  # its geometry knows no antimeridian
    plain = [{**fence, "confirm_fixes": None, "dwell_s": None, "exit_distance_m": None} for fence in drawn]
    assume(all(map(_is_shape, plain)))
    with scratch(gis_engine, gis_fleet) as connection:
        draw_here(connection, plain)
        for start, stop in pairwise(cuts):
            report(connection, gis_fleet, fixes[start:stop])
        assert sorted(told(connection)) == sorted(tuple(row) for row in by_postgis(connection, gis_fleet, fixes))


def _rings(fence: dict[str, Any]) -> list[list[list[float]]]:
    if fence["kind"] == "circle":
        return [[[fence["center_longitude"], fence["center_latitude"]]]]
    boundary = fence["boundary"]
    polygons = boundary["coordinates"] if boundary["type"] == "MultiPolygon" else [boundary["coordinates"]]
    return [ring for rings in polygons for ring in rings]


def test_the_schema_has_a_place_where_other_applications_look_for_one(
    gis: psycopg.Connection, database: servers.Database
) -> None:
    assert set(gis.execute(f"{GENERATED} AND table_name <> 'geography_columns'".encode()).fetchall()) == {
        ("vehicle_positions", "location"),
        ("facilities", "location"),
        ("geofences", "area"),
        ("geofence_events", "location"),
    }
    with psycopg.connect(database.admin_url) as plain:
        assert plain.execute(GENERATED).fetchall() == []


def test_an_application_finds_the_fences_around_a_position(
    postgis_database: servers.Database, gis_engine: Database, gis: psycopg.Connection, gis_fleet: Fleet
) -> None:
    yard, disc = draw(gis, gis_fleet, **YARD), draw(gis, gis_fleet, "Disc", **circle(1, 1, 5_000))
    draw(gis, gis_fleet, "Away", **circle(1, 3, 5_000))
    draw(gis, make_fleet(gis, "other"), **YARD)
    with gis_engine.tenant_transaction(gis_fleet.tenant_id) as connection:
        report(connection, gis_fleet, [(0, at(0), 1.0, 1.0)])
        connection.execute(text("UPDATE vehicle_positions SET time = now(), latitude = 1, longitude = 1"))
    with psycopg.connect(postgis_database.app_url) as application:
        application.execute("SELECT set_config('app.tenant_id', %s, true)", [str(gis_fleet.tenant_id)])
        around = application.execute(
            "SELECT g.id FROM geofences g JOIN vehicle_positions p ON ST_Covers(g.area, p.location)"
        ).fetchall()
        assert {row[0] for row in around} == {yard, disc}
        row = application.execute("SELECT ST_Distance(location, 'POINT(1 1)') FROM geofence_events").fetchone()
        assert row is not None
        assert row[0] == 0


def test_whoever_sees_all_rows_searches_by_the_index(postgis_database: servers.Database) -> None:
    """Under a policy PostgreSQL tests the tenant first, because the functions of PostGIS are not leakproof."""
    with psycopg.connect(postgis_database.system_url) as system:
        system.execute("SET LOCAL enable_seqscan = off")
        for table, column in (
            ("vehicle_positions", "location"),
            ("geofences", "area"),
            ("geofence_events", "location"),
        ):
            statement = f"EXPLAIN SELECT FROM {table} WHERE ST_DWithin({column}, 'POINT(1 1)'::geography, 1000)"
            plan = system.execute(statement.encode()).fetchall()
            assert any(f"ix_{table}_{column}" in row[0] for row in plan)


@pytest.mark.parametrize(
    "fence",
    [
        circle(0, 90, 1_000_000),
        circle(0, -90, 1),
        circle(180, 0, 1_000_000),
        circle(-180, 89.999, 50_000),
        circle(179.9999, 60, 1),
        circle(12.5, 52.5, 1_000_000),
        polygon([[170, 0], [-170, 0], [-170, 10], [170, 10], [170, 0]]),
        polygon([[170, 0, 9], [-170, 0, 9], [-170, 10, 9], [170, 0, 9]]),
        polygon(square(-90, -45, 90, 45)),
        polygon([[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]),
        polygon([[1, 1], [1, 1], [1, 1], [1, 1]]),
    ],
)
def test_any_fence_that_the_schema_takes_without_postgis_it_takes_with_it(
    gis: psycopg.Connection, gis_fleet: Fleet, fence: dict[str, Any]
) -> None:
    draw(gis, gis_fleet, **fence)
    row = gis.execute("SELECT area IS NOT NULL FROM geofences").fetchone()
    assert row == (True,)


@pytest.mark.parametrize("radius_m", ["NaN", "Infinity", "-1", "1e300"])
@pytest.mark.parametrize("checked", [True, False], ids=["checked", "past the trigger"])
def test_no_circle_that_cannot_be_reaches_postgis(
    gis: psycopg.Connection, gis_fleet: Fleet, radius_m: str, checked: bool
) -> None:
    if not checked:
        gis.execute("SET session_replication_role = replica")
    with pytest.raises(psycopg.errors.CheckViolation):
        gis.execute(
            "INSERT INTO geofences (tenant_id, name, kind, center_latitude, center_longitude, radius_m)"
            " VALUES (%s, 'Bad', 'circle', 1, 2, %s)",
            [gis_fleet.tenant_id, radius_m],
        )
    assert gis.execute("SELECT 1").fetchone() == (1,), "the server is still there"
