"""Liveness and levels: the thresholds that hold where a tenant has set none, and how often providers have news."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from db.queries import faults, liveness
from db.queries.alerts import Thresholds
from db.queries.faults import DEFAULT_FAULT_SEVERITY
from integrations.errors import PermanentError
from integrations.smartcar.batch import PATHS
from integrations.smartcar.options import PollOptions
from jobs.outcomes import Counts

DEFAULTS = {
    "vehicle": Thresholds(30 * 60, 15.0, 20.0, DEFAULT_FAULT_SEVERITY),
    "robot": Thresholds(5 * 60, 15.0, 20.0, DEFAULT_FAULT_SEVERITY),
}
"""By kind of vehicle; a row of `alert_thresholds` replaces all of it."""
SYNC_EVERY_S = 5 * 60


def check(connection: Connection, now: datetime) -> Counts:
    """Open and resolve the tenant's alerts as they stand at `now`."""
    connections = liveness.list_polled(connection)
    polled = {each: _POLL_EVERY_S.get(provider, _as_set)(settings) for each, provider, settings in connections}
    counts = liveness.check(connection, now, defaults=DEFAULTS, poll_every_s=polled, tick_s=SYNC_EVERY_S)
    codes = faults.settle_changed(connection)
    counts["resolved"] += codes.resolved + liveness.resolve_gone(connection, now)
    return counts | ({"fault_code": codes.opened} if codes.opened else {})


def _as_set(settings: Mapping[str, Any]) -> int:
    """Return a connection's own `poll_every_s`; what is none is none."""
    given = str(settings.get("poll_every_s"))
    return int(given) if re.fullmatch("[0-9]{1,7}", given) else SYNC_EVERY_S


def _by_quota(settings: Mapping[str, Any]) -> int:
    """Return how long a Smartcar vehicle rests at most: its month's requests set the pace."""
    try:
        options = PollOptions.of(settings)
    except PermanentError:  # the sync says so
        options = PollOptions()
    return options.interval_s(len(PATHS) if options.api == "v2" else 1) + options.poll_every_s // 10


_POLL_EVERY_S: dict[str, Callable[[Mapping[str, Any]], int]] = {"smartcar": _by_quota}
