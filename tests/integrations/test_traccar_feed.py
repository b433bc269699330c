"""Reading a Traccar account in rounds: every position once it is there, however late it comes."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.errors import CredentialsRejected, CursorRefused, PermanentError, TransientError
from integrations.http import HttpSession, HttpSettings
from integrations.registry import check_origin, open_provider
from integrations.simulator import Account
from integrations.simulator.fleet import from_ms, to_ms
from integrations.simulator.traccar import TraccarThread
from integrations.simulator.traccar_fleet import Backlog
from integrations.simulator.tracks import motion_at, track_of
from integrations.telematics import Page
from integrations.traccar import Traccar
from tests.integrations.raw_server import answering, whole

NOW = datetime(2026, 11, 16, 12, 0, 10, tzinfo=UTC)
TICK = timedelta(minutes=5)
TOKEN = "token-of-the-test"
QUICK = HttpSettings(attempts=1, short_waits=0, read_s=5.0)

Key = tuple[str, datetime]


class Clock:
    """The time of server and client, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def ms(self) -> int:
        return to_ms(self.now)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session() -> Iterator[HttpSession]:
    with HttpSession(QUICK) as session:
        yield session


class Reader:
    """A client that keeps its cursor between ticks."""

    def __init__(self, client: Traccar) -> None:
        self.client = client
        self.cursor: str | None = None
        self.seen: set[Key] = set()
        self.pages: list[Page] = []

    def tick(self) -> int:
        """Read to the end; return how many readings came."""
        came = 0
        while True:
            page = self.client.read_feed("positions", self.cursor)
            self.pages.append(page)
            self.cursor = page.cursor
            self.seen |= {(reading.device_id, reading.time) for reading in page.readings}
            came += len(page.readings)
            if not page.has_more:
                return came


Opened = Callable[..., Reader]


@pytest.fixture
def reader(session: HttpSession, clock: Clock) -> Callable[[TraccarThread], Reader]:
    def reader(server: TraccarThread, options: Mapping[str, object] | None = None) -> Reader:
        return Reader(Traccar(session, TOKEN, server.url, options or {}, clock=clock))

    return reader


def account(**changes: Any) -> Account:
    given: dict[str, Any] = {"token": TOKEN, "vehicles": 6, "start": NOW - timedelta(minutes=20), "interval_s": 30}
    return Account(**(given | changes))


def test_units_are_ours(clock: Clock, reader: Opened) -> None:
    with TraccarThread(account(), clock_ms=clock.ms) as server:
        reading = reader(server)
        reading.tick()
        of_first = [
            each for page in reading.pages for each in page.readings if each.device_id == account().device_id(0)
        ]
        latest = reading.client.read_snapshot("positions", None).readings[0]
    assert of_first[-1] == latest
    for each in of_first:
        motion = motion_at(track_of(1, 0), each.time.timestamp())
        assert each.latitude == pytest.approx(motion.latitude, abs=1e-6)
        assert each.longitude == pytest.approx(motion.longitude, abs=1e-6)
        assert each.heading_deg == pytest.approx(motion.heading_deg, abs=0.1)
        assert each.speed_kph == pytest.approx(motion.speed_mps * 3.6, abs=0.01)
        assert each.odometer_km == pytest.approx(motion.odometer_m / 1000, abs=0.01)
        assert each.engine_hours == pytest.approx(motion.engine_s / 3600, abs=0.01)
        assert each.fuel_percent == pytest.approx(motion.fill_percent, abs=0.1)
        assert each.engine_state == motion.engine_state.lower()


def test_tick_by_tick_every_position_is_had_and_little_comes_again(clock: Clock, reader: Opened) -> None:
    with TraccarThread(account(), clock_ms=clock.ms) as server:
        reading = reader(server)
        came = [reading.tick()]
        assert reading.seen == set(server.fleet.expected(NOW))
        for _ in range(30):
            clock.now += TICK
            came.append(reading.tick())
            assert reading.seen == set(server.fleet.expected(clock.now))
    assert sum(came) < 4 * len(reading.seen)


def test_what_arrives_late_in_one_piece_after_its_tracker_was_offline_is_read_at_once(
    clock: Clock, reader: Opened
) -> None:
    """Its mark stayed where it was silent, for ten hours."""
    away = Backlog(2, NOW, NOW + timedelta(hours=10), arrives_at=NOW + timedelta(hours=10, seconds=30))
    with TraccarThread(account(), clock_ms=clock.ms, backlogs=[away]) as server:
        reading = reader(server)
        reading.tick()
        for hours in (5, 9, 10):
            clock.now = NOW + timedelta(hours=hours)
            reading.tick()
        clock.now += timedelta(minutes=1)
        reading.tick()
        assert reading.seen == set(server.fleet.expected(clock.now))


@pytest.mark.parametrize("back_min", [0, 50])
@pytest.mark.parametrize("late", [timedelta(minutes=6), timedelta(minutes=50)])
def test_what_arrives_after_newer_positions_had_been_read_is_found_by_the_next_sweeps(
    clock: Clock, reader: Opened, late: timedelta, back_min: int
) -> None:
    """Live positions come first, what was kept for hours comes `late` after them, and within `late_h`.

    There may be a sweep in between.
    """
    back_at = NOW + timedelta(hours=3, minutes=back_min)
    away = Backlog(2, NOW, back_at, arrives_at=back_at + late)
    with TraccarThread(account(), clock_ms=clock.ms, backlogs=[away]) as server:
        reading = reader(server)
        reading.tick()
        while clock.now < back_at + late + timedelta(hours=1) + TICK:
            clock.now += TICK
            reading.tick()
        kept = {key for key in server.fleet.expected(clock.now) if key[0] == account().device_id(2)}
        assert {key for key in kept if NOW < key[1] <= back_at} <= reading.seen
        assert reading.seen == set(server.fleet.expected(clock.now))


def test_sweeps_go_into_the_history_before_the_first_sight_as_far_as_they_look_back(
    clock: Clock, reader: Opened
) -> None:
    """What filled in a device is not read again beyond that."""
    kept = Backlog(2, NOW - timedelta(minutes=40), NOW - timedelta(minutes=20), arrives_at=NOW + timedelta(minutes=30))
    with TraccarThread(account(start=NOW - timedelta(hours=10)), clock_ms=clock.ms, backlogs=[kept]) as server:
        reading = reader(server)
        filled_in = reading.tick()
        came = 0
        for _ in range(30):
            clock.now += TICK
            came += reading.tick()
        assert reading.seen == set(server.fleet.expected(clock.now))
    assert filled_in > 7_000
    assert came < filled_in


def test_what_arrives_later_than_the_sweeps_look_back_is_not_found(clock: Clock, reader: Opened) -> None:
    """The limit that the documentation names: twice `late_h` after newer positions were read."""
    away = Backlog(2, NOW, NOW + timedelta(hours=1), arrives_at=NOW + timedelta(hours=4))
    with TraccarThread(account(), clock_ms=clock.ms, backlogs=[away]) as server:
        reading = reader(server)
        for _ in range(70):
            reading.tick()
            clock.now += TICK
        missing = set(server.fleet.expected(clock.now - TICK)) - reading.seen
        wide = reader(server, {"late_h": 6})
        wide.tick()
        assert not set(server.fleet.expected(clock.now)) - wide.seen
    assert missing
    assert {device for device, _ in missing} == {account().device_id(2)}
    assert all(NOW < at <= away.until for _, at in missing)


def test_a_device_that_was_silent_costs_no_request(clock: Clock, reader: Opened) -> None:
    with TraccarThread(account(end=NOW - timedelta(minutes=1)), clock_ms=clock.ms) as server:
        reading = reader(server)
        reading.tick()
        clock.now += timedelta(hours=2)
        reading.tick()
        clock.now += timedelta(hours=2)
        before = server.stats()["requests"]
        reading.tick()
        after = server.stats()["requests"]
    assert isinstance(before, int) and after == before + 1


def test_a_device_that_is_new_is_filled_in(clock: Clock, reader: Opened) -> None:
    with TraccarThread(account(vehicles=3), clock_ms=clock.ms) as server:
        reading = reader(server)
        reading.tick()
        server.simulator.add(account(vehicles=5))
        clock.now += TICK
        reading.tick()
        assert reading.seen == set(server.fleet.expected(clock.now))
        assert len({device for device, _ in reading.seen}) == 5


def test_history_goes_back_as_far_as_the_connection_says(clock: Clock, reader: Opened) -> None:
    with TraccarThread(account(start=NOW - timedelta(hours=30)), clock_ms=clock.ms) as server:
        for options, hours in (({}, 24), ({"backfill_h": 0.5}, 0.5)):
            reading = reader(server, options)
            reading.tick()
            oldest = min(at for _, at in reading.seen)
            assert timedelta(0) <= NOW - timedelta(hours=hours) - oldest <= timedelta(minutes=3, seconds=30)


def test_a_large_fleet_is_read_in_blocks_and_pieces(clock: Clock, reader: Opened) -> None:
    fleet = account(vehicles=450, interval_s=20)
    with TraccarThread(fleet, clock_ms=clock.ms) as server:
        reading = reader(server)
        reading.tick()
        assert reading.seen == set(server.fleet.expected(NOW))
        assert len(reading.seen) > 25_000
        for page in reading.pages:
            assert page.cursor is not None and len(page.cursor) < 64 * 1024


def test_a_busy_time_after_a_silent_one_is_read_in_smaller_pieces(clock: Clock, reader: Opened) -> None:
    """Silence made the pieces long."""
    with TraccarThread(account(vehicles=100, interval_s=5), clock_ms=clock.ms) as server:
        reading = reader(server)
        came = reading.tick()
        assert reading.seen == set(server.fleet.expected(NOW))
    assert came > 20_000
    assert max(len(page.readings) for page in reading.pages) <= 20_000


def test_a_piece_that_is_too_large_is_asked_for_in_smaller_ones(clock: Clock) -> None:
    fleet = account(vehicles=10, interval_s=5)
    with TraccarThread(fleet, clock_ms=clock.ms) as server, HttpSession(HttpSettings(max_body_bytes=100_000)) as small:
        reading = Reader(Traccar(small, TOKEN, server.url, clock=clock))
        reading.tick()
        assert reading.seen == set(server.fleet.expected(NOW))


def test_a_device_that_fills_the_servers_limit_is_asked_for_in_smaller_pieces(clock: Clock, reader: Opened) -> None:
    """Traccar cuts off at `report.maxPositions` without a word."""
    fleet = account(vehicles=3, interval_s=1)
    with TraccarThread(fleet, clock_ms=clock.ms, max_positions=200) as server:
        reading = reader(server, {"max_positions": 200})
        reading.tick()
        assert reading.seen == set(server.fleet.expected(NOW))
        assert not [aside for page in reading.pages for aside in page.rejected]


def test_alarms_and_codes_come_beside_the_positions(clock: Clock, reader: Opened) -> None:
    with TraccarThread(account(vehicles=20), clock_ms=clock.ms) as server:
        reading = reader(server)
        reading.tick()
        fleet = server.fleet
        every = [
            (index, to_ms(at))
            for index in range(20)
            for device, at in reading.seen
            if device == fleet.account.device_id(index)
        ]
    codes = {
        (fleet.account.device_id(i), from_ms(at)): fleet.codes(i, at)
        for i, at in every
        if fleet.codes(i, at) is not None
    }
    told = {
        (report.device_id, report.time): " ".join(code.code for code in report.codes)
        for page in reading.pages
        for report in page.fault_reports
    }
    assert told == codes
    assert {"", "P0301 U0100"} >= set(codes.values()) and codes
    alarms = {
        (fleet.account.device_id(i), from_ms(at)) for i, at in every if fleet.alarm(i, at) not in (None, "lowBattery")
    }
    assert {(event.device_id, event.time) for page in reading.pages for event in page.safety_events} == alarms
    assert alarms


def groups_of(server: TraccarThread, *names: str) -> list[int]:
    return [group for group, (name, _) in server.fleet.groups().items() if name in names]


@pytest.mark.parametrize(
    ("names", "of_four"),
    [(["North"], {1}), (["Fleet"], {1, 2}), (["Fleet", "Yard"], {1, 2, 3}), (["South", "Fleet"], {1, 2})],
)
def test_a_connection_may_be_limited_to_groups_and_the_groups_within_them(
    clock: Clock, reader: Opened, names: list[str], of_four: set[int]
) -> None:
    with TraccarThread(account(vehicles=12), clock_ms=clock.ms) as server:
        reading = reader(server, {"group_ids": groups_of(server, *names)})
        reading.tick()
        listed = {device.device_id for device in reading.client.list_devices(None).devices}
        snapshot = reading.client.read_snapshot("positions", None)
    chosen = {account().device_id(index) for index in range(12) if index % 4 in of_four}
    assert listed == {device for device, _ in reading.seen} == {each.device_id for each in snapshot.readings} == chosen
    assert not snapshot.rejected


def test_a_group_of_another_account_is_refused_for_good(clock: Clock, reader: Opened) -> None:
    with TraccarThread(account(), account(token="other", seed=5), clock_ms=clock.ms) as server:
        foreign = next(iter(server.simulator.fleet("other").groups()))
        client = reader(server, {"group_ids": [foreign]}).client
        for read in (client.list_devices, lambda _: client.read_feed("positions", None)):
            with pytest.raises(PermanentError, match=f"group_ids: the account has no group {foreign}"):
                read(None)


@pytest.mark.parametrize(
    "options",
    [
        {"group_ids": "5"},
        {"group_ids": [-1]},
        {"backfill_h": 0},
        {"late_h": "1"},
        {"odometer": "guess"},
        {"max_positions": 1},
    ],
)
def test_settings_that_cannot_be_are_refused_for_good(options: dict[str, object]) -> None:
    with pytest.raises(PermanentError, match="the connection's settings"):
        open_provider("traccar", {"token": TOKEN}, "http://127.0.0.1:1", options=options)


def test_settings_of_others_are_not_looked_at() -> None:
    open_provider("traccar", {"token": TOKEN}, "http://127.0.0.1:1", options={"create_vehicles": True, "x": 1}).close()


def test_without_a_base_url_there_is_nowhere_to_ask() -> None:
    with pytest.raises(PermanentError, match="base_url is missing"):
        open_provider("traccar", {"token": TOKEN})
    with pytest.raises(PermanentError, match="not an allowed origin"):
        check_origin("traccar", "https://traccar.example")
    check_origin("traccar", "https://traccar.example", ["https://traccar.example"])


def test_a_snapshot_sets_aside_what_is_nobodys(clock: Clock, reader: Opened) -> None:
    with TraccarThread(account(), clock_ms=clock.ms) as server:
        client = reader(server, {"group_ids": groups_of(server, "North")}).client
        server.next("foreign_device", path="/api/positions")
        page = client.read_snapshot("positions", None)
    assert [aside.reason for aside in page.rejected] == ["foreign_device"]
    assert len(page.readings) == 2


def test_an_account_without_devices_is_at_its_end(clock: Clock, reader: Opened) -> None:
    with TraccarThread(account(vehicles=0), clock_ms=clock.ms) as server:
        reading = reader(server)
        assert reading.tick() == reading.tick() == 0
        assert reading.client.read_snapshot("positions", None).readings == []
        assert reading.client.list_devices(None).devices == []


NO_TOKEN = b"java.lang.%s\n\tat org.traccar.api.signature.TokenManager.decodeToken"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        ("401 Unauthorized", b"", CredentialsRejected),
        ("400 Bad Request", NO_TOKEN % b"ArrayIndexOutOfBoundsException", CredentialsRejected),
        ("500 Server Error", NO_TOKEN % b"SignatureException", CredentialsRejected),
        ("400 Bad Request", NO_TOKEN % b"Wrapped: org.traccar.storage.StorageException", TransientError),
        ("400 Bad Request", b"java.lang.SecurityException: Reports disabled", PermanentError),
        ("400 Bad Request", b"java.lang.NullPointerException", TransientError),
        ("404 Not Found", b"", PermanentError),
        ("503 Service Unavailable", b"", TransientError),
    ],
)
def test_what_a_refusal_means_is_read_from_its_stack_trace(
    session: HttpSession, status: str, body: bytes, kind: type[Exception]
) -> None:
    with answering(whole(body, status=status)) as server, pytest.raises(kind) as caught:
        Traccar(session, TOKEN, server.origin).list_devices(None)
    assert type(caught.value) is kind
    assert "java" not in str(caught.value)


@pytest.mark.parametrize("body", [b"{}", b'{"data": []}', b"[1"])
def test_what_is_no_list_may_work_later(session: HttpSession, body: bytes) -> None:
    with answering(whole(body)) as server:
        client = Traccar(session, TOKEN, server.origin)
        for read in (client.list_devices, lambda _: client.read_feed("positions", None)):
            with pytest.raises(TransientError, match=r"JSON that is not a list|truncated JSON"):
                read(None)


def test_a_cursor_of_another_kind_is_refused(session: HttpSession) -> None:
    with pytest.raises(CursorRefused):
        Traccar(session, TOKEN, "http://127.0.0.1:1").read_feed("positions", "e30=")
