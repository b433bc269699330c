"""Whether a user would be told of an alert now, how, and why not: in words, for an operator."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from db.queries.notifications import SEVERITIES, Group
from db.queries.wishes import Way
from jobs.notifications.moments import quiet_until, zone_of
from jobs.notifications.planning import MOST_AN_HOUR, decide

_SUPPRESSED = {
    "unsubscribed": "the address has unsubscribed",
    "hard_bounce": "mail to the address came back: it does not exist",
    "complaint": "the address has complained of our mail",
}


_ONE = UUID(int=0)
"""Stands for the notification that there would be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a user would hear by one way.

    Args:
        at: when it is looked at again, of one that is held.
        why: what decides, the first first.
    """

    way: str
    outcome: Literal["told", "held", "not told"]
    at: datetime | None
    why: list[str]


def answer(way: Way, severity: str, now: datetime, *, has_server: bool = True) -> Answer:
    """Return what becomes of an alert of a severity, judged as a real one is."""
    named = way.channel if way.name is None else f"{way.channel} ({way.name})"
    rule = _rule(way)
    refused = _refusal(way, severity)
    if refused is not None:
        return Answer(named, "not told", None, [refused, *rule])
    if way.after_min:
        rule.append(f"only of what is still open after {way.after_min} min")
    if way.away_since is not None:
        rule.append(f"the way is closed for all since {way.away_since:%Y-%m-%d %H:%M} UTC: it waits until that is over")
    if not has_server:
        rule.append("FLEET_SMTP_URL is not set here: where it is not set for the workers either, mails wait")
    later = now + timedelta(minutes=way.after_min)
    decision = decide(_group(way, severity), later)
    if decision.action == "hold":
        return Answer(named, "held", decision.until, [_hold(way, later, decision.bundle), *rule])
    return Answer(named, "held" if way.after_min else "told", later if way.after_min else None, rule)


def _rule(way: Way) -> list[str]:
    if way.preference is None:
        return []
    owner = "the user's" if way.is_own else "the tenant's"
    return [f"what holds is {owner} preference for {way.preference}: from {way.min_severity} on"]


def _refusal(way: Way, severity: str) -> str | None:
    if way.preference is None and way.problem in (None, "turned off"):
        return f"neither the user nor the tenant has a preference for {way.category} or all: nobody is told without one"
    if way.problem is not None:
        return "it is turned off" if way.problem == "turned off" else way.problem
    if way.suppressed is not None:
        return _SUPPRESSED[way.suppressed]
    if SEVERITIES.index(severity) < SEVERITIES.index(way.min_severity or "low"):
        return f"it is only {severity}"
    return None


def _hold(way: Way, at: datetime, bundle: str | None) -> str:
    if bundle is not None:
        return f"it comes with the {way.digest} digest"
    zone = zone_of(way.user_zone, way.tenant_zone)
    if way.quiet_from is not None and way.quiet_to is not None and quiet_until(at, way.quiet_from, way.quiet_to, zone):
        return f"quiet hours, {way.quiet_from:%H:%M}-{way.quiet_to:%H:%M} in {zone}"
    if way.last_hour >= MOST_AN_HOUR:
        return f"{way.last_hour} were told within an hour: what is not critical waits"
    return f"a storm: so many of {way.category} were told within minutes that the next come as one message"


def _group(way: Way, severity: str) -> Group:
    return Group(
        ids=[_ONE],
        tenant_id=way.tenant_id,
        channel=way.channel,
        address=way.address,
        user_id=way.user_id,
        endpoint_id=None,
        is_named=False,
        category=way.category,
        severity=severity,
        is_critical=severity == "critical",
        is_due_digest=False,
        quiet_from=way.quiet_from,
        quiet_to=way.quiet_to,
        digest=way.digest,
        digest_at=way.digest_at,
        user_zone=way.user_zone,
        tenant_zone=way.tenant_zone,
        lately=way.lately,
        summarised_at=way.summarised_at,
        last_hour=way.last_hour,
    )
