"""Liveness and levels: the thresholds that hold where a tenant has set none, and how often providers have news."""

from datetime import datetime

from sqlalchemy import Connection

from db.queries import liveness
from db.queries.alerts import Thresholds
from db.queries.faults import DEFAULT_FAULT_SEVERITY
from jobs.outcomes import Counts

DEFAULTS = {
    "vehicle": Thresholds(30 * 60, 15.0, 20.0, DEFAULT_FAULT_SEVERITY),
    "robot": Thresholds(5 * 60, 15.0, 20.0, DEFAULT_FAULT_SEVERITY),
}
"""By kind of vehicle; a row of `alert_thresholds` replaces all of it."""
SYNC_EVERY_S = 5 * 60
# Smartcar asks the car itself, so its quota and the car's battery set the pace. A connection's setting `poll_every_s`
# overrides.
_POLL_EVERY_S = {"smartcar": 30 * 60}


def check(connection: Connection, now: datetime) -> Counts:
    """Open and resolve the tenant's alerts as they stand at `now`."""
    return liveness.check(connection, now, defaults=DEFAULTS, poll_every_s=_POLL_EVERY_S, tick_s=SYNC_EVERY_S)
