"""A page of stats into readings: what is believed, and that what is not costs nothing but itself."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.bounds import BROKEN, Limits, UnbelievableError
from integrations.samsara.decode import Decoded, decode_page
from integrations.samsara.salvage import salvage_page
from integrations.telematics import Reading

NOW = datetime(2026, 11, 16, 12, 0, tzinfo=UTC)
LIMITS = Limits.at(NOW)
AT = "2026-11-16T11:00:00Z"
FIX = {"time": AT, "latitude": 52.5, "longitude": 13.4, "headingDegrees": 90, "speedMilesPerHour": 50}
READING = Reading("1", datetime(2026, 11, 16, 11, tzinfo=UTC), 52.5, 13.4, 90, 50 * 1.609344)


def body_of(*vehicles: object) -> bytes:
    return json.dumps({"data": vehicles, "pagination": {"endCursor": "c", "hasNextPage": False}}).encode()


def decode(body: bytes, *, is_snapshot: bool = False) -> Decoded:
    try:
        return decode_page(body, LIMITS, is_snapshot=is_snapshot)
    except (*BROKEN, UnbelievableError):
        return salvage_page(body, LIMITS, is_snapshot=is_snapshot)


def of_gps(**changes: object) -> Decoded:
    fix = {key: value for key, value in (FIX | changes).items() if value is not ...}
    return decode(body_of({"id": "1", "gps": [fix]}))


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"time": ...}, "time_missing", "gps.time"),
        ({"time": None}, "time_missing", "gps.time"),
        ({"time": "yesterday"}, "time_unreadable", "gps.time"),
        ({"time": "2026-11-16T11:00:00"}, "time_unreadable", "gps.time"),
        ({"time": 1795149025}, "wrong_type", "gps.time"),
        ({"time": "2026-11-16T12:05:01Z"}, "time_in_future", "gps.time"),
        ({"time": "2007-04-07T11:00:00Z"}, "time_too_old", "gps.time"),
        ({"latitude": ...}, "latitude_missing", "gps.latitude"),
        ({"latitude": 90.000001}, "latitude_out_of_range", "gps.latitude"),
        ({"latitude": -91}, "latitude_out_of_range", "gps.latitude"),
        ({"latitude": "52.5"}, "wrong_type", "gps.latitude"),
        ({"latitude": True}, "wrong_type", "gps.latitude"),
        ({"longitude": None}, "longitude_missing", "gps.longitude"),
        ({"longitude": 180.5}, "longitude_out_of_range", "gps.longitude"),
        ({"longitude": [13.4]}, "wrong_type", "gps.longitude"),
        ({"longitude": float("nan")}, "wrong_type", "gps.longitude"),
        ({"latitude": 0, "longitude": 0}, "null_island", "gps"),
        ({"latitude": -0.0005, "longitude": 0.0005}, "null_island", "gps"),
    ],
)
def test_a_bad_position_or_instant_costs_its_reading(changes: dict[str, object], reason: str, field: str) -> None:
    page = of_gps(**changes)
    assert page.readings == []
    assert [(aside.reason, aside.field, aside.device_id) for aside in page.rejected] == [(reason, field, "1")]


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"headingDegrees": 360.5}, "heading_out_of_range", "gps.headingDegrees"),
        ({"headingDegrees": -1}, "heading_out_of_range", "gps.headingDegrees"),
        ({"headingDegrees": "N"}, "wrong_type", "gps.headingDegrees"),
        ({"speedMilesPerHour": -0.1}, "speed_out_of_range", "gps.speedMilesPerHour"),
        ({"speedMilesPerHour": 311}, "speed_out_of_range", "gps.speedMilesPerHour"),
        ({"speedMilesPerHour": 10**400}, "speed_out_of_range", "gps.speedMilesPerHour"),
    ],
)
def test_a_bad_heading_or_speed_costs_only_itself(changes: dict[str, object], reason: str, field: str) -> None:
    page = of_gps(**changes)
    lost = "heading_deg" if "headingDegrees" in changes else "speed_kph"
    assert page.readings == [msgspec.structs.replace(READING, **{lost: None})]
    assert [(aside.reason, aside.field) for aside in page.rejected] == [(reason, field)]


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "2026-11-16T12:05:00Z"},
        {"time": "2017-01-01T00:00:00Z"},
        {"latitude": 90, "longitude": -180},
        {"latitude": -90, "longitude": 180},
        {"latitude": 0, "longitude": 13.4},
        {"latitude": 51.5, "longitude": 0},
        {"headingDegrees": 0},
        {"headingDegrees": 360},
        {"headingDegrees": ...},
        {"speedMilesPerHour": 0},
        {"speedMilesPerHour": 310.6},
        {"speedMilesPerHour": None},
    ],
)
def test_what_lies_on_a_boundary_is_believed(changes: dict[str, object]) -> None:
    page = of_gps(**changes)
    assert len(page.readings) == 1
    assert page.rejected == []


@pytest.mark.parametrize(
    ("stat", "value", "reason"),
    [
        ("fuelPercents", 140, "fuel_percent_out_of_range"),
        ("fuelPercents", -1, "fuel_percent_out_of_range"),
        ("fuelPercents", "half", "wrong_type"),
        ("obdOdometerMeters", -1, "odometer_out_of_range"),
        ("gpsOdometerMeters", -1, "odometer_out_of_range"),
        ("obdEngineSeconds", -5, "engine_hours_out_of_range"),
        ("evStateOfChargeMilliPercent", 100_001, "battery_percent_out_of_range"),
        ("engineStates", "Flying", "engine_state_unknown"),
        ("engineStates", 1, "wrong_type"),
        ("engineStates", None, "engine_state_missing"),
    ],
)
def test_a_bad_meter_costs_only_itself_and_not_the_position_of_its_instant(
    stat: str, value: object, reason: str
) -> None:
    page = decode(body_of({"id": "1", "gps": [FIX], stat: [{"time": AT, "value": value}]}))
    assert page.readings == [READING]
    assert [(aside.reason, aside.field) for aside in page.rejected] == [(reason, f"{stat}.value")]


def test_stats_of_one_instant_are_one_reading_and_others_stand_alone_in_order() -> None:
    before, after = "2026-11-16T10:59:00Z", "2026-11-16T11:01:00Z"
    page = decode(
        body_of(
            {
                "id": "1",
                "gps": [FIX],
                "obdOdometerMeters": [{"time": after, "value": 2000}, {"time": AT, "value": 1500}],
                "obdEngineSeconds": [{"time": before, "value": 1800}],
                "fuelPercents": [{"time": AT, "value": 50}],
                "engineStates": [{"time": AT, "value": "Idle"}],
                "evStateOfChargeMilliPercent": [{"time": after, "value": 55_000}],
            }
        )
    )
    minute = timedelta(minutes=1)
    assert page.readings == [
        Reading("1", READING.time - minute, engine_hours=0.5),
        msgspec.structs.replace(READING, odometer_km=1.5, fuel_percent=50, engine_state="idle"),
        Reading("1", READING.time + minute, odometer_km=2.0, battery_percent=55.0),
    ]


def test_the_vehicles_own_odometer_is_preferred_to_the_one_from_gps() -> None:
    own, derived = {"time": AT, "value": 1000}, {"time": AT, "value": 9000}
    both = decode(body_of({"id": "1", "obdOdometerMeters": [own], "gpsOdometerMeters": [derived]}))
    elsewhere = derived | {"time": "2026-11-16T11:00:30Z"}
    apart = decode(body_of({"id": "1", "obdOdometerMeters": [own], "gpsOdometerMeters": [elsewhere]}))
    only = decode(body_of({"id": "1", "gpsOdometerMeters": [derived]}))
    readings = both.readings + apart.readings + only.readings
    assert [reading.odometer_km for reading in readings] == [1.0, 1.0, 9.0]


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (None, "time_missing"),
        ("2026-11-16T12:05:01Z", "time_in_future"),
        ("2007-04-07T11:00:00Z", "time_too_old"),
        ("", "time_unreadable"),
    ],
)
def test_a_meter_of_an_impossible_instant_is_set_aside(at: str | None, reason: str) -> None:
    fuels = [{"time": at, "value": 50}, {"time": AT, "value": 49}]
    page = decode(body_of({"id": "1", "fuelPercents": fuels}))
    assert [(reading.time, reading.fuel_percent) for reading in page.readings] == [(READING.time, 49)]
    assert [(aside.reason, aside.field) for aside in page.rejected] == [(reason, "fuelPercents.time")]


def test_of_two_positions_at_one_instant_the_first_is_kept() -> None:
    page = decode(body_of({"id": "1", "gps": [FIX, FIX | {"latitude": 53}]}))
    assert (page.readings, page.rejected) == ([READING], [])


def test_readings_come_oldest_first_even_if_the_provider_shuffles_them() -> None:
    times = ["2026-11-16T11:00:10Z", "2026-11-16T11:00:00Z", "2026-11-16T13:00:05+02:00"]
    page = decode(body_of({"id": "1", "gps": [FIX | {"time": at} for at in times]}))
    assert [reading.time.second for reading in page.readings] == [0, 5, 10]
    assert {reading.time.tzinfo for reading in page.readings} == {UTC}


def test_a_vehicle_named_twice_in_a_page_is_one_vehicle() -> None:
    later = FIX | {"time": "2026-11-16T11:00:01Z"}
    page = decode(body_of({"id": "1", "gps": [later]}, {"id": "2", "gps": [FIX]}, {"id": "1", "gps": [FIX, later]}))
    assert [(reading.device_id, reading.time.second) for reading in page.readings] == [("1", 0), ("1", 1), ("2", 0)]


@pytest.mark.parametrize(
    ("vehicle", "reason", "field"),
    [
        ({"gps": [FIX]}, "device_id_missing", "id"),
        ({"id": None, "gps": [FIX]}, "device_id_missing", "id"),
        ({"id": 17, "gps": [FIX]}, "wrong_type", "id"),
        ({"id": "", "gps": [FIX]}, "wrong_type", "id"),
        ({"id": "x" * 65, "gps": [FIX]}, "wrong_type", "id"),
        ({"id": "1\0", "gps": [FIX]}, "nul_in_text", "id"),
        ({"id": "2", "gps": FIX}, "wrong_type", "gps"),
        ({"id": "2", "gps": ["here"]}, "wrong_type", "gps"),
        (["2"], "wrong_type", "vehicle"),
        (None, "wrong_type", "vehicle"),
    ],
)
def test_a_vehicle_that_cannot_be_read_costs_only_itself(vehicle: object, reason: str, field: str) -> None:
    page = decode(body_of({"id": "1", "gps": [FIX]}, vehicle))
    assert page.readings == [READING]
    assert [(aside.reason, aside.field) for aside in page.rejected] == [(reason, field)]


def test_a_stat_that_is_null_was_not_said() -> None:
    page = decode(body_of({"id": "1", "gps": [FIX], "fuelPercents": None}))
    assert (page.readings, page.rejected) == ([READING], [])


@pytest.mark.parametrize("text", ['"a\\ud800b"', '"line\nbreak"', '"\udcff"', '"nul\\u0000"'])
def test_a_name_that_is_no_proper_text_costs_nothing(text: str) -> None:
    body = body_of({"id": "1", "name": "NAME", "gps": [FIX]}, {"id": "2", "gps": [FIX | {"latitude": 91}]})
    page = decode(body.replace(b'"NAME"', text.encode("utf-8", "surrogateescape")))
    assert page.readings == [READING]
    assert len(page.rejected) == 1


def test_a_payload_is_the_providers_text_cut_to_4_kib_without_nul() -> None:
    page = of_gps(latitude=91, note="\0" + "é" * 5000)
    payload = page.rejected[0].payload
    assert payload.startswith('{"time": "2026-11-16T11:00:00Z", "latitude": 91')
    assert 4000 < len(payload.encode()) <= 4096
    assert "\0" not in payload and "\\u0000" not in payload


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"data": {}, "pagination": {"endCursor": "c", "hasNextPage": false}}',
        b'{"data": []}',
        b'{"data": [], "pagination": {"endCursor": 7, "hasNextPage": false}}',
        b'{"data": [], "pagination": {"endCursor": "c"}}',
        b'{"data": [{"id": "1", "gps": [',
        b'{"data": ' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_page_raises(body: bytes) -> None:
    with pytest.raises(BROKEN):
        decode(body)


SNAPSHOT_KEYS = {"fuelPercents": "fuelPercent", "engineStates": "engineState"}


def as_snapshot(vehicle: dict[str, Any]) -> dict[str, Any]:
    return {
        SNAPSHOT_KEYS.get(key, key): value[0] if isinstance(value, list) and value else value
        for key, value in vehicle.items()
        if value != []
    }


instants = st.integers(0, 3600).map(lambda second: (NOW - timedelta(seconds=second)).isoformat())
fixes = st.fixed_dictionaries(
    {
        "time": instants,
        "latitude": st.floats(-90, 90).filter(lambda degrees: abs(degrees) > 0.01),
        "longitude": st.floats(-180, 180),
    },
    optional={"headingDegrees": st.floats(0, 360), "speedMilesPerHour": st.integers(0, 200)},
)


def valued(values: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries({"time": instants, "value": values}), max_size=most)


def vehicles_of(most: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Good vehicles, each stat of each with at most so many records."""
    return st.lists(
        st.fixed_dictionaries(
            {"id": st.integers(1, 10**15).map(str)},
            optional={
                "gps": st.lists(fixes, max_size=most),
                "obdOdometerMeters": valued(st.integers(0, 10**9), most),
                "gpsOdometerMeters": valued(st.integers(0, 10**9), most),
                "obdEngineSeconds": valued(st.integers(0, 10**9), most),
                "fuelPercents": valued(st.integers(0, 100), most),
                "engineStates": valued(st.sampled_from(["Off", "On", "Idle"]), most),
                "evStateOfChargeMilliPercent": valued(st.integers(0, 100_000), most),
            },
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda vehicle: str(vehicle["id"]),
    )


@given(vehicles_of(4))
def test_taking_a_good_page_apart_yields_the_same_as_one_pass(vehicles: list[dict[str, Any]]) -> None:
    body = body_of(*vehicles)
    assert decode_page(body, LIMITS, is_snapshot=False) == salvage_page(body, LIMITS, is_snapshot=False)


@given(vehicles_of(1))
def test_snapshot_and_feed_of_the_same_values_are_the_same_readings(vehicles: list[dict[str, Any]]) -> None:
    of_feed = decode_page(body_of(*vehicles), LIMITS, is_snapshot=False)
    body = body_of(*map(as_snapshot, vehicles))
    assert decode_page(body, LIMITS, is_snapshot=True) == of_feed
    assert salvage_page(body, LIMITS, is_snapshot=True) == of_feed


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(vehicles_of(4), st.data())
def test_whatever_is_wrong_with_one_record_the_others_are_not_lost(
    vehicles: list[dict[str, Any]], data: st.DataObject
) -> None:
    untouched = decode(body_of(*vehicles)).readings
    stats = [stat for vehicle in vehicles for key, stat in vehicle.items() if key != "id"]
    records = data.draw(st.sampled_from(stats)) if stats else []
    if not records:
        return
    spoilt = dict(data.draw(st.sampled_from(records)))
    how = data.draw(st.sampled_from(["replaced", "changed", "lost"]))
    key = data.draw(st.sampled_from(sorted(spoilt)))
    if how == "lost":
        del spoilt[key]
    else:
        spoilt[key] = data.draw(anything)
    owner = next(vehicle for vehicle in vehicles if any(records is stat for stat in vehicle.values()))
    # The bad record stands beside the good ones and takes no other's instant.
    if how == "changed" and key != "time":
        spoilt["time"] = (NOW - timedelta(days=2)).isoformat()
    records.append(data.draw(anything) if how == "replaced" else spoilt)

    page = decode(body_of(*vehicles))
    kept = {(reading.device_id, reading.time): reading for reading in page.readings}
    for reading in untouched:
        assert (reading.device_id, reading.time) in kept
        if reading.device_id != owner["id"]:
            assert kept[reading.device_id, reading.time] == reading
    assert all(aside.device_id == owner["id"] for aside in page.rejected)
    assert all("\0" not in aside.payload and len(aside.payload.encode()) <= 4096 for aside in page.rejected)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_arbitrary_bytes_raise_only_what_is_announced(body: bytes) -> None:
    with pytest.raises(BROKEN):
        decode(body)


@given(st.integers(0, 2000))
def test_a_page_cut_anywhere_raises_only_what_is_announced(length: int) -> None:
    body = body_of({"id": "1", "gps": [FIX] * 5}, {"id": "2", "gps": [FIX]})
    with pytest.raises(BROKEN):
        decode(body[: min(length, len(body) - 1)])
