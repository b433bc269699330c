"""What no sync does for fences: vehicles whose points other applications store, and the fences in Redis."""

from collections import Counter
from datetime import timedelta

from db.queries import geofences as queries
from jobs.outcomes import Counts, NextSlice
from jobs.run import Run
from jobs.telematics.geofences import shown
from jobs.telematics.geofences.cache import find_index
from jobs.telematics.geofences.fixes import of_rows
from jobs.telematics.geofences.index import FenceIndex
from jobs.telematics.geofences.pages import Located, advance, cross

FIRST = timedelta(minutes=15)
"""How far back a vehicle that was never evaluated begins."""
_FIXES_OF_A_VEHICLE = 500
_FIXES = 10_000


def watch_geofences(run: Run) -> Counts | NextSlice:
    """Evaluate a slice of new fixes, then tell Redis of fences that have changed."""
    counts, has_more = _evaluate(run)
    counts |= _show(run)
    return NextSlice(counts) if has_more else counts


def _evaluate(run: Run) -> tuple[Counts, bool]:
    assert run.tenant_id is not None
    with run.transaction() as connection:
        index = find_index(connection, run.tenant_id)
        if not index.fences:
            if index.version is not None:
                queries.forget_watermarks(connection)
            return {}, False
        rows = queries.read_unconnected(connection, run.now, FIRST, each=_FIXES_OF_A_VEHICLE, most=_FIXES)
        if not rows:
            return {}, False
        fixes = of_rows(rows)
        counts = cross(connection, run.tenant_id, Located(index, fixes, index.runs(fixes)), run.now)
        advance(connection, fixes)
    most = max(Counter(row[0] for row in rows).values())
    return {"fixes": len(rows)} | counts, len(rows) == _FIXES or most == _FIXES_OF_A_VEHICLE


def _show(run: Run) -> Counts:
    assert run.tenant_id is not None
    with run.transaction() as connection:
        version = queries.read_version(connection)
    if version is None or shown.is_shown(run.tenant_id, version):
        return {}
    with run.transaction() as connection:
        version, fences = queries.load_fences(connection)
    if version is None:
        return {}
    evaluated = FenceIndex(version, fences).places
    return {"shown": shown.show(run.tenant_id, version, [fence for fence in fences if fence.id in evaluated])}
