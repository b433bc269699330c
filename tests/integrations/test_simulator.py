"""The simulated provider itself: faithful, repeatable, and with nothing kept for a point."""

import base64
import json
import math
import multiprocessing
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrations.http import HttpSession
from integrations.samsara import Samsara, SamsaraWebhooks
from integrations.samsara.client import FEEDS
from integrations.simulator import (
    Account,
    FaultPlan,
    SimulatorThread,
    expected_faults,
    expected_safety_events,
    send_samsara,
    serve,
)
from integrations.simulator.app import Simulator
from integrations.simulator.fleet import from_ms, to_ms
from integrations.simulator.pages import Cursor, Pages
from integrations.simulator.samsara_webhooks import vehicle_event
from integrations.simulator.server import FEED_TYPES, ServerThread
from integrations.simulator.tracks import motion_at, track_of
from tests.integrations.conftest import ACCOUNT, NOW


@pytest.fixture
def asking() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {ACCOUNT.token}"
        yield session


def ask(asking: requests.Session, url: str, **params: str) -> tuple[int, dict[str, Any]]:
    response = asking.get(url, params=params, timeout=5)
    return response.status_code, response.json()


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/fleet/vehicles/stats", {}),
        ("/fleet/vehicles/stats", {"types": "gps,fuelPercents,engineStates,obdEngineSeconds"}),
        ("/fleet/vehicles/stats/feed", {"types": "gps,unheardOf"}),
        ("/fleet/vehicles/stats/feed", {"types": "gps", "after": "no cursor"}),
        ("/fleet/vehicles/stats/feed", {"types": "gps", "decorations": "a,b,c"}),
        ("/fleet/vehicles", {"limit": "513"}),
        ("/fleet/vehicles", {"limit": "0"}),
        ("/fleet/vehicles", {"after": "e30"}),
        ("/safety-events/stream", {}),
        ("/safety-events/stream", {"startTime": "2026-11-16T12:00:00"}),
        ("/safety-events/stream", {"startTime": "2026-11-16T12:00:00Z", "after": "e30"}),
        ("/fleet/safety-events", {"startTime": "2026-11-16T12:00:00Z"}),
        ("/fleet/safety-events", {"startTime": "yesterday", "endTime": "2026-11-16T12:00:00Z"}),
    ],
)
def test_what_samsara_would_refuse_is_refused_with_its_error_body(
    simulator: SimulatorThread, asking: requests.Session, path: str, params: dict[str, str]
) -> None:
    status, body = ask(asking, simulator.url + path, **params)
    assert status == 400
    assert set(body) == {"message", "requestId"}


def test_another_token_and_another_path_are_refused(simulator: SimulatorThread, asking: requests.Session) -> None:
    assert ask(asking, simulator.url + "/fleet/drivers")[0] == 404
    asking.headers["Authorization"] = "Bearer other"
    assert ask(asking, simulator.url + "/fleet/vehicles")[0] == 401


def test_feed_and_snapshot_have_samsaras_shapes(simulator: SimulatorThread, asking: requests.Session) -> None:
    types = {"types": "gps,fuelPercents,engineStates"}
    _, snapshot = ask(asking, simulator.url + "/fleet/vehicles/stats", **types)
    _, feed = ask(asking, simulator.url + "/fleet/vehicles/stats/feed", **types)
    assert set(snapshot["data"][0]) == {"id", "name", "externalIds", "gps", "fuelPercent", "engineState"}
    assert set(feed["data"][0]) == {"id", "name", "externalIds", "gps", "fuelPercents", "engineStates"}
    assert isinstance(snapshot["data"][0]["gps"], dict)
    assert isinstance(feed["data"][0]["gps"], list)
    assert set(feed["pagination"]) == {"endCursor", "hasNextPage"}


def test_fault_codes_have_samsaras_shapes(asking: requests.Session) -> None:
    types, account = {"types": "faultCodes"}, Account(ACCOUNT.token, 40, fault_share=1.0)
    with SimulatorThread(account, clock_ms=lambda: to_ms(NOW)) as simulator:
        _, snapshot = ask(asking, simulator.url + "/fleet/vehicles/stats", **types)
        _, feed = ask(asking, simulator.url + "/fleet/vehicles/stats/feed", **types)
    assert isinstance(snapshot["data"][0]["faultCodes"], dict)
    records = [vehicle["faultCodes"][0] for vehicle in feed["data"]]
    of_lorries = [record["j1939"] for record in records if "j1939" in record]
    of_vans = [record["obdii"] for record in records if "obdii" in record]
    assert len(of_lorries) + len(of_vans) == len(records) == account.vehicles
    codes = [code for section in of_lorries for code in section["diagnosticTroubleCodes"]]
    assert {"spnId", "fmiId", "occurrenceCount", "milStatus", "txId"} <= set(codes[0])
    assert set(of_lorries[0]["checkEngineLights"]) == {"emissionsIsOn", "protectIsOn", "stopIsOn", "warningIsOn"}
    units = [unit for section in of_vans for unit in section["diagnosticTroubleCodes"]]
    assert {"txId", "confirmedDtcs", "pendingDtcs", "permanentDtcs"} <= set(units[0])


def test_codes_come_and_go() -> None:
    account = Account("t", 60, start=NOW, fault_share=0.5)
    told: dict[str, set[bool]] = {}
    for report in expected_faults(account, NOW + timedelta(minutes=30)):
        told.setdefault(report.device_id, set()).add(bool(report.codes))
    kinds = list(told.values())
    assert kinds.count({True, False}) == len([kind for kind in kinds if True in kind]) > 20
    assert kinds.count({False}) > 20


def test_the_safety_events_of_stream_and_list_are_the_same_under_other_ids(asking: requests.Session) -> None:
    window = {"startTime": (NOW - timedelta(hours=8)).isoformat(), "endTime": NOW.isoformat()}
    account = Account(ACCOUNT.token, 20, start=NOW - timedelta(hours=6))
    with SimulatorThread(account, clock_ms=lambda: to_ms(NOW)) as simulator:
        _, stream = ask(asking, simulator.url + "/safety-events/stream", startTime=window["startTime"])
        _, listed = ask(asking, simulator.url + "/fleet/safety-events", **window)
    of_stream = {(event["asset"]["id"], event["startMs"]) for event in stream["data"]}
    of_list = {(event["vehicle"]["id"], event["time"]) for event in listed["data"]}
    assert of_stream == of_list
    assert len(of_list) == len(listed["data"]) > 20
    assert {event["id"] for event in stream["data"]}.isdisjoint(event["id"] for event in listed["data"])
    assert not stream["pagination"]["hasNextPage"] and stream["pagination"]["endCursor"]


@pytest.mark.parametrize(
    ("safety", "stream", "listed"), [("current", 200, 200), ("legacy", 404, 200), ("none", 403, 403)]
)
def test_an_account_may_have_the_list_only_or_lack_the_scope(
    asking: requests.Session, safety: Literal["current", "legacy", "none"], stream: int, listed: int
) -> None:
    account = Account(ACCOUNT.token, 3, start=NOW, safety=safety)
    window = {"startTime": NOW.isoformat(), "endTime": NOW.isoformat()}
    with SimulatorThread(account) as simulator:
        assert ask(asking, simulator.url + "/safety-events/stream", startTime=window["startTime"])[0] == stream
        assert ask(asking, simulator.url + "/fleet/safety-events", **window)[0] == listed
        assert ask(asking, simulator.url + "/fleet/vehicles")[0] == 200


def test_a_share_of_the_vehicles_falls_silent_and_speaks_again(session: HttpSession) -> None:
    minute = timedelta(minutes=1)
    begins, ends = NOW - 6 * minute, NOW - 2 * minute
    account = Account("t", 100, start=NOW - 10 * minute, silent_share=0.2, silent_from=begins, silent_until=ends)
    silent = {account.device_id(index) for index in range(100) if account.falls_silent(index)}
    assert 10 < len(silent) < 30
    with SimulatorThread(account, clock_ms=lambda: to_ms(NOW)) as simulator:
        client = Samsara(session, "t", simulator.url, clock=lambda: NOW)
        seen, cursor, has_more = list[tuple[str, datetime]](), None, True
        while has_more:
            page = client.read_feed("gps", cursor)
            seen += [(reading.device_id, reading.time) for reading in page.readings]
            cursor, has_more = page.cursor, page.has_more
    assert sorted(seen) == sorted(account.expected(NOW))
    within = {device for device, at in seen if begins < at <= ends}
    assert within == {account.device_id(index) for index in range(100)} - silent
    assert silent <= {device for device, at in seen if at > ends}


def test_what_a_silent_vehicle_is_known_for_is_its_last_word_before(session: HttpSession) -> None:
    hour = timedelta(hours=1)
    account = Account("t", 100, silent_share=1.0, silent_from=NOW - hour)
    with SimulatorThread(account, clock_ms=lambda: to_ms(NOW)) as simulator:
        readings = Samsara(session, "t", simulator.url, clock=lambda: NOW).read_snapshot("gps", None).readings
    newest = {
        device: max(each.time for each in readings if each.device_id == device) for device, _ in account.expected(NOW)
    }
    assert len(newest) == 100
    assert all(NOW - hour - timedelta(seconds=5) < at <= NOW - hour for at in newest.values())
    assert expected_safety_events(account, NOW) == {
        key: event for key, event in expected_safety_events(account, NOW).items() if event.time <= NOW - hour
    }


def test_several_simulators_can_share_an_application(asking: requests.Session) -> None:
    simulator = Simulator([Account(ACCOUNT.token, 2)], FaultPlan(), lambda: to_ms(NOW), 1_000_000)
    app = Starlette(routes=[*simulator.routes(), Route("/{path:path}", lambda _: Response("another's", 299))])
    with ServerThread(app) as server:
        assert ask(asking, server.url + "/fleet/vehicles")[0] == 200
        assert asking.get(server.url + "/elsewhere", timeout=5).status_code == 299


def test_a_webhook_is_sent_signed(asking: requests.Session) -> None:
    taken: list[tuple[bytes, dict[str, str]]] = []

    async def take(request: Request) -> Response:
        taken.append((await request.body(), dict(request.headers)))
        return Response(status_code=202)

    secret, body = base64.b64encode(b"key").decode(), vehicle_event(ACCOUNT, "GatewayUnplugged", 0, to_ms(NOW))
    with ServerThread(Starlette(routes=[Route("/hook", take, methods=["POST"])])) as server:
        assert send_samsara(f"{server.url}/hook", body, secret) == 202
    ((sent, headers),) = taken
    assert SamsaraWebhooks().verify(sent, headers, secret, datetime.now(UTC)).kind == "GatewayUnplugged"


def test_each_account_has_its_own_vehicles() -> None:
    one, two = Account("one", 5, seed=1), Account("two", 5, seed=2)
    assert {one.device_id(index) for index in range(5)}.isdisjoint(two.device_id(index) for index in range(5))
    with SimulatorThread(one, two) as simulator, HttpSession() as session:
        for account in (one, two):
            devices = Samsara(session, account.token, simulator.url).list_devices(None).devices
            assert [device.device_id for device in devices] == [account.device_id(index) for index in range(5)]


def test_the_fault_of_an_answer_is_switched_on_and_off_over_http(
    simulator: SimulatorThread, asking: requests.Session
) -> None:
    plan = {"script": [{"fault": "rate_limit", "times": 3, "retry_after_s": 0.4}]}
    assert asking.post(f"{simulator.url}/_faults", data=json.dumps(plan), timeout=5).status_code == 200
    for _ in range(3):
        response = asking.get(f"{simulator.url}/fleet/vehicles", timeout=5)
        assert (response.status_code, response.headers["Retry-After"]) == (429, "0.4")
    assert asking.get(f"{simulator.url}/fleet/vehicles", timeout=5).status_code == 200
    assert asking.post(f"{simulator.url}/_faults", data='{"rate_limit": 1}', timeout=5).status_code == 200
    assert asking.get(f"{simulator.url}/fleet/vehicles", timeout=5).status_code == 429
    assert asking.post(f"{simulator.url}/_faults", timeout=5).status_code == 200
    assert asking.get(f"{simulator.url}/fleet/vehicles", timeout=5).status_code == 200


@pytest.mark.parametrize("plan", ["no JSON", '{"unheard_of": 1}', '{"script": [{"fault": "unheard_of"}]}'])
def test_a_plan_that_cannot_be_read_is_refused(simulator: SimulatorThread, asking: requests.Session, plan: str) -> None:
    assert asking.post(f"{simulator.url}/_faults", data=plan, timeout=5).status_code == 400


def test_answers_are_counted_by_status_and_added_records_by_fault(asking: requests.Session) -> None:
    account = Account(ACCOUNT.token, 100, start=NOW - timedelta(minutes=1))
    with SimulatorThread(account, faults=FaultPlan(impossible=1.0), clock_ms=lambda: to_ms(NOW)) as simulator:
        ask(asking, simulator.url + "/fleet/vehicles/stats/feed", types="gps")
        ask(asking, simulator.url + "/nowhere")
        _, stats = ask(asking, simulator.url + "/_stats")
    assert stats["by_status"] == {"200": 1, "404": 1}
    assert stats["requests"] == 2
    assert stats["added"] == {"impossible": 5}
    assert stats["bytes_sent"] > 10_000


def test_the_same_seed_meets_the_same_faults() -> None:
    plan = FaultPlan(rate_limit=0.3, server_error=0.3, seed=5)

    def statuses() -> list[int]:
        with SimulatorThread(ACCOUNT, faults=plan) as simulator, requests.Session() as asking:
            asking.headers["Authorization"] = f"Bearer {ACCOUNT.token}"
            return [ask(asking, simulator.url + "/fleet/vehicles")[0] for _ in range(20)]

    first = statuses()
    assert first == statuses()
    assert set(first) == {200, 429, 503}


def test_nothing_is_published_before_its_window_is_over_nor_after_the_end() -> None:
    account = Account("t", 20, start=NOW, end=NOW + timedelta(minutes=5))
    second = timedelta(seconds=1)
    counts = [account.expected_points(NOW + second * passed) for passed in range(0, 400, 5)]
    assert counts == sorted(counts)
    assert len(set(counts)) == 5 * 60 // 25 + 1
    # The last whole window ends at most 25 seconds before the end.
    newest = max(at for _, at in account.expected(NOW + timedelta(days=1)))
    assert NOW + timedelta(seconds=270) < newest <= NOW + timedelta(minutes=5)
    assert counts[-1] == account.expected_points(NOW + timedelta(days=1))


def test_a_point_comes_every_interval_and_its_odometer_never_falls() -> None:
    account = Account("t", 1, start=NOW, interval_s=0.5)
    instants = sorted(at for _, at in account.expected(NOW + timedelta(minutes=10)))
    steps = {(later - earlier).total_seconds() for earlier, later in pairwise(instants[1:])}
    assert steps == {0.5}
    track = track_of(account.seed, 0)
    odometers = [motion_at(track, at.timestamp()).odometer_m for at in instants]
    assert odometers == sorted(odometers)


@pytest.mark.parametrize("index", range(8))
def test_vehicles_move_as_vehicles_do(index: int) -> None:
    """Position, speed, heading and odometer agree, over two hours in steps of five seconds."""
    track = track_of(7, index)
    motions = [motion_at(track, NOW.timestamp() + 5 * step) for step in range(1440)]
    for earlier, later in pairwise(motions):
        north_m = (later.latitude - earlier.latitude) * 111_320
        east_m = (later.longitude - earlier.longitude) * 111_320 * math.cos(math.radians(track.latitude))
        driven_m = later.odometer_m - earlier.odometer_m
        assert 0 <= driven_m < 200
        assert math.hypot(north_m, east_m) == pytest.approx(driven_m, abs=10)
        assert driven_m == pytest.approx(5 * (earlier.speed_mps + later.speed_mps) / 2, abs=1)
        turned = (later.heading_deg - earlier.heading_deg + 180) % 360 - 180
        assert abs(turned) < 30
        assert later.engine_s >= earlier.engine_s
    assert {motion.engine_state for motion in motions} == {"On", "Idle", "Off"}
    assert max(motion.speed_mps for motion in motions) < 40
    assert all(15 <= motion.fill_percent <= 95 for motion in motions)


def check_digit(vin: str) -> str:
    """Compute the check digit from the letters' table of 49 CFR 565.15, written out."""
    values = dict(zip(string.digits, range(10), strict=True))
    values |= {"A": 1, "B": 2, "C": 3, "D": 4, "E": 5, "F": 6, "G": 7, "H": 8, "J": 1, "K": 2, "L": 3, "M": 4}
    values |= {"N": 5, "P": 7, "R": 9, "S": 2, "T": 3, "U": 4, "V": 5, "W": 6, "X": 7, "Y": 8, "Z": 9}
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    remainder = sum(values[letter] * weight for letter, weight in zip(vin, weights, strict=True)) % 11
    return "X" if remainder == 10 else str(remainder)


def test_vins_have_valid_check_digits_and_are_unique() -> None:
    assert check_digit("1M8GDM9AXKP042788") == "X"
    vins = [Account("t", 3000).identity(index).vin for index in range(3000)]
    assert len(set(vins)) == 3000
    assert all(len(vin) == 17 and vin[8] == check_digit(vin) for vin in vins)


def test_rendered_pages_are_forgotten_beyond_their_bound_and_render_the_same_again() -> None:
    account = Account("t", 600, start=NOW, end=NOW + timedelta(minutes=5))
    now_ms = to_ms(NOW + timedelta(hours=1))
    small, large = Pages(100_000), Pages(10**9)
    small.prerender(account, FEED_TYPES[0], now_ms)
    cursor, pages = None, 0
    while True:
        page = small.feed(account, FEED_TYPES[0], cursor, now_ms)
        assert page == large.feed(account, FEED_TYPES[0], cursor, now_ms)
        cursor, pages = page.cursor, pages + 1
        if not page.has_next:
            break
    assert pages == 2 + 2 * 12
    assert small._used_bytes < 1_000_000 < large._used_bytes


def test_the_pages_that_are_had_ready_are_those_that_the_client_asks_for() -> None:
    assert tuple(FEEDS.values()) == FEED_TYPES


def test_a_cursor_is_bound_to_its_account_and_types() -> None:
    one, two = Account("one", 5, seed=1), Account("two", 5, seed=2)
    text = Cursor("feed", 1000, 2).encode(one, "gps")
    assert Cursor.decode(text, one, "gps", ("feed",)) == Cursor("feed", 1000, 2)
    for account, types, kind in ((two, "gps", "feed"), (one, "fuelPercents", "feed"), (one, "gps", "snapshot")):
        with pytest.raises(ValueError):
            Cursor.decode(text, account, types, (kind,))


def test_an_instant_survives_the_way_through_milliseconds() -> None:
    at = datetime(2026, 11, 16, 12, 0, 0, 123_000, tzinfo=UTC)
    assert from_ms(to_ms(at)) == at


def _serve(pipe: Any) -> None:
    serve("127.0.0.1", 0, vehicles=3, seed=9, ready=pipe.send)


def test_served_in_the_foreground_it_tells_where_it_listens(session: HttpSession) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,))
    process.start()
    try:
        assert ours.poll(30)
        client = Samsara(session, "simulated", ours.recv())
        assert len(client.list_devices(None).devices) == 3
        assert {reading.device_id for reading in client.read_snapshot("gps", None).readings} == {
            Account("simulated", 3, 9).device_id(index) for index in range(3)
        }
    finally:
        process.terminate()
        process.join(10)
        process.close()
        ours.close()
        theirs.close()
