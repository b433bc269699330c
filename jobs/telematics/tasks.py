"""The doorways of telematics."""

from uuid import UUID

from jobs.job import job
from jobs.outcomes import Counts, NextSlice
from jobs.run import Run
from jobs.telematics import sync


@job("telematics.sync_connection", unique_by=("connection_id",), is_public=True, soft_time_limit=240)
def sync_connection(run: Run, connection_id: UUID) -> Counts | NextSlice:
    """Bring in what a connection's vehicles have reported since the last time.

    Twice is harmless: points are keyed by vehicle and time, and a page commits only with its cursor.
    """
    return sync.sync_connection(run, connection_id)
