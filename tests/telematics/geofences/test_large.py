"""Fences that take longer to read than a transaction may stay open, and more of them than a worker keeps."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from shapely import Polygon

from db.engine import Database
from db.queries import geofences as queries
from jobs.telematics.geofences import cache, index, pages
from jobs.telematics.geofences.distance import distance_m, is_within
from jobs.telematics.geofences.index import FenceIndex
from jobs.telematics.geofences.shapes import read_boundary
from tests.telematics.geofences.places import Fleet, at, draw, pack, polygon, report, square
from tests.telematics.geofences.test_changes import BOWTIE, INSIDE, YARD, count, go, kinds


def disc(corners: int, longitude: float = 1.0, latitude: float = 1.0, reach: float = 0.9) -> list[list[float]]:
    """Return a ring with many corners around a place."""
    angles = [math.tau * n / (corners - 1) for n in range(corners - 1)]
    ring = [[longitude + reach * math.cos(angle), latitude + reach * math.sin(angle)] for angle in angles]
    return [*ring, ring[0]]


def problems(admin: psycopg.Connection) -> dict[str, str | None]:
    return dict(admin.execute("SELECT name, problem FROM geofences").fetchall())


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fence is too large to be read while a transaction is open."""
    monkeypatch.setattr(cache, "_QUICK_BYTES", -1)


def test_fences_are_built_and_asked_while_no_transaction_is_open(
    engine: Database, admin: psycopg.Connection, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_MOST_AT_ONCE", 1)
    for name in ("A", "B", "C"):
        draw(admin, fleet, name, exit_distance_m=10, **YARD)
    open_meanwhile: list[int] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def look_first(*given: Any) -> Any:
            open_meanwhile.append(
                count(admin, "pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'")
            )
            return function(*given)

        return look_first

    monkeypatch.setattr(index, "read_boundary", watched(read_boundary))
    monkeypatch.setattr(FenceIndex, "runs", watched(FenceIndex.runs))
    with engine.tenant_transaction(fleet.tenant_id) as connection:
        version = queries.read_version(connection)
    assert version is not None

    located = pages.locate_beforehand(engine, fleet.tenant_id, version, pack(fleet, [(0, at(0), *INSIDE)]))

    assert open_meanwhile == [0, 0, 0, 0], "three fences, then the page's fixes"
    assert located is not None
    with engine.tenant_transaction(fleet.tenant_id) as connection:
        assert pages.cross(connection, fleet.tenant_id, located, at(0)) == {"geofence_events": 3}


@pytest.mark.usefixtures("large")
def test_large_fences_are_never_read_inside_of_a_transaction(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    draw(admin, fleet, **YARD)
    page = [(0, at(0), *INSIDE)]
    with pytest.raises(cache.FencesNotRead), engine.tenant_transaction(fleet.tenant_id) as connection:
        report(connection, fleet, page)

    cache.refresh(engine, fleet.tenant_id)

    with engine.tenant_transaction(fleet.tenant_id) as connection:
        assert report(connection, fleet, page) == {"geofence_events": 1}


@pytest.mark.usefixtures("large")
def test_a_page_whose_large_fences_change_is_told_by_them_as_they_were_without_those_that_ended(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    moved, _ended = draw(admin, fleet, **YARD), draw(admin, fleet, "Ended", alert_on_entry=True, **YARD)
    cache.refresh(engine, fleet.tenant_id)
    with engine.tenant_transaction(fleet.tenant_id) as connection:
        located = pages.locate(connection, fleet.tenant_id, pack(fleet, [(0, at(0), *INSIDE)]))
    assert located is not None
    there = Jsonb({"type": "Polygon", "coordinates": [square(4, 4, 6, 6)]})
    admin.execute("UPDATE geofences SET boundary = %s WHERE id = %s", [there, moved])
    admin.execute("UPDATE geofences SET is_active = false WHERE name = 'Ended'")
    draw(admin, fleet, "New", **YARD)

    with engine.tenant_transaction(fleet.tenant_id) as connection:
        pages.cross(connection, fleet.tenant_id, located, at(0))
        pages.advance(connection, located.fixes)
    assert [row[0] for row in admin.execute("SELECT geofence_id FROM geofence_events").fetchall()] == [moved]
    assert (count(admin, "geofence_presence"), count(admin, "alerts")) == (1, 0)

    go(engine, fleet, (0, 1, INSIDE))
    assert kinds(admin) == [("entry", at(0)), ("entry", at(1)), ("exit", at(1))]


def test_the_newest_fences_beyond_what_a_tenant_may_have_say_so_until_there_is_room(
    engine: Database, admin: psycopg.Connection, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "MOST_POSITIONS", 12)
    monkeypatch.setattr(cache, "_MOST_AT_ONCE", 1)
    for name in ("A", "B", "C", "D"):
        draw(admin, fleet, name, **YARD)

    go(engine, fleet, (0, 0, INSIDE))

    said = "boundary: older fences and this one have more than 12 positions"
    assert problems(admin) == {"A": None, "B": None, "C": said, "D": said}
    assert kinds(admin) == [("entry", at(0))] * 2

    admin.execute("DELETE FROM geofences WHERE name = 'A'")
    go(engine, fleet, (0, 1, INSIDE))

    assert problems(admin) == {"B": None, "C": None, "D": said}
    assert kinds(admin) == [("entry", at(0)), ("entry", at(1))]


def test_a_problem_that_a_rolled_back_page_found_is_written_by_the_next(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    draw(admin, fleet, **BOWTIE)
    draw(admin, fleet, "Good", **YARD)
    with pytest.raises(ZeroDivisionError), engine.tenant_transaction(fleet.tenant_id) as connection:
        report(connection, fleet, [(0, at(0), *INSIDE)])
        raise ZeroDivisionError
    assert problems(admin)["Yard"] is None

    with engine.tenant_transaction(fleet.tenant_id) as connection:
        version = queries.read_version(connection)
    assert version is not None
    pages.locate_beforehand(engine, fleet.tenant_id, version, pack(fleet, [(0, at(0), *INSIDE)]))

    assert problems(admin)["Yard"] == "boundary.coordinates: crosses or touches itself at 1 1"


def test_a_page_of_known_fences_opens_no_transaction_to_be_located(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    draw(admin, fleet, **YARD)
    version = cache.refresh(engine, fleet.tenant_id).version
    assert version is not None
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert pages.locate_beforehand(nowhere, fleet.tenant_id, version, pack(fleet, [(0, at(0), *INSIDE)])) is not None


@settings(max_examples=60, deadline=None)
@given(
    latitude=st.floats(-75, 75),
    longitude=st.sampled_from([0.0, 12.5, 179.9]),
    reach=st.floats(0.01, 3),
    margin_m=st.floats(1, 10_000),
    seed=st.integers(0, 1_000_000),
)
def test_who_is_near_is_who_is_near_every_edge_asked_one_by_one(
    latitude: float, longitude: float, reach: float, margin_m: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    shape = Polygon(disc(2_000, longitude, latitude, reach), [disc(50, longitude, latitude, reach / 2)])
    angles, degrees = random.uniform(0, math.tau, 400), math.degrees(margin_m / 6_371_008.8)
    away = reach + degrees * random.uniform(0, 2, 400)
    latitudes, longitudes = latitude + away * np.sin(angles), longitude + away * np.cos(angles)
    longitudes = np.where(longitudes > 180, longitudes - 360, longitudes)

    found = is_within(shape, latitudes, longitudes, margin_m)

    assert np.array_equal(found, distance_m(shape, latitudes, longitudes) <= margin_m)


def test_who_is_near_a_shape_of_many_corners_is_found_without_asking_each_of_them() -> None:
    shape = Polygon(disc(20_000, reach=0.3))
    random = np.random.default_rng(1)
    latitudes, longitudes = 1.23 + random.uniform(0, 0.02, 2_000), 1.23 + random.uniform(0, 0.02, 2_000)

    def measure(question: Callable[..., Any], *also: Any) -> float:
        started = time.perf_counter()
        question(shape, latitudes, longitudes, *also)
        return time.perf_counter() - started

    assert min(measure(is_within, 10_000.0) for _ in range(3)) * 3 < measure(distance_m)


def test_a_hole_is_outside_and_its_edge_is_near() -> None:
    shape = polygon(square(0, 0, 2, 2), square(0.5, 0.5, 1.5, 1.5))["boundary"]["coordinates"]
    asked = is_within(Polygon(shape[0], shape[1:]), np.array([1.0, 1.0]), np.array([0.504, 1.0]), 1_000.0)
    assert asked.tolist() == [True, False]
