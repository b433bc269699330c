"""Which devices are read next, and how much time of theirs: rounds through the devices that were heard of lately.

Traccar filters positions by their fix time and tells nobody that an older one has come: a tracker that was offline
uploads what it has kept, often after its first live position. So each device is read from its own newest position on,
and every `late_h` hours a *sweep* reads each from what was its newest position two sweeps ago. Whatever came late in
between is there then, however old it is.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from integrations.errors import PermanentError
from integrations.traccar.cursor import Cursor, Mark

# A request names its devices in its URL, which servers bound at 8 KiB.
BLOCK = 200
MOST_DEVICES = 20_000
"""What a cursor has room for: 64 KiB for every 5,000."""
TARGET_POSITIONS = 5_000
MOST_POSITIONS = 4 * TARGET_POSITIONS
"""A page with more is asked for again in smaller pieces: it was meant for a time in which there was less."""
_AHEAD = timedelta(minutes=5)
_USUAL_PACE = 1 / 30
# Traccar says that it has heard of a device before the position is stored, and by its own clock.
_SETTLED_S = 3600
# What arrives out of order within a stream, or is stored a little later than what came after it.
_OVERLAP_S = 120
_LONGEST_S = 30 * 86_400
_SMALLER = 8


def first_round(heard: Mapping[int, datetime | None], now: datetime, backfill_h: float) -> Cursor:
    """Return the round in which a feed begins: every device, as far back as it is to be filled in.

    Raises:
        PermanentError: there are too many devices, as in `next_round`.
    """
    began = int(now.timestamp())
    empty = Cursor(began, began, began, False, 0, 0, 0, 0, 0, _LONGEST_S, _USUAL_PACE, [])
    return _planned(empty, heard, now, backfill_h, is_sweep=False)


def next_round(
    last: Cursor, heard: Mapping[int, datetime | None], now: datetime, *, backfill_h: float, late_h: float
) -> Cursor:
    """Return the round after one that is over; a device that is new is filled in as at first sight.

    What filled in a device is not swept: its history is read once.
    """
    for mark in last.marks:
        if mark.is_new:
            mark.swept = mark.swept_before = max(mark.swept, mark.newest - round(late_h * 60))
            mark.is_new = False
        elif last.is_sweep:
            mark.swept_before, mark.swept = mark.swept, mark.newest
    return _planned(last, heard, now, backfill_h, is_sweep=now.timestamp() - last.swept >= late_h * 3600)


def block(cursor: Cursor) -> list[int]:
    """Return the devices that are read next; chooses them where the block before is done."""
    if cursor.size == 0:
        first = cursor.from_s(cursor.marks[cursor.next])
        # Devices are in the order of their marks. Those of one request are read from the oldest, so none may be much
        # more recent: it would bring again what it has brought.
        latest = cursor.until - (cursor.until - first) // 2 + 600
        in_reach = cursor.marks[cursor.next : min(cursor.next + BLOCK, cursor.due)]
        cursor.size = sum(cursor.from_s(mark) <= latest for mark in in_reach)
        cursor.since = max(first - _OVERLAP_S, cursor.until - _LONGEST_S)
        span_s = max(60, round(TARGET_POSITIONS / cursor.size / max(cursor.pace, _USUAL_PACE)))
        cursor.span_s = min(span_s, cursor.most_s)
    return [mark.device for mark in cursor.marks[cursor.next : cursor.next + cursor.size]]


def advance(cursor: Cursor, until: int, counted: int, newest: Mapping[int, datetime]) -> None:
    """Note that the block has been read up to an instant: how many positions there were, and the newest of each."""
    in_block = cursor.marks[cursor.next : cursor.next + cursor.size]
    for mark in in_block:
        if mark.device in newest:
            mark.newest = max(mark.newest, int(newest[mark.device].timestamp()) // 60)
    taken_s = max(1, until - cursor.since)
    cursor.pace = max(counted / len(in_block) / taken_s, cursor.pace * 0.9)
    cursor.most_s = min(cursor.most_s * 11 // 10 + 1, _LONGEST_S)
    if counted < TARGET_POSITIONS / 4:
        cursor.span_s = min(cursor.span_s * 4, cursor.most_s)
    elif counted > TARGET_POSITIONS * 1.5:
        cursor.span_s = max(cursor.span_s // 2, 1)
    cursor.since = until
    if until >= cursor.until:
        cursor.next += cursor.size
        cursor.size = 0


def shorten(cursor: Cursor, asked_s: int) -> bool:
    """Ask for less time than was asked for; False where that was the least."""
    if asked_s <= 1:
        return False
    cursor.span_s = max(asked_s // _SMALLER, 1)
    return True


def halve(cursor: Cursor) -> bool:
    """Ask for fewer devices; False where there is one.

    The others are read later, each from its own mark, which may have moved since they were put in order.
    """
    if cursor.size <= 1:
        return False
    cursor.size = (cursor.size + 1) // 2
    others = slice(cursor.next + cursor.size, cursor.due)
    cursor.marks[others] = sorted(cursor.marks[others], key=cursor.order)
    return True


def slow_down(cursor: Cursor, asked_s: int) -> bool:
    """Ask for less time of fewer devices, and for more again only little by little; False where there is no less.

    An answer may be slow by its positions or by its devices: each is a query there.
    """
    cursor.most_s = max(asked_s // 2, 1)
    is_shorter, is_fewer = shorten(cursor, asked_s), halve(cursor)
    return is_shorter or is_fewer


def pass_over(cursor: Cursor, until: int) -> None:
    """Note that up to an instant the only device of the block cannot be read: the rounds to come begin behind it."""
    mark = cursor.marks[cursor.next]
    mark.newest = max(mark.newest, (until + _OVERLAP_S) // 60 + 1)
    advance(cursor, until, 0, {})


def _planned(
    last: Cursor, heard: Mapping[int, datetime | None], now: datetime, backfill_h: float, *, is_sweep: bool
) -> Cursor:
    if len(heard) > MOST_DEVICES:
        raise PermanentError(f"traccar: more than {MOST_DEVICES} devices: divide the account by group_ids")
    began = int(now.timestamp())
    until = int((now + _AHEAD).timestamp())
    known = {mark.device: mark for mark in last.marks}
    filled_in = (began - round(backfill_h * 3600)) // 60
    since = (last.swept if is_sweep else last.began) - _SETTLED_S
    due: list[Mark] = []
    silent: list[Mark] = []
    for device, at in heard.items():
        mark = known.get(device) or Mark(device, filled_in, filled_in, filled_in, is_new=True)
        is_silent = device in known and (at is None or at.timestamp() < since)
        (silent if is_silent else due).append(mark)
    swept = began if is_sweep else last.swept
    cursor = Cursor(began, swept, until, is_sweep, len(due), 0, 0, 0, 0, last.most_s, last.pace, [])
    due.sort(key=cursor.order)
    silent.sort(key=lambda mark: mark.device)
    cursor.marks = [*due, *silent]
    return cursor
