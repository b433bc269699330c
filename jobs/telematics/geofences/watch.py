"""What no sync does for fences: vehicles whose points other applications store, and the fences in Redis."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

from db.queries import geofences as queries
from jobs.outcomes import Counts, NextSlice
from jobs.run import Run
from jobs.telematics.geofences import shown
from jobs.telematics.geofences.cache import read_fences, refresh
from jobs.telematics.geofences.fixes import of_rows
from jobs.telematics.geofences.index import FenceIndex
from jobs.telematics.geofences.pages import Located, advance, cross

FIRST = timedelta(minutes=15)
"""How far back a vehicle that was never evaluated begins."""
_FIXES_OF_A_VEHICLE = 500
_FIXES = 10_000


def watch_geofences(run: Run) -> Counts | NextSlice:
    """Evaluate a slice of new fixes, then tell Redis of fences that have changed."""
    assert run.tenant_id is not None
    index = refresh(run.database, run.tenant_id)
    if index.version is None:
        return {}
    counts, has_more = _evaluate(run, run.tenant_id, index)
    counts |= _show(run, run.tenant_id, index.version, index)
    return NextSlice(counts) if has_more else counts


def _evaluate(run: Run, tenant_id: UUID, index: FenceIndex) -> tuple[Counts, bool]:
    with run.transaction() as connection:
        if not index.fences:
            queries.forget_watermarks(connection)
            return {}, False
        rows = queries.read_unconnected(connection, run.now, FIRST, each=_FIXES_OF_A_VEHICLE, most=_FIXES)
    if not rows:
        return {}, False
    fixes = of_rows(rows)
    located = Located(index, fixes, index.runs(fixes))  # between transactions: it may take long
    with run.transaction() as connection:
        counts = cross(connection, tenant_id, located, run.now)
        advance(connection, fixes)
    most = max(Counter(row[0] for row in rows).values())
    return {"fixes": len(rows)} | counts, len(rows) == _FIXES or most == _FIXES_OF_A_VEHICLE


def _show(run: Run, tenant_id: UUID, version: UUID, index: FenceIndex) -> Counts:
    if shown.is_shown(tenant_id, version):
        return {}
    return {"shown": shown.show(tenant_id, version, read_fences(run.database, tenant_id, list(index.places)))}
