"""When ticks are, whatever the clocks of a zone do."""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.timetable import LATE, MOST_MISSED, Daily, Entry, Every, due_ticks, next_tick

ZONES = sorted(available_timezones() - {"localtime", "Factory"})
SECOND, MINUTE, STEP, DAY = (timedelta(minutes=minutes) for minutes in (1 / 60, 1, 15, 1440))
# Offsets are whole minutes since 1973, when Liberia's became one; the oracle below looks minute by minute.
FIRST, LAST = datetime(1973, 1, 1, tzinfo=UTC), datetime(2037, 6, 1, tzinfo=UTC)
instants = st.integers(0, int((LAST - FIRST) / SECOND)).map(lambda seconds: FIRST + seconds * SECOND)
clock_times = st.builds(time, st.integers(0, 23), st.sampled_from([0, 1, 15, 30, 45, 59]))
zones = st.sampled_from(ZONES).map(ZoneInfo)
dailies = st.builds(
    Daily, clock_times, st.one_of(st.none(), st.integers(0, 6)), st.one_of(st.none(), st.integers(1, 31))
)
spans = st.integers(0, 40).map(lambda days: timedelta(days=days))

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)


def first_reached(on: date, at: time, zone: ZoneInfo) -> datetime:
    """Return the first instant at which a zone's clocks have reached a time: looked for, not computed."""
    wanted = datetime.combine(on, at)
    instant = wanted.replace(tzinfo=UTC) - timedelta(hours=16)
    local = instant.astimezone(zone)
    while True:
        later = (instant + STEP).astimezone(zone)
        steps = [STEP] if later.utcoffset() == local.utcoffset() else [n * MINUTE for n in range(1, 16)]
        for step in steps:
            if (instant + step).astimezone(zone).replace(tzinfo=None) >= wanted:
                short = wanted - local.replace(tzinfo=None)
                return instant + (short if step is STEP else step)
        instant, local = instant + STEP, later


@cache
def changes(name: str) -> tuple[datetime, ...]:
    """Return the days at which a zone changes its offset, one instant each."""
    zone, found = ZoneInfo(name), []
    instant = FIRST
    while instant < LAST:
        if instant.astimezone(zone).utcoffset() != (instant + DAY).astimezone(zone).utcoffset():
            found.append(instant)
        instant += DAY
    return tuple(found)


CHANGING = [
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Asia/Tehran",
    "Asia/Beirut",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Atlantic/Azores",
    "America/Nuuk",
]


@st.composite
def days_of_change(draw: st.DrawFn) -> tuple[ZoneInfo, date]:
    """A zone and a day on which its clocks change, or one beside it."""
    name = draw(st.sampled_from(CHANGING))
    instant = draw(st.sampled_from(changes(name)))
    return ZoneInfo(name), instant.astimezone(ZoneInfo(name)).date() + timedelta(days=draw(st.integers(-1, 2)))


def _ticks(when: Daily | Every, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    return list(when.ticks(zone, after, until))


@PROPERTY
@given(day=days_of_change(), at=clock_times)
@example(day=(ZoneInfo("Europe/Berlin"), date(2026, 3, 29)), at=time(2, 30))
@example(day=(ZoneInfo("Europe/Berlin"), date(2026, 10, 25)), at=time(2, 30))
@example(day=(ZoneInfo("America/Sao_Paulo"), date(2018, 11, 4)), at=time(0, 0))
def test_a_day_ticks_when_its_clocks_first_reach_the_time(day: tuple[ZoneInfo, date], at: time) -> None:
    zone, on = day
    expected = first_reached(on, at, zone)
    ticks = _ticks(Daily(at), zone, expected - 3 * DAY, expected + 3 * DAY)
    assert expected in ticks


@pytest.mark.parametrize(
    ("zone", "on", "at", "tick"),
    [
        ("Europe/Berlin", date(2026, 3, 29), time(1, 59), "2026-03-29T00:59:00"),
        ("Europe/Berlin", date(2026, 3, 29), time(2, 0), "2026-03-29T01:00:00"),
        ("Europe/Berlin", date(2026, 3, 29), time(2, 30), "2026-03-29T01:00:00"),
        ("Europe/Berlin", date(2026, 3, 29), time(3, 0), "2026-03-29T01:00:00"),
        ("Europe/Berlin", date(2026, 10, 25), time(2, 0), "2026-10-25T00:00:00"),
        ("Europe/Berlin", date(2026, 10, 25), time(2, 59), "2026-10-25T00:59:00"),
        ("Europe/Berlin", date(2026, 10, 25), time(3, 0), "2026-10-25T02:00:00"),
        ("Australia/Lord_Howe", date(2026, 10, 4), time(2, 15), "2026-10-03T15:30:00"),
        ("America/Sao_Paulo", date(2018, 11, 4), time(0, 0), "2018-11-04T03:00:00"),
        ("America/Havana", date(2026, 11, 1), time(0, 30), "2026-11-01T04:30:00"),
        ("Pacific/Apia", date(2011, 12, 30), time(6, 0), "2011-12-30T10:00:00"),
        ("Asia/Kathmandu", date(2026, 1, 1), time(6, 0), "2026-01-01T00:15:00"),
    ],
)
def test_ticks_beside_a_change_of_clocks(zone: str, on: date, at: time, tick: str) -> None:
    expected = datetime.fromisoformat(tick).replace(tzinfo=UTC)
    before = datetime.combine(on, time(), UTC) - 2 * DAY
    assert expected in _ticks(Daily(at), ZoneInfo(zone), before, before + 5 * DAY)


@PROPERTY
@given(zone=zones, daily=dailies, after=instants, span=spans)
def test_every_matching_local_day_has_exactly_one_tick(
    zone: ZoneInfo, daily: Daily, after: datetime, span: timedelta
) -> None:
    until = after + span
    first, last = after.astimezone(zone).date() - 2 * DAY, until.astimezone(zone).date() + 2 * DAY
    days = [first + timedelta(days=n) for n in range((last - first).days)]
    matching = [on for on in days if daily.weekday in (None, on.weekday()) and daily.day in (None, on.day)]
    expected = {tick for on in matching if after < (tick := first_reached(on, daily.at, zone)) <= until}
    assert _ticks(daily, zone, after, until) == sorted(expected)


@PROPERTY
@given(day=days_of_change(), daily=dailies, before=st.integers(1, 4), behind=st.integers(1, 4))
@example(day=(ZoneInfo("Pacific/Apia"), date(2011, 12, 30)), daily=Daily(time(0, 0)), before=2, behind=3)
@example(day=(ZoneInfo("Pacific/Kwajalein"), date(1993, 8, 21)), daily=Daily(time(0, 0)), before=2, behind=3)
def test_ticks_strictly_increase_also_where_a_zone_skips_a_whole_day(
    day: tuple[ZoneInfo, date], daily: Daily, before: int, behind: int
) -> None:
    middle = datetime.combine(day[1], time(12), UTC)
    ticks = _ticks(daily, day[0], middle - before * DAY, middle + behind * DAY)
    assert all(earlier < later for earlier, later in pairwise(ticks))


@PROPERTY
@given(zone=zones, daily=dailies, after=instants, first=spans, second=spans, to_a_tick=st.booleans())
def test_a_span_ticks_like_its_two_parts(
    zone: ZoneInfo, daily: Daily, after: datetime, first: timedelta, second: timedelta, to_a_tick: bool
) -> None:
    middle = after + first
    until = middle + second
    whole = _ticks(daily, zone, after, until)
    if to_a_tick and whole:
        middle = whole[len(whole) // 2]
    assert whole == _ticks(daily, zone, after, middle) + _ticks(daily, zone, middle, until)


@PROPERTY
@given(day=days_of_change(), at=clock_times, cut=st.integers(-72 * 60, 72 * 60))
def test_a_span_cut_anywhere_near_a_change_ticks_like_its_two_parts(
    day: tuple[ZoneInfo, date], at: time, cut: int
) -> None:
    middle = datetime.combine(day[1], time(), UTC) + cut * MINUTE
    after, until = middle - 5 * DAY, middle + 5 * DAY
    parts = _ticks(Daily(at), day[0], after, middle) + _ticks(Daily(at), day[0], middle, until)
    assert _ticks(Daily(at), day[0], after, until) == parts


@PROPERTY
@given(
    every=st.builds(Every, st.integers(1, 100_000)),
    after=instants,
    steps=st.floats(0, 50),
    cut=st.floats(0, 1),
    zone=zones,
)
def test_intervals_tick_at_whole_multiples_in_every_zone(
    every: Every, after: datetime, steps: float, cut: float, zone: ZoneInfo
) -> None:
    span = steps * every.seconds * SECOND
    until, middle = after + span, after + cut * span
    ticks = _ticks(every, zone, after, until)
    assert all(tick.timestamp() % every.seconds == 0 and after < tick <= until for tick in ticks)
    assert len(ticks) == until.timestamp() // every.seconds - after.timestamp() // every.seconds
    assert len(set(ticks)) == len(ticks)
    assert ticks == _ticks(every, zone, after, middle) + _ticks(every, zone, middle, until)


def _entry(when: Daily | Every, catch_up: Any) -> Entry:
    return Entry("platform.ping", when, catch_up=catch_up)


@PROPERTY
@given(
    when=st.one_of(dailies, st.builds(Every, st.integers(600, 100_000))),
    catch_up=st.sampled_from(["latest", "all", "skip"]),
    last=instants,
    down=st.floats(0, 60 * 86_400),
    zone=zones,
)
def test_a_beat_that_was_down_catches_up_by_policy_and_then_has_nothing_left(
    when: Daily | Every, catch_up: str, last: datetime, down: float, zone: ZoneInfo
) -> None:
    now = last + down * SECOND
    missed = _ticks(when, zone, last, now)
    chosen, come_to = due_ticks(_entry(when, catch_up), zone, last, now)
    assert come_to == (missed[-1] if missed else last)
    assert due_ticks(_entry(when, catch_up), zone, come_to, now) == ([], come_to)
    if catch_up == "latest":
        assert chosen == missed[-1:]
    elif catch_up == "all":
        assert chosen == missed[-MOST_MISSED:]
    else:
        assert chosen == [tick for tick in missed[-1:] if now - tick <= LATE]


def test_a_beat_that_was_down_for_years_brings_back_the_newest_thousand() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    chosen, come_to = due_ticks(_entry(Every(300), "all"), ZoneInfo("UTC"), datetime(2020, 1, 1, tzinfo=UTC), now)
    assert (len(chosen), chosen[-1], come_to) == (MOST_MISSED, now, now)
    assert chosen[0] == now - (MOST_MISSED - 1) * timedelta(seconds=300)


@pytest.mark.parametrize("day", [None, 1, 13, 28, 29, 30, 31])
@pytest.mark.parametrize("weekday", [None, 0, 4, 6])
def test_every_entry_has_a_next_tick(weekday: int | None, day: int | None) -> None:
    daily = Daily(time(6), weekday=weekday, day=day)
    for year in range(2020, 2032):
        after = datetime(year, 2, 14, tzinfo=UTC)
        tick = next_tick(_entry(daily, "latest"), ZoneInfo("Europe/Berlin"), after)
        local = tick.astimezone(ZoneInfo("Europe/Berlin"))
        assert tick > after
        assert (weekday in (None, local.weekday()), day in (None, local.day), local.time()) == (True, True, time(6))
        assert _ticks(daily, ZoneInfo("Europe/Berlin"), after, tick) == [tick]


@pytest.mark.parametrize("seconds", [1, 300, 86_400, 7 * 86_400, 366 * 86_400, 3 * 366 * 86_400])
def test_every_interval_has_a_next_tick(seconds: int) -> None:
    after = datetime(2026, 2, 14, 3, 5, 7, tzinfo=UTC)
    tick = next_tick(_entry(Every(seconds), "latest"), ZoneInfo("UTC"), after)
    assert after < tick <= after + timedelta(seconds=seconds)
    assert tick.timestamp() % seconds == 0
