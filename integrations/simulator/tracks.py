"""How a simulated vehicle moves: a pure function of time, so that any past instant can be asked for again.

Each vehicle drives a closed loop in legs: it starts, drives, stops, idles and stands, at speeds that rise
and fall smoothly. Distance, speed, position, heading and odometer agree with each other.
"""

import math
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple

REMEMBERED = 131_072
_CORNERS = 512
_SHAPES = 4
_M_PER_DEGREE = 111_320.0
# Legs are counted from here, so that odometers stay those of vehicles in service.
_EPOCH_S = 1_735_689_600  # 2025-01-01T00:00:00Z

_CITIES = (
    ("Berlin", 52.52, 13.40),
    ("Hamburg", 53.55, 9.99),
    ("Wien", 48.21, 16.37),
    ("Lyon", 45.76, 4.84),
    ("Chicago", 41.88, -87.63),
    ("Dallas", 32.78, -96.80),
)


class Shape(NamedTuple):
    """A closed curve around 0/0, sampled at equal distances; the first corner is repeated at the end."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    headings: tuple[float, ...]
    length: float


class Track(NamedTuple):
    """What makes one vehicle move as it does. Metres, seconds, degrees."""

    city: str
    latitude: float
    longitude: float
    shape: int
    radius_m: float
    start_m: float
    leg_s: float
    drive_s: float
    idle_s: float
    leg_m: float
    odometer_m: float
    engine_s: float
    range_m: float


class Motion(NamedTuple):
    """What a vehicle does at one instant. `fill_percent` is what is left in its tank or battery."""

    latitude: float
    longitude: float
    heading_deg: float
    speed_mps: float
    odometer_m: float
    engine_s: float
    fill_percent: float
    engine_state: str


def unit(seed: int, index: int, what: int) -> float:
    """Return a number in [0, 1) that depends on nothing but its arguments (splitmix64)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + what * 0x94D049BB133111EB) % 2**64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) % 2**64
    return (mixed ^ (mixed >> 31)) / 2**64


@lru_cache(maxsize=REMEMBERED)
def track_of(seed: int, index: int) -> Track:
    """Return how a vehicle of a fleet moves."""
    city, latitude, longitude = _CITIES[int(unit(seed, 0, 1) * len(_CITIES))]
    drive_s = 600 + 1200 * unit(seed, index, 2)
    idle_s = 30 + 120 * unit(seed, index, 3)
    return Track(
        city=city,
        latitude=latitude + (unit(seed, index, 4) - 0.5) * 0.4,
        longitude=longitude + (unit(seed, index, 5) - 0.5) * 0.6,
        shape=int(unit(seed, index, 6) * _SHAPES),
        radius_m=1500 + 4500 * unit(seed, index, 7),
        start_m=30_000 * unit(seed, index, 8),
        leg_s=drive_s + idle_s + 1800 * unit(seed, index, 9),
        drive_s=drive_s,
        idle_s=idle_s,
        leg_m=drive_s * (8 + 6 * unit(seed, index, 10)),
        odometer_m=1e7 + 1.5e8 * unit(seed, index, 11),
        engine_s=1e6 + 9e6 * unit(seed, index, 12),
        range_m=2.5e5 + 3.5e5 * unit(seed, index, 13),
    )


def motion_at(track: Track, at_s: float) -> Motion:
    """Return what the vehicle of a track does at an instant (Unix seconds)."""
    legs, into_s = divmod(at_s - _EPOCH_S + track.start_m, track.leg_s)
    part = min(into_s / track.drive_s, 1.0)
    angle = 2 * math.pi * part
    driven_m = (legs + part - math.sin(angle) / (2 * math.pi)) * track.leg_m
    shape = _shape(track.shape)
    corner, between = divmod((track.start_m + driven_m) / (track.radius_m * shape.length) % 1 * _CORNERS, 1)
    here = int(corner)
    x = shape.xs[here] + between * (shape.xs[here + 1] - shape.xs[here])
    y = shape.ys[here] + between * (shape.ys[here + 1] - shape.ys[here])
    heading = shape.headings[here] + between * (shape.headings[here + 1] - shape.headings[here])
    running_s = track.drive_s + track.idle_s
    return Motion(
        latitude=track.latitude + y * track.radius_m / _M_PER_DEGREE,
        longitude=track.longitude + x * track.radius_m / (_M_PER_DEGREE * math.cos(math.radians(track.latitude))),
        heading_deg=heading % 360,
        speed_mps=(1 - math.cos(angle)) * track.leg_m / track.drive_s,
        odometer_m=track.odometer_m + driven_m,
        engine_s=track.engine_s + legs * running_s + min(into_s, running_s),
        fill_percent=95 - 80 * (driven_m / track.range_m % 1),
        engine_state="On" if part < 1 else "Idle" if into_s < running_s else "Off",
    )


@cache
def _shape(kind: int) -> Shape:
    """Return a loop with `kind` + 2 bulges, its corners at equal distances along it."""
    fine = [_bulged(kind + 2, 2 * math.pi * step / (_CORNERS * 8)) for step in range(_CORNERS * 8 + 1)]
    along = [0.0]
    for (x0, y0), (x1, y1) in pairwise(fine):
        along.append(along[-1] + math.hypot(x1 - x0, y1 - y0))
    corners, step = [], 0
    for corner in range(_CORNERS):
        while along[step] < along[-1] * corner / _CORNERS:
            step += 1
        corners.append(fine[step])
    corners.append(corners[0])
    xs, ys = zip(*corners, strict=True)
    return Shape(xs, ys, _headings(corners), along[-1])


def _bulged(bulges: int, angle: float) -> tuple[float, float]:
    radius = 1 + 0.25 * math.sin(bulges * angle)
    return radius * math.sin(angle), radius * math.cos(angle)


def _headings(corners: list[tuple[float, float]]) -> tuple[float, ...]:
    """Return the direction at each corner, clockwise from north, without a jump at 360."""
    headings: list[float] = []
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[1]], strict=True):
        heading = math.degrees(math.atan2(x1 - x0, y1 - y0))
        while headings and heading < headings[-1] - 180:
            heading += 360
        while headings and heading > headings[-1] + 180:
            heading -= 360
        headings.append(heading)
    return tuple(headings)
