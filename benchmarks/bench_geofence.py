"""Fixes against fences, all at once and one by one: `python -m benchmarks.bench_geofence`, one line of JSON at the end.

Ours is what a page's transaction is given: runs of fixes inside of a fence. Beside it the loop that a careful author
writes: an STRtree of the same polygons, prepared, asked point by point. Where `--postgis URL` names a superuser's
database with PostGIS, also its join: polygons with a GiST index, points in a table. All begin with the positions in
memory, as their own kind takes them, and must find the same pairs.
"""

import argparse
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from shapely import Point, Polygon, STRtree
from shapely.prepared import prep

from db.queries.geofences import Fence
from db.timeseries.points import pack_point
from jobs.telematics.geofences.fixes import of_points
from jobs.telematics.geofences.index import FenceIndex

BOUNDS = {"ratio_to_loop": 10.0}
TURN_S = 0.2
"""So long each has its turn in a round: a page's worth is over before the processor has found what it needs."""
CORNERS = 50
CITY = (52.5, 13.4)
"""Points and fences lie within half a degree of it."""
SPREAD = 0.25


def main() -> int:
    """Measure, print, and return 1 where a ratio is below its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--fences", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgis", metavar="URL", default=os.environ.get("FLEET_TEST_POSTGIS_URL"))
    parser.add_argument("--no-check", dest="check", action="store_false", help="succeed whatever the ratios")
    options = parser.parse_args()
    figures = measure(options.points, options.fences, options.rounds, options.postgis)
    missed = [name for name, bound in BOUNDS.items() if figures[name] < bound]
    for name in missed:
        print(f"{name} is {figures[name]}, below {BOUNDS[name]}")
    print(json.dumps({"benchmark": "geofence", **figures, "at_least": BOUNDS}))
    return 1 if missed and options.check else 0


def measure(points: int, fences: int, rounds: int, postgis: str | None) -> dict[str, Any]:
    """Take turns; what counts is the ratio of medians."""
    random.seed(20_261_120)
    places = [_near() for _ in range(points)]
    boundaries = [boundary(*_near(), random.uniform(0.002, 0.008)) for _ in range(fences)]
    turns: dict[str, Callable[[], int]] = {"vectorised": _vectorised(places, boundaries)}
    turns["loop"] = _loop(places, boundaries)
    connection = psycopg.connect(postgis, autocommit=True) if postgis else None
    if connection is not None:
        turns["postgis"] = _join(connection, places, boundaries)
    rates: dict[str, list[float]] = {name: [] for name in turns}
    pairs = {name: turn() for name, turn in turns.items()}  # warms everything
    if len(set(pairs.values())) != 1:
        raise RuntimeError(f"they do not find the same: {pairs}")
    for number in range(rounds):
        for name, turn in turns.items():
            turns_taken, started = 0, time.perf_counter()
            while turns_taken == 0 or time.perf_counter() - started < TURN_S:
                turn()
                turns_taken += 1
            rates[name].append(turns_taken * points / (time.perf_counter() - started))
            print(f"round {number + 1}: {name:10} {rates[name][-1]:10.0f} points/s", flush=True)
    if connection is not None:
        connection.close()
    median = {name: statistics.median(each) for name, each in rates.items()}
    ratios = {f"ratio_to_{name}": round(median["vectorised"] / rate, 1) for name, rate in median.items()}
    del ratios["ratio_to_vectorised"]
    told = {f"{name}_per_s": round(rate) for name, rate in median.items()}
    return {"points": points, "fences": fences, "corners": CORNERS, "pairs": pairs["loop"], **told, **ratios}


def _near() -> tuple[float, float]:
    return CITY[0] + random.uniform(-SPREAD, SPREAD), CITY[1] + random.uniform(-SPREAD, SPREAD)


def boundary(latitude: float, longitude: float, size: float) -> dict[str, Any]:
    """Return a wobbly polygon around a place, at most `size` degrees of latitude from its middle to its corners."""
    ring = []
    for corner in range(CORNERS):
        angle, reach = math.tau * corner / CORNERS, size * random.uniform(0.7, 1.0)
        ring.append([longitude + reach * math.cos(angle) / 0.6, latitude + reach * math.sin(angle)])
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def _vectorised(places: list[tuple[float, float]], boundaries: list[dict[str, Any]]) -> Callable[[], int]:
    nothing: tuple[None, ...] = (None,) * 8
    start = datetime(2026, 11, 20, tzinfo=UTC)
    packed = [
        pack_point(UUID(int=1 + number % 500).bytes, start + timedelta(seconds=number), *place, *nothing)
        for number, place in enumerate(places)
    ]
    drawn = [_fence(number, each) for number, each in enumerate(boundaries)]
    index, fixes = FenceIndex(UUID(int=1), drawn), of_points(packed)

    def turn() -> int:
        runs = index.runs(fixes)
        return int((runs.stops - runs.starts).sum())

    return turn


def _fence(number: int, given: dict[str, Any]) -> Fence:
    return Fence(
        UUID(int=number + 1),
        f"Fence {number}",
        "polygon",
        given,
        None,
        None,
        None,
        False,
        False,
        [],
        1,
        0.0,
        None,
        None,
    )


def _loop(places: list[tuple[float, float]], boundaries: list[dict[str, Any]]) -> Callable[[], int]:
    polygons = [Polygon(each["coordinates"][0]) for each in boundaries]
    tree, prepared = STRtree(polygons), [prep(polygon) for polygon in polygons]

    def turn() -> int:
        found = 0
        for latitude, longitude in places:
            point = Point(longitude, latitude)
            for number in tree.query(point):
                found += prepared[number].covers(point)
        return found

    return turn


def _join(
    connection: psycopg.Connection, places: list[tuple[float, float]], boundaries: list[dict[str, Any]]
) -> Callable[[], int]:
    connection.execute("CREATE EXTENSION IF NOT EXISTS postgis")
    connection.execute("CREATE TEMPORARY TABLE fence (id integer, area geometry)")
    connection.execute("CREATE TEMPORARY TABLE fix (id integer, location geometry)")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO fence VALUES (%s, ST_SetSRID(ST_GeomFromGeoJSON(%s), 4326))",
            [(number, json.dumps(each)) for number, each in enumerate(boundaries)],
        )
        cursor.executemany(
            "INSERT INTO fix VALUES (%s, ST_SetSRID(ST_MakePoint(%s, %s), 4326))",
            [(number, longitude, latitude) for number, (latitude, longitude) in enumerate(places)],
        )
    connection.execute("CREATE INDEX ON fence USING gist (area)")
    connection.execute("ANALYZE fence, fix")

    def turn() -> int:
        row = connection.execute("SELECT count(*) FROM fix JOIN fence ON ST_Covers(area, location)").fetchone()
        assert row is not None
        return int(row[0])

    return turn


if __name__ == "__main__":
    raise SystemExit(main())
