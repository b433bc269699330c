"""When ticks are: the words of `beat_schedule.py`, and the computation of ticks across daylight saving.

A wall-clock time that a zone skips in spring happens at the first instant after the gap; one that happens twice in
autumn ticks at its first. So every matching day has exactly one tick, whatever the zone does.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Every:
    """At whole multiples of an interval since 1970, UTC: the same in every zone, whatever its clocks do."""

    seconds: int

    def ticks(self, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the ticks later than `after` and not later than `until`, in UTC, oldest first."""
        number = int(after.timestamp() // self.seconds) + 1
        while (tick := datetime.fromtimestamp(number * self.seconds, UTC)) <= until:
            if tick > after:
                yield tick
            number += 1

    def __str__(self) -> str:
        minutes, seconds = divmod(self.seconds, 60)
        return f"every {minutes} min" if minutes and not seconds else f"every {self.seconds} s"


@dataclass(frozen=True)
class Daily:
    """At a wall-clock time of the zone, every day; `weekday` (Monday is 0) or `day` of the month narrow it."""

    at: time
    weekday: int | None = None
    day: int | None = None

    def ticks(self, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the ticks later than `after` and not later than `until`, in UTC, oldest first."""
        on = after.astimezone(zone).date() - timedelta(days=1)
        last = until.astimezone(zone).date()
        latest = after  # a zone that skips a whole day, as Apia did, has its midnight and the next at one instant
        while on <= last:
            if self._matches(on) and latest < (tick := wall_clock(on, self.at, zone)) <= until:
                yield tick
                latest = tick
            on += timedelta(days=1)

    def _matches(self, on: date) -> bool:
        return self.weekday in (None, on.weekday()) and self.day in (None, on.day)

    def __str__(self) -> str:
        days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
        if self.weekday is not None:
            return f"{days[self.weekday]}s at {self.at:%H:%M}"
        return f"day {self.day} at {self.at:%H:%M}" if self.day is not None else f"daily at {self.at:%H:%M}"


def wall_clock(on: date, at: time, zone: ZoneInfo) -> datetime:
    """Return when a zone's clocks first show a time on a date, in UTC; the end of the gap where they skip it."""
    local = datetime.combine(on, at, zone)
    instant = local.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return instant
    # In a gap: it ends where the offset changes. No zone changes twice within two days.
    low, high = instant - timedelta(days=1), instant + timedelta(days=1)
    offset_low = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == offset_low:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


@dataclass(frozen=True)
class Entry:
    """One line of the timetable.

    Args:
        job: the job's name; an entry is known by it.
        when: its ticks.
        per: one run a tick for the whole `platform`, for each active `tenant`, or for each active `connection`.
        zone: `tenant` ticks at each tenant's own wall clock; otherwise an IANA name.
        catch_up: of the ticks that were missed while no beat ran, run the `latest`, `all`, or none (`skip`).
        args: the same for every run.
    """

    job: str
    when: Every | Daily
    per: Literal["platform", "tenant", "connection"] = "platform"
    zone: str = "UTC"
    catch_up: Literal["latest", "all", "skip"] = "latest"
    args: dict[str, Any] = field(default_factory=dict)


LATE = timedelta(seconds=60)
"""A tick that is older when a beat comes to it was missed, not merely late."""
_RAREST = timedelta(days=12 * 366)
"""A 31st on a given weekday is up to some years away."""
MOST_MISSED = 1000
"""How many missed ticks `all` brings back, the newest ones."""


def due_ticks(entry: Entry, zone: ZoneInfo, last: datetime, now: datetime) -> tuple[list[datetime], datetime]:
    """Return the ticks to run by the entry's catch-up policy, oldest first, and how far the entry then has come."""
    missed = list(entry.when.ticks(zone, max(last, now - timedelta(days=400)), now))
    if not missed:
        return [], last
    if entry.catch_up == "latest":
        chosen = missed[-1:]
    elif entry.catch_up == "all":
        chosen = missed[-MOST_MISSED:]
    else:
        chosen = [tick for tick in missed if now - tick <= LATE][-1:]
    return chosen, missed[-1]


def next_tick(entry: Entry, zone: ZoneInfo, after: datetime) -> datetime:
    """Return the entry's first tick later than `after`, UTC."""
    if isinstance(entry.when, Every):
        return next(entry.when.ticks(zone, after, after + timedelta(seconds=entry.when.seconds)))
    return next(entry.when.ticks(zone, after, after + _RAREST))
