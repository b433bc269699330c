"""A Traccar that is asked for too much: less is asked for, run after run, until it is as much as can be answered."""

import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.errors import TimedOut, TransientError
from integrations.http import HttpSession, HttpSettings
from integrations.simulator import Account
from integrations.simulator.fleet import to_ms
from integrations.simulator.traccar import TraccarThread
from integrations.simulator.traccar_fleet import Backlog, Garage
from integrations.telematics import Page
from integrations.traccar import Traccar
from integrations.traccar.cursor import read_cursor

NOW = datetime(2026, 11, 16, 12, 0, 10, tzinfo=UTC)
TOKEN = "token-of-the-test"
PATIENCE_S = 0.25
TOO_LONG_S = 0.5
BODY_BYTES = 60_000
STUCK_AT = NOW - timedelta(minutes=12, seconds=7)

Key = tuple[str, datetime]


@pytest.fixture
def session() -> Iterator[HttpSession]:
    settings = HttpSettings(attempts=1, short_waits=0, read_s=PATIENCE_S, max_body_bytes=BODY_BYTES)
    with HttpSession(settings) as session:
        yield session


def account(**changes: Any) -> Account:
    given: dict[str, Any] = {"token": TOKEN, "vehicles": 6, "start": NOW - timedelta(minutes=20), "interval_s": 30}
    return Account(**(given | changes))


def serve(*garages: Garage, backlogs: Sequence[Backlog] = (), **changes: Any) -> TraccarThread:
    return TraccarThread(account(**changes), clock_ms=lambda: to_ms(NOW), garages=garages, backlogs=backlogs)


class Reader:
    """A client that keeps its cursor, as each page of a sync does."""

    def __init__(self, session: HttpSession, server: TraccarThread) -> None:
        self.client = Traccar(session, TOKEN, server.url, {"backfill_h": 0.5}, clock=lambda: self.now)
        self.now = NOW
        self.cursor: str | None = None
        self.pages: list[Page] = []

    def page(self) -> bool:
        """Read a page; return whether there is more."""
        page = self.client.read_feed("positions", self.cursor)
        self.cursor = page.cursor
        self.pages.append(page)
        return page.has_more

    def tick(self, most_pages: int = 400) -> None:
        """Read to the end, which must come."""
        while self.page():
            assert len(self.pages) < most_pages

    def seen(self) -> set[Key]:
        return {(reading.device_id, reading.time) for page in self.pages for reading in page.readings}

    def cut_off(self) -> set[str | None]:
        return {
            aside.device_id for page in self.pages for aside in page.rejected if aside.reason == "positions_cut_off"
        }


def near_stuck(fleet: Account, key: Key) -> bool:
    """Say whether a position may be lost: it is of the seconds that cannot be read."""
    return key[0] == fleet.device_id(2) and abs(key[1] - STUCK_AT) <= timedelta(seconds=1)


def test_a_server_that_is_slow_by_the_positions_is_asked_for_less_time(session: HttpSession) -> None:
    with serve() as server:
        server.simulator.takes_s = lambda devices, positions: TOO_LONG_S if positions > 40 else 0
        reading = Reader(session, server)
        reading.tick()
        assert reading.seen() == set(server.fleet.expected(NOW))
    assert not reading.cut_off()
    assert sum(not page.readings for page in reading.pages) < len(reading.pages) / 2


def test_a_server_that_is_slow_by_the_devices_is_asked_for_fewer(session: HttpSession) -> None:
    """Those that a block leaves for later have been read in part: their order is no longer what it was."""
    with serve(vehicles=40) as server:
        reading = Reader(session, server)
        while len(reading.seen()) < 200:
            assert reading.page()
        server.simulator.takes_s = lambda devices, positions: TOO_LONG_S if devices > 10 else 0
        reading.tick()
        assert reading.seen() == set(server.fleet.expected(NOW))
    assert not reading.cut_off()


def test_a_server_that_cannot_be_reached_is_not_a_slow_one() -> None:
    """Less would not help: its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        origin = f"http://127.0.0.1:{full.getsockname()[1]}"
        impatient = HttpSettings(attempts=1, connect_s=PATIENCE_S)
        with HttpSession(impatient) as session, pytest.raises(TransientError, match="timed out") as caught:
            Traccar(session, TOKEN, origin).list_devices(None)
    assert not isinstance(caught.value, TimedOut)


def test_what_was_too_slow_is_not_asked_for_again_by_the_next_run(session: HttpSession) -> None:
    with serve() as server:
        server.simulator.takes_s = lambda devices, positions: TOO_LONG_S
        reading = Reader(session, server)
        reading.page()
        asked = []
        for _ in range(3):
            before = reading.cursor
            assert reading.page()
            assert before is not None and reading.cursor is not None
            asked.append((read_cursor(reading.cursor).size, read_cursor(reading.cursor).span_s))
    assert asked == sorted(set(asked), reverse=True)
    assert asked[-1][0] == 1


def test_a_server_that_answers_nothing_is_an_error_soon_and_nothing_is_passed_over(session: HttpSession) -> None:
    with serve() as server:
        reading = Reader(session, server)
        reading.page()
        server.simulator.takes_s = lambda devices, positions: TOO_LONG_S
        with pytest.raises(TimedOut, match=r"GET 127\.0\.0\.1 /api/reports/route: timed out"):
            reading.tick(most_pages=12)
        with pytest.raises(TimedOut):
            reading.page()
        server.simulator.takes_s = lambda devices, positions: 0
        reading.tick()
        assert reading.seen() == set(server.fleet.expected(NOW))
    assert not reading.cut_off()


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_tracker_in_a_garage_costs_one_second_of_its_own_and_nothing_of_the_others(
    session: HttpSession, is_slow: bool
) -> None:
    """Its messages all have the time of one fix: no piece is small enough, by its bytes or by how long it takes."""
    messages = 30 if is_slow else 200
    with serve(Garage(2, STUCK_AT, messages)) as server:
        if is_slow:
            server.simulator.takes_s = lambda devices, positions: TOO_LONG_S if positions >= messages else 0
        reading = Reader(session, server)
        reading.tick()
        lost = set(server.fleet.expected(NOW)) - reading.seen()
        assert all(near_stuck(server.fleet.account, key) for key in lost)
    assert reading.cut_off() == {account().device_id(2)}


def test_a_second_that_was_passed_over_is_not_asked_for_again_in_every_round(session: HttpSession) -> None:
    """Nothing has come since from where it stands: each round would begin at that second."""
    silent = Backlog(2, STUCK_AT, NOW + timedelta(days=1), arrives_at=NOW + timedelta(days=1))
    with serve(Garage(2, STUCK_AT, 200), backlogs=[silent]) as server:
        reading = Reader(session, server)
        reading.tick()
        assert reading.cut_off() == {account().device_id(2)}
        reading.pages.clear()
        reading.now += timedelta(minutes=1)
        reading.tick()
    assert not reading.cut_off()
    assert len(reading.pages) < 6
