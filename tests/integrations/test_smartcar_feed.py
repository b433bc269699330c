"""A Smartcar account read vehicle by vehicle, over HTTP, against its simulator and a clock of the test's own."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from integrations.errors import CursorRefused, PermanentError
from integrations.http import HttpSession, HttpSettings
from integrations.simulator.fleet import to_ms
from integrations.simulator.smartcar import SmartcarThread
from integrations.simulator.smartcar_fleet import SmartcarAccount
from integrations.smartcar import Smartcar, authorize_url, renew
from integrations.smartcar.options import PollOptions
from integrations.smartcar.schedule import Schedule, next_month
from integrations.telematics import Device, EvReading, Page, Reading

START = datetime(2026, 11, 16, 12, 0, 10, tzinfo=UTC)
FLEET = SmartcarAccount(vehicles=14)
ELECTRIC = 6


class Clock:
    """An instant that the test moves; the provider and the simulator both go by it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def ms(self) -> int:
        return to_ms(self.now)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def simulator(clock: Clock) -> Iterator[SmartcarThread]:
    with SmartcarThread(FLEET, clock_ms=clock.ms) as running:
        yield running


@pytest.fixture
def session() -> Iterator[HttpSession]:
    with HttpSession(HttpSettings(read_s=2.0, total_s=5.0, retry_window_s=0.2)) as session:
        yield session


def opened(session: HttpSession, simulator: SmartcarThread, clock: Clock, **options: Any) -> Smartcar:
    return Smartcar(session, simulator.simulator.credentials(), simulator.url, options, clock=clock)


@pytest.fixture
def smartcar(session: HttpSession, simulator: SmartcarThread, clock: Clock) -> Smartcar:
    return opened(session, simulator, clock)


def read(provider: Smartcar, cursor: str | None = None) -> list[Page]:
    """Return the pages of a feed until there are no more for now."""
    pages: list[Page] = []
    while True:
        pages.append(provider.read_feed("vehicles", cursor))
        cursor = pages[-1].cursor
        assert len(pages) < 100
        if not pages[-1].has_more:
            return pages


def listed(provider: Smartcar, cursor: str | None = None) -> tuple[list[Device], str | None]:
    devices: list[Device] = []
    while True:
        page = provider.list_devices(cursor)
        devices += page.devices
        cursor = page.cursor
        if not page.has_more:
            return devices, cursor


def readings(pages: list[Page]) -> list[Reading]:
    return [reading for page in pages for reading in page.readings]


@pytest.mark.parametrize("api", ["v3", "v2"])
class TestList:
    def test_names_every_vehicle_by_its_papers(
        self, api: str, session: HttpSession, simulator: SmartcarThread, clock: Clock
    ) -> None:
        devices, _ = listed(opened(session, simulator, clock, api=api))

        for index in range(FLEET.vehicles):
            papers = FLEET.identity(index)
            name = f"{papers.make} {papers.model} {papers.year}"
            device = Device(FLEET.vehicle_id(index), name, papers.vin, None, papers.make, papers.model, papers.year)
            assert devices[index] == device

    def test_asks_for_papers_that_are_known_never_again(
        self, api: str, session: HttpSession, simulator: SmartcarThread, clock: Clock
    ) -> None:
        simulator.simulator.tokens.access_ms = 10**12
        provider = opened(session, simulator, clock, api=api)
        _, cursor = listed(provider)
        counted = dict(simulator.simulator.by_vehicle)

        for _ in range(3):
            clock.now += timedelta(days=31)
            again, cursor = listed(opened(session, simulator, clock, api=api), cursor)
            assert (again, dict(simulator.simulator.by_vehicle)) == ([], counted)

    def test_asks_for_papers_that_were_refused_again_after_thirty_days(
        self, api: str, session: HttpSession, simulator: SmartcarThread, clock: Clock
    ) -> None:
        simulator.simulator.tokens.access_ms = 10**12
        simulator.simulator.next("permission", path="batch" if api == "v2" else "vehicleidentification-vin")
        provider = opened(session, simulator, clock, api=api)
        _, cursor = listed(provider)

        clock.now += timedelta(days=29)
        again, cursor = listed(provider, cursor)
        assert again == []

        clock.now += timedelta(days=1)
        again, _ = listed(provider, cursor)
        assert [(device.device_id, device.vin) for device in again] == [(FLEET.vehicle_id(0), FLEET.identity(0).vin)]

    def test_is_read_again_after_six_hours_and_asks_nothing_until_then(
        self, api: str, session: HttpSession, simulator: SmartcarThread, clock: Clock
    ) -> None:
        provider = opened(session, simulator, clock, api=api)
        _, cursor = listed(provider)
        asked = sum(simulator.simulator.by_path.values())

        clock.now += timedelta(hours=5, minutes=59)
        page = provider.list_devices(cursor)
        assert (page.devices, page.cursor, page.has_more) == ([], cursor, False)
        assert sum(simulator.simulator.by_path.values()) == asked

        clock.now += timedelta(minutes=1)
        simulator.simulator.tokens.access_ms = 10**12
        opened(session, simulator, clock, api=api).list_devices(cursor)
        assert sum(simulator.simulator.by_path.values()) == asked + 1

    def test_asks_a_few_for_their_papers_and_goes_on_at_the_next_sync(
        self, api: str, session: HttpSession, clock: Clock
    ) -> None:
        fleet = SmartcarAccount(vehicles=45)
        with SmartcarThread(fleet, clock_ms=clock.ms) as simulator:
            cursor: str | None = None
            found: list[str] = []
            reached = []
            for _ in range(4):
                devices, cursor = listed(opened(session, simulator, clock, api=api), cursor)
                found += [device.device_id for device in devices]
                reached.append(len(found))

        assert reached == [20, 40, 45, 45]
        assert found == [fleet.vehicle_id(index) for index in range(45)]

    def test_a_vehicle_whose_papers_are_refused_is_listed_all_the_same(
        self, api: str, session: HttpSession, simulator: SmartcarThread, clock: Clock
    ) -> None:
        simulator.simulator.next("permission", path="batch" if api == "v2" else "vehicleidentification-vin")

        devices, _ = listed(opened(session, simulator, clock, api=api))

        assert len(devices) == FLEET.vehicles
        assert (devices[0].device_id, devices[0].vin) == (FLEET.vehicle_id(0), None)
        assert all(device.vin for device in devices[1:])

    def test_a_list_of_several_pages_is_read_to_its_end(self, api: str, session: HttpSession, clock: Clock) -> None:
        with SmartcarThread(SmartcarAccount(vehicles=230), clock_ms=clock.ms) as simulator:
            pages = [opened(session, simulator, clock, api=api).read_feed("vehicles", None)]
            while Schedule(pages[-1].cursor).page is not None:
                pages.append(opened(session, simulator, clock, api=api).read_feed("vehicles", pages[-1].cursor))

        assert len(pages) == (3 if api == "v3" else 5)
        assert len(Schedule(pages[-1].cursor).due) == 230


class TestValues:
    def test_each_value_has_the_time_at_which_the_vehicle_said_it(self, smartcar: Smartcar, clock: Clock) -> None:
        pages = read(smartcar)

        for index in range(FLEET.vehicles):
            mine = [each for each in readings(pages) if each.device_id == FLEET.vehicle_id(index)]
            assert [each.time for each in mine] == sorted({each.time for each in mine})
            for said in FLEET.signals(index, clock.ms()):
                at = datetime.fromtimestamp(said.at_ms / 1000, UTC)
                found = [each for each in mine if each.time == at]
                match said.code:
                    case "location-preciselocation":
                        assert found[0].latitude == said.body["latitude"]
                        assert found[0].heading_deg == said.body["heading"] % 360
                    case "odometer-traveleddistance":
                        assert found[0].odometer_km == said.body["value"]
                    case "internalcombustionengine-fuellevel":
                        assert found[0].fuel_percent == said.body["value"]
                    case "tractionbattery-stateofcharge":
                        assert found[0].battery_percent == said.body["value"]

    def test_a_battery_tells_its_charging_and_its_range(self, smartcar: Smartcar, clock: Clock) -> None:
        [battery] = [each for page in read(smartcar) for each in page.ev_readings if _is(each, ELECTRIC)]

        said = {each.code: each.body["value"] for each in FLEET.signals(ELECTRIC, clock.ms()) if "value" in each.body}
        assert battery.battery_percent == said["tractionbattery-stateofcharge"]
        assert battery.range_km == said["tractionbattery-range"]
        assert battery.charging_state == ("charging" if said["charge-ischarging"] else "not_charging")

    def test_trouble_codes_are_a_complete_report_judged_by_the_lamp(self, smartcar: Smartcar) -> None:
        reports = {report.device_id: report for page in read(smartcar) for report in page.fault_reports}

        with_codes, without = reports[FLEET.vehicle_id(0)], reports[FLEET.vehicle_id(1)]
        assert [(code.protocol, code.code, code.severity) for code in with_codes.codes] == [("obdii", "P0301", "high")]
        assert with_codes.is_complete
        assert (without.codes, without.is_complete) == ((), True)

    def test_what_was_not_said_anew_has_the_same_key_again(
        self, session: HttpSession, simulator: SmartcarThread, clock: Clock
    ) -> None:
        options = {"poll_every_s": 60, "calls_per_vehicle_and_month": 10_000_000}
        provider = opened(session, simulator, clock, **options)
        clock.now += timedelta(minutes=1)  # every level was said in these five minutes
        first = read(provider)
        clock.now += timedelta(seconds=70)
        second = read(provider, first[-1].cursor)

        levels = [{(r.device_id, r.time) for r in readings(each) if r.fuel_percent} for each in (first, second)]
        places = [{(r.device_id, r.time) for r in readings(each) if r.latitude} for each in (first, second)]
        assert levels[0] == levels[1]
        assert not places[0] & places[1]

    def test_v2_says_the_same_but_its_codes(
        self, session: HttpSession, simulator: SmartcarThread, smartcar: Smartcar, clock: Clock
    ) -> None:
        new = {(r.device_id, r.time): r for r in readings(read(smartcar))}
        old = {(r.device_id, r.time): r for r in readings(read(opened(session, simulator, clock, api="v2")))}

        assert old.keys() == new.keys()
        for key, reading in old.items():
            for column in ("latitude", "longitude", "odometer_km", "fuel_percent", "battery_percent"):
                assert getattr(reading, column) == pytest.approx(getattr(new[key], column)), column

    def test_imperial_units_become_ours(
        self, session: HttpSession, simulator: SmartcarThread, smartcar: Smartcar, clock: Clock
    ) -> None:
        expected = {r.device_id: r.odometer_km for r in readings(read(smartcar)) if r.odometer_km}
        simulator.simulator.unit_system = "imperial"

        pages = read(opened(session, simulator, clock, api="v2"))

        told = {r.device_id: r.odometer_km for r in readings(pages) if r.odometer_km}
        assert told == pytest.approx(expected)

    def test_signals_of_several_pages_are_read_to_their_end(
        self, simulator: SmartcarThread, smartcar: Smartcar
    ) -> None:
        whole = {(r.device_id, r.time): r for r in readings(read(smartcar))}
        simulator.simulator.signals_a_page = 2

        paged = read(smartcar)

        assert {(r.device_id, r.time) for r in readings(paged)} == whole.keys()
        assert len(paged) > 2 * FLEET.vehicles

    def test_the_applications_own_token_asks_on_the_owners_behalf(
        self, session: HttpSession, simulator: SmartcarThread, clock: Clock
    ) -> None:
        given = {"client_id": FLEET.client_id, "client_secret": FLEET.client_secret, "user_id": FLEET.user_id}
        credentials = renew(session, given, simulator.url, clock=clock)

        provider = Smartcar(session, credentials, simulator.url, clock=clock)

        assert len({r.device_id for r in readings(read(provider))}) == FLEET.vehicles


class TestSchedule:
    def test_nobody_is_asked_before_its_turn(self, simulator: SmartcarThread, smartcar: Smartcar, clock: Clock) -> None:
        cursor = read(smartcar)[-1].cursor
        asked = sum(simulator.simulator.by_path.values())

        clock.now += timedelta(minutes=29)
        page = smartcar.read_feed("vehicles", cursor)

        assert (page.size, page.has_more, page.cursor) == (0, False, cursor)
        assert sum(simulator.simulator.by_path.values()) == asked

    @pytest.mark.parametrize("api", ["v3", "v2"])
    def test_a_month_of_polling_stays_within_the_vehicles_requests(
        self, api: str, session: HttpSession, clock: Clock
    ) -> None:
        fleet = SmartcarAccount(vehicles=2)
        with SmartcarThread(fleet, clock_ms=clock.ms) as simulator:
            simulator.simulator.tokens.access_ms = 10**12
            simulator.simulator.monthly = 500
            provider = opened(session, simulator, clock, api=api, list_every_s=86_400)
            _, devices = listed(provider)
            cursor, polls = None, 0
            for _ in range(31 * 24 * 4):
                clock.now += timedelta(minutes=15)
                pages = read(provider, cursor)
                cursor = pages[-1].cursor
                polls += sum(bool(page.readings) for page in pages)
            listed(provider, devices)

        assert max(simulator.simulator.by_vehicle.values()) <= 500
        assert simulator.simulator.by_status.keys() == {200}
        assert polls > 2 * (420 if api == "v3" else 100)

    def test_the_schedule_of_five_thousand_vehicles_fits_a_cursor(self) -> None:
        schedule = Schedule(None)
        schedule.found = [str(uuid4()) for _ in range(5000)]
        schedule.take_list(1_800_000_000)
        for place, vehicle_id in enumerate(schedule.due):
            schedule.due[vehicle_id] += 86_400 + place
            schedule.never[vehicle_id] = 24 if place % 2 else 0

        cursor = schedule.write()

        assert len(cursor) < 256 * 1024
        again = Schedule(cursor)
        assert (again.due, again.listed_s) == (schedule.due, schedule.listed_s)
        assert again.never == {each: bits for each, bits in schedule.never.items() if bits}

    def test_ids_that_are_no_uuids_survive_too(self) -> None:
        schedule = Schedule(None)
        schedule.found = ["~", "vehicle-1", "36AB27D0-FD9D-4455-823A-CE30AF709FFC"]
        schedule.take_list(1)

        assert list(Schedule(schedule.write()).due) == ["~", "vehicle-1", "36AB27D0-FD9D-4455-823A-CE30AF709FFC"]

    def test_a_vehicle_that_leaves_the_list_twice_is_forgotten_and_a_new_one_is_due_at_once(self) -> None:
        schedule = Schedule(None)
        schedule.found = ["stays", "leaves"]
        schedule.take_list(100)
        schedule.due = dict.fromkeys(schedule.due, 5000)
        schedule.never["leaves"] = 8

        schedule.found = ["stays", "new", "new"]
        schedule.take_list(200)
        schedule = Schedule(schedule.write())
        assert schedule.due == {"stays": 5000, "new": 200, "leaves": 5000}
        assert schedule.never == {"leaves": 8}

        schedule.found = ["stays", "new"]
        schedule.take_list(300)
        assert schedule.due == {"stays": 5000, "new": 200}

    def test_a_vehicle_that_is_missing_now_and_then_is_not_forgotten(self) -> None:
        schedule = Schedule(None)
        for at_s, found in enumerate((["a", "b"], ["a"], ["a", "b"], ["a"]), 100):
            schedule.found = list(found)
            schedule.take_list(at_s)
            schedule = Schedule(schedule.write())

        assert schedule.due == {"a": 100, "b": 100}

    def test_a_list_that_is_empty_once_silences_nobody_and_is_read_again_soon(
        self, session: HttpSession, simulator: SmartcarThread, clock: Clock
    ) -> None:
        simulator.simulator.tokens.access_ms = 10**12
        provider = opened(session, simulator, clock, calls_per_vehicle_and_month=10_000)
        cursor = read(provider)[-1].cursor
        due = Schedule(cursor).due
        indices = dict(FLEET.indices)

        clock.now += timedelta(hours=6)
        FLEET.indices.clear()
        try:
            cursor = provider.read_feed("vehicles", cursor).cursor
        finally:
            FLEET.indices.update(indices)
        assert Schedule(cursor).due == due
        pages = read(provider, cursor)
        assert {each.device_id for each in readings(pages)} == set(indices)

        lists = simulator.simulator.by_path["/v3/connections"]
        clock.now += timedelta(minutes=29)
        cursor = read(provider, pages[-1].cursor)[-1].cursor
        assert simulator.simulator.by_path["/v3/connections"] == lists
        clock.now += timedelta(minutes=1)
        cursor = read(provider, cursor)[-1].cursor
        assert simulator.simulator.by_path["/v3/connections"] == lists + 1
        clock.now += timedelta(minutes=31)
        read(provider, cursor)
        assert simulator.simulator.by_path["/v3/connections"] == lists + 1, "with vehicles in it, it is believed again"

    def test_the_missing_of_five_thousand_leave_room_for_those_that_are_there(self) -> None:
        schedule = Schedule(None)
        schedule.found = [f"{place}" for place in range(5000)]
        schedule.take_list(1)
        schedule.found = [f"{place}" for place in range(4000, 8000)]
        schedule.take_list(2)

        assert len(schedule.due) == 5000
        assert set(schedule.found) | {f"{place}" for place in range(4000, 8000)} <= schedule.due.keys()

    @pytest.mark.parametrize(
        ("now", "begins"),
        [
            (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
            (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
            (datetime(2028, 2, 29, 12, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        ],
    )
    def test_the_next_month_begins_at_midnight_utc(self, now: datetime, begins: datetime) -> None:
        assert next_month(now) == int(begins.timestamp())

    @pytest.mark.parametrize(
        "cursor", ["", "x", "[]", '{"i":["a"],"d":[]}', '{"t":"soon"}', "\ud800", '{"i":["!"]}', '{"n":{"abc":1}}']
    )
    def test_a_cursor_that_is_none_of_ours_is_begun_anew(self, smartcar: Smartcar, cursor: str) -> None:
        with pytest.raises(CursorRefused):
            smartcar.read_feed("vehicles", cursor)

    @pytest.mark.parametrize(
        "settings",
        [
            *(
                {"api": "v1"},
                {"poll_every_s": "60"},
                {"poll_every_s": 1},
                {"poll_every_s": True},
                {"list_every_s": 1e9},
            ),
        ],
    )
    def test_a_setting_that_cannot_be_is_refused_by_name(self, settings: dict[str, Any]) -> None:
        with pytest.raises(PermanentError, match=next(iter(settings))):
            PollOptions.of(settings)


def test_an_address_for_consent_quotes_what_it_is_given() -> None:
    url = authorize_url("a&b", "https://x.example/y?z=1", ["read_vin"], mode="simulated", state="s")

    assert url.startswith("https://connect.smartcar.com/oauth/authorize?response_type=code&client_id=a%26b&")
    assert url.endswith("scope=read_vin&mode=simulated&state=s")


def _is(reading: EvReading, index: int) -> bool:
    return reading.device_id == FLEET.vehicle_id(index)
