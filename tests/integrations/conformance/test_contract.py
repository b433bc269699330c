"""The contract of a provider, on good days: see `integrations.telematics.TelematicsProvider`."""

from datetime import UTC
from itertools import groupby

import pytest

from integrations.errors import CursorRefused
from integrations.registry import PROVIDERS
from integrations.telematics import EvReading, FaultReport, Reading, SafetyEvent, TelematicsProvider
from tests.integrations.conformance.adapter import Adapter
from tests.integrations.conformance.conftest import ADAPTERS
from tests.integrations.conformance.reading import (
    Record,
    by_id,
    list_devices,
    read_pages,
    read_snapshot,
    records,
    stored,
)

SEVERITIES = {"low", "medium", "high", "critical"}


def test_every_provider_of_the_registry_takes_part() -> None:
    assert set(ADAPTERS) == set(PROVIDERS)


def test_it_says_who_it_is_and_what_it_reads(adapter: Adapter, account: TelematicsProvider) -> None:
    assert account.name == adapter.provider
    assert account.feeds
    assert len(set(account.feeds)) == len(account.feeds)
    assert set(account.snapshots) <= set(account.feeds)
    assert all(0 < len(feed) <= 32 and feed.isidentifier() and feed != "devices" for feed in account.feeds)


def test_all_devices_are_listed_each_once(adapter: Adapter, account: TelematicsProvider) -> None:
    listed = list_devices(account)
    assert len(set(listed)) == len(listed) == adapter.devices
    assert all(0 < len(device_id) <= 64 and "\0" not in device_id for device_id in listed)


def test_every_feed_reaches_its_end_and_brings_what_there_is(adapter: Adapter, account: TelematicsProvider) -> None:
    brought = 0
    for feed in account.feeds:
        pages = read_pages(account, feed)
        assert not [aside for page in pages for aside in page.rejected]
        found = {(reading.device_id, reading.time) for page in pages for reading in page.readings}
        expected = adapter.expected(feed)
        if expected is not None:
            assert found == expected
        brought += len(found)
    assert brought > 0


def test_every_snapshot_reaches_its_end_with_known_devices(account: TelematicsProvider) -> None:
    devices = set(list_devices(account))
    for feed in account.snapshots:
        found = records(read_snapshot(account, feed))
        assert {record.device_id for record in found} <= devices
        for record in found:
            check(record)


def test_every_record_is_in_our_units_and_in_utc(account: TelematicsProvider) -> None:
    for feed in account.feeds:
        for record in records(read_pages(account, feed)):
            check(record)


def check(record: Record) -> None:
    """Hold a record against the ranges of the contract."""
    assert record.time.tzinfo is UTC or record.time.utcoffset() == UTC.utcoffset(None)
    assert 0 < len(record.device_id) <= 64
    match record:
        case Reading():
            _check_place(record.latitude, record.longitude)
            assert record.heading_deg is None or 0 <= record.heading_deg <= 360
            assert record.fuel_percent is None or 0 <= record.fuel_percent <= 100
            assert record.battery_percent is None or 0 <= record.battery_percent <= 100
            assert record.engine_state in (None, "off", "on", "idle")
            for meter in (record.speed_kph, record.odometer_km, record.engine_hours):
                assert meter is None or 0 <= meter < float("inf")
            assert any(value is not None for value in (record.latitude, *_meters(record))), "an empty reading"
        case EvReading():
            assert record.battery_percent is None or 0 <= record.battery_percent <= 100
            assert record.charging_state in (None, "charging", "charged", "not_charging")
            assert all(value is None or value >= 0 for value in (record.range_km, record.energy_kwh))
        case FaultReport():
            for code in record.codes:
                assert code.protocol in ("j1939", "obdii", "other")
                assert code.code
                assert code.severity in SEVERITIES
            assert len({(code.protocol, code.code, code.source) for code in record.codes}) == len(record.codes)
        case SafetyEvent():
            _check_place(record.latitude, record.longitude)
            assert record.event_id
            assert record.kind == record.kind.lower()
            assert record.severity in SEVERITIES


def _check_place(latitude: float | None, longitude: float | None) -> None:
    assert (latitude is None) == (longitude is None)
    assert latitude is None or -90 <= latitude <= 90
    assert longitude is None or -180 <= longitude <= 180


def _meters(reading: Reading) -> tuple[float | str | None, ...]:
    return (
        reading.odometer_km,
        reading.engine_hours,
        reading.fuel_percent,
        reading.battery_percent,
        reading.engine_state,
        reading.speed_kph,
        reading.raw,
    )


def test_the_records_of_a_page_are_oldest_first_for_each_device(account: TelematicsProvider) -> None:
    for feed in account.feeds:
        for page in read_pages(account, feed):
            told: tuple[list[Record], ...] = (
                list(page.readings),
                list(page.ev_readings),
                list(page.fault_reports),
                list(page.safety_events),
            )
            for kind in told:
                for _, of_device in groupby(sorted(kind, key=lambda record: record.device_id), _device):
                    times = [record.time for record in of_device]
                    assert times == sorted(times)


def _device(record: Record) -> str:
    return record.device_id


def test_a_page_brings_one_reading_for_a_device_and_an_instant(account: TelematicsProvider) -> None:
    for feed in account.feeds:
        for page in read_pages(account, feed):
            keys = [(reading.device_id, reading.time) for reading in page.readings]
            assert len(keys) == len(set(keys))


def test_after_the_end_there_is_nothing_new(account: TelematicsProvider) -> None:
    for feed in account.feeds:
        pages = read_pages(account, feed)
        cursor = stored(pages[-1].cursor)
        if cursor is None:
            continue
        known = by_id(records(pages))
        again = by_id(records(read_pages(account, feed, cursor)))
        assert again.items() <= known.items()


def test_a_feed_goes_on_after_any_page_in_another_process(adapter: Adapter, account: TelematicsProvider) -> None:
    for feed in account.feeds:
        pages = read_pages(account, feed)
        whole = by_id(records(pages))
        for killed_after in range(1, len(pages)):
            cursor = stored(pages[killed_after - 1].cursor)
            with adapter.opened() as another:
                rest = read_pages(another, feed, cursor)
            assert by_id(records([*pages[:killed_after], *rest])) == whole


def test_a_page_that_was_not_stored_is_read_again(account: TelematicsProvider) -> None:
    for feed in account.feeds:
        for page in read_pages(account, feed)[:-1]:
            cursor = stored(page.cursor)
            first, second = account.read_feed(feed, cursor), account.read_feed(feed, cursor)
            assert by_id(records([second])) == by_id(records([first]))


@pytest.mark.parametrize("cursor", ["no cursor", "e30=", "0", "[", "-" * 5000, "\u2603"])
def test_a_cursor_that_is_none_is_refused(account: TelematicsProvider, cursor: str) -> None:
    for feed in account.feeds:
        with pytest.raises(CursorRefused):
            account.read_feed(feed, cursor)


def test_it_may_be_closed_twice(adapter: Adapter) -> None:
    with adapter.opened() as account:
        account.list_devices(None)
        account.close()
