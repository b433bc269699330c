"""What becomes of new notifications: sent now, held for quiet hours or a digest, or folded into one message."""

import math
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from db.engine import Database
from db.queries import notifications as queries
from db.queries.notifications import Decision, Group
from jobs.notifications.moments import next_digest, quiet_until, zone_of
from jobs.outcomes import Counts

WINDOW = timedelta(minutes=10)
MOST_ALONE = 10
"""So many of one category reach a recipient one by one within the window; what is more comes as one message."""
CRITICAL_WAIT = timedelta(minutes=2)
"""For how long critical ones wait at most: after a summary, or once that many have come one by one."""
MOST_AN_HOUR = 60
"""So many of all categories; what is not critical then waits."""
BATCH = 10_000


def plan(database: Database, now: datetime, *, until: float = math.inf) -> Counts:
    """Decide on everything that is pending and due, or on as much as can be until `until` (of `time.monotonic`).

    Twice is harmless: what was decided on is pending no more.
    """
    counts: Counts = {}
    while True:
        with database.system_transaction() as connection:
            groups, expired, dropped = queries.take_pending(
                connection, now, window_s=WINDOW.total_seconds(), batch=BATCH
            )
            decisions = [decide(group, now) for group in groups]
            queries.settle(connection, decisions, now)
        taken = sum(len(group.ids) for group in groups) + expired + dropped
        told = {"expired": expired, "suppressed": dropped}
        for decision in decisions:
            word = {"hold": "held", "fold": "folded"}.get(decision.action, "ready")
            told[word] = told.get(word, 0) + len(decision.group.ids)
        for word, number in told.items():
            if number:
                counts[word] = counts.get(word, 0) + number
        if taken < BATCH or time.monotonic() > until:
            return counts


def decide(group: Group, now: datetime) -> Decision:
    """Return what becomes of a group: critical ones break through all but the flood of themselves."""
    bundle = "digest" if group.is_due_digest else None
    if not group.is_critical:
        held = _hold_until(group, now)
        if held is not None:
            return Decision("hold", group, held, bundle)
        if group.digest != "none" and group.digest_at is not None and not group.is_due_digest:
            zone = zone_of(group.user_zone, group.tenant_zone)
            return Decision("hold", group, next_digest(now, group.digest, group.digest_at, zone), "digest")
    return _gather(group) if group.is_due_digest else _stem(group, now)


def _hold_until(group: Group, now: datetime) -> datetime | None:
    """Return the end of the recipient's quiet hours, or of a full hour; None where neither is."""
    if group.quiet_from is not None and group.quiet_to is not None:
        zone = zone_of(group.user_zone, group.tenant_zone)
        until = quiet_until(now, group.quiet_from, group.quiet_to, zone)
        if until is not None:
            return until
    return now + WINDOW if group.last_hour >= MOST_AN_HOUR else None


def _gather(group: Group) -> Decision:
    """Return what becomes of a digest: of one alone no digest is made."""
    return Decision("fold", group, folded=uuid4()) if len(group.ids) > 1 else Decision("ready", group)


def _stem(group: Group, now: datetime) -> Decision:
    """Let the first ones through one by one, then one message for all that came, then none for a while."""
    number = len(group.ids)
    if group.is_critical:
        return _stem_critical(group, now)
    if group.summarised_at is not None and now < group.summarised_at + WINDOW:
        return Decision("hold", group, group.summarised_at + WINDOW)
    if group.lately + number <= MOST_ALONE:
        return Decision("ready", group)
    if number == 1:
        return Decision("hold", group, _end_of(WINDOW, now))
    return Decision("fold", group, folded=uuid4())


def _stem_critical(group: Group, now: datetime) -> Decision:
    """Let one through at once, unless many were of late; nothing waits for others to come with more than once."""
    is_alone = len(group.ids) == 1
    is_after_summary = group.summarised_at is not None and now < group.summarised_at + CRITICAL_WAIT
    if not group.has_waited and (group.lately >= MOST_ALONE if is_alone else is_after_summary):
        return Decision("hold", group, _end_of(CRITICAL_WAIT, now))
    if is_alone or group.lately + len(group.ids) <= MOST_ALONE:
        return Decision("ready", group)
    return Decision("fold", group, folded=uuid4())


def _end_of(span: timedelta, now: datetime) -> datetime:
    """Return an instant that all who wait have in common, so that they come together."""
    seconds = span.total_seconds()
    return datetime.fromtimestamp((now.timestamp() // seconds + 1) * seconds, UTC)
