"""What Samsara pushes: who is believed, and what an event brings."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.registry import PROVIDERS
from integrations.samsara import SamsaraWebhooks
from integrations.simulator import sign_samsara
from integrations.simulator.samsara_faults import LORRY_CODES
from integrations.simulator.samsara_webhooks import engine_fault_on, event, vehicle_event
from integrations.telematics import FaultCode, FaultReport
from integrations.webhooks import Delivery, Pushed, WebhookRefused
from tests.integrations.conftest import ACCOUNT, NOW

SECRET = base64.b64encode(b"the key of the test, 32 bytes ok").decode()
AT = NOW.replace(microsecond=0)
STAMP = int(AT.timestamp())
BODY = vehicle_event(ACCOUNT, "GatewayUnplugged", 3, STAMP * 1000)
HOOKS = SamsaraWebhooks()


def headers(body: bytes = BODY, secret: str = SECRET, timestamp: int = STAMP) -> dict[str, str]:
    return {name.lower(): value for name, value in sign_samsara(body, secret, timestamp).items()}


def refusal(body: bytes, given: dict[str, str], secret: str = SECRET, now: datetime = AT) -> str:
    with pytest.raises(WebhookRefused) as caught:
        HOOKS.verify(body, given, secret, now)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


class TestSignatures:
    def test_a_delivery_is_believed_by_the_published_scheme(self) -> None:
        """Written out here, so that the simulator's way of signing is checked too."""
        body = b'{"eventId":"e-1","eventType":"AlertIncident","data":{}}'
        key = base64.b64decode(SECRET)
        signature = hmac.new(key, b"v1:1795176010:" + body, hashlib.sha256).hexdigest()
        given = {"x-samsara-signature": f"v1={signature}", "x-samsara-timestamp": "1795176010"}
        sent_at = datetime.fromtimestamp(1795176010, UTC)
        assert HOOKS.verify(body, given, SECRET, sent_at) == Delivery("e-1", "AlertIncident", sent_at)
        assert given == headers(body, timestamp=1795176010)

    def test_the_registry_has_them(self) -> None:
        webhooks = PROVIDERS["samsara"].webhooks
        assert webhooks is not None
        assert webhooks.secret_name == "webhook_secret"
        assert isinstance(webhooks.verify(BODY, headers(), SECRET, AT), Delivery)

    def test_the_scheme_of_the_vendors_own_package_is_not_followed(self) -> None:
        url = "https://fleet.example/webhooks/1"
        signature = base64.b64encode(hmac.new(SECRET.encode(), url.encode() + BODY, hashlib.sha256).digest()).decode()
        assert refusal(BODY, {"x-samsara-hmacsha256-signature": signature}) == "signature_missing"

    def test_a_key_that_is_not_decoded_is_another_key(self) -> None:
        signature = hmac.new(SECRET.encode(), b"v1:%d:%b" % (STAMP, BODY), hashlib.sha256).hexdigest()
        given = {"x-samsara-signature": f"v1={signature}", "x-samsara-timestamp": str(STAMP)}
        assert refusal(BODY, given) == "signature_wrong"

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"x-samsara-signature": None}, "signature_missing"),
            ({"x-samsara-signature": ""}, "signature_missing"),
            ({"x-samsara-signature": "v1"}, "signature_unreadable"),
            ({"x-samsara-signature": "v2=" + "0" * 64}, "signature_unreadable"),
            ({"x-samsara-signature": "v1=" + "0" * 2000}, "signature_unreadable"),
            ({"x-samsara-signature": ",".join(["v1=00"] * 9)}, "signature_unreadable"),
            ({"x-samsara-signature": "v1="}, "signature_wrong"),
            ({"x-samsara-signature": "v1=é"}, "signature_wrong"),
            ({"x-samsara-signature": "v1=" + "0" * 64}, "signature_wrong"),
            ({"x-samsara-timestamp": None}, "timestamp_missing"),
            ({"x-samsara-timestamp": "soon"}, "timestamp_unreadable"),
            ({"x-samsara-timestamp": "-1"}, "timestamp_unreadable"),
            ({"x-samsara-timestamp": "9" * 12}, "timestamp_unreadable"),
            ({"x-samsara-timestamp": "²"}, "timestamp_unreadable"),
            ({"x-samsara-timestamp": str(STAMP + 1)}, "signature_wrong"),
            ({"x-samsara-timestamp": f"0{STAMP}"}, "signature_wrong"),
        ],
    )
    def test_headers_that_are_missing_garbled_or_changed_are_refused(
        self, changes: dict[str, str | None], reason: str
    ) -> None:
        given = {name: value for name, value in (headers() | changes).items() if value is not None}
        assert refusal(BODY, given) == reason

    def test_one_right_signature_among_several_is_enough(self) -> None:
        right = headers()["x-samsara-signature"]
        wrong = "v1=" + "0" * 64
        for several in (f"{wrong},{right}", f"{right}, {wrong}", f"v2=x,{right.upper().replace('V1', 'v1')}"):
            HOOKS.verify(BODY, headers() | {"x-samsara-signature": several}, SECRET, AT)
        assert refusal(BODY, headers() | {"x-samsara-signature": f"{wrong},{wrong}"}) == "signature_wrong"

    @pytest.mark.parametrize(
        ("after", "is_believed"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)]
    )
    def test_a_delivery_is_believed_for_five_minutes_both_ways(self, after: int, is_believed: bool) -> None:
        now = AT + timedelta(seconds=after)
        if is_believed:
            assert HOOKS.verify(BODY, headers(), SECRET, now).sent_at == AT
        else:
            assert refusal(BODY, headers(), now=now) == "stale"

    def test_a_forged_delivery_is_not_told_that_it_is_stale(self) -> None:
        forged = headers(secret=base64.b64encode(b"another").decode())
        assert refusal(BODY, forged, now=AT + timedelta(days=1)) == "signature_wrong"

    @pytest.mark.parametrize("secret", ["", "  ", "not base64!", "é", "abc", "===="])
    def test_a_secret_that_is_none_verifies_nothing_rather_than_everything(self, secret: str) -> None:
        empty = hmac.new(b"", b"v1:%d:%b" % (STAMP, BODY), hashlib.sha256).hexdigest()
        given = {"x-samsara-signature": f"v1={empty}", "x-samsara-timestamp": str(STAMP)}
        assert refusal(BODY, given, secret) == "secret_unusable"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"null",
            b'"event"',
            b"\xff",
            b"{",
            b"[" * 100_000,
            b"{}",
            b'{"eventId":"1"}',
            b'{"eventId":1,"eventType":"Ping"}',
            b'{"eventId":"","eventType":"Ping"}',
            b'{"eventId":"1","eventType":null}',
            b'{"eventId":"1\\u0000","eventType":"Ping"}',
            json.dumps({"eventId": "1" * 129, "eventType": "Ping"}).encode(),
        ],
    )
    def test_a_signed_body_that_is_no_event_is_refused(self, body: bytes) -> None:
        assert refusal(body, headers(body)) == "unreadable"

    @given(place=st.integers(0, len(BODY) - 1), flip=st.integers(1, 255))
    def test_no_byte_can_be_changed(self, place: int, flip: int) -> None:
        changed = BODY[:place] + bytes([BODY[place] ^ flip]) + BODY[place + 1 :]
        assert refusal(changed, headers()) == "signature_wrong"

    @given(signature=st.text(), timestamp=st.text(), body=st.binary())
    def test_whatever_comes_is_refused_with_a_word(self, signature: str, timestamp: str, body: bytes) -> None:
        reason = refusal(body, {"x-samsara-signature": signature, "x-samsara-timestamp": timestamp})
        assert reason in {
            "signature_missing",
            "signature_unreadable",
            "signature_wrong",
            "timestamp_missing",
            "timestamp_unreadable",
        }


def read(body: bytes | object) -> Pushed:
    return HOOKS.read(body if isinstance(body, bytes) else json.dumps(body).encode(), NOW)


def fault(**changes: Any) -> dict[str, Any]:
    """Return the published example of EngineFaultOn, in the envelope of the second version."""
    told: dict[str, Any] = {
        "fmi": {"description": "Low", "id": "1"},
        "occurrenceCount": 50,
        "spn": {"description": "Aux Valve 0", "id": "1900"},
        "txId": "21",
    } | changes
    data = {"fault": {"j1939": told}, "vehicle": {"id": "281474991840886", "name": "GYWY-J42-G8E"}}
    envelope = {"eventId": "e", "eventTime": "2026-11-16T11:00:00.000Z", "eventType": "EngineFaultOn", "orgId": 1}
    return {**envelope, "webhookId": "1", "data": data}


class TestEvents:
    def test_a_fault_that_came_on_is_one_code_and_the_others_are_not_gone(self) -> None:
        pushed = read(fault())
        code = FaultCode("j1939", "SPN 1900 FMI 1", "medium", 1900, 1, "21", "Aux Valve 0, Low", 50)
        at = datetime(2026, 11, 16, 11, tzinfo=UTC)
        assert pushed.page.fault_reports == (FaultReport("281474991840886", at, (code,), is_complete=False),)
        assert (pushed.page.rejected, pushed.wakes_sync) == ([], True)

    def test_numbers_may_be_numbers_and_lamps_rate_the_code(self) -> None:
        pushed = read(fault(spn={"id": 1900}, fmi={"id": 1}, txId=21, lamps={"stop": True, "emissions": True}))
        (report,) = pushed.page.fault_reports
        assert report.codes == (FaultCode("j1939", "SPN 1900 FMI 1", "critical", 1900, 1, "21", None, 50),)

    def test_a_pushed_code_is_the_same_code_as_in_the_feed(self) -> None:
        """Their names are one key: control unit and code must not differ between webhook and feed."""
        (report,) = read(engine_fault_on(ACCOUNT, 0, STAMP * 1000, LORRY_CODES[0])).page.fault_reports
        assert report.device_id == ACCOUNT.device_id(0)
        assert [(code.code, code.source) for code in report.codes] == [(LORRY_CODES[0].code, str(LORRY_CODES[0].unit))]

    @pytest.mark.parametrize(
        ("changes", "reason", "field"),
        [
            ({"spn": {"id": "524288"}}, "spn_out_of_range", "spn.id"),
            ({"spn": {"id": "x"}}, "spn_out_of_range", "spn.id"),
            ({"spn": {}}, "spn_missing", "spn.id"),
            ({"spn": "1900"}, "wrong_type", "spn"),
            ({"spn": None}, "spn_missing", "spn"),
            ({"fmi": {"id": 32}}, "fmi_out_of_range", "fmi.id"),
            ({"fmi": {"id": [1]}}, "wrong_type", "fmi.id"),
        ],
    )
    def test_a_code_that_cannot_be_read_is_set_aside_and_still_wakes(
        self, changes: dict[str, object], reason: str, field: str
    ) -> None:
        pushed = read(fault(**changes))
        assert (pushed.page.fault_reports, pushed.wakes_sync) == ((), True)
        (aside,) = pushed.page.rejected
        assert (aside.reason, aside.field) == (reason, f"data.fault.j1939.{field}")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"eventTime": None}, "time_missing"),
            ({"eventTime": "2026-11-16T12:05:11Z"}, "time_in_future"),
            ({"data": None}, "device_id_missing"),
            ({"data": {"fault": {}}}, "device_id_missing"),
            ({"data": {"vehicle": {"id": 17}}}, "wrong_type"),
            ({"data": {"vehicle": {"id": "1"}}}, "fault_protocol_unknown"),
            ({"data": {"vehicle": {"id": "1"}, "fault": {"obdii": {}}}}, "fault_protocol_unknown"),
        ],
    )
    def test_a_fault_of_nobody_or_no_time_is_set_aside(self, change: dict[str, object], reason: str) -> None:
        pushed = read(fault() | change)
        assert [each.reason for each in pushed.page.rejected] == [reason]
        assert (pushed.page.size, pushed.wakes_sync) == (0, True)

    def test_a_fault_that_went_off_names_no_code_and_asks_for_the_feed(self) -> None:
        body = vehicle_event(
            ACCOUNT, "EngineFaultOff", 0, STAMP * 1000, fault={"j1939": {"lamps": {"emissions": True}}}
        )
        assert (read(body).page.size, read(body).page.rejected, read(body).wakes_sync) == (0, [], True)

    @pytest.mark.parametrize(
        ("kind", "wakes"),
        [
            ("AlertIncident", True),
            ("GatewayUnplugged", True),
            ("SevereSpeedingStarted", True),
            ("SpeedingEventEnded", True),
            ("SuddenFuelLevelDrop", True),
            ("Ping", False),
            ("AddressCreated", False),
            ("VehicleUpdated", False),
            ("OfTomorrow", False),
        ],
    )
    def test_what_happened_to_vehicles_wakes_the_sync_and_all_else_does_not(self, kind: str, wakes: bool) -> None:
        pushed = read(event(ACCOUNT, kind, STAMP * 1000, {"anything": [1]}))
        assert (pushed.page.size, pushed.page.rejected, pushed.wakes_sync) == (0, [], wakes)

    @pytest.mark.parametrize(("kind", "wakes"), [("Alert", True), ("Ping", False)])
    def test_the_first_versions_envelope_is_read_too(self, kind: str, wakes: bool) -> None:
        told = {"alertConditionId": "DeviceLocationInsideGeofence", "startMs": 1795176010000, "resolved": False}
        body = json.dumps({"eventId": "e-1", "eventMs": 1795176012000, "eventType": kind, "event": told}).encode()
        assert HOOKS.verify(body, headers(body), SECRET, AT).kind == kind
        assert (read(body).page.size, read(body).wakes_sync) == (0, wakes)

    @pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"7"])
    def test_a_body_that_is_no_event_is_set_aside(self, body: bytes) -> None:
        pushed = read(body)
        assert [each.reason for each in pushed.page.rejected] == ["wrong_type"]
        assert not pushed.wakes_sync

    def test_the_same_event_is_sent_with_the_same_id(self) -> None:
        assert vehicle_event(ACCOUNT, "GatewayUnplugged", 3, STAMP * 1000) == BODY
        assert json.loads(BODY)["eventId"] != json.loads(vehicle_event(ACCOUNT, "Ping", 3, STAMP * 1000))["eventId"]
