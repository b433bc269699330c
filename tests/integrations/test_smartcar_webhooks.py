"""What Smartcar pushes is believed only with its signature, while it is fresh; its challenge signs nothing else."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.simulator.fleet import to_ms
from integrations.simulator.smartcar import SmartcarSimulator
from integrations.simulator.smartcar_fleet import SmartcarAccount
from integrations.smartcar import SmartcarWebhooks
from integrations.webhooks import Challenge, Delivery, WebhookRefused

NOW = datetime(2026, 11, 16, 12, 3, 20, tzinfo=UTC)
FLEET = SmartcarAccount(vehicles=7)
SECRET = FLEET.management_token
WEBHOOKS = SmartcarWebhooks()


@pytest.fixture
def simulator() -> Iterator[SmartcarSimulator]:
    yield SmartcarSimulator(FLEET, clock_ms=lambda: to_ms(NOW))


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"sc-signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def changed(simulator: SmartcarSimulator, **fields: Any) -> bytes:
    told = json.loads(simulator.push(0)[0]) | fields
    return json.dumps({key: value for key, value in told.items() if value is not None}).encode()


def refusal(body: bytes, headers: dict[str, str], now: datetime = NOW) -> str:
    with pytest.raises(WebhookRefused) as refused:
        WEBHOOKS.verify(body, headers, SECRET, now)
    return refused.value.reason


def test_a_signed_delivery_is_believed_and_known_by_its_event(simulator: SmartcarSimulator) -> None:
    body, signature = simulator.push(0, event_id="e-1")

    delivery = WEBHOOKS.verify(body, {"sc-signature": signature}, SECRET, NOW)

    assert delivery == Delivery("e-1", "vehicle_state", NOW)


def test_a_delivery_brings_what_the_vehicle_said_each_at_its_own_time(simulator: SmartcarSimulator) -> None:
    pushed = WEBHOOKS.read(simulator.push(6)[0], NOW)

    said = {each.code: each for each in FLEET.signals(6, to_ms(NOW))}
    located = [each for each in pushed.page.readings if each.latitude is not None]
    assert [(each.device_id, to_ms(each.time)) for each in located] == [
        (FLEET.vehicle_id(6), said["location-preciselocation"].at_ms)
    ]
    assert [each.time for each in pushed.page.readings] == sorted(each.time for each in pushed.page.readings)
    assert pushed.page.ev_readings[0].range_km == said["tractionbattery-range"].body["value"]
    assert (list(pushed.page.rejected), pushed.wakes_sync, pushed.page.cursor) == ([], False, None)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "signature_missing"),
        ({"sc-signature": ""}, "signature_missing"),
        ({"sc-signature": "0" * 64}, "signature_wrong"),
        ({"sc-signature": "\N{SNOWMAN}"}, "signature_wrong"),
        ({"x-signature": "right"}, "signature_missing"),
    ],
)
def test_a_delivery_without_its_signature_is_refused(
    headers: dict[str, str], reason: str, simulator: SmartcarSimulator
) -> None:
    assert refusal(simulator.push(0)[0], headers) == reason


def test_a_signature_of_another_secret_or_of_another_body_is_refused(simulator: SmartcarSimulator) -> None:
    body, signature = simulator.push(0)

    assert refusal(body, signed(body, "other")) == "signature_wrong"
    assert refusal(body.replace(b"VEHICLE_STATE", b"VEHICLE_ERROR"), {"sc-signature": signature}) == "signature_wrong"
    assert refusal(body + b" ", {"sc-signature": signature}) == "signature_wrong"


@pytest.mark.parametrize(
    ("age", "is_refused"),
    [
        (timedelta(minutes=5), False),
        (timedelta(minutes=5, seconds=1), True),
        (-timedelta(minutes=5), False),
        (-timedelta(minutes=5, seconds=1), True),
        (timedelta(days=5000), True),
    ],
)
def test_a_stale_delivery_is_a_replay(age: timedelta, is_refused: bool, simulator: SmartcarSimulator) -> None:
    body, signature = simulator.push(0)
    headers = {"sc-signature": signature}

    if is_refused:
        assert refusal(body, headers, NOW + age) == "stale"
    else:
        assert isinstance(WEBHOOKS.verify(body, headers, SECRET, NOW + age), Delivery)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"eventId": None}, "event_id_missing"),
        ({"eventId": "x" * 201}, "event_id_missing"),
        ({"eventId": "line\nbreak"}, "event_id_missing"),
        ({"eventId": 7}, "unreadable"),
        ({"eventType": "VEHICLE_DANCE"}, "event_unknown"),
        ({"eventType": None}, "event_unknown"),
        ({"meta": None}, "time_missing"),
        ({"meta": {"deliveredAt": "now"}}, "time_unreadable"),
        ({"data": []}, "unreadable"),
    ],
)
def test_what_is_signed_and_still_no_delivery_is_refused(
    fields: dict[str, Any], reason: str, simulator: SmartcarSimulator
) -> None:
    body = changed(simulator, **fields)

    assert refusal(body, signed(body)) == reason


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"<html>", b"\xff", b"[" * 10_000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    assert refusal(body, signed(body)) == "unreadable"


def test_a_delivery_that_is_too_large_is_refused_unread() -> None:
    body = b"{%s}" % (b" " * 70_000)

    assert refusal(body, signed(body)) == "too_large"


@pytest.mark.parametrize(
    "told",
    [
        {"eventType": "VERIFY", "eventId": "e", "data": {"challenge": "3a5c8f72-e6d9-4b1a-9f2e-8c7d6a5b4e3f"}},
        {"eventName": "verify", "payload": {"challenge": "3a5c8f72-e6d9-4b1a-9f2e-8c7d6a5b4e3f"}},
    ],
)
@pytest.mark.parametrize("is_signed", [True, False])
def test_a_challenge_is_answered_with_its_hash(told: dict[str, Any], is_signed: bool) -> None:
    body = json.dumps(told).encode()

    answer = WEBHOOKS.verify(body, signed(body) if is_signed else {}, SECRET, NOW)

    expected = hmac.new(SECRET.encode(), b"3a5c8f72-e6d9-4b1a-9f2e-8c7d6a5b4e3f", hashlib.sha256).hexdigest()
    assert answer == Challenge(b'{"challenge":"%s"}' % expected.encode())


def test_a_challenge_never_signs_what_could_be_a_delivery(simulator: SmartcarSimulator) -> None:
    forged = simulator.push(0)[0].decode()

    for asked in (forged, "{}", "", "x" * 257, 7, None, ["a"], "with space"):
        body = json.dumps({"eventType": "VERIFY", "data": {"challenge": asked}}).encode()
        assert refusal(body, {}) == "challenge_unreadable"


def test_a_challenge_with_a_wrong_signature_is_refused() -> None:
    body = json.dumps({"eventType": "VERIFY", "data": {"challenge": "abcdefghij"}}).encode()

    assert refusal(body, signed(body, "other")) == "signature_wrong"


def test_an_error_of_a_vehicle_is_kept_aside_with_the_values_that_came_with_it(simulator: SmartcarSimulator) -> None:
    pushed = WEBHOOKS.read(simulator.push(0, kind="VEHICLE_ERROR")[0], NOW)

    assert [(each.reason, each.device_id) for each in pushed.page.rejected] == [("vehicle_error", FLEET.vehicle_id(0))]
    assert pushed.page.readings


@pytest.mark.parametrize("data", [{}, {"vehicle": {}}, {"vehicle": {"id": 7}}, {"vehicle": {"id": "a b"}}])
def test_a_delivery_of_no_vehicle_is_set_aside(data: dict[str, Any], simulator: SmartcarSimulator) -> None:
    pushed = WEBHOOKS.read(changed(simulator, data=data), NOW)

    assert (pushed.page.size, [each.reason for each in pushed.page.rejected]) == (0, ["device_id_missing"])


def test_a_bad_signal_costs_only_itself(simulator: SmartcarSimulator) -> None:
    told = json.loads(simulator.push(0)[0])
    told["data"]["signals"][0]["body"]["latitude"] = "north"
    told["data"]["signals"].append(7)

    page = WEBHOOKS.read(json.dumps(told).encode(), NOW).page

    assert [each.reason for each in page.rejected] == ["wrong_type", "wrong_type"]
    assert any(each.odometer_km for each in page.readings)
