"""What is a fence and what is not, said twice: by the workers, and by the database to whoever writes one."""

import json
import math
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from jobs.telematics.geofences.shapes import Circle, ShapeError, boxes_around, normalise, read_boundary
from tests.telematics.geofences import oracle
from tests.telematics.geofences.places import Fleet, square

BOX = square(0, 0, 2, 2)
MANY = [[round(math.cos(n / 3200), 9), round(math.sin(n / 3200), 9)] for n in range(20_001)]


def of(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def several(*shells: Any) -> dict[str, Any]:
    return {"type": "MultiPolygon", "coordinates": [[shell] for shell in shells]}


BOTH_REFUSE: list[tuple[Any, str]] = [
    ({}, "boundary.type"),
    ({"type": "Point", "coordinates": [1, 2]}, "boundary.type: expected Polygon or MultiPolygon"),
    ({"type": "Feature", "geometry": of(BOX)}, "boundary.type"),
    ({"type": "Polygon"}, "boundary.coordinates: expected an array"),
    ({"type": "Polygon", "coordinates": {"a": 1}}, "boundary.coordinates: expected an array"),
    ({"type": "Polygon", "coordinates": []}, "boundary.coordinates.*empty"),
    ({"type": "MultiPolygon", "coordinates": []}, "boundary.coordinates.*empty"),
    ({"type": "MultiPolygon", "coordinates": [[]]}, "boundary.coordinates.*empty"),
    (of([]), "boundary.coordinates.*empty"),
    (of("a ring"), "boundary.coordinates.*array"),
    (of([[0, 0], [1, 1], [0, 0]]), "at least 4 positions"),
    (of([[0, 0], [1, 0], [1, 1], [0, 1]]), "is open"),
    (of([[0, 0], [1, 0], ["1", 1], [0, 0]]), "two numbers"),
    (of([[0, 0], [1, 0], [None, 1], [0, 0]]), "two numbers"),
    (of([[0, 0], [1, 0], [True, 1], [0, 0]]), "two numbers"),
    (of([[0, 0], [1, 0], [1], [0, 0]]), "longitude, latitude"),
    (of([[0, 0], [1, 0], 7, [0, 0]]), "longitude, latitude"),
    (of([[0, 0], [1, 0], [1, 90.5], [0, 0]]), "latitude"),
    (of([[52.5, 151.2], [52.6, 151.2], [52.6, 151.3], [52.5, 151.2]]), "is this latitude, longitude"),
    (of([[0, 0], [181, 0], [1, 1], [0, 0]]), "longitude"),
    (of([[0, 0], [1, 0], [1, 1e300], [0, 0]]), "latitude"),
    (of([[0, 0], [1, 0], [1, 10**400], [0, 0]]), "latitude"),
    (of(square(0, -80, 10, 80)), "taller than 90 degrees"),
    (of(square(-180, -90, 180, 90)), "taller|encloses no area"),
    (several(square(-100, 0, -90, 9), square(80, 0, 90, 9)), "wider than 180"),
    (of([*MANY, MANY[0]]), "more than 20,000 positions"),
]
"""Boundaries that are none, and what is said of them by the workers and by the database."""

ONLY_WORKERS_REFUSE: list[tuple[Any, str]] = [
    ([], "expected a GeoJSON geometry"),
    (of([[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]), r"crosses or touches itself at 1 1"),
    (of([[0, 0], [4, 0], [4, 4], [2, 0], [0, 4], [0, 0]]), "touches itself"),
    (of([[0, 0], [1, 1], [2, 2], [0, 0]]), "encloses no area|touches itself"),
    (of([[1, 1], [1, 1], [1, 1], [1, 1]]), "encloses no area"),
    (of(square(-180, -40, 180, 40)), "encloses no area"),
    (of([[-180, 0], [0, 0], [180, 0], [180, 10], [0, 10], [-180, 10], [-180, 0]]), "wider than 180 degrees"),
    (of(BOX, square(5, 5, 6, 6)), "a hole lies outside"),
    (of(square(0, 0, 9, 9), square(1, 1, 8, 8), square(2, 2, 3, 3)), "a hole lies in a hole"),
    (of([[0, 80], [90, 80], [180, 80], [-90, 80], [0, 80]]), "goes around a pole"),
]
"""What takes geometry to be seen."""


@pytest.mark.parametrize(("boundary", "said"), BOTH_REFUSE + ONLY_WORKERS_REFUSE)
def test_the_workers_refuse_what_is_no_fence_and_say_where(boundary: Any, said: str) -> None:
    with pytest.raises(ShapeError, match=said) as refused:
        read_boundary(boundary)
    assert str(refused.value).startswith("boundary")
    assert len(str(refused.value)) < 200, "no echo of what was given"


@pytest.mark.parametrize(("boundary", "said"), BOTH_REFUSE)
def test_the_database_refuses_it_too_whoever_writes_it(
    admin: psycopg.Connection, fleet: Fleet, boundary: Any, said: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match=said) as refused:
        admin.execute(
            "INSERT INTO geofences (tenant_id, name, boundary) VALUES (%s, 'Bad', %s)",
            [fleet.tenant_id, Jsonb(boundary)],
        )
    assert len(str(refused.value.diag.message_primary)) < 200


@pytest.mark.parametrize("value", ["NaN", "Infinity", 0, -5, 0.5, 1_000_001])
def test_a_circle_has_a_radius_between_a_metre_and_a_thousand_kilometres(
    admin: psycopg.Connection, fleet: Fleet, value: Any
) -> None:
    with pytest.raises(ShapeError, match="radius_m"):
        Circle(1.0, 2.0, float(value))
    with pytest.raises(psycopg.errors.CheckViolation, match="radius_m: expected 1 to 1,000,000 metres"):
        admin.execute(
            "INSERT INTO geofences (tenant_id, name, kind, center_latitude, center_longitude, radius_m)"
            " VALUES (%s, 'Bad', 'circle', 1, 2, %s)",
            [fleet.tenant_id, value],
        )


def test_a_circle_says_when_its_centre_is_nowhere() -> None:
    with pytest.raises(ShapeError, match=r"center: latitude 151\.2 is not between"):
        Circle(151.2, -33.9, 100)
    with pytest.raises(ShapeError, match="center: longitude 200"):
        Circle(1, 200, 100)


@pytest.mark.parametrize(
    ("fence", "box"),
    [
        ({"boundary": of(square(-5, -6, 7, 8))}, (-5, -6, 7, 8)),
        ({"boundary": several(BOX, square(5, 5, 6, 7))}, (0, 0, 6, 7)),
        ({"boundary": of([[170, 1], [-170, 1], [-170, 5], [170, 5], [170, 1]])}, (170, 1, -170, 5)),
        (
            {
                "boundary": {
                    "type": "MultiPolygon",
                    "coordinates": [[square(170, 1, 180, 5)], [square(-180, 1, -170, 5)]],
                }
            },
            (170, 1, -170, 5),
        ),
        ({"boundary": of([[0, 0, 12.5], [1, 0, 12.5], [1, 1, 12.5], [0, 0, 12.5]])}, (0, 0, 1, 1)),
        ({"center_latitude": 0, "center_longitude": 10, "radius_m": 111_195.08}, (9, -1, 11, 1)),
        ({"center_latitude": 60, "center_longitude": 179.9, "radius_m": 111_195.08}, (177.9, 59, -178.1, 61)),
        ({"center_latitude": 89.9, "center_longitude": 10, "radius_m": 111_195.08}, (-180, 88.9, 180, 90)),
    ],
)
def test_the_database_computes_the_bounding_box(
    admin: psycopg.Connection, fleet: Fleet, fence: dict[str, Any], box: tuple[float, ...]
) -> None:
    given_ = {"kind": "polygon" if "boundary" in fence else "circle", **fence}
    values = [Jsonb(value) if isinstance(value, dict) else value for value in given_.values()]
    row = admin.execute(
        f"INSERT INTO geofences (tenant_id, name, {', '.join(given_)})"
        f" VALUES (%s, 'Yard', {', '.join(['%s'] * len(values))})"
        " RETURNING min_longitude, min_latitude, max_longitude, max_latitude".encode(),
        [fleet.tenant_id, *values],
    ).fetchone()
    assert row == pytest.approx(box, abs=0.001)


def test_a_boundary_that_crosses_the_antimeridian_is_normalised_as_its_standard_wants() -> None:
    around = [[170, 0], [-170, 0], [-170, 10], [170, 10], [170, 0]]
    hole = [[178, 2], [-178, 2], [-178, 4], [178, 4], [178, 2]]

    cut = normalise(of(around, hole))

    assert cut["type"] == "MultiPolygon"
    assert len(cut["coordinates"]) == 2
    assert all(abs(x) <= 180 for part in cut["coordinates"] for ring in part for x, _ in ring)
    for longitude in (-175, -179, -170, 169, 175, 179, 170, 180, 0):
        for latitude in (0, 1, 3, 4, 10, 11):
            expected = oracle.covers({"kind": "polygon", "boundary": of(around, hole)}, longitude, latitude)
            assert oracle.covers({"kind": "polygon", "boundary": cut}, longitude, latitude) is expected
    assert normalise(cut) == cut
    assert normalise(json.loads(json.dumps({**of(BOX), "bbox": [0, 0, 2, 2]}))) == of(BOX)


@given(
    st.floats(-180, 180),
    st.floats(-90, 90),
    st.floats(1, 1_000_000),
    st.floats(0, 2 * math.pi),
    st.floats(0, 1),
)
def test_the_boxes_of_a_circle_hold_all_of_it(
    longitude: float, latitude: float, radius_m: float, bearing: float, share: float
) -> None:
    angle = share * radius_m / oracle.RADIUS_M
    here = math.radians(latitude)
    there = math.asin(
        max(-1, min(1, math.sin(here) * math.cos(angle) + math.cos(here) * math.sin(angle) * math.cos(bearing)))
    )
    turn = math.atan2(
        math.sin(bearing) * math.sin(angle) * math.cos(here), math.cos(angle) - math.sin(here) * math.sin(there)
    )
    x, y = (longitude + math.degrees(turn) + 180) % 360 - 180, math.degrees(there)
    boxes = boxes_around((longitude, latitude, longitude, latitude), radius_m)
    assert any(west <= x <= east and south <= y <= north for west, south, east, north in boxes) or (
        abs(x) == 180 and any(west == -180 or east == 180 for west, _, east, _ in boxes)
    )
