"""Traccar's positions into our records: units, what counts as a fix, what is set aside, alarms and fault codes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from integrations.bounds import Limits, UnbelievableError
from integrations.telematics import FaultCode, Reading
from integrations.traccar.decode import Decoded, decode_positions
from integrations.traccar.options import Options
from integrations.traccar.salvage import salvage_positions

NOW = datetime(2026, 11, 16, 12, 0, tzinfo=UTC)
LIMITS = Limits.at(NOW)
OURS = frozenset({31, 32})


def position(**changes: Any) -> dict[str, Any]:
    """Return a message as Traccar tells it."""
    return {
        "id": 900,
        "attributes": {"ignition": True, "motion": True, "sat": 9, "totalDistance": 5_000.5},
        "deviceId": 31,
        "protocol": "teltonika",
        "serverTime": "2026-11-16T11:59:03.000+00:00",
        "deviceTime": "2026-11-16T11:59:00.000+00:00",
        "fixTime": "2026-11-16T11:59:00.000+00:00",
        "valid": True,
        "latitude": 52.52,
        "longitude": 13.4,
        "altitude": 34.0,
        "speed": 10.0,
        "course": 271.5,
        "address": None,
        "accuracy": 0.0,
        "network": None,
        "geofenceIds": None,
    } | changes


def attributes(**of_it: Any) -> dict[str, Any]:
    return position(attributes=of_it)


def decode(*positions: Any, options: Options = Options()) -> Decoded:  # noqa: B008 - frozen
    body = msgspec.json.encode(positions)
    try:
        return decode_positions(body, OURS, LIMITS, options)
    except (msgspec.DecodeError, UnbelievableError):
        return salvage_positions(body, OURS, LIMITS, options)


def only(*positions: Any, options: Options = Options()) -> Reading:  # noqa: B008 - frozen
    decoded = decode(*positions, options=options)
    assert not decoded.rejected
    (reading,) = decoded.readings
    return reading


def test_a_message_is_read_in_our_units() -> None:
    told = attributes(odometer=1_234_500, hours=5_400_000, fuelLevel=61.5, ignition=True, motion=True)
    assert only(told) == Reading(
        "31", NOW - timedelta(minutes=1), 52.52, 13.4, 271.5, 18.52, 1234.5, 1.5, 61.5, None, "on"
    )


@pytest.mark.parametrize(
    "text", ["2026-11-16T11:59:00.000+0000", "2026-11-16T12:59:00.000+01:00", "2026-11-16T11:59:00Z"]
)
def test_an_instant_is_read_as_old_and_new_servers_write_it(text: str) -> None:
    at = only(position(fixTime=text)).time
    assert (at, at.tzinfo) == (NOW - timedelta(minutes=1), UTC)


@pytest.mark.parametrize(
    ("of_it", "odometer", "expected"),
    [
        ({"odometer": 7_000, "obdOdometer": 8_000, "totalDistance": 9_000}, "vehicle", 7),
        ({"obdOdometer": 8_000, "totalDistance": 9_000}, "vehicle", 8),
        ({"totalDistance": 9_000}, "vehicle", None),
        ({"odometer": 7_000, "totalDistance": 9_000}, "distance", 9),
        ({"odometer": 7_000}, "distance", None),
    ],
)
def test_the_odometer_is_of_one_source_and_never_of_two(
    of_it: dict[str, Any], odometer: Any, expected: float | None
) -> None:
    assert only(attributes(ignition=True, **of_it), options=Options(odometer=odometer)).odometer_km == expected


@pytest.mark.parametrize(
    ("of_it", "state"),
    [
        ({"ignition": True, "motion": True}, "on"),
        ({"ignition": True, "motion": False}, "idle"),
        ({"ignition": True}, "on"),
        ({"ignition": False, "motion": True}, "off"),
        ({"motion": True}, None),
    ],
)
def test_the_engine_idles_where_it_runs_and_nothing_moves(of_it: dict[str, Any], state: str | None) -> None:
    assert only(attributes(**of_it)).engine_state == state


def test_the_level_of_a_battery_is_the_trackers_unless_the_connection_says_otherwise() -> None:
    told = attributes(batteryLevel=80)
    assert only(told).battery_percent is None
    assert only(told, options=Options(battery_level="vehicle")).battery_percent == 80


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"latitude": 91}, "latitude_out_of_range", "latitude"),
        ({"latitude": "52.5"}, "wrong_type", "latitude"),
        ({"longitude": None}, "longitude_missing", "longitude"),
        ({"latitude": 0.0, "longitude": 0.0}, "null_island", "latitude"),
        ({"fixTime": "2026-11-16T12:05:01Z"}, "time_in_future", "fixTime"),
        ({"fixTime": "1980-01-06T00:00:00.000+00:00"}, "time_too_old", "fixTime"),
        ({"fixTime": "2026-11-16T11:59:00"}, "time_unreadable", "fixTime"),
        ({"fixTime": 1_763_294_340}, "wrong_type", "fixTime"),
        ({"fixTime": None}, "time_missing", "fixTime"),
        ({"id": 0}, "position_id_out_of_range", "id"),
        ({"deviceId": "31"}, "wrong_type", "deviceId"),
        ({"deviceId": 33}, "foreign_device", "deviceId"),
        ({"valid": False, "attributes": {"sat": 0}}, "fix_invalid", "valid"),
    ],
)
def test_a_bad_message_is_set_aside_and_the_good_one_beside_it_is_kept(
    changes: dict[str, Any], reason: str, field: str
) -> None:
    good, bad = position(deviceId=32), position(**changes)
    decoded = decode(bad, good)
    assert [reading.device_id for reading in decoded.readings] == ["32"]
    (aside,) = decoded.rejected
    assert (aside.reason, aside.field) == (reason, field)
    assert msgspec.json.decode(aside.payload) == bad


@pytest.mark.parametrize(
    ("changes", "column", "reason", "field"),
    [
        ({"speed": -1}, "speed_kph", "speed_out_of_range", "speed"),
        ({"speed": "fast"}, "speed_kph", "wrong_type", "speed"),
        ({"course": 361}, "heading_deg", "heading_out_of_range", "course"),
        ({"attributes": {"fuelLevel": 255}}, "fuel_percent", "fuel_percent_out_of_range", "attributes.fuelLevel"),
        ({"attributes": {"hours": "5"}}, "engine_hours", "wrong_type", "attributes.hours"),
        ({"attributes": {"odometer": -5}}, "odometer_km", "odometer_out_of_range", "attributes.odometer"),
        ({"attributes": {"ignition": 1}}, "engine_state", "wrong_type", "attributes.ignition"),
        ({"attributes": []}, "engine_state", "wrong_type", "attributes"),
    ],
)
def test_a_bad_value_costs_only_itself(changes: dict[str, Any], column: str, reason: str, field: str) -> None:
    decoded = decode(position(**changes))
    (reading,) = decoded.readings
    assert reading.latitude == 52.52
    assert getattr(reading, column) is None
    assert [(aside.reason, aside.field, aside.device_id) for aside in decoded.rejected] == [(reason, field, "31")]


def test_a_value_that_is_always_bad_is_the_same_record_each_time() -> None:
    """So it is kept once and counted."""
    decoded = decode(
        *(
            position(id=place, fixTime=f"2026-11-16T11:{place:02}:00Z", attributes={"fuelLevel": 255, "hours": place})
            for place in range(1, 30)
        )
    )
    assert len(decoded.readings) == len(decoded.rejected) == 29
    (told,) = {aside.payload for aside in decoded.rejected}
    assert msgspec.json.decode(told) == {"fuelLevel": 255}


@pytest.mark.parametrize("record", [7, None, "text", [position()]])
def test_what_is_no_record_at_all_is_set_aside(record: Any) -> None:
    decoded = decode(record, position())
    assert len(decoded.readings) == 1
    assert [aside.reason for aside in decoded.rejected] == ["wrong_type"]


def test_a_message_without_a_fix_counts_for_its_meters_at_the_time_it_was_sent() -> None:
    """The place is not believed, nor what is added up from it; 0/0 is then no reason to refuse the rest."""
    told = position(
        valid=False,
        latitude=0.0,
        longitude=0.0,
        fixTime="2026-11-16T11:00:00Z",
        deviceTime="2026-11-16T11:58:00Z",
        attributes={"odometer": 10_000, "totalDistance": 44, "ignition": False},
    )
    assert only(told) == Reading("31", NOW - timedelta(minutes=2), odometer_km=10, engine_state="off")
    no_odometer = only(told, options=Options(odometer="distance"))
    assert (no_odometer.odometer_km, no_odometer.engine_state) == (None, "off")


def test_a_repeated_fix_is_one_reading_and_what_came_with_it_has_its_own_time() -> None:
    """Traccar tells of a message without a fix as one at the place and time of the last, valid as that was."""
    repeats = [
        position(id=901 + late, deviceTime=f"2026-11-16T11:59:{late:02}Z", attributes={"fuelLevel": 60 - late})
        for late in (30, 10, 20)
    ]
    decoded = decode(*repeats, position(attributes={"odometer": 5_000}))
    assert [(reading.time.second, reading.latitude, reading.fuel_percent) for reading in decoded.readings] == [
        (0, 52.52, None),
        (10, None, 50),
        (20, None, 40),
        (30, None, 30),
    ]
    assert decoded.counts == {31: 4}


def test_two_messages_of_one_instant_are_one_reading_that_says_what_both_say() -> None:
    reading = only(attributes(odometer=5_000), position(id=901, attributes={"odometer": 6_000, "fuelLevel": 50}))
    assert (reading.latitude, reading.odometer_km, reading.fuel_percent) == (52.52, 5, 50)


def test_devices_may_be_mixed_and_in_any_order() -> None:
    minutes = [(31, 5), (32, 1), (31, 2), (32, 9), (31, 3)]
    decoded = decode(
        *(
            position(id=place + 1, deviceId=device, fixTime=f"2026-11-16T11:{minute:02}:00Z")
            for place, (device, minute) in enumerate(minutes)
        )
    )
    assert [(reading.device_id, reading.time.minute) for reading in decoded.readings] == [
        ("31", 2),
        ("31", 3),
        ("31", 5),
        ("32", 1),
        ("32", 9),
    ]
    assert {device: at.minute for device, at in decoded.newest.items()} == {31: 5, 32: 9}


@pytest.mark.parametrize(
    ("alarm", "events"),
    [
        ("hardBraking", [("900:hardBraking", "hard_braking", "medium")]),
        ("sos", [("900:sos", "sos", "critical")]),
        (
            "hardBraking,accident",
            [("900:hardBraking", "hard_braking", "medium"), ("900:accident", "accident", "critical")],
        ),
        ("overspeed, overspeed", [("900:overspeed", "overspeed", "medium")]),
        ("lowBattery,door", []),
        ("", []),
    ],
)
def test_alarms_of_danger_are_safety_events_known_by_position_and_alarm(
    alarm: str, events: list[tuple[str, str, str]]
) -> None:
    decoded = decode(attributes(alarm=alarm))
    assert [(event.event_id, event.kind, event.severity) for event in decoded.safety_events] == events
    for event in decoded.safety_events:
        assert (event.device_id, event.time, event.latitude) == ("31", NOW - timedelta(minutes=1), 52.52)
        assert event.speed_kph == pytest.approx(18.52)
    assert len(decoded.readings) == 1


def test_an_alarm_without_a_fix_has_no_place() -> None:
    (event,) = decode(position(valid=False, attributes={"alarm": "sos", "ignition": True})).safety_events
    assert (event.latitude, event.longitude) == (None, None)


def test_an_alarm_is_told_even_where_the_message_has_no_place_and_no_meters() -> None:
    decoded = decode(position(valid=False, attributes={"alarm": "sos"}))
    assert [event.kind for event in decoded.safety_events] == ["sos"]
    assert not decoded.rejected


@pytest.mark.parametrize(
    ("dtcs", "codes"),
    [
        ("P0301", [("obdii", "P0301")]),
        ("P0301 U0100", [("obdii", "P0301"), ("obdii", "U0100")]),
        ("p0301,P0301  C1234-1A", [("obdii", "P0301"), ("obdii", "C1234-1A")]),
        ("4F:12", [("other", "4F:12")]),
        ("", []),
        ("  ", []),
    ],
)
def test_codes_are_reported_whole_so_that_what_is_not_named_is_gone(dtcs: str, codes: list[tuple[str, str]]) -> None:
    (report,) = decode(attributes(dtcs=dtcs)).fault_reports
    assert (report.device_id, report.time, report.is_complete) == ("31", NOW - timedelta(minutes=1), True)
    assert report.codes == tuple(FaultCode(protocol, code, "medium") for protocol, code in codes)


def test_a_report_with_a_code_that_cannot_be_read_does_not_say_that_the_others_are_gone() -> None:
    decoded = decode(attributes(dtcs="P0301 \x00 caf\u00e9"))
    (report,) = decoded.fault_reports
    assert ([code.code for code in report.codes], report.is_complete) == (["P0301"], False)
    assert [(aside.reason, aside.field) for aside in decoded.rejected] == [("code_unreadable", "attributes.dtcs")]
    assert "\0" not in decoded.rejected[0].payload


def test_a_message_without_codes_is_no_report() -> None:
    assert not decode(position()).fault_reports


def test_codes_of_another_type_are_set_aside() -> None:
    decoded = decode(attributes(dtcs=301))
    assert (len(decoded.readings), decoded.fault_reports) == (1, [])
    assert [(aside.reason, aside.field) for aside in decoded.rejected] == [("wrong_type", "attributes.dtcs")]


def test_the_salvage_of_a_good_page_is_what_the_fast_path_makes_of_it() -> None:
    body = msgspec.json.encode(
        [
            position(
                id=place + 1, deviceId=31 + place % 2, fixTime=f"2026-11-16T11:{place:02}:00Z", valid=place % 5 > 0
            )
            for place in range(40)
        ]
    )
    assert decode_positions(body, OURS, LIMITS, Options()) == salvage_positions(body, OURS, LIMITS, Options())
