"""Positions in bundles of neighbours: a tree of few boxes is made and asked sooner than one of many points."""

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import STRtree

from jobs.telematics.geofences.fixes import Floats, Ints

_EACH = 16
_CELLS = 65_535


class Bundles:
    """Positions of one page, sixteen to a box."""

    def __init__(self, latitudes: Floats, longitudes: Floats) -> None:
        self._order = _along_curve(latitudes, longitudes)
        self._latitudes, self._longitudes = latitudes[self._order], longitudes[self._order]
        starts = np.arange(0, len(latitudes), _EACH)
        corners = (
            np.minimum.reduceat(self._longitudes, starts),
            np.minimum.reduceat(self._latitudes, starts),
            np.maximum.reduceat(self._longitudes, starts),
            np.maximum.reduceat(self._latitudes, starts),
        )
        self._tree = STRtree(np.asarray(shapely.box(*corners)))

    def within(self, boxes: NDArray[np.object_], bounds: Floats) -> tuple[Ints, Ints]:
        """Return each pair of a box and a position that is in it, edges included; boxes ascend.

        Args:
            bounds: of the boxes, a row each: least longitude, least latitude, greatest longitude, greatest latitude.
        """
        box, bundle = self._tree.query(boxes)
        box = np.repeat(box, _EACH)
        place = (bundle[:, None] * _EACH + np.arange(_EACH)).ravel()
        is_there = place < len(self._order)
        box, place = box[is_there], place[is_there]
        latitude, longitude, of_box = self._latitudes[place], self._longitudes[place], bounds[box]
        is_in = (of_box[:, 0] <= longitude) & (longitude <= of_box[:, 2])
        is_in &= (of_box[:, 1] <= latitude) & (latitude <= of_box[:, 3])
        return box[is_in], self._order[place[is_in]]


def _along_curve(latitudes: Floats, longitudes: Floats) -> Ints:
    """Return positions in the order of a curve that stays near itself (Morton): neighbours come one after the other."""
    return np.argsort(_spread(_cells(latitudes)) << np.uint64(1) | _spread(_cells(longitudes)))


def _cells(values: Floats) -> NDArray[np.uint64]:
    least = float(values.min())
    span = float(values.max()) - least
    cells: NDArray[np.uint64] = ((values - least) * (_CELLS / span if span > 0 else 0.0)).astype(np.uint64)
    return cells


def _spread(cells: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Put a zero between every two bits."""
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        cells = (cells | cells << np.uint64(shift)) & np.uint64(mask)
    return cells
