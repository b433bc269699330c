"""Safety events: of the current stream, of the legacy list, and of a token that may read neither."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from integrations.bounds import Limits
from integrations.errors import CredentialsRejected, CursorRefused, PermanentError, TransientError
from integrations.http import HttpSession
from integrations.samsara import Samsara
from integrations.samsara.safety import decode_event, snake_case
from integrations.samsara.safety_feed import FIRST_SIGHT, OVERLAP, Place
from integrations.simulator import Account, Scripted, SimulatorThread, expected_safety_events
from integrations.simulator.faults import FaultPlan
from integrations.simulator.fleet import to_ms
from integrations.telematics import Page, Rejected, SafetyEvent
from tests.integrations.conftest import NOW

AT = "2026-11-16T11:00:00Z"
TIME = datetime(2026, 11, 16, 11, tzinfo=UTC)
STREAM, LIST = "/safety-events/stream", "/fleet/safety-events"
CURRENT = {
    "id": "0d4f0a4e-6c52-4f6e-9d57-93a7e4bb7f8e",
    "asset": {"id": "281474"},
    "driver": {"id": "52"},
    "startMs": AT,
    "endMs": "2026-11-16T11:00:09Z",
    "updatedAtTime": "2026-11-16T11:30:00Z",
    "eventState": "needsCoaching",
    "behaviorLabels": [{"label": "SevereSpeeding", "source": "automated"}, {"label": "MobileUsage"}],
    "contextLabels": [{"name": "Wet road"}],
    "location": {"latitude": 52.5, "longitude": 13.4, "headingDegrees": 90},
    "maxAccelerationGForce": 0.75,
    "speedingMetadata": {"maxSpeedKilometersPerHour": 131, "postedSpeedLimitKilometersPerHour": 100},
    "media": [
        {"input": "dashcamDriverFacing", "url": "https://media.example/in.mp4"},
        {"input": "dashcamRoadFacing", "url": "https://media.example/out.mp4"},
    ],
}
LEGACY = {
    "id": "281474-1795000000000",
    "time": AT,
    "vehicle": {"id": "281474", "name": "Truck"},
    "driver": {"id": "52", "name": "Ada"},
    "behaviorLabels": [{"label": "harshTurn", "name": "Harsh Turn", "source": "automated"}],
    "coachingState": "needsReview",
    "maxAccelerationGForce": 0.75,
    "location": {"latitude": 52.5, "longitude": 13.4},
    "downloadForwardVideoUrl": "https://media.example/forward.mp4",
}


def decode(event: object) -> tuple[SafetyEvent | None, list[tuple[str, str, str | None]]]:
    aside: list[Rejected] = []
    decoded = decode_event(msgspec.json.encode(event), Limits.at(NOW), aside)
    return decoded, [(each.reason, each.field, each.device_id) for each in aside]


def without(event: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in keys}


def test_an_event_of_the_stream_has_its_speed_in_kilometres_per_hour_and_text_for_its_instants() -> None:
    event, aside = decode(CURRENT)
    assert aside == []
    assert event is not None and event.raw is not None
    assert msgspec.structs.replace(event, raw=None) == SafetyEvent(
        "0d4f0a4e-6c52-4f6e-9d57-93a7e4bb7f8e",
        "281474",
        TIME,
        "severe_speeding",
        ("severe_speeding", "mobile_usage"),
        "high",
        52.5,
        13.4,
        131.0,
        0.75,
        "52",
        "https://media.example/out.mp4",
        "needsCoaching",
    )
    assert msgspec.json.decode(event.raw) == {
        "ended_at": "2026-11-16T11:00:09Z",
        "updated_at": "2026-11-16T11:30:00Z",
        "speed_limit_kph": 100,
        "context": ["Wet road"],
    }


def test_an_event_of_the_list_has_other_names_for_the_same() -> None:
    event, aside = decode(LEGACY)
    assert aside == []
    assert event == SafetyEvent(
        "281474-1795000000000",
        "281474",
        TIME,
        "harsh_turn",
        ("harsh_turn",),
        "high",
        52.5,
        13.4,
        None,
        0.75,
        "52",
        "https://media.example/forward.mp4",
        "needsReview",
    )


@pytest.mark.parametrize("start", ["2026-11-16T12:00:00+01:00", to_ms(TIME)])
def test_an_instant_with_an_offset_or_as_a_number_is_the_same_instant(start: object) -> None:
    event, _ = decode(CURRENT | {"startMs": start})
    assert event is not None
    assert (event.time, event.time.tzinfo) == (TIME, UTC)


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("HarshTurn", "harsh_turn"),
        ("harshTurn", "harsh_turn"),
        ("Harsh Turn", "harsh_turn"),
        ("UTurn", "u_turn"),
        ("VehicleInBlindSpotWarning", "vehicle_in_blind_spot_warning"),
        ("Crash", "crash"),
    ],
)
def test_a_kind_is_the_label_in_snake_case(label: str, kind: str) -> None:
    assert snake_case(label) == kind


@pytest.mark.parametrize(
    ("labels", "kind", "severity"),
    [
        ([], "unlabelled", "medium"),
        (["Crash"], "crash", "critical"),
        (["HarshTurn", "Crash"], "harsh_turn", "critical"),
        (["Braking"], "braking", "high"),
        (["Drowsy"], "drowsy", "high"),
        (["NearCollison"], "near_collison", "high"),
        (["RollingStop"], "rolling_stop", "medium"),
        (["DefensiveDriving"], "defensive_driving", "low"),
        (["OfTomorrow"], "of_tomorrow", "medium"),
    ],
)
def test_the_worst_label_is_the_severity_and_the_first_the_kind(labels: list[str], kind: str, severity: str) -> None:
    event, _ = decode(CURRENT | {"behaviorLabels": [{"label": label} for label in labels]})
    assert event is not None
    assert (event.kind, event.severity) == (kind, severity)


@pytest.mark.parametrize(
    ("event", "reason", "field", "device_id"),
    [
        ("none", "wrong_type", "safety_event", None),
        (without(CURRENT, "id"), "event_id_missing", "id", "281474"),
        (CURRENT | {"id": 17}, "wrong_type", "id", "281474"),
        (CURRENT | {"id": ""}, "event_id_out_of_range", "id", "281474"),
        (CURRENT | {"id": "x" * 129}, "event_id_out_of_range", "id", "281474"),
        (CURRENT | {"id": "1\0"}, "nul_in_text", "id", "281474"),
        (without(CURRENT, "asset"), "device_id_missing", "vehicle", None),
        (CURRENT | {"asset": {}}, "device_id_missing", "asset.id", None),
        (CURRENT | {"asset": {"id": 17}}, "wrong_type", "asset.id", None),
        (CURRENT | {"asset": ["281474"]}, "wrong_type", "asset", None),
        (without(CURRENT, "startMs"), "time_missing", "time", "281474"),
        (CURRENT | {"startMs": "soon"}, "time_unreadable", "startMs", "281474"),
        (CURRENT | {"startMs": "2026-11-16T12:05:11Z"}, "time_in_future", "startMs", "281474"),
        (CURRENT | {"startMs": 10**17}, "time_too_old", "startMs", "281474"),
        (CURRENT | {"startMs": "2007-01-01T00:00:00Z"}, "time_too_old", "startMs", "281474"),
    ],
)
def test_an_event_that_cannot_be_known_placed_or_dated_is_set_aside(
    event: object, reason: str, field: str, device_id: str | None
) -> None:
    decoded, aside = decode(event)
    assert decoded is None
    assert [(each[0], each[1]) for each in aside] == [(reason, field)]
    assert field in ("id", "asset.id", "asset", "vehicle", "safety_event") or aside[0][2] == device_id


@pytest.mark.parametrize(
    ("changes", "lost", "reason"),
    [
        ({"location": {"latitude": 91, "longitude": 1}}, ("latitude", "longitude"), "latitude_out_of_range"),
        ({"location": {"latitude": 52}}, ("latitude", "longitude"), "longitude_missing"),
        ({"location": "Berlin"}, ("latitude", "longitude"), "wrong_type"),
        ({"maxAccelerationGForce": "much"}, ("max_g",), "wrong_type"),
        ({"speedingMetadata": {"maxSpeedKilometersPerHour": 501}}, ("speed_kph",), "speed_out_of_range"),
        ({"driver": {"id": 52}}, ("driver_id",), "wrong_type"),
        ({"eventState": 1}, ("state",), "wrong_type"),
        (
            {"media": [{"input": "dashcamRoadFacing", "url": "javascript:alert(1)"}]},
            ("video_url",),
            "video_url_unbelievable",
        ),
        (
            {"media": [{"input": "dashcamRoadFacing", "url": "https://x/" + "a" * 4096}]},
            ("video_url",),
            "video_url_unbelievable",
        ),
    ],
)
def test_a_bad_detail_costs_only_itself(changes: dict[str, object], lost: tuple[str, ...], reason: str) -> None:
    good, _ = decode(CURRENT)
    event, aside = decode(CURRENT | changes)
    assert good is not None and event is not None
    keys = [name for name in SafetyEvent.__struct_fields__ if name != "raw"]
    assert {key for key in keys if getattr(event, key) != getattr(good, key)} == set(lost)
    assert all(getattr(event, key) is None for key in lost)
    assert [(each[0], each[2]) for each in aside] == [(reason, "281474")]


@pytest.mark.parametrize("driver", [None, {}, {"id": ""}, {"id": "0"}])
def test_nobody_assigned_is_no_driver(driver: object) -> None:
    event, aside = decode(CURRENT | {"driver": driver})
    assert event is not None and event.driver_id is None
    assert aside == []


class Clock:
    """A clock that is set by hand, for the provider and for us."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@contextmanager
def reading(session: HttpSession, clock: Clock, **options: Any) -> Iterator[tuple[Account, SimulatorThread, Samsara]]:
    given: dict[str, Any] = {"start": NOW - timedelta(hours=30), "interval_s": 10, "events_every_s": 7200} | options
    account = Account("a", 30, **given)
    with SimulatorThread(account, clock_ms=lambda: to_ms(clock.now)) as simulator:
        yield account, simulator, Samsara(session, account.token, simulator.url, clock=clock)


def read_all(client: Samsara, cursor: str | None, into: dict[str, SafetyEvent]) -> tuple[str | None, int, Page]:
    """Read to the end; return the cursor, how many events came, and the last page."""
    number = 0
    while True:
        page = client.read_feed("safety", cursor)
        assert not page.readings
        number += len(page.safety_events)
        into.update({event.event_id: event for event in page.safety_events})
        cursor = page.cursor
        if not page.has_more:
            return cursor, number, page


def assert_known(account: Account, until: datetime, seen: dict[str, SafetyEvent]) -> None:
    expected = expected_safety_events(account, until, since=NOW)
    assert {key: (each.device_id, each.time, each.kind, each.state) for key, each in seen.items()} == {
        key: (each.device_id, each.time, snake_case(each.label), each.state) for key, each in expected.items()
    }
    assert len(expected) > 100


def test_the_stream_brings_every_event_once_and_again_when_it_is_reviewed(session: HttpSession) -> None:
    clock = Clock()
    with reading(session, clock) as (account, simulator, client):
        seen: dict[str, SafetyEvent] = {}
        cursor, number, page = read_all(client, None, seen)
        assert_known(account, clock.now, seen)
        assert number > len(seen)  # those that were reviewed come twice
        assert not page.rejected
        in_review = {key for key, event in seen.items() if event.state == "needsReview"}
        assert in_review

        for _ in range(3):
            clock.now += timedelta(minutes=20)
            cursor, number, _ = read_all(client, cursor, seen)
            assert 0 < number < 60
        assert_known(account, clock.now, seen)
        assert all(seen[key].state in ("coached", "dismissed") for key in in_review)
        assert read_all(client, cursor, {})[:2] == (cursor, 0)
        paths = simulator.stats()["by_path"]
        assert isinstance(paths, dict) and LIST not in paths


def test_an_organisation_without_the_stream_is_read_from_the_list_and_stays_there(session: HttpSession) -> None:
    clock = Clock()
    with reading(session, clock, safety="legacy") as (account, simulator, client):
        seen: dict[str, SafetyEvent] = {}
        cursor, number, _ = read_all(client, None, seen)
        assert number == len(seen) > 100
        for _ in range(3):
            clock.now += timedelta(minutes=20)
            cursor, number, _ = read_all(client, cursor, seen)
            assert 0 < number < 60
        assert set(seen) == set(expected_safety_events(account, clock.now, since=NOW))
        assert all(key.startswith(f"{event.device_id}-") for key, event in seen.items())
        paths = simulator.stats()["by_path"]
        assert isinstance(paths, dict) and paths[STREAM] == 1


def test_windows_of_the_list_overlap_so_that_what_appears_late_is_not_missed(session: HttpSession) -> None:
    """An event is in the list 40 seconds after it happened: by then a window has gone past it."""
    clock = Clock()
    with reading(session, clock, safety="legacy", events_every_s=600, start=NOW - timedelta(hours=2)) as (
        account,
        _,
        client,
    ):
        seen: dict[str, SafetyEvent] = {}
        cursor, _, _ = read_all(client, None, seen)
        known = set(seen)
        for _ in range(20):
            clock.now += timedelta(seconds=17)
            cursor, _, _ = read_all(client, cursor, seen)
        assert set(seen) == set(expected_safety_events(account, clock.now, since=NOW))
        assert any(seen[key].time <= NOW for key in set(seen) - known)
    assert cursor is not None
    place = Place.parse(cursor)
    assert datetime.fromisoformat(place.until) == clock.now
    assert datetime.fromisoformat(place.until) - datetime.fromisoformat(place.since) >= OVERLAP


def test_a_token_without_the_scope_leaves_an_empty_feed_that_says_so_in_the_same_words_each_time(
    session: HttpSession,
) -> None:
    clock = Clock()
    with reading(session, clock, safety="none") as (_, _, client):
        first, again = client.read_feed("safety", None), client.read_feed("safety", None)
        assert client.read_feed("gps", None).readings
    assert first == again
    assert (first.size, first.cursor, first.has_more) == (0, None, False)
    assert [(each.reason, each.field) for each in first.rejected] == [("scope_missing", STREAM)]
    assert "Read Safety Events & Scores" in first.rejected[0].payload


@pytest.mark.parametrize("safety", ["current", "legacy"])
def test_a_scope_that_is_taken_away_keeps_the_cursor_and_one_that_is_granted_goes_on_from_there(
    session: HttpSession, safety: str
) -> None:
    clock, seen = Clock(), dict[str, SafetyEvent]()
    with reading(session, clock, safety=safety) as (account, simulator, client):
        cursor, _, _ = read_all(client, None, seen)
        other = Account("a", 30, start=account.start, interval_s=10, events_every_s=7200, safety="none")
        with SimulatorThread(other, clock_ms=lambda: to_ms(clock.now)) as without_scope:
            denied = Samsara(session, other.token, without_scope.url, clock=clock).read_feed("safety", cursor)
        assert (denied.cursor, [each.reason for each in denied.rejected]) == (cursor, ["scope_missing"])
        clock.now += timedelta(hours=2)
        read_all(client, denied.cursor, seen)
        assert set(seen) == set(expected_safety_events(account, clock.now, since=NOW))
        assert simulator.url


def test_a_refused_token_is_cut_off_whatever_the_endpoint(session: HttpSession) -> None:
    clock = Clock()
    with reading(session, clock) as (_, simulator, client):
        simulator.plan(FaultPlan(script=(Scripted("expired_token", path=STREAM),)))
        with pytest.raises(CredentialsRejected):
            client.read_feed("safety", None)


def test_what_may_pass_is_not_taken_for_a_missing_stream(session: HttpSession) -> None:
    clock = Clock()
    with reading(session, clock) as (_, simulator, client):
        simulator.plan(FaultPlan(script=(Scripted("server_error", times=9, path=STREAM),)))
        with pytest.raises(TransientError):
            client.read_feed("safety", None)
        simulator.plan(FaultPlan(script=(Scripted("redirect", path=STREAM),)))
        with pytest.raises(PermanentError, match="redirect"):
            client.read_feed("safety", None)
        simulator.plan(FaultPlan())
        cursor = client.read_feed("safety", None).cursor
    assert cursor is not None and Place.parse(cursor).source == "current"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "stream:2026-11-15T12:00:00Z//x",
        "current:2026-11-15T12:00:00Z",
        "legacy:2026-11-15T12:00:00Z/yesterday/",
        "current:2026-11-15T12:00:00Z//of-another-age",
        "current:yesterday//",
        "legacy:2026-11-15T12:00:00Z/2026-11-16T12:00:00Z/of-another-age",
    ],
)
def test_a_cursor_that_nobody_understands_begins_the_feed_anew(samsara: Samsara, cursor: str) -> None:
    with pytest.raises(CursorRefused):
        samsara.read_feed("safety", cursor)


def test_every_request_repeats_the_start_with_which_its_cursor_began(session: HttpSession) -> None:
    clock = Clock()
    with reading(session, clock) as (_, _, client):
        first = client.read_feed("safety", None)
        assert first.cursor is not None and first.has_more
        place = Place.parse(first.cursor)
        assert datetime.fromisoformat(place.since) == NOW - FIRST_SIGHT
        with pytest.raises(CursorRefused):
            client.read_feed("safety", str(place._replace(since="2026-11-15T12:00:11Z")))
        clock.now += timedelta(hours=3)
        second = client.read_feed("safety", first.cursor)
    assert second.cursor is not None
    assert Place.parse(second.cursor).since == place.since


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("missing_time", "time_missing"),
        ("future_time", "time_in_future"),
        ("wrong_types", "wrong_type"),
        ("nul", "nul_in_text"),
    ],
)
@pytest.mark.parametrize("safety", ["current", "legacy"])
def test_a_bad_event_is_set_aside_and_every_good_one_beside_it_is_kept(
    session: HttpSession, safety: str, fault: str, reason: str
) -> None:
    with reading(session, Clock(), safety=safety) as (_, simulator, client):
        good = client.read_feed("safety", None)
        simulator.plan(FaultPlan(script=(Scripted(fault, path=STREAM if safety == "current" else LIST),)))
        page = client.read_feed("safety", None)
    assert page.safety_events == good.safety_events
    assert {each.reason for each in page.rejected} == {reason}
    assert len(page.rejected) == 5


def test_a_repeated_event_is_one_and_a_feed_in_circles_is_left(session: HttpSession) -> None:
    with reading(session, Clock()) as (_, simulator, client):
        good = client.read_feed("safety", None)
        simulator.next("duplicate")
        page = client.read_feed("safety", None)
        assert sorted(each.event_id for each in page.safety_events) == sorted(
            each.event_id for each in good.safety_events
        )
        simulator.next("loop")
        looped = client.read_feed("safety", good.cursor)
    assert (looped.cursor, looped.has_more) == (good.cursor, False)
    assert [each.reason for each in looped.rejected] == ["cursor_loop"]


@pytest.mark.parametrize("fault", ["html", "truncated", "malformed", "empty"])
def test_an_unreadable_answer_may_work_later(session: HttpSession, fault: str) -> None:
    with reading(session, Clock()) as (_, simulator, client):
        simulator.next(fault, times=4)
        with pytest.raises(TransientError):
            client.read_feed("safety", None)
