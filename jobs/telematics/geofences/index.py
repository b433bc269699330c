"""The fences of a tenant, ready to be asked which of them cover a page's fixes; all of both at once."""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from db.queries.geofences import Fence
from jobs.telematics.geofences.bundles import Bundles
from jobs.telematics.geofences.distance import great_circle_m, is_within
from jobs.telematics.geofences.fixes import Fixes, Floats, Ints
from jobs.telematics.geofences.shapes import Circle, ShapeError, boxes_around, count_positions, read_boundary

NEAR, INSIDE = 1, 2
"""Where a fix is: covered, edge included; or outside, but no further away than the fence's `exit_distance_m`."""

_ROUNDING_M = 1e-6  # on the circle is inside
_PAIRS_AT_ONCE = 4_000_000
MOST_POSITIONS = 1_000_000
"""How many corners the fences of a tenant may have in all; the newest beyond are not evaluated."""


class Runs(NamedTuple):
    """Fixes that follow each other on one side of a fence, from `starts` to before `stops`; by fence, owner, time.

    What is in no run is outside.
    """

    owners: Ints
    fences: Ints
    starts: Ints
    stops: Ints
    sides: Ints


_NONE = np.empty(0, dtype=np.int64)


class FenceIndex:
    """The fences of one version, those with a problem left out. Immutable, shared by a process's threads."""

    def __init__(self, version: UUID | None, fences: Iterable[Fence]) -> None:
        self.version = version
        self.problems: dict[UUID, str | None] = {}
        """Of each fence why it is not evaluated, None where it is; only what differs from what is stored."""
        self.is_noted = False
        """Whether that is stored."""
        self.fences: list[Fence] = []
        self.positions = 0
        """How many corners all fences have: what the index costs to keep."""
        self._is_full = False
        self._lock = threading.Lock()  # a prepared geometry finishes itself at its first use
        self._parts: list[Polygon | None] = []
        self._circles: list[tuple[float, float, float]] = []
        self._fence_of: list[int] = []
        boxes: list[Polygon] = []
        for fence in fences:
            problem = None
            try:
                self._add(fence, boxes)
            except ShapeError as error:
                problem = str(error)
            if problem != fence.problem:
                self.problems[fence.id] = problem
        self.places = {fence.id: number for number, fence in enumerate(self.fences)}
        self._entries = np.array(self._fence_of, dtype=np.int64)
        self._shapes = np.array(self._parts, dtype=object)
        self._is_circle = np.array([part is None for part in self._parts], dtype=bool)
        self._rounds = np.array(self._circles, dtype=np.float64).reshape(-1, 3)
        self._margins = np.array([fence.exit_distance_m for fence in self.fences], dtype=np.float64)
        self._boxes = np.array(boxes, dtype=object)
        self._bounds = shapely.bounds(self._boxes).reshape(-1, 4)
        shapely.prepare(self._shapes)

    def _add(self, fence: Fence, boxes: list[Polygon]) -> None:
        self._is_full = self._is_full or self.positions + count_positions(fence.boundary) > MOST_POSITIONS
        if self._is_full:
            raise ShapeError("boundary", f"older fences and this one have more than {MOST_POSITIONS:,} positions")
        if fence.kind == "circle":
            circle = Circle(fence.center_latitude or 0.0, fence.center_longitude or 0.0, fence.radius_m or 0.0)
            point = (circle.longitude, circle.latitude, circle.longitude, circle.latitude)
            added = boxes_around(point, circle.radius_m + fence.exit_distance_m)
            parts: list[Polygon | None] = [None] * len(added)
            self.positions += 1
        else:
            added, parts, circle = [], [], Circle(0.0, 0.0, 1.0)
            for part in read_boundary(fence.boundary):
                around = boxes_around(part.bounds, fence.exit_distance_m) if fence.exit_distance_m else [part.bounds]
                added += around
                parts += [part] * len(around)
                self.positions += int(shapely.get_num_coordinates(part))
        boxes += [shapely.box(*box) for box in added]
        self._parts += parts
        self._circles += [(circle.latitude, circle.longitude, circle.radius_m)] * len(added)
        self._fence_of += [len(self.fences)] * len(added)
        self.fences.append(replace(fence, boundary=None))

    def runs(self, fixes: Fixes) -> Runs:
        """Return which fixes are inside of which fences, or near those that ask for it."""
        numbers = np.arange(fixes.count)
        on_seam = np.flatnonzero(np.abs(fixes.longitudes) == 180)  # one meridian, two names
        numbers = np.concatenate((numbers, on_seam))
        latitudes, longitudes = fixes.latitudes[numbers], fixes.longitudes[numbers].copy()
        longitudes[fixes.count :] *= -1
        bundles = Bundles(latitudes, longitudes)
        pieces = [_runs(fixes, _NONE, _NONE, _NONE)]
        for start, stop in self._blocks(len(numbers)):
            entry, point = bundles.within(self._boxes[start:stop], self._bounds[start:stop])
            entry += start
            side = self._sides(entry, latitudes[point], longitudes[point])
            is_hit = side > 0
            pieces.append(_runs(fixes, numbers[point[is_hit]], self._entries[entry[is_hit]], side[is_hit]))
        return Runs(*(np.concatenate(column) for column in zip(*pieces, strict=True)))

    def _blocks(self, fixes: int) -> Iterator[tuple[int, int]]:
        """Cut the entries between fences, into so many that not too much is found even if all fixes are everywhere."""
        start, step = 0, max(1, _PAIRS_AT_ONCE // max(fixes, 1))
        while start < len(self._entries):
            last = min(start + step, len(self._entries)) - 1
            stop = int(np.searchsorted(self._entries, self._entries[last], side="right"))
            yield start, stop
            start = stop

    def _sides(self, entry: Ints, latitudes: Floats, longitudes: Floats) -> Ints:
        """Return where each fix is by the entry whose box it is in; entries ascend."""
        side = np.zeros(len(entry), dtype=np.int64)
        is_circle = self._is_circle[entry]
        if is_circle.any():
            side[is_circle] = self._sides_of_circles(latitudes[is_circle], longitudes[is_circle], entry[is_circle])
        rows = np.flatnonzero(~is_circle)
        with self._lock:
            covered = shapely.intersects_xy(self._shapes[entry[rows]], longitudes[rows], latitudes[rows])
        side[rows[covered]] = INSIDE
        rest = rows[~covered]
        rest = rest[self._margins[self._entries[entry[rest]]] > 0]
        if len(rest):
            side[rest[self._near(latitudes[rest], longitudes[rest], entry[rest])]] = NEAR
        return side

    def _sides_of_circles(self, latitudes: Floats, longitudes: Floats, entry: Ints) -> Ints:
        circles = self._rounds[entry]
        away_m = great_circle_m(latitudes, longitudes, circles[:, 0], circles[:, 1]) - circles[:, 2]
        near = np.where(away_m <= self._margins[self._entries[entry]], NEAR, 0)
        return np.where(away_m <= _ROUNDING_M, INSIDE, near)

    def _near(self, latitudes: Floats, longitudes: Floats, entry: Ints) -> NDArray[np.bool_]:
        """Tell which fixes are no further from a polygon's edge than its fence asks for."""
        is_near = np.zeros(len(entry), dtype=bool)
        for number in np.unique(entry):
            rows = np.flatnonzero(entry == number)
            margin_m = float(self._margins[self._entries[number]])
            is_near[rows] = is_within(self._shapes[number], latitudes[rows], longitudes[rows], margin_m)
        return is_near


def _runs(fixes: Fixes, point: Ints, fence: Ints, side: Ints) -> Runs:
    """Gather hits of fix, fence and side to runs."""
    # By fence and fix in one number, the nearer side first where several parts of a fence tell of one fix.
    order = np.argsort(((fence * fixes.count) + point) * 4 + (INSIDE - side))
    point, fence, side = point[order], fence[order], side[order]
    is_first = np.ones(len(point), dtype=bool)
    is_first[1:] = (point[1:] != point[:-1]) | (fence[1:] != fence[:-1])
    point, fence, side = point[is_first], fence[is_first], side[is_first]
    owner = fixes.owners[point]
    begins = np.ones(len(point), dtype=bool)
    begins[1:] = (
        (fence[1:] != fence[:-1]) | (owner[1:] != owner[:-1]) | (point[1:] != point[:-1] + 1) | (side[1:] != side[:-1])
    )
    first = np.flatnonzero(begins)
    last = np.append(first, len(point))[1:] - 1
    return Runs(owner[first], fence[first], point[first], point[last] + 1, side[first])
