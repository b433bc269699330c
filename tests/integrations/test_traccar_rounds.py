"""Rounds and sweeps by themselves: whatever comes late within the promise is read, whenever the ticks are."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.errors import PermanentError
from integrations.traccar.cursor import Cursor, read_cursor, write_cursor
from integrations.traccar.rounds import MOST_DEVICES, advance, block, first_round, next_round

NOW = datetime(2026, 11, 16, 12, 0, 10, tzinfo=UTC)
LATE_H = 1.0
BACKFILL_H = 4.0
HOURS = 9
"""More than what is filled in: an absence may be as long, and end where a new device would begin."""


class Absence(NamedTuple):
    """A tracker without a network, in minutes: from when, how long, and how long after its return all is uploaded."""

    at: int
    length: int
    late: int


class Stored(NamedTuple):
    """A position, by its fix time, and when it was stored."""

    at: datetime
    stored_at: datetime


absences = st.lists(
    st.builds(Absence, st.integers(0, HOURS * 60), st.integers(1, 300), st.integers(0, round(LATE_H * 60))), max_size=4
)
ticks = st.lists(st.integers(1, 40), min_size=40, max_size=40)


def positions(of_device: list[Absence]) -> list[Stored]:
    """Return a position a minute, each stored at once or when its tracker was back and had uploaded it."""
    stored = []
    for minute in range(HOURS * 60):
        at = NOW + timedelta(minutes=minute)
        back = [each for each in of_device if each.at <= minute < each.at + each.length]
        arrives = max((each.at + each.length + each.late for each in back), default=minute)
        stored.append(Stored(at, NOW + timedelta(minutes=arrives, seconds=5)))
    return stored


def read_round(cursor: Cursor, tracks: Mapping[int, list[Stored]], now: datetime) -> set[tuple[int, datetime]]:
    """Read a round to its end as the client does, its cursor stored after each page."""
    read = set()
    while not cursor.is_over:
        chosen = block(cursor)
        until = min(cursor.since + cursor.span_s, cursor.until)
        found = [
            (device, each.at)
            for device in chosen
            for each in tracks[device]
            if cursor.since <= each.at.timestamp() <= until and each.stored_at <= now
        ]
        read.update(found)
        newest = {device: max(at for of, at in found if of == device) for device in {of for of, _ in found}}
        advance(cursor, until, len(found), newest)
        assert read_cursor(write_cursor(cursor)) == cursor
    return read


def read_rounds(
    tracks: Mapping[int, list[Stored]], gaps_min: Iterator[int], until: datetime
) -> set[tuple[int, datetime]]:
    """Read round after round, so many minutes apart."""
    now, cursor, read = NOW, None, set[tuple[int, datetime]]()
    while now < until:
        known = {device: heard(track, now) for device, track in tracks.items()}
        if cursor is None:
            cursor = first_round(known, now, BACKFILL_H)
        else:
            cursor = next_round(cursor, known, now, backfill_h=BACKFILL_H, late_h=LATE_H)
        read |= read_round(cursor, tracks, now)
        now += timedelta(minutes=next(gaps_min))
    return read


def heard(track: list[Stored], now: datetime) -> datetime | None:
    return max((each.stored_at for each in track if each.stored_at <= now), default=None)


def is_within_the_promise(track: list[Stored]) -> bool:
    """Say whether each position comes within `late_h` after a newer one: absences that overlap may add up to more."""
    newer_came = track[-1].stored_at
    for each in reversed(track[:-1]):
        if newer_came + timedelta(hours=LATE_H) < each.stored_at:
            return False
        newer_came = min(newer_came, each.stored_at)
    return True


@given(st.lists(absences, min_size=1, max_size=3), ticks)
def test_whatever_comes_within_the_promise_is_read(absent: list[list[Absence]], gaps: list[int]) -> None:
    tracks = {
        device: track
        for device, of_device in enumerate(absent, start=1)
        if is_within_the_promise(track := positions(of_device))
    }
    read = read_rounds(tracks, chain(gaps, repeat(30)), NOW + timedelta(hours=HOURS + 12))
    assert read == {(device, each.at) for device, track in tracks.items() for each in track}


@pytest.mark.parametrize("short_of_backfill_min", [-10, 0, 5, 20, 40, 60, 120])
def test_a_device_that_was_silent_for_as_long_as_a_new_one_is_filled_in_loses_nothing(
    short_of_backfill_min: int,
) -> None:
    """Back, it is heard live first, and uploads what it has kept 20 minutes later."""
    away = Absence(120, round(BACKFILL_H * 60) - short_of_backfill_min, 20)
    track = positions([away])
    assert is_within_the_promise(track)
    read = read_rounds({1: track}, repeat(1), NOW + timedelta(hours=HOURS + 3))
    assert {at for _, at in read} == {each.at for each in track}


def test_too_many_devices_are_divided_by_the_operator() -> None:
    with pytest.raises(PermanentError, match="group_ids"):
        first_round(dict.fromkeys(range(1, MOST_DEVICES + 2), NOW), NOW, 24)
    assert len(first_round(dict.fromkeys(range(1, MOST_DEVICES + 1), NOW), NOW, 24).marks) == MOST_DEVICES
