"""The cursor of Traccar's feed: small for a large fleet, and refused where it is none."""

import base64
import random
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.errors import CursorRefused
from integrations.traccar.cursor import Cursor, Mark, read_cursor, write_cursor
from integrations.traccar.rounds import block, first_round, next_round

NOW = datetime(2026, 11, 16, 12, 0, 10, tzinfo=UTC)
MINUTE = int(NOW.timestamp()) // 60

minutes = st.integers(0, MINUTE + 5)
marks = st.lists(st.builds(Mark, st.integers(1, 2**53), minutes, minutes, minutes, st.booleans()), max_size=40)


@given(marks, st.booleans(), st.floats(0, 1e6), st.data())
def test_a_cursor_is_read_back_as_it_was(of_it: list[Mark], is_sweep: bool, pace: float, data: st.DataObject) -> None:
    due = data.draw(st.integers(0, len(of_it)))
    place = data.draw(st.integers(0, due))
    size = data.draw(st.integers(0, due - place))
    now_s = int(NOW.timestamp())
    cursor = Cursor(now_s, now_s - 500, now_s + 300, is_sweep, due, place, size, now_s - 60, 900, 86_400, pace, of_it)
    assert read_cursor(write_cursor(cursor)) == cursor


def spread(devices: int, reach: timedelta) -> Cursor:
    """Return a cursor in the midst of a round through devices whose marks are anywhere."""
    dice = random.Random(4)
    heard: dict[int, datetime | None] = dict.fromkeys(dice.sample(range(1, 1_000_000), devices), NOW)
    cursor = first_round(heard, NOW, 24)
    for mark in cursor.marks:
        ages = sorted(dice.randrange(int(reach.total_seconds() // 60)) for _ in range(3))
        mark.newest, mark.swept, mark.swept_before = (MINUTE - age for age in ages)
    cursor = next_round(cursor, heard, NOW + timedelta(minutes=5), backfill_h=24, late_h=1)
    block(cursor)
    return cursor


@pytest.mark.parametrize("reach", [timedelta(hours=3), timedelta(days=30)])
def test_five_thousand_devices_fit_in_64_kib_wherever_their_marks_are(reach: timedelta) -> None:
    text = write_cursor(spread(5_000, reach))
    assert len(text) <= 64 * 1024


def packed(**changes: Any) -> str:
    """Return a cursor whose stored form is well-made, but not as we would have made it."""
    plain = write_cursor(first_round({1: NOW, 2: NOW}, NOW, 24))
    told = msgspec.msgpack.decode(zlib.decompress(base64.b85decode(plain)))
    names = ("version", "round", "devices", "ages", "since_sweep", "since_sweep_before", "are_new")
    told = [changes.get(name, value) for name, value in zip(names, told, strict=True)]
    return base64.b85encode(zlib.compress(msgspec.msgpack.encode(told))).decode()


def in_round(place: int, value: object) -> list[object]:
    c = first_round({1: NOW, 2: NOW}, NOW, 24)
    told: list[object] = [getattr(c, name) for name in Cursor.__struct_fields__[:-1]]
    told[place] = value
    return told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no cursor",
        "e30=",
        "\u2603",
        "x" * 2_000_000,
        base64.b85encode(zlib.compress(b"")).decode(),
        base64.b85encode(zlib.compress(b"\x90")).decode(),
        base64.b85encode(zlib.compress(bytes(100_000_000), 9)).decode(),
        write_cursor(first_round({1: NOW}, NOW, 24))[:-8],
        packed(version=2),
        packed(devices=[1]),
        packed(devices=[5, -5]),
        packed(ages=[10**12, 0]),
        packed(ages=["1", 2]),
        packed(are_new=[True]),
        packed(are_new=[0, 1]),
        packed(round=in_round(4, 3)),
        packed(round=in_round(5, 3)),
        packed(round=in_round(6, -1)),
        packed(round=in_round(2, 2**60)),
        packed(round=in_round(10, "fast")),
    ],
)
def test_what_is_no_cursor_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(CursorRefused) as caught:
        read_cursor(text)
    assert len(str(caught.value)) < 100


def test_the_test_of_refusals_begins_with_a_good_one() -> None:
    assert read_cursor(packed()) == first_round({1: NOW, 2: NOW}, NOW, 24)
    assert read_cursor(packed(round=in_round(0, 5))).began == 5


def test_devices_of_one_request_are_about_equally_far_behind() -> None:
    cursor = spread(5_000, timedelta(days=30))
    while not cursor.is_over:
        block(cursor)
        chosen = cursor.marks[cursor.next : cursor.next + cursor.size]
        assert 1 <= len(chosen) <= 200
        behind = [cursor.until - cursor.from_s(mark) for mark in chosen]
        assert min(behind) * 2 + 1200 >= max(behind)
        cursor.next, cursor.size = cursor.next + cursor.size, 0
