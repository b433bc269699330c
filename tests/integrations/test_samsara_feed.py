"""Reading a healthy account: every point once, in our units, whatever the shape it comes in."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, timedelta
from itertools import pairwise

import pytest

from integrations.http import HttpSession
from integrations.samsara import Samsara
from integrations.simulator import Account, SimulatorThread
from integrations.simulator.fleet import to_ms
from integrations.simulator.tracks import motion_at, track_of
from integrations.telematics import Device, Page, Reading
from tests.integrations.conftest import ACCOUNT, NOW

TYPES = {
    "gps": ("gps", "obdOdometerMeters"),
    "engine": ("fuelPercents", "engineStates", "obdEngineSeconds"),
    "health": ("evStateOfChargeMilliPercent", "faultCodes", "evChargingStatus"),
}


def read_all(read: Callable[[str, str | None], Page], feed: str) -> list[Reading]:
    readings: list[Reading] = []
    cursor = None
    while True:
        page = read(feed, cursor)
        assert not page.rejected
        readings += page.readings
        cursor = page.cursor
        if not page.has_more:
            return readings


@pytest.mark.parametrize("feed", TYPES)
def test_a_feed_read_to_its_end_yields_every_point_exactly_once(samsara: Samsara, feed: str) -> None:
    readings = read_all(samsara.read_feed, feed)

    seen = Counter((reading.device_id, reading.time) for reading in readings)
    assert set(seen) == set(ACCOUNT.expected(NOW, types=TYPES[feed]))
    assert set(seen.values()) == {1}
    assert len(seen) == ACCOUNT.expected_points(NOW, types=TYPES[feed]) > 0


def test_the_readings_of_a_page_are_oldest_first_for_each_device(samsara: Samsara) -> None:
    cursor = samsara.read_feed("gps", None).cursor
    readings = samsara.read_feed("gps", cursor).readings
    for earlier, later in pairwise(readings):
        assert earlier.device_id != later.device_id or earlier.time < later.time


def test_the_same_cursor_yields_the_same_page_again(samsara: Samsara) -> None:
    first = samsara.read_feed("gps", None)
    assert samsara.read_feed("gps", first.cursor) == samsara.read_feed("gps", first.cursor)


def test_the_end_of_a_feed_keeps_its_cursor_for_the_next_time(samsara: Samsara) -> None:
    cursor = None
    while (page := samsara.read_feed("gps", cursor)).has_more:
        cursor = page.cursor
    again = samsara.read_feed("gps", page.cursor)
    assert again == Page([], [], page.cursor, has_more=False)


@pytest.mark.parametrize("feed", TYPES)
def test_snapshot_and_feed_say_the_same_of_the_same_instant(session: HttpSession, feed: str) -> None:
    account = Account("at-one-instant", 30, seed=3)
    with SimulatorThread(account, clock_ms=lambda: to_ms(NOW)) as other:
        client = Samsara(session, account.token, other.url, clock=lambda: NOW)
        assert client.read_snapshot(feed, None).readings == client.read_feed(feed, None).readings


def test_units_are_ours(samsara: Samsara) -> None:
    track = track_of(ACCOUNT.seed, 0)
    readings = [
        reading
        for feed in ("gps", "engine")
        for reading in read_all(samsara.read_feed, feed)
        if reading.device_id == ACCOUNT.device_id(0)
    ]
    assert {reading.time.tzinfo for reading in readings} == {UTC}
    for reading in readings:
        motion = motion_at(track, reading.time.timestamp())
        if reading.latitude is not None:
            assert reading.latitude == pytest.approx(motion.latitude, abs=1e-6)
            assert reading.longitude == pytest.approx(motion.longitude, abs=1e-6)
            assert reading.heading_deg == pytest.approx(motion.heading_deg, abs=0.1)
            assert reading.speed_kph == pytest.approx(motion.speed_mps * 3.6, abs=0.02)
        if reading.odometer_km is not None:
            assert reading.odometer_km == pytest.approx(motion.odometer_m / 1000, abs=0.01)
        if reading.engine_hours is not None:
            assert reading.engine_hours == pytest.approx(motion.engine_s / 3600, abs=0.01)
            assert reading.fuel_percent == pytest.approx(motion.fill_percent, abs=0.6)
            assert reading.engine_state == motion.engine_state.lower()
    assert any(reading.odometer_km for reading in readings)
    assert any(reading.engine_hours for reading in readings)


def test_the_battery_of_an_electric_vehicle_is_in_percent(samsara: Samsara) -> None:
    readings = read_all(samsara.read_feed, "health")
    assert {reading.device_id for reading in readings} == {ACCOUNT.device_id(index) for index in range(6, 40, 7)}
    assert all(reading.battery_percent is not None and 15 <= reading.battery_percent <= 95 for reading in readings)


def test_a_fleet_larger_than_a_page_is_read_page_by_page(session: HttpSession) -> None:
    account = Account("large", 1100, seed=4, start=NOW - timedelta(seconds=30))
    with SimulatorThread(account, clock_ms=lambda: to_ms(NOW)) as other:
        client = Samsara(session, account.token, other.url, clock=lambda: NOW)
        seen = [(reading.device_id, reading.time) for reading in read_all(client.read_feed, "gps")]
        assert sorted(seen) == sorted(account.expected(NOW))
        assert len(read_all(client.read_snapshot, "engine")) == 1100

        cursor, devices = None, list[Device]()
        while True:
            page = client.list_devices(cursor)
            devices += page.devices
            cursor = page.cursor
            if not page.has_more:
                break
        assert [device.device_id for device in devices] == [account.device_id(index) for index in range(1100)]
        assert cursor is None
        assert devices[0].vin is not None and len(devices[0].vin) == 17
        assert devices[0].year == account.identity(0).year
