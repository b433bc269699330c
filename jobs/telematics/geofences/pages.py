"""Fences in a page's two steps: which fixes are where, found beforehand; then what follows, in its transaction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy import Connection

from db.engine import Database
from db.queries import geofences as queries
from db.queries.geofences import Event, Fence, PresenceRow
from db.timeseries.staging import micros
from jobs.outcomes import Counts
from jobs.telematics.geofences import alerts
from jobs.telematics.geofences.cache import FencesNotRead, find_index, find_known, refresh
from jobs.telematics.geofences.fixes import Fixes, instant, of_points
from jobs.telematics.geofences.index import INSIDE, FenceIndex, Runs
from jobs.telematics.geofences.transitions import OUT, OUTSIDE, Crossing, Presence, Run, follow


@dataclass(frozen=True)
class Located:
    """A page's fixes and where they are, by one version of the tenant's fences."""

    index: FenceIndex
    fixes: Fixes
    runs: Runs


def locate(connection: Connection, tenant_id: UUID, points: Sequence[bytes]) -> Located | None:
    """Find which of a few packed points are inside of which fences; None where the tenant has none to ask.

    Raises:
        FencesNotRead: `refresh` has to read them, outside of a transaction.
    """
    return _locate(find_index(connection, tenant_id), points)


def locate_beforehand(database: Database, tenant_id: UUID, version: UUID, points: Sequence[bytes]) -> Located | None:
    """Do so for a page, while no transaction is open: it may take long.

    Args:
        version: of the tenant's fences, a moment ago.
    """
    index = find_known(tenant_id, version)
    if index is None or (index.problems and not index.is_noted):
        index = refresh(database, tenant_id)
    return _locate(index, points)


def _locate(index: FenceIndex, points: Sequence[bytes]) -> Located | None:
    if not index.fences or not points:
        return None
    fixes = of_points(points)
    return Located(index, fixes, index.runs(fixes)) if fixes.count else None


def cross(connection: Connection, tenant_id: UUID, located: Located, now: datetime) -> Counts:
    """Write what a page's fixes mean for the tenant's fences; its points are stored, its positions not yet.

    A vehicle's fixes up to its watermark were evaluated, or came late; `store_positions` moves it, or `advance`. Fences
    that have changed since the page was located are asked again; where that takes long the page is told by the fences
    as they were, without those that have ended.
    """
    fixes, index, runs = located.fixes, located.index, located.runs
    ends = fixes.starts[1:]
    version, watermarks = queries.lock_watermarks(connection, fixes.vehicles)
    if version != index.version:
        index, runs = _ask_again(connection, tenant_id, located)
    begins = _begins(fixes, watermarks)
    moved = [number for number in range(len(fixes.vehicles)) if begins[number] < ends[number]]
    if not moved:
        return {}
    known = queries.read_presence(connection, [fixes.vehicles[number] for number in moved])
    outcome = _follow_all(index, fixes, runs, begins, known)
    return _write(connection, outcome, now)


def _ask_again(connection: Connection, tenant_id: UUID, located: Located) -> tuple[FenceIndex, Runs]:
    try:
        index = find_index(connection, tenant_id)
    except FencesNotRead:
        return located.index, located.runs
    return index, index.runs(located.fixes)


def advance(connection: Connection, fixes: Fixes) -> None:
    """Move the watermarks of vehicles whose positions somebody else stores, after `cross`."""
    newest = [instant(time_us) for time_us in fixes.times_us[fixes.starts[1:] - 1].tolist()]
    queries.advance_watermarks(connection, dict(zip(fixes.vehicles, newest, strict=True)))


def _begins(fixes: Fixes, watermarks: dict[UUID, int]) -> list[int]:
    """Return the first fix of each vehicle that is newer than its watermark."""
    begins: list[int] = fixes.starts[:-1].tolist()
    oldest_us = fixes.times_us[fixes.starts[:-1]].tolist()
    for number, vehicle_id in enumerate(fixes.vehicles):
        mark_us = watermarks.get(vehicle_id)
        if mark_us is not None and oldest_us[number] <= mark_us:
            own = fixes.times_us[begins[number] : fixes.starts[number + 1]]
            begins[number] += int(np.searchsorted(own, mark_us, side="right"))
    return begins


@dataclass(frozen=True)
class Outcome:
    """What a page leads to."""

    events: list[Event]
    kept: list[PresenceRow]
    dropped: list[tuple[UUID, UUID]]
    gone: list[tuple[UUID, UUID]]
    index: FenceIndex


def _follow_all(
    index: FenceIndex, fixes: Fixes, runs: Runs, begins: list[int], known: Sequence[PresenceRow]
) -> Outcome:
    outcome = Outcome([], [], [], [], index)
    numbers = {vehicle_id: number for number, vehicle_id in enumerate(fixes.vehicles)}
    presences: dict[tuple[int, int], PresenceRow] = {}
    for each in known:
        place = index.places.get(each.geofence_id)
        if place is None:
            outcome.gone.append((each.vehicle_id, each.geofence_id))
        else:
            presences[numbers[each.vehicle_id], place] = each
    ends: list[int] = fixes.starts[1:].tolist()
    for pair, pieces in _pairs(runs, begins, presences):
        row, fence = presences.get(pair), index.fences[pair[1]]
        begin, end = begins[pair[0]], ends[pair[0]]
        if row is not None and _is_settled(row, fence) and pieces == [(begin, end, INSIDE)]:
            continue  # inside before, inside throughout: what most vehicles at a fence are
        before = OUT if row is None else _presence(row)
        after, crossings = follow(fence, before, _fill(pieces, begin, end), fixes)
        vehicle_id, fence_id = fixes.vehicles[pair[0]], fence.id
        outcome.events.extend(_event(vehicle_id, fence_id, crossing) for crossing in crossings)
        if after == before:
            continue
        if after == OUT:
            if row is not None:
                outcome.dropped.append((vehicle_id, fence_id))
        else:
            outcome.kept.append(_row(vehicle_id, fence_id, after))
    return outcome


def _is_settled(row: PresenceRow, fence: Fence) -> bool:
    """Tell whether another fix inside changes nothing."""
    is_inside = row.entered_at is not None and row.pending_at is None
    return is_inside and (fence.dwell_s is None or row.dwelled_at is not None)


def _pairs(
    runs: Runs, begins: list[int], presences: dict[tuple[int, int], PresenceRow]
) -> Iterator[tuple[tuple[int, int], list[Run]]]:
    """Yield every pair of vehicle and fence that has a run or a presence, with the runs that are not too late."""
    found: dict[tuple[int, int], list[Run]] = {pair: [] for pair in presences}
    columns = (runs.owners, runs.fences, runs.starts, runs.stops, runs.sides)
    for owner, fence, start, stop, side in zip(*(column.tolist() for column in columns), strict=True):
        if stop > begins[owner]:
            run = Run(max(start, begins[owner]), stop, side)
            found.setdefault((owner, fence), []).append(run)
    for pair, pieces in found.items():
        if pair in presences or any(run.side == INSIDE for run in pieces):
            yield pair, pieces


def _fill(pieces: list[Run], begin: int, end: int) -> list[Run]:
    """Put the fixes outside between the others."""
    whole: list[Run] = []
    for run in (*pieces, Run(end, end, OUTSIDE)):
        if begin < run.start:
            whole.append(Run(begin, run.start, OUTSIDE))
        if run.start < run.stop:
            whole.append(run)
        begin = run.stop
    return whole


def _write(connection: Connection, outcome: Outcome, now: datetime) -> Counts:
    touched = {event.geofence_id for event in outcome.events} | {row.geofence_id for row in outcome.kept}
    touched |= {pair[1] for pair in (*outcome.dropped, *outcome.gone)}
    if not touched:
        return {"geofence_events": 0}
    there = set(outcome.index.places)
    if queries.hold_version(connection) != outcome.index.version:
        there = queries.find_evaluated(connection, touched)
    new: list[Event] = []
    if events := [event for event in outcome.events if event.geofence_id in there]:
        new = queries.add_events(connection, events)
        alerts.announce(connection, outcome.index, new, now)
    if kept := [row for row in outcome.kept if row.geofence_id in there]:
        queries.keep_presence(connection, kept)
    gone = [pair for pair in outcome.gone if pair[1] not in there]
    if gone:
        alerts.withdraw(connection, gone, now)
    if dropped := outcome.dropped + gone:
        queries.drop_presence(connection, dropped)
    return {"geofence_events": len(new)}


def _event(vehicle_id: UUID, fence_id: UUID, crossing: Crossing) -> Event:
    time_us, kind, latitude, longitude = crossing
    return Event(vehicle_id, fence_id, instant(time_us), kind, latitude, longitude)


def _presence(row: PresenceRow) -> Presence:
    return Presence(
        None if row.entered_at is None else micros(row.entered_at),
        None if row.dwelled_at is None else micros(row.dwelled_at),
        None if row.pending_at is None else micros(row.pending_at),
        row.pending_fixes,
        row.pending_latitude,
        row.pending_longitude,
    )


def _row(vehicle_id: UUID, fence_id: UUID, presence: Presence) -> PresenceRow:
    return PresenceRow(
        vehicle_id,
        fence_id,
        None if presence.entered_us is None else instant(presence.entered_us),
        None if presence.dwelled_us is None else instant(presence.dwelled_us),
        None if presence.pending_us is None else instant(presence.pending_us),
        presence.pending_fixes,
        presence.pending_latitude,
        presence.pending_longitude,
    )
