"""One account of a Traccar server, read through its devices, groups, latest positions and route report."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec

from integrations.aside import rejected
from integrations.bounds import BROKEN, Limits, UnbelievableError
from integrations.errors import TimedOut, TransientError
from integrations.http import Answer, BodyTooLarge, HttpSession, shape
from integrations.telematics import DevicePage, Page, Rejected
from integrations.traccar.cursor import Cursor, read_cursor, write_cursor
from integrations.traccar.decode import Decoded, decode_positions
from integrations.traccar.devices import Listed, chosen_groups, decode_devices, list_ids
from integrations.traccar.options import read_options
from integrations.traccar.refusals import judge
from integrations.traccar.rounds import (
    MOST_POSITIONS,
    advance,
    block,
    first_round,
    halve,
    next_round,
    pass_over,
    shorten,
    slow_down,
)
from integrations.traccar.salvage import salvage_positions

_NO_OPTIONS: Mapping[str, object] = {}


def utc_now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


class Traccar:
    """Fulfils `TelematicsProvider` with one feed, `positions`: a poll in disguise, in rounds through the devices.

    A page that begins a round lists the devices and brings nothing; each page after it brings some devices and some
    time of theirs.
    """

    name = "traccar"
    feeds: tuple[str, ...] = ("positions",)
    snapshots: tuple[str, ...] = ("positions",)

    def __init__(
        self,
        session: HttpSession,
        token: str,
        base_url: str,
        options: Mapping[str, object] = _NO_OPTIONS,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Raises: PermanentError where an option cannot be."""
        self._session = session
        self._token = token
        self._base_url = base_url.rstrip("/")
        self._options = read_options(options)
        self._clock = clock

    def list_devices(self, cursor: str | None) -> DevicePage:
        """Return all devices in one page: Traccar's order has no place to go on from."""
        groups = self._groups()
        answer = self._get("/api/devices")
        try:
            devices, aside = decode_devices(answer.body, groups)
        except BROKEN as error:
            raise _unreadable(answer, error) from None
        return DevicePage(devices, aside, None, has_more=False)

    def read_snapshot(self, feed: str, cursor: str | None) -> Page:
        """Return the latest position of each device in one page."""
        listed = self._list()
        decoded = self._decode(self._get("/api/positions"), listed.known)
        chosen = {str(device) for device in listed.chosen}
        return Page(
            [reading for reading in decoded.readings if reading.device_id in chosen],
            [aside for aside in decoded.rejected if aside.device_id in chosen or _is_nobodys(aside.device_id, listed)],
            None,
            has_more=False,
            fault_reports=[report for report in decoded.fault_reports if report.device_id in chosen],
            safety_events=[event for event in decoded.safety_events if event.device_id in chosen],
        )

    def read_feed(self, feed: str, cursor: str | None) -> Page:
        """Return what some devices have reported since they were last read; None begins `backfill_h` hours ago.

        Some positions come again: those of the last minutes in every round, those of the last sweeps in a sweep.
        """
        here = None if cursor is None else read_cursor(cursor)
        if here is None or here.is_over:
            there = self._begin(here)
            return Page([], [], write_cursor(there), has_more=not there.is_over)
        decoded = self._read_block(here)
        return Page(
            decoded.readings,
            decoded.rejected,
            write_cursor(here),
            has_more=not here.is_over,
            fault_reports=decoded.fault_reports,
            safety_events=decoded.safety_events,
        )

    def close(self) -> None:
        """Close the HTTP connections."""
        self._session.close()

    def _begin(self, last: Cursor | None) -> Cursor:
        options, heard = self._options, self._list().chosen
        if last is None:
            return first_round(heard, self._clock(), options.backfill_h)
        return next_round(last, heard, self._clock(), backfill_h=options.backfill_h, late_h=options.late_h)

    def _read_block(self, cursor: Cursor) -> Decoded:
        """Read the next piece of a round, and move the cursor behind it.

        Of a piece that is too much for the server or for us nothing is returned; the cursor then asks for less.
        """
        devices = block(cursor)
        until = min(cursor.since + cursor.span_s, cursor.until)
        asked_s = until - cursor.since
        try:
            decoded = self._decode(self._get_route(devices, cursor.since, until), frozenset(devices))
        except BodyTooLarge:
            if shorten(cursor, asked_s) or halve(cursor):
                return Decoded()
            return _passed_over(cursor, until)
        except TimedOut:
            if slow_down(cursor, asked_s):
                return Decoded()
            # Raises where the server answers nothing: then it is not this second that is too much.
            self._get_route(devices, cursor.until, cursor.until)
            return _passed_over(cursor, until)
        cut_off = [each for each, count in decoded.counts.items() if count >= self._options.max_positions]
        positions = sum(decoded.counts.values())
        if (cut_off or positions > MOST_POSITIONS) and shorten(cursor, asked_s):
            return Decoded()
        decoded.rejected += map(_cut_off, cut_off)
        advance(cursor, until, positions, decoded.newest)
        return decoded

    def _get_route(self, devices: list[int], since: int, until: int) -> Answer:
        bounds = [("from", _iso(since)), ("to", _iso(until))]
        named = [("deviceId", str(device)) for device in devices]
        return self._get(f"/api/reports/route?{urlencode(named + bounds)}")

    def _list(self) -> Listed:
        groups = self._groups()
        answer = self._get("/api/devices?excludeAttributes=true")
        try:
            return list_ids(answer.body, groups)
        except BROKEN as error:
            raise _unreadable(answer, error) from None

    def _groups(self) -> frozenset[int] | None:
        if not self._options.group_ids:
            return None
        answer = self._get("/api/groups")
        try:
            return chosen_groups(answer.body, self._options.group_ids)
        except BROKEN as error:
            raise _unreadable(answer, error) from None

    def _get(self, path: str) -> Answer:
        return self._session.get_json(self._base_url + path, params={}, bearer=self._token, judge=judge)

    def _decode(self, answer: Answer, devices: frozenset[int]) -> Decoded:
        limits = Limits.at(self._clock())
        try:
            return decode_positions(answer.body, devices, limits, self._options)
        except (*BROKEN, UnbelievableError):
            pass
        try:
            return salvage_positions(answer.body, devices, limits, self._options)
        except BROKEN as error:
            raise _unreadable(answer, error) from None


def _passed_over(cursor: Cursor, until: int) -> Decoded:
    """Leave one second of one device behind, so that it keeps back neither the rest of it nor the others."""
    device = cursor.marks[cursor.next].device
    pass_over(cursor, until)
    return Decoded(rejected=[_cut_off(device)])


def _cut_off(device: int) -> Rejected:
    return rejected("positions_cut_off", "deviceId", b"", str(device))


def _iso(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_nobodys(device_id: str | None, listed: Listed) -> bool:
    """Say whether a record's device is none of the account's: then nobody else will tell of it."""
    return device_id is None or not device_id.isdigit() or int(device_id) not in listed.known


def _unreadable(answer: Answer, error: Exception) -> TransientError:
    if isinstance(error, msgspec.ValidationError):
        return TransientError(f"{answer.request}: answered with JSON that is not a list")
    return TransientError(f"{answer.request}: answered with {shape(answer.body)}")
