"""Events equal those of an independent evaluation, whatever the fences, the tracks, and the pages they come in."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from db.engine import Database
from jobs.telematics.geofences import shapes
from tests.telematics.geofences import oracle
from tests.telematics.geofences.places import Fix, Fleet, at, draw_here, report, scratch, square, told

SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
LAST = 8
SIZES = (1, 0.125)
"""Degrees of a step of the grid: exact in binary, so that a fix on an edge is on the edge."""
WESTS = (0, 176, -184, -4, 179.5, -180.5)
SOUTHS = (0, -4, 48)


@st.composite
def rings(draw: Any) -> list[tuple[int, int]]:
    """Corners on the grid in the order of their angle around the middle: simple, mostly."""
    corners = draw(st.lists(st.tuples(st.integers(0, LAST), st.integers(0, LAST)), min_size=3, max_size=8, unique=True))
    x = sum(corner[0] for corner in corners) / len(corners)
    y = sum(corner[1] for corner in corners) / len(corners)
    corners.sort(key=lambda corner: (math.atan2(corner[1] - y, corner[0] - x), corner))
    return [*corners, corners[0]]


@st.composite
def boxes_with_holes(draw: Any) -> list[list[tuple[int, int]]]:
    """A box, a box within it that may touch its edge in a corner only, and maybe a triangle in a far corner."""
    west, south = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    east, north = draw(st.integers(west + 3, LAST)), draw(st.integers(south + 3, LAST))
    hole = [(west + 1, south + 1), (west + 2, south + 1), (west + 2, south + 2), (west + 1, south + 2)]
    return [[(west, south), (east, south), (east, north), (west, north), (west, south)], [*hole, hole[0]]]


options = st.fixed_dictionaries(
    {},
    optional={
        "confirm_fixes": st.integers(1, 3),
        "exit_distance_m": st.sampled_from([500.0, 9_000.0]),
        "dwell_s": st.sampled_from([1, 60, 150, 600]),
    },
)


@st.composite
def fences(draw: Any, west: float, south: float, size: float) -> dict[str, Any]:
    """A polygon, a polygon with a hole, several, or a circle, on a grid that may lie across the antimeridian."""

    def place(ring: list[tuple[int, int]]) -> list[list[float]]:
        return [[_longitude(west + size * x, draw(st.booleans())), south + size * y] for x, y in ring[:-1]]

    def close(ring: list[list[float]]) -> list[list[float]]:
        return [*ring, ring[0]]

    kind = draw(st.sampled_from(["simple", "holes", "several", "circle"]))
    if kind == "circle":
        x, y = draw(st.integers(0, LAST)), draw(st.integers(0, LAST))
        center = {"center_longitude": _longitude(west + size * x, False), "center_latitude": south + size * y}
        radius_m = size * draw(st.sampled_from([40e3, 150e3, 333e3]))
        return {"kind": "circle", **center, "radius_m": radius_m, **draw(options)}
    if kind == "several":
        parts = [[close(place(draw(rings())))] for _ in range(2)]
        boundary: dict[str, Any] = {"type": "MultiPolygon", "coordinates": parts}
    else:
        drawn = [draw(rings())] if kind == "simple" else draw(boxes_with_holes())
        boundary = {"type": "Polygon", "coordinates": [close(place(ring)) for ring in drawn]}
    return {"kind": "polygon", "boundary": boundary, **draw(options)}


def _longitude(degrees: float, other_name: bool) -> float:
    wrapped = (degrees + 180) % 360 - 180
    return 180.0 if wrapped == -180 and other_name else float(wrapped)


@st.composite
def scenes(draw: Any) -> tuple[list[dict[str, Any]], list[Fix], list[int]]:
    """Fences, fixes in the order in which they are reported, and where the pages are cut."""
    west, south = draw(st.sampled_from(WESTS)), draw(st.sampled_from(SOUTHS))
    size = draw(st.sampled_from(SIZES))
    drawn = draw(st.lists(fences(west, south, size), min_size=1, max_size=4))
    steps = st.tuples(st.integers(0, 2), st.integers(0, 2 * LAST), st.integers(0, 2 * LAST), st.booleans())
    track = draw(st.lists(steps, min_size=1, max_size=40))
    fixes = [
        (vehicle, at(minute), south + size * y / 2, _longitude(west + size * x / 2, name))
        for minute, (vehicle, x, y, name) in enumerate(track)
    ]
    cuts = draw(st.lists(st.integers(0, len(fixes)), max_size=6))
    return drawn, fixes, sorted({0, *cuts, len(fixes)})


def _is_shape(fence: dict[str, Any]) -> bool:
    try:
        if fence["kind"] == "polygon":
            shapes.read_boundary(fence["boundary"])
    except shapes.ShapeError:
        return False
    return True


@settings(max_examples=150, suppress_health_check=SHARED)
@given(scenes())
def test_any_slicing_gives_the_events_of_an_independent_evaluation(
    engine: Database, fleet: Fleet, scene: tuple[list[dict[str, Any]], list[Fix], list[int]]
) -> None:
    drawn, fixes, cuts = scene
    assume(all(map(_is_shape, drawn)))
    with scratch(engine, fleet) as connection:
        ids = draw_here(connection, drawn)
        for start, stop in pairwise(cuts):
            report(connection, fleet, fixes[start:stop])
        found = told(connection)
    expected = [
        (fleet.vehicles[vehicle], ids[number], *event)
        for vehicle in range(3)
        for number, fence in enumerate(drawn)
        for event in oracle.events_of(fence, [fix[1:] for fix in fixes if fix[0] == vehicle])
    ]
    assert sorted(found) == sorted(expected)


@settings(max_examples=40, suppress_health_check=SHARED)
@given(scenes(), st.data())
def test_what_is_read_again_or_comes_late_changes_nothing(
    engine: Database, fleet: Fleet, scene: tuple[list[dict[str, Any]], list[Fix], list[int]], data: st.DataObject
) -> None:
    drawn, fixes, cuts = scene
    assume(all(map(_is_shape, drawn)))
    with scratch(engine, fleet) as connection:
        draw_here(connection, drawn)
        for start, stop in pairwise(cuts):
            report(connection, fleet, fixes[start:stop])
        before = told(connection)
        presence = text("SELECT * FROM geofence_presence ORDER BY vehicle_id, geofence_id")
        inside = connection.execute(presence).all()
        late = data.draw(st.lists(st.sampled_from(fixes), max_size=10))
        moved = [(fix[0], fix[1], fix[2] + 0.5, fix[3]) for fix in late]
        assert report(connection, fleet, fixes) in ({}, {"geofence_events": 0})
        report(connection, fleet, moved)
        assert told(connection) == before
        assert connection.execute(presence).all() == inside


@pytest.mark.parametrize("west", [0, 176, -184, -4])
def test_a_box_across_the_antimeridian_is_its_inside_whichever_way_it_is_written(
    engine: Database, fleet: Fleet, west: int
) -> None:
    around = [[_longitude(west + x, False), float(y)] for x, y in ((0, 0), (8, 0), (8, 4), (0, 4), (0, 0))]
    halves = shapes.normalise({"type": "Polygon", "coordinates": [around]})
    track = [(0, at(n), 2.0, _longitude(west + x, False)) for n, x in enumerate((-1, 0, 3, 4, 5, 8, 9, 180))]
    with scratch(engine, fleet) as connection:
        whole, cut = draw_here(
            connection,
            [
                {"kind": "polygon", "boundary": {"type": "Polygon", "coordinates": [around]}},
                {"kind": "polygon", "boundary": halves},
            ],
        )
        report(connection, fleet, track)
        found = told(connection)
    assert {(event[1], event[2], event[3]) for event in found} == {
        (fence, kind, time) for fence in (whole, cut) for kind, time in (("entry", at(1)), ("exit", at(6)))
    }


@pytest.mark.parametrize(("west", "east"), [(178.0, 180.0), (-180.0, -178.0)])
@pytest.mark.parametrize("name", [180.0, -180.0])
def test_a_fix_on_the_antimeridian_is_on_the_edge_of_a_fence_that_ends_there_whichever_its_sign(
    engine: Database, fleet: Fleet, west: float, east: float, name: float
) -> None:
    box = {"kind": "polygon", "boundary": {"type": "Polygon", "coordinates": [square(west, 0, east, 2)]}}
    with scratch(engine, fleet) as connection:
        draw_here(connection, [box])
        report(connection, fleet, [(0, at(0), 1.0, name), (1, at(0), 3.0, name)])
        assert [event[:1] for event in told(connection)] == [(fleet.vehicles[0],)]
