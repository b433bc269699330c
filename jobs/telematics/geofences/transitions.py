"""What a vehicle's fixes mean for one fence: entries, exits, stays.

What is pending lives in the presence, so that the same fixes give the same events however they are cut into pages.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from db.queries.geofences import Fence
from jobs.telematics.geofences.fixes import Fixes
from jobs.telematics.geofences.index import INSIDE, NEAR

OUTSIDE = 0


@dataclass(frozen=True, slots=True)
class Presence:
    """A vehicle inside a fence since `entered_us`, or outside where that is None; instants in microseconds since 2000.

    Pending is the other side: since when, for how many fixes, and where the first of them was.
    """

    entered_us: int | None = None
    dwelled_us: int | None = None
    pending_us: int | None = None
    pending_fixes: int = 0
    pending_latitude: float | None = None
    pending_longitude: float | None = None


OUT = Presence()


class Crossing(NamedTuple):
    """An event of one vehicle and one fence; `kind` is `entry`, `exit` or `dwell`."""

    time_us: int
    kind: str
    latitude: float
    longitude: float


class Run(NamedTuple):
    """Fixes from `start` to before `stop`, all on one side."""

    start: int
    stop: int
    side: int


def follow(fence: Fence, presence: Presence, runs: list[Run], fixes: Fixes) -> tuple[Presence, list[Crossing]]:
    """Take a vehicle through its fixes. `runs` follow each other without a gap."""
    crossings: list[Crossing] = []
    for run in runs:
        was_inside = presence.entered_us is not None
        is_inside = run.side == INSIDE or (was_inside and run.side == NEAR)
        if is_inside == was_inside:
            presence = _settle(presence)
            confirmed = run.start
        else:
            presence, confirmed = _change(fence, presence, run, fixes, crossings)
        if is_inside and presence.entered_us is not None and confirmed < run.stop:
            presence = _dwell(fence, presence, confirmed, run.stop, fixes, crossings)
    return presence, crossings


def _settle(presence: Presence) -> Presence:
    """Drop what was pending: a fix on the old side says that it was nothing."""
    if presence.pending_us is None:
        return presence
    return replace(presence, pending_us=None, pending_fixes=0, pending_latitude=None, pending_longitude=None)


def _change(
    fence: Fence, presence: Presence, run: Run, fixes: Fixes, crossings: list[Crossing]
) -> tuple[Presence, int]:
    """Count a run on the new side. Returns the fix that confirms the change, `run.stop` where none does yet."""
    since, latitude, longitude = presence.pending_us, presence.pending_latitude, presence.pending_longitude
    if since is None or latitude is None or longitude is None:
        since = int(fixes.times_us[run.start])
        latitude, longitude = float(fixes.latitudes[run.start]), float(fixes.longitudes[run.start])
    missing = max(fence.confirm_fixes - presence.pending_fixes, 1)
    if run.stop - run.start < missing:
        counted = presence.pending_fixes + run.stop - run.start
        pending = replace(
            presence,
            pending_us=since,
            pending_fixes=counted,
            pending_latitude=latitude,
            pending_longitude=longitude,
        )
        return pending, run.stop
    is_exit = presence.entered_us is not None
    crossings.append(Crossing(since, "exit" if is_exit else "entry", latitude, longitude))
    return OUT if is_exit else Presence(entered_us=since), run.start + missing - 1


def _dwell(
    fence: Fence, presence: Presence, start: int, stop: int, fixes: Fixes, crossings: list[Crossing]
) -> Presence:
    """Notice a long stay at the first fix inside that is late enough, once a stay."""
    if fence.dwell_s is None or presence.dwelled_us is not None or presence.entered_us is None:
        return presence
    due_us = presence.entered_us + fence.dwell_s * 1_000_000
    at = start + int(np.searchsorted(fixes.times_us[start:stop], due_us))
    if at == stop:
        return presence
    time_us = int(fixes.times_us[at])
    crossings.append(Crossing(time_us, "dwell", float(fixes.latitudes[at]), float(fixes.longitudes[at])))
    return replace(presence, dwelled_us=time_us)
