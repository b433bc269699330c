"""How far a fix is from a centre, or from a polygon's edges."""

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from jobs.telematics.geofences.fixes import Floats
from jobs.telematics.geofences.shapes import EARTH_RADIUS_M

_EDGES_AT_ONCE = 500_000
_BAND = 0.1  # degrees of latitude
_DOUBT = 1e-6  # more than rounding can make


def great_circle_m(latitude: Floats, longitude: Floats, other_latitude: Floats, other_longitude: Floats) -> Floats:
    """Return distances on the mean sphere, by the haversine."""
    here, there = np.radians(latitude), np.radians(other_latitude)
    turn = np.radians(longitude - other_longitude)
    half = np.sin((here - there) / 2) ** 2 + np.cos(here) * np.cos(there) * np.sin(turn / 2) ** 2
    distances: Floats = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
    return distances


def is_within(polygon: Polygon, latitudes: Floats, longitudes: Floats, margin_m: float) -> NDArray[np.bool_]:
    """Tell of which positions outside of a polygon `distance_m` is no more than a margin, without asking every edge.

    Positions on almost one parallel share two planes: one has every distance a little too short, one too long. Only
    whom they do not agree on is asked for exactly.
    """
    is_near = np.zeros(len(latitudes), dtype=bool)
    if len(latitudes) * shapely.get_num_coordinates(polygon) <= _EDGES_AT_ONCE:
        return np.asarray(distance_m(polygon, latitudes, longitudes) <= margin_m)
    west, _, east, _ = polygon.bounds
    longitudes = longitudes + 360 * np.round(((west + east) / 2 - longitudes) / 360)
    bands = np.floor(latitudes / _BAND)
    for band in np.unique(bands):
        rows = np.flatnonzero(bands == band)
        narrow = np.cos(np.radians(latitudes[rows]))
        is_sure = _is_within_plane(polygon, latitudes[rows], longitudes[rows], narrow.max(), margin_m * (1 - _DOUBT))
        is_open = _is_within_plane(polygon, latitudes[rows], longitudes[rows], narrow.min(), margin_m * (1 + _DOUBT))
        is_near[rows[is_sure]] = True
        asked = rows[is_open & ~is_sure]
        if len(asked):
            is_near[asked] = distance_m(polygon, latitudes[asked], longitudes[asked]) <= margin_m
    return is_near


def _is_within_plane(
    polygon: Polygon, latitudes: Floats, longitudes: Floats, narrow: float, margin_m: float
) -> NDArray[np.bool_]:
    west, south, _, _ = polygon.bounds
    scale = np.array([narrow, 1.0]) * np.radians(1.0) * EARTH_RADIUS_M
    flat = shapely.transform(polygon, lambda corners: (corners - (west, south)) * scale)
    shapely.prepare(flat)
    points = shapely.points((np.column_stack((longitudes, latitudes)) - (west, south)) * scale)
    return np.asarray(shapely.dwithin(flat, points, margin_m))


def distance_m(polygon: Polygon, latitudes: Floats, longitudes: Floats) -> Floats:
    """Return how far positions are from a polygon's edges, each on a plane that touches the earth where it is.

    Right to a part in a thousand within the 10 km that a fence may ask for, outside of the polar regions.
    """
    rings = [np.asarray(ring.coords) for ring in (polygon.exterior, *polygon.interiors)]
    start = np.concatenate([ring[:-1] for ring in rings])
    stop = np.concatenate([ring[1:] for ring in rings])
    middle = (polygon.bounds[0] + polygon.bounds[2]) / 2
    longitudes = longitudes + 360 * np.round((middle - longitudes) / 360)
    found = np.empty(len(latitudes))
    step = max(1, _EDGES_AT_ONCE // len(start))
    for first in range(0, len(latitudes), step):
        here = slice(first, first + step)
        scale = np.radians(1.0) * EARTH_RADIUS_M
        narrow = np.cos(np.radians(latitudes[here]))[:, None] * scale
        ax = (start[:, 0] - longitudes[here, None]) * narrow
        ay = (start[:, 1] - latitudes[here, None]) * scale
        dx = (stop[:, 0] - start[:, 0]) * narrow
        dy = np.broadcast_to((stop[:, 1] - start[:, 1]) * scale, dx.shape)
        length = dx * dx + dy * dy
        along = np.clip(np.divide(-(ax * dx + ay * dy), length, out=np.zeros_like(length), where=length > 0), 0, 1)
        found[here] = np.sqrt(((ax + along * dx) ** 2 + (ay + along * dy) ** 2).min(axis=1))
    return found
