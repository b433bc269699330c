"""The doorways of telematics."""

from uuid import UUID

from jobs.job import job
from jobs.outcomes import Counts, NextSlice
from jobs.run import Run
from jobs.telematics import liveness, sync, tokens
from jobs.telematics.geofences import watch
from jobs.webhooks import read


@job("telematics.sync_connection", unique_by=("connection_id",), is_public=True, soft_time_limit=240)
def sync_connection(run: Run, connection_id: UUID) -> Counts | NextSlice:
    """Bring in what a connection's vehicles have reported since the last time.

    Twice is harmless: points are keyed by vehicle and time, and a page commits only with its cursor.
    """
    return sync.sync_connection(run, connection_id)


@job("telematics.renew_tokens", scope="system", unique_by=())
def renew_tokens(run: Run) -> Counts:
    """Enqueue a renewal for each connection, paused ones too, whose credentials are about to end for good.

    Twice is harmless: a connection has at most one renewal pending or running.
    """
    with run.transaction() as connection:
        return {"enqueued": tokens.enqueue_due(connection, renew_token, run.now)}


@job("telematics.renew_token", unique_by=("connection_id",), soft_time_limit=60)
def renew_token(run: Run, connection_id: UUID) -> Counts:
    """Exchange a connection's credentials for the next ones, which are kept before they are used.

    Twice is harmless: the second finds credentials that last.
    """
    return tokens.renew_connection(run, connection_id)


@job("telematics.read_webhook", unique_by=("connection_id", "event_id"))
def read_webhook(run: Run, connection_id: UUID, event_id: str) -> Counts:
    """Store what a provider has pushed, from the delivery that the receiver kept.

    Twice is harmless: a delivery's payload goes with the commit that stores its records.
    """
    return read.read_delivery(run, connection_id, event_id)


@job("telematics.check_liveness", unique_by=(), soft_time_limit=50)
def check_liveness(run: Run) -> Counts:
    """Open an alert for each vehicle or connection that is silent and each level that is low; resolve what is over.

    Twice is harmless: of a kind and subject at most one alert is open (`uq_alerts_open`).
    """
    with run.transaction() as connection:
        return liveness.check(connection, run.now)


@job("telematics.watch_geofences", unique_by=(), soft_time_limit=120)
def watch_geofences(run: Run) -> Counts | NextSlice:
    """Evaluate fences for vehicles without a connection, such as robots; keep `geofence:{id}` in Redis.

    Twice is harmless: a fix is evaluated once (`vehicle_positions.fences_at`), an event is there once.
    """
    return watch.watch_geofences(run)
