"""When somebody may be told: quiet hours and digests on a recipient's own clock, across midnight and DST."""

from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from jobs.timetable import Daily, wall_clock

_DAY = timedelta(days=1)
_HOUR_S = 3600


def quiet_until(now: datetime, begins: time, ends: time, zone: ZoneInfo) -> datetime | None:
    """Return the end of the quiet hours that `now` is in, in UTC; None where it is in none.

    Each night is the span between two instants, so that an hour which happens twice does not begin one anew.
    """
    today = now.astimezone(zone).date()
    for on in (today - _DAY, today, today + _DAY):
        first = wall_clock(on, begins, zone)
        last = wall_clock(on if begins < ends else on + _DAY, ends, zone)
        if first <= now < last:
            return last
    return None


def next_digest(now: datetime, digest: str, at: time, zone: ZoneInfo) -> datetime:
    """Return when the next `hourly` or `daily` digest is due, in UTC; always later than `now`."""
    if digest == "hourly":
        return datetime.fromtimestamp((int(now.timestamp()) // _HOUR_S + 1) * _HOUR_S, UTC)
    return next(Daily(at).ticks(zone, now, now + 3 * _DAY))


def zone_of(*names: str | None) -> ZoneInfo:
    """Return the first zone that there is: a user's may be anything, a tenant's is checked where it is written."""
    for name in names:
        if name and (found := _zone(name)):
            return found
    return ZoneInfo("UTC")


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such zone, no name of one, a directory
        return None
