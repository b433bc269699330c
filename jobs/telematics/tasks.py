"""The doorways of telematics."""

from uuid import UUID

from jobs.job import job
from jobs.outcomes import Counts, NextSlice
from jobs.run import Run
from jobs.telematics import liveness, sync


@job("telematics.sync_connection", unique_by=("connection_id",), is_public=True, soft_time_limit=240)
def sync_connection(run: Run, connection_id: UUID) -> Counts | NextSlice:
    """Bring in what a connection's vehicles have reported since the last time.

    Twice is harmless: points are keyed by vehicle and time, and a page commits only with its cursor.
    """
    return sync.sync_connection(run, connection_id)


@job("telematics.check_liveness", unique_by=(), soft_time_limit=50)
def check_liveness(run: Run) -> Counts:
    """Open an alert for each vehicle or connection that is silent and each level that is low; resolve what is over.

    Twice is harmless: of a kind and subject at most one alert is open (`uq_alerts_open`).
    """
    with run.transaction() as connection:
        return liveness.check(connection, run.now)
