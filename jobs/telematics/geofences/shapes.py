"""A fence's shape: read from GeoJSON, distrusted, and cut where it crosses the antimeridian.

Edges are straight in longitude and latitude (RFC 7946, section 3.1.1). Parts of a MultiPolygon may touch or overlap:
the fence is all of them together.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon, affinity

MOST_POSITIONS = 20_000
MOST_DEGREES_WIDE = 180.0
MOST_DEGREES_TALL = 90.0
LARGEST_RADIUS_M = 1_000_000.0
SMALLEST_RADIUS_M = 1.0
EARTH_RADIUS_M = 6_371_008.8
"""The mean radius of WGS 84's ellipsoid: distances are great circles on that sphere."""

Box = tuple[float, float, float, float]
"""West, south, east, north, within -180 to 180 degrees."""


class ShapeError(Exception):
    """A shape that is no fence. The message names the field and says what is wrong with it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Circle:
    """All points no further than `radius_m` from a centre."""

    latitude: float
    longitude: float
    radius_m: float

    def __post_init__(self) -> None:
        """Raises: ShapeError."""
        _check_position("center", self.longitude, self.latitude)
        if not SMALLEST_RADIUS_M <= self.radius_m <= LARGEST_RADIUS_M:
            raise ShapeError(
                "radius_m", f"{self.radius_m:g} is not between {SMALLEST_RADIUS_M:g} and {LARGEST_RADIUS_M:g}"
            )


def read_boundary(boundary: object) -> list[Polygon]:
    """Return the polygons of a GeoJSON geometry, each within -180 to 180 degrees of longitude.

    Two neighbouring positions that are more than 180 degrees apart go the short way, across the antimeridian: such a
    polygon is cut there.

    Raises:
        ShapeError: it is no Polygon or MultiPolygon, or one that no vehicle can be inside of, or no one place.
    """
    polygons = [_read_polygon(field, rings) for field, rings in _list_polygons(boundary)]
    west, south, east, north = np.transpose([polygon.bounds for polygon in polygons])
    if _width(west, east) > MOST_DEGREES_WIDE:
        raise ShapeError("boundary", "is wider than 180 degrees of longitude")
    if north.max() - south.min() > MOST_DEGREES_TALL:
        raise ShapeError("boundary", "is taller than 90 degrees of latitude")
    return [part for polygon in polygons for part in _cut(polygon)]


def count_positions(boundary: object) -> int:
    """Return how many positions a GeoJSON geometry has, 0 where it is none."""
    if not isinstance(boundary, dict):
        return 0
    coordinates = boundary.get("coordinates")
    many = coordinates if boundary.get("type") == "MultiPolygon" else [coordinates]
    rings = (ring for rings in _elements(many) for ring in _elements(rings))
    return sum(len(_elements(ring)) for ring in rings)


def _elements(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def normalise(boundary: Any) -> Any:
    """Return a boundary as RFC 7946 wants it, without altitudes: as it is, or cut at the antimeridian.

    Raises:
        ShapeError: as `read_boundary`.
    """
    polygons = read_boundary(boundary)
    is_multiple = boundary["type"] == "MultiPolygon"
    given = boundary["coordinates"] if is_multiple else [boundary["coordinates"]]
    if len(polygons) == len(given):
        flat = [[[position[:2] for position in ring] for ring in rings] for rings in given]
        return {"type": boundary["type"], "coordinates": flat if is_multiple else flat[0]}
    rings = [[ring.coords[:] for ring in (part.exterior, *part.interiors)] for part in polygons]
    return {"type": "MultiPolygon", "coordinates": [[[list(xy) for xy in ring] for ring in part] for part in rings]}


def boxes_around(box: Box, margin_m: float) -> list[Box]:
    """Return one box, or two where it crosses the antimeridian, that holds all within `margin_m` of a box."""
    west, south, east, north = box
    angle = margin_m / EARTH_RADIUS_M * 1.000001 + 1e-9  # more than rounding can lose
    south, north = south - math.degrees(angle), north + math.degrees(angle)
    if south <= -90 or north >= 90:  # around a pole: every longitude
        return [(-180.0, max(south, -90.0), 180.0, min(north, 90.0))]
    widest = math.radians(max(abs(south), abs(north)) - math.degrees(angle))
    reach = math.degrees(math.asin(min(1.0, math.sin(angle) / math.cos(widest)))) + 1e-9
    west, east = west - reach, east + reach
    if east - west >= 360:
        return [(-180.0, south, 180.0, north)]
    if west < -180:
        return [(-180.0, south, east, north), (west + 360, south, 180.0, north)]
    if east > 180:
        return [(west, south, 180.0, north), (-180.0, south, east - 360, north)]
    return [(west, south, east, north)]


def _list_polygons(boundary: object) -> Iterator[tuple[str, Sequence[Any]]]:
    if not isinstance(boundary, dict):
        raise ShapeError("boundary", "expected a GeoJSON geometry")
    kind, coordinates = boundary.get("type"), boundary.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        raise ShapeError("boundary.type", "expected Polygon or MultiPolygon")
    many = _list("boundary.coordinates", coordinates) if kind == "MultiPolygon" else [coordinates]
    seen = 0
    for number, rings in enumerate(many):
        field = f"boundary.coordinates[{number}]" if kind == "MultiPolygon" else "boundary.coordinates"
        for place, ring in enumerate(_list(field, rings)):
            seen += len(_list(f"{field}[{place}]", ring))
            if seen > MOST_POSITIONS:
                raise ShapeError("boundary.coordinates", f"more than {MOST_POSITIONS:,} positions")
        yield field, rings


def _list(field: str, value: object) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ShapeError(field, "expected an array")
    if not value:
        raise ShapeError(field, "is empty")
    return value


def _read_polygon(field: str, rings: Sequence[Any]) -> Polygon:
    """Return a polygon whose longitudes go on beyond 180 where it crosses the antimeridian."""
    shell, *holes = [_read_ring(f"{field}[{number}]", ring) for number, ring in enumerate(rings)]
    middle = _middle(shell)
    for hole in holes:
        hole[:, 0] += 360 * round((middle - _middle(hole)) / 360)
    polygon = Polygon(shell, holes)
    if not polygon.is_valid:
        raise ShapeError(field, _complaint(polygon))
    if polygon.area == 0:
        raise ShapeError(field, "encloses no area")
    return polygon


def _middle(ring: NDArray[np.float64]) -> float:
    return float(ring[:, 0].min() + ring[:, 0].max()) / 2


def _read_ring(field: str, given: Sequence[Any]) -> NDArray[np.float64]:
    if len(given) < 4:
        raise ShapeError(field, "a ring has at least 4 positions")
    for number, position in enumerate(given):
        _check_shape(f"{field}[{number}]", position)
        _check_position(f"{field}[{number}]", position[0], position[1])
    if given[0][:2] != given[-1][:2]:
        raise ShapeError(field, "is open: the last position is not the first")
    ring = np.array([position[:2] for position in given], dtype=np.float64)
    steps = np.diff(ring[:, 0])
    turns = np.where(np.abs(steps) > 180, -360 * np.sign(steps), 0.0)
    ring[1:, 0] += np.cumsum(turns)
    if ring[0, 0] != ring[-1, 0]:
        raise ShapeError(field, "goes around a pole")
    if np.ptp(ring[:, 0]) == 0 or np.ptp(ring[:, 1]) == 0:
        raise ShapeError(field, "encloses no area")
    return ring


def _check_shape(field: str, position: object) -> None:
    if not isinstance(position, list) or len(position) < 2:
        raise ShapeError(field, "expected [longitude, latitude]")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in position[:2]):
        raise ShapeError(field, "expected two numbers")


def _check_position(field: str, longitude: float, latitude: float) -> None:
    if not -90 <= latitude <= 90:
        hint = ": is this latitude, longitude? GeoJSON has longitude first" if -180 <= latitude <= 180 else ""
        raise ShapeError(field, f"latitude {_short(latitude)} is not between -90 and 90{hint}")
    if not -180 <= longitude <= 180:
        raise ShapeError(field, f"longitude {_short(longitude)} is not between -180 and 180")


def _short(number: float) -> str:
    """Return a number in a few characters; an integer of JSON may be too large for a float."""
    return f"{float(number):g}" if abs(number) < 1e300 or number != number else "far beyond"  # noqa: PLR0124


def _complaint(polygon: Polygon) -> str:
    """Say in words what GEOS finds wrong, and where."""
    said, _, place = str(shapely.is_valid_reason(polygon)).partition("[")
    words = {
        "Self-intersection": "crosses or touches itself",
        "Ring Self-intersection": "crosses or touches itself",
        "Too few points in geometry component": "encloses no area",
        "Hole lies outside shell": "a hole lies outside",
        "Holes are nested": "a hole lies in a hole",
        "Interior is disconnected": "its holes cut it apart",
    }
    return words.get(said, said.lower()) + (f" at {place.rstrip(']')}" if place else "")


def _width(west: NDArray[np.float64], east: NDArray[np.float64]) -> float:
    """Return how many degrees of longitude hold all intervals: a full turn less the widest gap between them."""
    order = np.argsort(west % 360)
    start = west[order] % 360
    reached = np.maximum.accumulate(start + (east - west)[order])
    gaps = np.append(start[1:], start[0] + 360) - reached
    return float(360 - max(gaps.max(), 0.0))


def _cut(polygon: Polygon) -> list[Polygon]:
    """Bring a polygon that goes on beyond 180 degrees back, in parts; slivers without area are dropped."""
    west, _, east, _ = polygon.bounds
    if west >= -180 and east <= 180:
        return [polygon]
    parts: list[Polygon] = []
    for turn in (-360.0, 0.0, 360.0):
        piece = shapely.intersection(polygon, shapely.box(turn - 180, -90, turn + 180, 90))
        for part in shapely.get_parts(piece):
            if isinstance(part, Polygon) and part.area > 0:
                parts.append(affinity.translate(part, xoff=-turn))
    return parts
