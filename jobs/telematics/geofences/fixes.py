"""The fixes of a page as arrays: by vehicle and in time order, one per instant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from db.timeseries.staging import micros

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# The beginning of a row of `db.timeseries.points.pack_point`, up to its longitude.
_PACKED = np.dtype(
    [
        ("fields", ">i2"),
        ("vehicle_size", ">i4"),
        ("high", ">u8"),
        ("low", ">u8"),
        ("time_size", ">i4"),
        ("time", ">i8"),
        ("latitude_size", ">i4"),
        ("latitude", ">f8"),
        ("longitude_size", ">i4"),
        ("longitude", ">f8"),
    ]
)
_SIZE = _PACKED.itemsize
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def instant(time_us: int) -> datetime:
    """Return microseconds since 2000 as an instant."""
    return _EPOCH + timedelta(microseconds=int(time_us))


@dataclass(frozen=True)
class Fixes:
    """`vehicles[n]` has the fixes from `starts[n]` to before `starts[n + 1]`; `owners` is n of each fix."""

    vehicles: list[UUID]
    starts: Ints
    owners: Ints
    times_us: Ints
    latitudes: Floats
    longitudes: Floats

    @property
    def count(self) -> int:
        """How many fixes there are, of all vehicles."""
        return len(self.times_us)


def of_points(points: Sequence[bytes]) -> Fixes:
    """Return the fixes among packed points; of two of one vehicle and instant the first, as storage keeps it."""
    packed = np.frombuffer(b"".join([point[:_SIZE] for point in points]), dtype=_PACKED)
    packed = packed[~np.isnan(packed["latitude"])]
    return _sort(packed["high"], packed["low"], packed["time"], packed["latitude"], packed["longitude"])


def of_rows(rows: Iterable[tuple[UUID, datetime, float, float]]) -> Fixes:
    """Return the fixes of rows: vehicle, time, latitude, longitude."""
    listed = list(rows)
    return _sort(
        np.array([row[0].int >> 64 for row in listed], dtype=np.uint64),
        np.array([row[0].int & 0xFFFF_FFFF_FFFF_FFFF for row in listed], dtype=np.uint64),
        np.array([micros(row[1]) for row in listed], dtype=np.int64),
        np.array([row[2] for row in listed], dtype=np.float64),
        np.array([row[3] for row in listed], dtype=np.float64),
    )


def _sort(
    high: NDArray[np.uint64], low: NDArray[np.uint64], times_us: Ints, latitudes: Floats, longitudes: Floats
) -> Fixes:
    high, low, times_us = high.astype(np.uint64), low.astype(np.uint64), times_us.astype(np.int64)
    order = np.lexsort((times_us, low, high))  # stable: of equal ones the first stays first
    high, low, times_us = high[order], low[order], times_us[order]
    is_other = np.ones(len(order), dtype=bool)
    is_other[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    is_kept = is_other.copy()
    is_kept[1:] |= times_us[1:] != times_us[:-1]
    order, high, low, is_other = order[is_kept], high[is_kept], low[is_kept], is_other[is_kept]
    firsts = np.flatnonzero(is_other)
    vehicles = [UUID(int=(int(high[first]) << 64) | int(low[first])) for first in firsts]
    return Fixes(
        vehicles,
        np.append(firsts, len(order)),
        np.cumsum(is_other) - 1,
        times_us[is_kept],
        latitudes[order].astype(np.float64),
        longitudes[order].astype(np.float64),
    )
