"""Every fault a provider can have: what is kept, what is set aside, and that the good points beside it come through."""

import time

import msgspec
import pytest

from integrations.errors import CredentialsRejected, PermanentError, RateLimited, TransientError
from integrations.http import BodyTooLarge, HttpSession, HttpSettings
from integrations.samsara import Samsara
from integrations.simulator import FaultPlan, Scripted, SimulatorThread
from integrations.telematics import Page, Reading
from tests.integrations.conftest import ACCOUNT, NOW
from tests.integrations.raw_server import answering, whole


def keys(page: Page) -> set[tuple[str, object]]:
    return {(reading.device_id, reading.time) for reading in page.readings}


@pytest.fixture
def cursor(samsara: Samsara) -> str:
    cursor = samsara.read_feed("gps", None).cursor
    assert cursor
    return cursor


@pytest.fixture
def good(samsara: Samsara, cursor: str) -> Page:
    return samsara.read_feed("gps", cursor)


@pytest.mark.parametrize(
    ("fault", "reason", "field"),
    [
        ("impossible", "latitude_out_of_range", "gps.latitude"),
        ("null_island", "null_island", "gps"),
        ("missing_time", "time_missing", "gps.time"),
        ("future_time", "time_in_future", "gps.time"),
        ("wrong_types", "wrong_type", "gps.latitude"),
        ("nul", "time_unreadable", "gps.time"),
        ("not_a_number", "wrong_type", "gps.longitude"),
    ],
)
def test_a_bad_record_is_set_aside_and_every_good_one_beside_it_is_kept(
    simulator: SimulatorThread, samsara: Samsara, cursor: str, good: Page, fault: str, reason: str, field: str
) -> None:
    simulator.next(fault)
    page = samsara.read_feed("gps", cursor)

    assert page.readings == good.readings
    assert (page.cursor, page.has_more) == (good.cursor, good.has_more)
    assert [(aside.reason, aside.field, aside.device_id) for aside in page.rejected] == [
        (reason, field, ACCOUNT.device_id(index)) for index in (0, 20)
    ]
    assert all("\0" not in aside.payload and "\\u0000" not in aside.payload for aside in page.rejected)


def test_a_point_repeated_within_a_page_is_one_reading(
    simulator: SimulatorThread, samsara: Samsara, cursor: str, good: Page
) -> None:
    simulator.next("duplicate")
    page = samsara.read_feed("gps", cursor)
    assert page.readings == good.readings
    assert not page.rejected


def test_a_late_point_comes_with_its_old_time_before_the_newer_ones(
    simulator: SimulatorThread, samsara: Samsara, good: Page
) -> None:
    assert good.cursor
    on_time = samsara.read_feed("gps", good.cursor)
    simulator.next("late")
    page = samsara.read_feed("gps", good.cursor)

    late = keys(page) - keys(on_time)
    assert {device for device, _ in late} == {ACCOUNT.device_id(0), ACCOUNT.device_id(20)}
    assert late <= set(ACCOUNT.expected(NOW))
    assert keys(on_time) <= keys(page)
    assert list(page.readings) == sorted(page.readings, key=lambda reading: (int(reading.device_id), reading.time))


def test_a_backfilled_point_is_a_good_one_a_week_old(
    simulator: SimulatorThread, samsara: Samsara, cursor: str, good: Page
) -> None:
    simulator.next("backfill")
    page = samsara.read_feed("gps", cursor)
    added = keys(page) - keys(good)
    assert len(added) == 2
    assert added.isdisjoint(ACCOUNT.expected(NOW))
    assert not page.rejected


def test_a_feed_that_loops_is_left_with_a_note_of_it(
    simulator: SimulatorThread, samsara: Samsara, cursor: str, good: Page
) -> None:
    simulator.next("loop")
    page = samsara.read_feed("gps", cursor)
    assert page.readings == good.readings
    assert (page.cursor, page.has_more) == (cursor, False)
    assert [aside.reason for aside in page.rejected] == ["cursor_loop"]


@pytest.mark.parametrize("read", ["list_devices", "read_snapshot"])
def test_lists_and_snapshots_that_loop_are_left_too(simulator: SimulatorThread, samsara: Samsara, read: str) -> None:
    simulator.next("loop")
    page = samsara.list_devices(None) if read == "list_devices" else samsara.read_snapshot("gps", None)
    assert (page.cursor, page.has_more) == (None, False)
    assert [aside.reason for aside in page.rejected] == ["cursor_loop"]


@pytest.mark.parametrize(
    ("fault", "shape"),
    [
        ("truncated", "bytes of truncated JSON"),
        ("malformed", "bytes of malformed JSON"),
        ("html", "41 bytes of markup instead of JSON"),
        ("empty", "an empty body instead of JSON"),
        ("broken_off", "ProtocolError"),
    ],
)
def test_an_unreadable_answer_may_work_later_and_says_what_it_looked_like(
    simulator: SimulatorThread, samsara: Samsara, cursor: str, good: Page, fault: str, shape: str
) -> None:
    simulator.next(fault, times=4)
    with pytest.raises(TransientError, match=shape) as caught:
        samsara.read_feed("gps", cursor)
    assert str(caught.value).startswith("GET 127.0.0.1 /fleet/vehicles/stats/feed: ")
    assert cursor not in str(caught.value)

    simulator.plan(FaultPlan())
    assert samsara.read_feed("gps", cursor) == good


@pytest.mark.parametrize("fault", ["server_error", "html", "empty", "broken_off"])
def test_what_passes_within_a_second_is_not_noticed(
    simulator: SimulatorThread, samsara: Samsara, cursor: str, good: Page, fault: str
) -> None:
    simulator.next(fault)
    assert samsara.read_feed("gps", cursor) == good


def test_a_server_that_stays_down_may_work_later(simulator: SimulatorThread, samsara: Samsara, cursor: str) -> None:
    simulator.next("server_error", times=9)
    started = time.monotonic()
    with pytest.raises(TransientError, match=r"status 503, request [0-9a-f]{32}$"):
        samsara.read_feed("gps", cursor)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(("fault", "bound_mib"), [("huge", 30), ("zip_bomb", 1)])
def test_a_body_without_end_is_cut_off_early(
    simulator: SimulatorThread, samsara: Samsara, cursor: str, fault: str, bound_mib: int
) -> None:
    before = simulator.stats()["bytes_sent"]
    simulator.next(fault)
    with pytest.raises(BodyTooLarge, match="larger than 16777216 bytes"):
        samsara.read_feed("gps", cursor)
    time.sleep(0.1)
    sent = simulator.stats()["bytes_sent"]
    assert isinstance(before, int) and isinstance(sent, int)
    assert sent - before < bound_mib * 1024 * 1024


def test_a_body_that_drips_is_given_up_at_the_deadline(simulator: SimulatorThread) -> None:
    simulator.next("dripping")
    started = time.monotonic()
    with HttpSession(HttpSettings(total_s=1.0)) as session, pytest.raises(TransientError, match="timed out"):
        Samsara(session, ACCOUNT.token, simulator.url).read_feed("gps", None)
    assert 0.9 < time.monotonic() - started < 1.5


def test_a_short_rate_limit_is_waited_out(
    simulator: SimulatorThread, samsara: Samsara, cursor: str, good: Page
) -> None:
    simulator.next("rate_limit", times=2, retry_after_s=0.2)
    started = time.monotonic()
    assert samsara.read_feed("gps", cursor) == good
    assert time.monotonic() - started >= 0.4


@pytest.mark.parametrize(("times", "retry_after_s"), [(3, 0.125), (1, 12.40235)])
def test_a_longer_or_repeated_rate_limit_is_handed_on_with_its_fraction(
    simulator: SimulatorThread, samsara: Samsara, cursor: str, times: int, retry_after_s: float
) -> None:
    simulator.next("rate_limit", times=times, retry_after_s=retry_after_s)
    with pytest.raises(RateLimited) as caught:
        samsara.read_feed("gps", cursor)
    assert caught.value.retry_after_s == pytest.approx(retry_after_s, rel=1e-4)


def test_an_expired_token_is_not_tried_again(simulator: SimulatorThread, samsara: Samsara, cursor: str) -> None:
    simulator.next("expired_token", times=2)
    with pytest.raises(CredentialsRejected, match="status 401"):
        samsara.read_feed("gps", cursor)
    with pytest.raises(CredentialsRejected):
        samsara.list_devices(None)
    assert samsara.list_devices(None).devices


def test_a_redirect_is_not_followed(simulator: SimulatorThread, samsara: Samsara, cursor: str) -> None:
    simulator.next("redirect")
    with pytest.raises(PermanentError, match="status 302, a redirect is not followed"):
        samsara.read_feed("gps", cursor)


@pytest.mark.parametrize("token", ["wrong", "", "line\nbreak", "secrét"])
def test_a_token_is_never_in_the_message_of_its_refusal(
    simulator: SimulatorThread, session: HttpSession, token: str
) -> None:
    client = Samsara(session, token, simulator.url)
    with pytest.raises(CredentialsRejected) as caught:
        client.list_devices(None)
    assert not token or token not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_cursor_of_another_feed_is_refused_for_good(samsara: Samsara, cursor: str) -> None:
    with pytest.raises(PermanentError, match="status 400"):
        samsara.read_feed("engine", cursor)


def test_faults_by_chance_lose_no_point_and_double_none(simulator: SimulatorThread, samsara: Samsara) -> None:
    """A whole feed through rate limits, outages and bad records, every page read until it is had."""
    of_answers = FaultPlan(rate_limit=0.1, server_error=0.1, truncated=0.1, retry_after_s=0.01, seed=7)
    simulator.plan(
        msgspec.structs.replace(
            of_answers, impossible=0.3, missing_time=0.3, future_time=0.3, nul=0.3, late=0.3, duplicate=0.3
        )
    )
    readings: dict[tuple[str, object], Reading] = {}
    rejected, cursor, has_more = 0, None, True
    while has_more:
        try:
            page = samsara.read_feed("gps", cursor)
        except (TransientError, RateLimited):
            continue
        for reading in page.readings:
            assert readings.setdefault((reading.device_id, reading.time), reading).latitude == reading.latitude
        rejected += len(page.rejected)
        cursor, has_more = page.cursor, page.has_more
    assert set(readings) == set(ACCOUNT.expected(NOW))
    assert rejected > 0


def page_of(cursor: object, *, has_next: bool) -> bytes:
    return whole(msgspec.json.encode({"data": [], "pagination": {"endCursor": cursor, "hasNextPage": has_next}}))


def test_a_feed_that_ends_without_a_cursor_keeps_the_one_it_had(session: HttpSession) -> None:
    with answering(page_of("", has_next=False)) as server:
        page = Samsara(session, "token", server.origin).read_feed("gps", "the-last-one")
    assert page == Page([], [], "the-last-one", has_more=False)


@pytest.mark.parametrize("cursor", ["c" * 4097, "c\0"])
def test_a_cursor_that_cannot_be_stored_is_refused(session: HttpSession, cursor: str) -> None:
    with answering(page_of(cursor, has_next=True)) as server:
        client = Samsara(session, "token", server.origin)
        for read in (client.list_devices, lambda _: client.read_feed("gps", None)):
            with pytest.raises(TransientError, match="cursor that cannot be stored"):
                read(None)


def test_a_page_without_its_outline_may_work_later(session: HttpSession) -> None:
    with answering(whole(b'{"data": []}')) as server:
        client = Samsara(session, "token", server.origin)
        with pytest.raises(TransientError, match="JSON that is not a page"):
            client.read_feed("gps", None)
        with pytest.raises(TransientError, match="JSON that is not a page"):
            client.list_devices(None)


def test_a_script_may_be_for_one_path_only(simulator: SimulatorThread, samsara: Samsara) -> None:
    simulator.plan(FaultPlan(script=(Scripted("expired_token", path="/fleet/vehicles"),)))
    assert samsara.read_feed("gps", None).readings
    with pytest.raises(CredentialsRejected):
        samsara.list_devices(None)
