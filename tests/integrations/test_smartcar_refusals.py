"""What Smartcar's refusals and bad answers lead to: for the account, for the application, or for one vehicle only."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from starlette.responses import Response

from integrations.errors import (
    AccessExpired,
    CredentialsRejected,
    GrantRefused,
    IntegrationError,
    PermanentError,
    RateLimited,
    TransientError,
)
from integrations.http import HttpSession, HttpSettings, Refusal
from integrations.simulator.fleet import to_ms
from integrations.simulator.smartcar import SmartcarThread
from integrations.simulator.smartcar_answers import REFUSALS
from integrations.simulator.smartcar_fleet import SmartcarAccount
from integrations.smartcar import Smartcar, exchange, renew
from integrations.smartcar.batch import take_batch
from integrations.smartcar.listing import read_connections
from integrations.smartcar.papers import of_batch
from integrations.smartcar.refusals import VehicleRefused, Verdict, judge
from integrations.smartcar.schedule import Schedule, next_month
from integrations.smartcar.signals import decode_answer, take_resources
from integrations.smartcar.values import Values
from integrations.telematics import Device, Page, Rejected

NOW = datetime(2026, 11, 16, 12, 3, 20, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
FLEET = SmartcarAccount(vehicles=3)
FIRST = FLEET.vehicle_id(0)
DAY_S = 86_400


@pytest.fixture(scope="module")
def shared() -> Iterator[SmartcarThread]:
    with SmartcarThread(FLEET, clock_ms=lambda: to_ms(NOW)) as running:
        yield running


@pytest.fixture
def simulator(shared: SmartcarThread) -> Iterator[SmartcarThread]:
    yield shared
    shared.simulator.faults.clear()


@pytest.fixture
def session() -> Iterator[HttpSession]:
    with HttpSession(HttpSettings(read_s=2.0, total_s=5.0, attempts=1)) as session:
        yield session


@pytest.fixture
def smartcar(session: HttpSession, simulator: SmartcarThread) -> Smartcar:
    return Smartcar(session, simulator.simulator.credentials(), simulator.url, clock=lambda: NOW)


def polled(smartcar: Smartcar, simulator: SmartcarThread, fault: str, **how: Any) -> tuple[Page, list[Page]]:
    """Return the page of the first vehicle, whose answer has a fault, and those of the others."""
    listing = smartcar.read_feed("vehicles", None)
    simulator.simulator.next(fault, **how)
    first = smartcar.read_feed("vehicles", listing.cursor)
    others = [smartcar.read_feed("vehicles", first.cursor)]
    others.append(smartcar.read_feed("vehicles", others[0].cursor))
    return first, others


@pytest.mark.parametrize(
    ("fault", "rests_s", "reason"),
    [
        ("asleep", None, None),
        ("upstream", None, "vehicle_refused"),
        ("not_capable", DAY_S, None),
        ("v3_not_capable", DAY_S, None),
        ("permission", DAY_S, "vehicle_refused"),
        ("not_found", DAY_S, "vehicle_refused"),
        ("vehicle_missing", DAY_S, "vehicle_refused"),
        ("vehicle_rate", 7200, "vehicle_refused"),
        ("upstream_rate", 7200, "vehicle_refused"),
        ("vehicle_request_limit", next_month(NOW) - NOW_S, "vehicle_refused"),
        ("missing_user", DAY_S, "vehicle_refused"),
        ("html_200", None, "vehicle_unreadable"),
        ("not_a_list", None, "vehicle_unreadable"),
        ("server", None, "vehicle_unreadable"),
        ("foreign_vehicle", None, "foreign_device"),
    ],
)
def test_one_vehicles_failure_lets_it_rest_and_stops_no_other(
    fault: str, rests_s: int | None, reason: str | None, smartcar: Smartcar, simulator: SmartcarThread
) -> None:
    first, others = polled(smartcar, simulator, fault, retry_after_s=7200 if "rate" in fault else None)

    assert (first.size, first.has_more) == (0, True)
    assert [each.reason for each in first.rejected] == ([reason] if reason else [])
    assert {each.device_id for each in first.rejected} <= {FIRST}
    usual_s = 31 * DAY_S // 490 + 1
    rests = Schedule(first.cursor).due[FIRST] - NOW_S
    assert (rests_s or usual_s) <= rests <= (rests_s or usual_s) + 181
    assert [page.readings[0].device_id for page in others] == [FLEET.vehicle_id(1), FLEET.vehicle_id(2)]


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ("authentication", AccessExpired, "AUTHENTICATION"),
        ("v3_unauthenticated", AccessExpired, "AUTHENTICATION:INVALID_TOKEN"),
        ("account_failed", CredentialsRejected, "AUTHENTICATION_FAILED: the owner must connect the account again"),
        ("vehicle_limit", CredentialsRejected, "BILLING:VEHICLE_LIMIT: the operator must see to the plan"),
        ("suspended", CredentialsRejected, "BILLING:ACCOUNT_SUSPENDED"),
        ("application_rate", RateLimited, "RATE_LIMIT:SMARTCAR_API"),
    ],
)
def test_what_concerns_the_account_stops_the_account(
    fault: str, error: type[IntegrationError], said: str, smartcar: Smartcar, simulator: SmartcarThread
) -> None:
    cursor = smartcar.read_feed("vehicles", None).cursor
    simulator.simulator.next(fault)

    with pytest.raises(error, match=said) as raised:
        smartcar.read_feed("vehicles", cursor)

    assert type(raised.value) is error


def test_a_refused_account_is_not_taken_for_an_access_token_that_ran_out(
    smartcar: Smartcar, simulator: SmartcarThread
) -> None:
    cursor = smartcar.read_feed("vehicles", None).cursor
    simulator.simulator.next("account_failed")

    with pytest.raises(CredentialsRejected) as raised:
        smartcar.read_feed("vehicles", cursor)

    assert not isinstance(raised.value, AccessExpired), "no renewal would help"


@pytest.mark.parametrize(("asked_s", "waits_s"), [(None, 30.0), (90, 90.0)])
def test_an_empty_bucket_says_how_long(
    asked_s: float | None, waits_s: float, smartcar: Smartcar, simulator: SmartcarThread
) -> None:
    simulator.simulator.next("application_rate", retry_after_s=asked_s)

    with pytest.raises(RateLimited) as raised:
        smartcar.read_feed("vehicles", None)

    assert raised.value.retry_after_s == waits_s


def test_a_provider_that_is_away_is_told_from_vehicles_that_fail(smartcar: Smartcar, simulator: SmartcarThread) -> None:
    cursor = smartcar.read_feed("vehicles", None).cursor
    simulator.simulator.next("server", 3)
    pages = [smartcar.read_feed("vehicles", cursor)]
    pages.append(smartcar.read_feed("vehicles", pages[0].cursor))

    with pytest.raises(TransientError, match="SERVER"):
        smartcar.read_feed("vehicles", pages[1].cursor)

    assert Schedule(pages[1].cursor).next_due(NOW_S) == FLEET.vehicle_id(2), "nobody is skipped for an outage"


POISON = {
    "markup that is not found": (404, b"<html>not found</html>"),
    "markup that is forbidden": (403, b"<html>forbidden</html>"),
    "no code": (404, b'{"errors": [{"status": "404", "type": "RESOURCE_NOT_FOUND", "code": null}]}'),
    "no type": (409, b'{"errors": [{"status": "409", "type": null, "code": null}]}'),
    "a new type": (403, b'{"type": "CONSENT", "code": "X"}'),
    "a code that is a number": (403, b'{"type": "PERMISSION", "code": 17}'),
    "a redirect": (301, b""),
    "a bad request": (400, b"<html>"),
    "a word that we do not know": (400, b'{"type": "VALIDATION", "code": "VEHICLE"}'),
}


@pytest.fixture
def poisoned(simulator: SmartcarThread, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Give every answer for a path a body of the test's own."""

    def poison(what: str, path: str) -> None:
        monkeypatch.setitem(REFUSALS, "server", lambda _: Response(POISON[what][1], POISON[what][0]))
        simulator.simulator.next("server", 100, path=path)

    return poison


@pytest.mark.parametrize("what", POISON)
@pytest.mark.parametrize("api", ["v3", "v2"])
def test_no_answer_for_one_vehicle_keeps_it_at_the_head_of_the_queue(
    api: str, what: str, poisoned: Callable[[str, str], None], session: HttpSession, simulator: SmartcarThread
) -> None:
    smartcar = Smartcar(session, simulator.simulator.credentials(), simulator.url, {"api": api}, clock=lambda: NOW)
    cursor = smartcar.read_feed("vehicles", None).cursor
    poisoned(what, f"/vehicles/{FIRST}")

    pages = [smartcar.read_feed("vehicles", cursor)]
    for _ in range(2):
        pages.append(smartcar.read_feed("vehicles", pages[-1].cursor))

    assert Schedule(pages[0].cursor).due[FIRST] > NOW_S + 60
    assert [page.readings[0].device_id for page in pages[1:]] == [FLEET.vehicle_id(1), FLEET.vehicle_id(2)]
    assert not pages[-1].has_more


@pytest.mark.parametrize("what", POISON)
@pytest.mark.parametrize("api", ["v3", "v2"])
def test_no_answer_for_one_vehicles_papers_keeps_the_others_from_being_listed(
    api: str, what: str, poisoned: Callable[[str, str], None], session: HttpSession, simulator: SmartcarThread
) -> None:
    smartcar = Smartcar(session, simulator.simulator.credentials(), simulator.url, {"api": api}, clock=lambda: NOW)
    poisoned(what, f"/vehicles/{FIRST}")

    devices, _ = listed(smartcar, None)

    vins = {device.device_id: device.vin for device in devices}
    assert vins.pop(FIRST, None) is None
    assert vins == {FLEET.vehicle_id(index): FLEET.identity(index).vin for index in (1, 2)}


@pytest.mark.parametrize("what", ["a new type", "a redirect", "a word that we do not know"])
def test_what_every_vehicle_meets_is_no_vehicles_failure(
    what: str, poisoned: Callable[[str, str], None], smartcar: Smartcar
) -> None:
    cursor = smartcar.read_feed("vehicles", None).cursor
    poisoned(what, "/v3/vehicles/")

    for read in (lambda: listed(smartcar, None), lambda: every_page(smartcar, cursor)):
        with pytest.raises(PermanentError) as raised:
            read()
        assert not isinstance(raised.value, CredentialsRejected)


def every_page(smartcar: Smartcar, cursor: str | None) -> None:
    while (page := smartcar.read_feed("vehicles", cursor)).has_more:
        cursor = page.cursor


@pytest.mark.parametrize("api", ["v3", "v2"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("permission", CredentialsRejected),
        ("not_found", CredentialsRejected),
        ("upstream", TransientError),
        ("vehicle_rate", TransientError),
    ],
)
def test_a_list_that_is_refused_is_no_matter_of_one_vehicle(
    fault: str, error: type[IntegrationError], api: str, session: HttpSession, simulator: SmartcarThread
) -> None:
    smartcar = Smartcar(session, simulator.simulator.credentials(), simulator.url, {"api": api}, clock=lambda: NOW)
    for read in (smartcar.list_devices, lambda cursor: smartcar.read_feed("vehicles", cursor)):
        simulator.simulator.next(fault)
        with pytest.raises(error) as raised:
            read(None)
        assert type(raised.value) is error


def test_nothing_is_kept_of_what_belongs_to_somebody_else(smartcar: Smartcar, simulator: SmartcarThread) -> None:
    first, _ = polled(smartcar, simulator, "foreign_vehicle")
    theirs = {"relationships": {"vehicle": {"data": {"id": "theirs"}}, "user": {"data": {"id": "another"}}}}
    foreign = read_connections(json.dumps({"data": [theirs]}).encode(), 1, "me")

    aside: list[Rejected] = []
    papers = {"responses": [{"path": "/", "code": 200, "body": {"id": "theirs", "make": "TESLA"}}]}
    assert of_batch(json.dumps(papers).encode(), Device(FIRST), aside) == Device(FIRST)

    for kept in (*first.rejected, *foreign.rejected, *aside):
        assert (kept.reason, kept.payload) == ("foreign_device", "")
        assert kept.device_id in (None, FIRST)
    assert (len(foreign.rejected), len(first.rejected), len(aside)) == (1, 1, 1)


@pytest.mark.parametrize("fault", ["asleep", "upstream", "vehicle_rate", "html_200", "server"])
def test_a_vehicle_whose_papers_cannot_be_had_now_is_asked_for_them_at_the_next_listing(
    fault: str, smartcar: Smartcar, session: HttpSession, simulator: SmartcarThread
) -> None:
    simulator.simulator.next(fault, path="vehicleidentification-vin")
    first, cursor = listed(smartcar, None)
    credentials = simulator.simulator.credentials()
    later = Smartcar(session, credentials, simulator.url, clock=lambda: NOW + timedelta(hours=6))
    second, _ = listed(later, cursor)

    assert [device.device_id for device in first] == [FLEET.vehicle_id(1), FLEET.vehicle_id(2)]
    assert [(device.device_id, device.vin) for device in second] == [(FIRST, FLEET.identity(0).vin)]


def test_papers_that_nobody_gives_are_an_outage(smartcar: Smartcar, simulator: SmartcarThread) -> None:
    simulator.simulator.next("server", 3, path="vehicleidentification-vin")

    with pytest.raises(TransientError, match="SERVER"):
        listed(smartcar, None)


def listed(smartcar: Smartcar, cursor: str | None) -> tuple[list[Device], str | None]:
    devices: list[Device] = []
    while True:
        page = smartcar.list_devices(cursor)
        devices += page.devices
        cursor = page.cursor
        if not page.has_more:
            return devices, cursor


@pytest.mark.parametrize(
    ("link", "goes_on"),
    [
        ("/vehicles/x/signals?page=2&pageSize=10", True),
        ("https://elsewhere.example/?page[number]=2", True),
        ("/vehicles/x/signals?page=21", False),
        ("/vehicles/x/signals?page=0", False),
        ("/vehicles/x/signals?pageSize=10", False),
        ("/vehicles/x/signals?page=two", False),
        ("http://[::1", False),
        (None, False),
    ],
)
def test_a_next_page_is_a_number_and_never_an_address(link: str | None, goes_on: bool) -> None:
    answer = decode_answer(json.dumps({"data": [], "links": {"next": link}}).encode())

    assert bool(answer.next_page) is goes_on
    assert set(answer.next_page) <= {"page", "pageSize", "page[number]"}


@pytest.mark.parametrize("fault", REFUSALS)
def test_every_refusal_is_judged_by_its_type_and_code_whatever_its_status(fault: str) -> None:
    response = REFUSALS[fault](None)
    given = judge(Refusal(response.status_code, {}, bytes(response.body), "GET x /y"))
    again = judge(Refusal(503, {}, bytes(response.body), "GET x /y"))

    assert given is not None
    assert (type(given), str(given)) == (type(again), str(again))


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ({"errors": [{"status": "409", "code": "ASLEEP"}]}, Verdict.NEXT_ROUND),
        ({"errors": [{"status": 501, "code": "X"}]}, Verdict.NEXT_DAY),
        ({"errors": [{"status": "430", "type": "BILLING", "code": "VEHICLE_REQUEST_LIMIT"}]}, Verdict.NEXT_MONTH),
        ({"type": "UPSTREAM", "code": "RATE_LIMIT"}, Verdict.VEHICLE_WAITS),
        ({"type": "VEHICLE_STATE", "code": None}, Verdict.NEXT_ROUND),
        ({"type": "PERMISSION", "code": 17}, Verdict.NEXT_DAY),
        ({"errors": [{"status": "409", "type": None, "code": None}]}, Verdict.NEXT_ROUND),
        ({"errors": [{"type": "RESOURCE_NOT_FOUND", "code": 7}, "x"]}, Verdict.NEXT_DAY),
        ({"type": "PERMISSION", "errors": None}, Verdict.NEXT_DAY),
    ],
)
def test_both_shapes_of_refusals_are_understood(body: object, verdict: Verdict) -> None:
    judged = judge(Refusal(400, {}, json.dumps(body).encode(), "GET x /y"))

    assert isinstance(judged, VehicleRefused)
    assert judged.verdict is verdict


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"type": 7}', b'{"type": "NEW"}', b'{"errors": [{"status": "418"}]}', b"[" * 9999]
)
def test_a_refusal_that_says_nothing_known_is_left_to_its_status(body: bytes) -> None:
    assert judge(Refusal(503, {}, body, "GET x /y")) is None


def test_what_a_refusal_says_is_repeated_only_where_it_is_a_word() -> None:
    body = json.dumps({"type": "SERVER", "code": "secret owner@example.com"}).encode()

    assert str(judge(Refusal(500, {}, body, "GET x /y"))) == "GET x /y: SERVER"


@pytest.mark.parametrize(
    ("fault", "reason", "lost"),
    [
        ("wrong_type", "wrong_type", "odometer_km"),
        ("unknown_unit", "unknown_unit", "odometer_km"),
        ("impossible", "latitude_out_of_range", "latitude"),
        ("future", "time_in_future", "latitude"),
        ("signal_error", "not_permitted", "latitude"),
    ],
)
def test_a_bad_signal_costs_only_itself(
    fault: str, reason: str, lost: str, smartcar: Smartcar, simulator: SmartcarThread
) -> None:
    first, _ = polled(smartcar, simulator, fault)

    assert [(each.reason, each.device_id) for each in first.rejected] == [(reason, FIRST)]
    there = {"latitude", "odometer_km", "fuel_percent"}
    told = {column for column in there for each in first.readings if getattr(each, column) is not None}
    assert told == there - {lost}


def test_a_value_without_any_time_is_set_aside(smartcar: Smartcar, simulator: SmartcarThread) -> None:
    first, _ = polled(smartcar, simulator, "no_age")

    assert first.size == 0
    assert {each.reason for each in first.rejected} == {"time_missing"}


def signals(*resources: dict[str, Any]) -> Page:
    values = Values(FIRST, NOW)
    take_resources(values, decode_answer(json.dumps({"data": resources}).encode()).data)
    return values.page(None, False)


def signal(code: str, body: object, **meta: object) -> dict[str, Any]:
    times = meta or {"oemUpdatedAt": NOW_S}
    return {"attributes": {"code": code, "status": {"value": "SUCCESS"}, "body": body}, "meta": times}


@pytest.mark.parametrize(
    ("meta", "at"),
    [
        ({"oemUpdatedAt": NOW_S}, NOW),
        ({"oemUpdatedAt": NOW_S * 1000}, NOW),
        ({"oemUpdatedAt": NOW_S * 1000.0}, NOW),
        ({"oemUpdatedAt": "2026-11-16T12:03:20Z"}, NOW),
        ({"oemUpdatedAt": "2026-11-16T13:03:20+01:00"}, NOW),
        ({"oemUpdatedAt": 0, "retrievedAt": NOW_S}, NOW),
        ({"oemUpdatedAt": None, "fetchedAt": NOW_S}, NOW),
        ({"oemUpdatedAt": NOW_S - 60, "retrievedAt": NOW_S}, NOW - timedelta(seconds=60)),
    ],
)
def test_times_come_in_seconds_milliseconds_and_words(meta: dict[str, object], at: datetime) -> None:
    page = signals(signal("odometer-traveleddistance", {"value": 7, "unit": "kilometers"}, **meta))

    assert [(each.time, each.odometer_km) for each in page.readings] == [(at, 7.0)]


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"oemUpdatedAt": 0}, "time_missing"),
        ({"oemUpdatedAt": True}, "time_unreadable"),
        ({"oemUpdatedAt": False, "retrievedAt": NOW_S}, "time_unreadable"),
        ({"oemUpdatedAt": "yesterday"}, "time_unreadable"),
        ({"oemUpdatedAt": "2026-11-16T12:03:20"}, "time_unreadable"),
        ({"oemUpdatedAt": -5}, "time_unreadable"),
        ({"oemUpdatedAt": 1e300}, "time_unreadable"),
        ({"oemUpdatedAt": [1]}, "time_unreadable"),
        ({"oemUpdatedAt": 1}, "time_too_old"),
        ({"oemUpdatedAt": NOW_S + 301}, "time_in_future"),
    ],
)
def test_a_time_that_cannot_be_is_set_aside(meta: dict[str, object], reason: str) -> None:
    page = signals(signal("odometer-traveleddistance", {"value": 7}, **meta))

    assert (page.size, [each.reason for each in page.rejected]) == (0, [reason])


@pytest.mark.parametrize(
    ("code", "body", "reason"),
    [
        ("odometer-traveleddistance", {"value": "7"}, "wrong_type"),
        ("odometer-traveleddistance", {"value": True}, "wrong_type"),
        ("odometer-traveleddistance", {"value": -1}, "odometer_km_out_of_range"),
        ("odometer-traveleddistance", {"value": 10**400}, "odometer_km_out_of_range"),
        ("odometer-traveleddistance", {"value": 7, "unit": 5}, "unknown_unit"),
        ("internalcombustionengine-fuellevel", {"value": 100.01}, "fuel_percent_out_of_range"),
        ("tractionbattery-stateofcharge", {"value": 101, "unit": "percentage"}, "battery_percent_out_of_range"),
        ("location-preciselocation", {"latitude": 52.5}, "longitude_missing"),
        ("location-preciselocation", {"latitude": 0, "longitude": 0.0001}, "null_island"),
        ("location-preciselocation", {"latitude": 52.5, "longitude": 181}, "longitude_out_of_range"),
        ("charge-ischarging", {"value": "yes"}, "wrong_type"),
        ("charge-detailedchargingstatus", {"value": "DANCING"}, "charging_state_unknown"),
        ("diagnostics-dtclist", {"values": {}}, "wrong_type"),
        ("diagnostics-dtclist", {"values": [{"code": "P0300"}] * 201}, "too_many_codes"),
    ],
)
def test_a_value_that_cannot_be_is_set_aside(code: str, body: object, reason: str) -> None:
    page = signals(signal(code, body), signal("motion-currentspeed", {"value": 50, "unit": "mph"}))

    assert [each.reason for each in page.rejected] == [reason]
    assert [each.speed_kph for each in page.readings] == [80.4672], "the good one beside it goes in"


def test_what_is_not_said_and_what_we_have_no_place_for_is_nothing_bad() -> None:
    page = signals(
        signal("odometer-traveleddistance", {"value": None, "unit": "kilometers"}),
        signal("odometer-traveleddistance", None),
        signal("location-preciselocation", {"latitude": None, "longitude": None}),
        signal("closure-doors", {"values": "anything"}, oemUpdatedAt="nonsense"),
        {"attributes": {"code": "tractionbattery-range", "status": {"value": "UNAVAILABLE"}}},
        {"attributes": {"code": "charge-ischarging", "status": {"value": "ERROR", "error": {"type": "COMPATIBILITY"}}}},
    )

    assert (page.size, list(page.rejected)) == (0, [])


@pytest.mark.parametrize("raw", [b"7", b'{"attributes": {}}', b'{"attributes": {"code": 7}}', b'{"attributes": []}'])
def test_a_signal_that_is_none_is_set_aside(raw: bytes) -> None:
    values = Values(FIRST, NOW)
    take_resources(values, [msgspec.Raw(raw)])

    assert [(each.reason, each.payload) for each in values.rejected] == [("wrong_type", raw.decode())]


def test_a_bad_heading_costs_only_itself() -> None:
    page = signals(signal("location-preciselocation", {"latitude": 52.5, "longitude": 13.4, "heading": 361}))

    assert [(each.latitude, each.heading_deg) for each in page.readings] == [(52.5, None)]
    assert [each.reason for each in page.rejected] == ["heading_out_of_range"]


@pytest.mark.parametrize("order", [1, -1])
def test_the_detailed_word_is_preferred_to_the_bare_yes_or_no(order: int) -> None:
    told = [
        signal("charge-ischarging", {"value": False}),
        signal("charge-detailedchargingstatus", {"value": "fully_charged"}),
    ][::order]

    assert [each.charging_state for each in signals(*told).ev_readings] == ["charged"]


def test_a_list_of_codes_with_an_unreadable_one_says_nothing_of_the_absent() -> None:
    [report] = signals(signal("diagnostics-dtclist", {"values": [{"code": "p0300"}, {"code": 7}]})).fault_reports

    assert ([code.code for code in report.codes], report.is_complete) == (["P0300"], False)


def test_what_is_set_aside_is_bounded_and_storable() -> None:
    page = signals(signal("odometer-traveleddistance", {"value": "\0" + "x" * 9000}))

    assert len(page.rejected[0].payload.encode()) <= 4096
    assert "\0" not in page.rejected[0].payload


class TestBatch:
    def items(self, *items: dict[str, Any]) -> tuple[Page, list[str]]:
        values = Values(FIRST, NOW)
        never = take_batch(values, json.dumps({"responses": items}).encode(), "POST x /batch")
        return values.page(None, False), never

    def item(self, path: str, body: object, code: int = 200, **headers: str) -> dict[str, Any]:
        told = {"sc-data-age": "2026-11-16T12:00:00Z"} | {key.replace("_", "-"): text for key, text in headers.items()}
        return {"path": path, "code": code, "body": body, "headers": told}

    def test_percent_is_a_share_and_the_age_is_a_header(self) -> None:
        page, _ = self.items(self.item("/fuel", {"percentRemaining": 0.57}))

        assert [(each.fuel_percent, each.time.minute) for each in page.readings] == [(57.0, 0)]

    def test_each_item_fails_alone_and_what_never_works_is_named(self) -> None:
        page, never = self.items(
            self.item("/battery", {"type": "COMPATIBILITY", "code": "VEHICLE_NOT_CAPABLE"}, 501),
            self.item("/fuel", {"type": "PERMISSION", "code": None}, 403),
            self.item("/charge", {"type": "VEHICLE_STATE", "code": "ASLEEP"}, 409),
            self.item("/location", "nowhere", 418),
            self.item("/odometer", {"distance": 7}),
        )

        assert never == ["/battery", "/fuel"]
        assert [each.odometer_km for each in page.readings] == [7.0]
        assert [(each.reason, each.field) for each in page.rejected] == [
            ("not_permitted", "/fuel"),
            ("item_failed", "/location"),
        ]

    @pytest.mark.parametrize(
        ("type_", "code", "error"),
        [
            ("AUTHENTICATION", None, AccessExpired),
            ("CONNECTED_SERVICES_ACCOUNT", "AUTHENTICATION_FAILED", CredentialsRejected),
            ("RATE_LIMIT", "SMARTCAR_API", RateLimited),
        ],
    )
    def test_an_item_that_concerns_the_account_is_no_matter_of_one_path(
        self, type_: str, code: str | None, error: type[IntegrationError]
    ) -> None:
        with pytest.raises(error):
            self.items(self.item("/odometer", {"distance": 7}), self.item("/fuel", {"type": type_, "code": code}, 400))

    def test_a_vehicle_that_answers_nothing_at_all_is_refused_as_a_whole(self) -> None:
        asleep = {"type": "VEHICLE_STATE", "code": "ASLEEP"}
        with pytest.raises(VehicleRefused):
            self.items(self.item("/odometer", asleep, 409), self.item("/location", asleep, 409))

    @pytest.mark.parametrize("body", [None, [], "x", 7])
    def test_an_item_with_a_body_of_another_type_is_set_aside(self, body: object) -> None:
        page, _ = self.items(self.item("/odometer", body))

        assert [each.reason for each in page.rejected] == ["wrong_type"]

    def test_no_batch_at_all_is_the_vehicles_failure(self, session: HttpSession, simulator: SmartcarThread) -> None:
        provider = Smartcar(session, simulator.simulator.credentials(), simulator.url, {"api": "v2"}, clock=lambda: NOW)
        first, others = polled(provider, simulator, "html_200")

        assert [each.reason for each in first.rejected] == ["vehicle_unreadable"]
        assert all(page.readings for page in others)


class TestTokens:
    @pytest.mark.parametrize(
        ("changed", "error"),
        [
            ({"code": "spent"}, GrantRefused),
            ({"redirect_uri": "https://elsewhere.example"}, GrantRefused),
            ({"client_id": "other"}, CredentialsRejected),
            ({"client_id": ""}, CredentialsRejected),
            ({"client_id": "with:colon"}, CredentialsRejected),
            ({"client_secret": "line\nbreak"}, CredentialsRejected),
        ],
    )
    def test_a_code_is_exchanged_only_by_its_client_at_its_address(
        self, changed: dict[str, str], error: type[IntegrationError], session: HttpSession, simulator: SmartcarThread
    ) -> None:
        given = {"client_id": FLEET.client_id, "client_secret": FLEET.client_secret, "code": FLEET.code}

        with pytest.raises(error) as raised:
            exchange(session, given | {"redirect_uri": FLEET.redirect_uri} | changed, simulator.url)

        assert FLEET.client_secret not in str(raised.value)

    @pytest.mark.parametrize(
        ("fault", "error"), [("server", TransientError), ("html_200", TransientError), ("suspended", PermanentError)]
    )
    def test_what_is_no_answer_of_a_token_endpoint_spends_nothing_here(
        self, fault: str, error: type[IntegrationError], session: HttpSession, simulator: SmartcarThread
    ) -> None:
        simulator.simulator.next(fault, path="/oauth/token")

        with pytest.raises(error):
            renew(session, simulator.simulator.credentials(), simulator.url)
