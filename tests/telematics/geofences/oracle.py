"""What fences and fixes mean, computed again without any library: exact fractions, one fix and one fence at a time."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

RADIUS_M = 6_371_008.8
Ring = list[tuple[Fraction, Fraction]]


def covers(fence: dict[str, Any], longitude: float, latitude: float) -> bool:
    """Tell whether a fence holds a position, its edge included. Edges are straight in longitude and latitude."""
    if fence["kind"] == "circle":
        return away_m(fence, longitude, latitude) <= 0
    boundary = fence["boundary"]
    polygons = boundary["coordinates"] if boundary["type"] == "MultiPolygon" else [boundary["coordinates"]]
    return any(_polygon_covers(rings, longitude, latitude) for rings in polygons)


def away_m(fence: dict[str, Any], longitude: float, latitude: float) -> float:
    """Return how far outside of a circle a position is, by the law of cosines for short ways: the haversine."""
    here, there = math.radians(latitude), math.radians(fence["center_latitude"])
    turn = math.radians(longitude - fence["center_longitude"])
    half = math.sin((here - there) / 2) ** 2 + math.cos(here) * math.cos(there) * math.sin(turn / 2) ** 2
    return 2 * RADIUS_M * math.asin(math.sqrt(min(half, 1.0))) - float(fence["radius_m"])


def edge_m(fence: dict[str, Any], longitude: float, latitude: float) -> float:
    """Return how far a position is from a polygon's edges, on a plane that touches the earth there."""
    boundary = fence["boundary"]
    polygons = boundary["coordinates"] if boundary["type"] == "MultiPolygon" else [boundary["coordinates"]]
    nearest = math.inf
    for ring in (_unwrap(ring) for rings in polygons for ring in rings):
        for turn in (-360, 0, 360):
            flat = [_flat(float(x) + turn - longitude, float(y) - latitude, latitude) for x, y in ring]
            for a, b in pairwise(flat):
                nearest = min(nearest, _to_segment(a, b))
    return nearest


def _flat(dx: float, dy: float, latitude: float) -> tuple[float, float]:
    metres = math.radians(1) * RADIUS_M
    return dx * metres * math.cos(math.radians(latitude)), dy * metres


def _to_segment(a: tuple[float, float], b: tuple[float, float]) -> float:
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = dx * dx + dy * dy
    along = 0.0 if length == 0 else max(0.0, min(1.0, -(a[0] * dx + a[1] * dy) / length))
    return math.hypot(a[0] + along * dx, a[1] + along * dy)


def _unwrap(ring: Sequence[Sequence[float]]) -> Ring:
    """Go the short way from each position to the next, across the antimeridian where that is it."""
    key = id(ring)
    if key not in _unwrapped or _unwrapped[key][0] is not ring:
        found: Ring = []
        turn = 0
        for number, (longitude, latitude, *_) in enumerate(ring):
            if number:
                step = longitude - ring[number - 1][0]
                turn += -360 if step > 180 else 360 if step < -180 else 0
            found.append((Fraction(longitude) + turn, Fraction(latitude)))
        _unwrapped[key] = (ring, found, [float(y) for _, y in found])
    return _unwrapped[key][1]


_unwrapped: dict[int, tuple[Sequence[Sequence[float]], Ring, list[float]]] = {}


def _polygon_covers(rings: list[Sequence[Sequence[float]]], longitude: float, latitude: float) -> bool:
    y = Fraction(latitude)
    is_inside = False
    for given in rings:
        ring, heights = _unwrap(given), _unwrapped[id(given)][2]
        for number, (low, high) in enumerate(pairwise(heights)):
            if (low > latitude and high > latitude) or (low < latitude and high < latitude):
                continue
            (ax, ay), (bx, by) = ring[number], ring[number + 1]
            for turn in (-360, 0, 360):
                x = Fraction(longitude) + turn
                cross = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
                if cross == 0 and min(ax, bx) <= x <= max(ax, bx):
                    return True
                if (ay > y) != (by > y) and (cross > 0) == (by > ay):
                    is_inside = not is_inside
    return is_inside


@dataclass
class State:
    """One vehicle and one fence."""

    entered_at: datetime | None = None
    has_dwelled: bool = False
    pending: list[tuple[datetime, float, float]] | None = None


Told = tuple[str, datetime, float, float]


def events_of(fence: dict[str, Any], fixes: Iterable[tuple[datetime, float, float]]) -> list[Told]:
    """Return kind, time, latitude, longitude of every event of one vehicle's fixes, given in time order."""
    state, events = State(), []
    for time, latitude, longitude in fixes:
        is_inside = covers(fence, longitude, latitude)
        was_inside = state.entered_at is not None
        margin = fence.get("exit_distance_m") or 0
        if was_inside and not is_inside and margin:
            far = (away_m if fence["kind"] == "circle" else edge_m)(fence, longitude, latitude)
            is_inside = far <= margin
        if is_inside == was_inside:
            state.pending = None
        else:
            state.pending = [*(state.pending or []), (time, latitude, longitude)]
            if len(state.pending) >= (fence.get("confirm_fixes") or 1):
                first = state.pending[0]
                events.append(("exit" if was_inside else "entry", *first))
                state = State() if was_inside else State(entered_at=first[0])
        dwell_s = fence.get("dwell_s")
        if not dwell_s or state.entered_at is None or not is_inside or state.has_dwelled:
            continue
        if time >= state.entered_at + timedelta(seconds=dwell_s):
            events.append(("dwell", time, latitude, longitude))
            state.has_dwelled = True
    return events
