"""The simulated Traccar itself: its shapes, its refusals, and faults switched over HTTP."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from integrations.simulator import Account
from integrations.simulator.fleet import to_ms
from integrations.simulator.traccar import TraccarThread
from integrations.simulator.traccar_fleet import Backlog

NOW = datetime(2026, 11, 16, 12, 0, 10, tzinfo=UTC)
ACCOUNT = Account("token-of-the-test", 6, seed=2, start=NOW - timedelta(minutes=5))
OTHER = Account("token-of-another", 2, seed=3, start=NOW - timedelta(minutes=5))
KEPT = Backlog(1, NOW - timedelta(minutes=4), NOW - timedelta(minutes=2), arrives_at=NOW + timedelta(minutes=1))


@pytest.fixture(scope="module")
def running() -> Iterator[TraccarThread]:
    with TraccarThread(ACCOUNT, OTHER, clock_ms=lambda: to_ms(NOW), backlogs=[KEPT], max_positions=50) as server:
        yield server


@pytest.fixture
def server(running: TraccarThread) -> Iterator[TraccarThread]:
    yield running
    running.heal()


def ask(server: TraccarThread, path: str, token: str = ACCOUNT.token) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(server.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=5)


def between(minutes: float, *, to: float = 0, more: str = "") -> str:
    since, until = (NOW - timedelta(minutes=ago) for ago in (minutes, to))
    return f"from={since:%Y-%m-%dT%H:%M:%SZ}&to={until:%Y-%m-%dT%H:%M:%SZ}{more}"


def listed(server: TraccarThread, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(server, path).json()
    return found


def test_a_position_has_traccars_shape(server: TraccarThread) -> None:
    position = listed(server, "/api/positions")[0]
    assert set(position) == {
        *("id", "attributes", "deviceId", "protocol", "serverTime", "deviceTime", "fixTime", "valid", "latitude"),
        *("longitude", "altitude", "speed", "course", "address", "accuracy", "network", "geofenceIds"),
    }
    assert position["fixTime"].endswith(".000+00:00") or position["fixTime"][19] == "."
    assert {"ignition", "motion", "odometer", "totalDistance", "hours"} <= set(position["attributes"])


def test_attributes_of_devices_may_be_left_out(server: TraccarThread) -> None:
    full, bare = listed(server, "/api/devices"), listed(server, "/api/devices?excludeAttributes=true")
    assert [device["attributes"]["vin"] for device in full] == [ACCOUNT.identity(index).vin for index in range(6)]
    assert [device | {"attributes": {}} for device in full] == bare


def test_every_position_has_an_id_of_its_own_and_comes_oldest_first(server: TraccarThread) -> None:
    for device in server.fleet.ids():
        found = listed(server, f"/api/reports/route?deviceId={device}&{between(60)}")
        times = [each["fixTime"] for each in found]
        assert times == sorted(times)
        assert len({each["id"] for each in found}) == len(found) > 20


def test_a_report_stops_at_its_limit_without_a_word(server: TraccarThread) -> None:
    device = server.fleet.ids()[0]
    found = listed(server, f"/api/reports/route?deviceId={device}&{between(60)}")
    assert len(found) == 50
    assert found[0]["fixTime"] < (NOW - timedelta(minutes=4)).isoformat()


def test_a_backlog_is_not_there_before_it_arrives(server: TraccarThread) -> None:
    devices = list(server.fleet.ids())
    path = f"/api/reports/route?deviceId={devices[1]}&{between(4, to=2.1)}"
    assert listed(server, path) == []
    assert listed(server, path.replace(str(devices[1]), str(devices[0])))
    kept = {at for device, at in server.fleet.expected(KEPT.arrives_at) if device == str(devices[1])}
    known = {at for device, at in server.fleet.expected(NOW) if device == str(devices[1])}
    assert {at for at in kept - known if at <= NOW} == {at for at in kept if KEPT.after < at <= KEPT.until}


def test_a_report_passes_over_devices_of_others_and_a_list_refuses_them(server: TraccarThread) -> None:
    foreign = server.simulator.fleet(OTHER.token).ids()[0]
    assert listed(server, f"/api/reports/route?deviceId={foreign}&{between(5)}") == []
    refused = ask(server, f"/api/positions?deviceId={foreign}&{between(5)}")
    assert (refused.status_code, refused.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert refused.text.startswith("java.lang.SecurityException")


def test_a_report_of_a_group_includes_the_groups_within_it(server: TraccarThread) -> None:
    root = next(iter(server.fleet.groups()))
    found = listed(server, f"/api/reports/route?groupId={root}&{between(1)}")
    chosen = [device for device in server.fleet.ids() if server.fleet.index_of(device) % 4 in (1, 2)]
    assert {each["deviceId"] for each in found} == set(chosen)


@pytest.mark.parametrize("path", ["/api/reports/route", "/api/reports/route?from=yesterday&to=now"])
def test_instants_that_cannot_be_read_are_refused_with_a_stack_trace(server: TraccarThread, path: str) -> None:
    refused = ask(server, path)
    assert refused.status_code == 400
    assert "\n\tat org.traccar" in refused.text


def test_another_token_is_refused(server: TraccarThread) -> None:
    assert ask(server, "/api/devices", "other").status_code == 401
    assert len(ask(server, "/api/devices", OTHER.token).json()) == 2


def test_faults_are_switched_over_http_for_the_paths_they_are_for(server: TraccarThread) -> None:
    faults = [{"fault": "rate_limit", "times": 2, "retry_after_s": 0.5, "path": "/api/groups"}, {"fault": "html"}]
    with requests.Session() as session:
        session.trust_env = False
        assert session.post(f"{server.url}/_traccar/faults", data=json.dumps(faults), timeout=5).status_code == 200
        assert ask(server, "/api/devices").text.startswith("<!doctype html>")
        for _ in range(2):
            refused = ask(server, "/api/groups")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "0.5")
        assert ask(server, "/api/groups").status_code == 200
        for unknown in ('[{"fault": "unheard_of"}]', '[{"fault": "loop"}]', "no JSON"):
            assert session.post(f"{server.url}/_traccar/faults", data=unknown, timeout=5).status_code == 400
        stats = session.get(f"{server.url}/_traccar/stats", timeout=5).json()
    assert stats["by_status"]["429"] == 2
    assert stats["requests"] == sum(stats["by_path"].values())
