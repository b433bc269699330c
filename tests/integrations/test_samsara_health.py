"""Batteries and fault codes of a page: what they become, and that a bad one costs nothing but itself."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.bounds import BROKEN, Limits, UnbelievableError
from integrations.errors import CursorRefused
from integrations.http import HttpSession
from integrations.samsara import Samsara
from integrations.samsara.decode import Decoded, decode_page
from integrations.samsara.faults import MOST_CODES
from integrations.samsara.salvage import salvage_page
from integrations.simulator import Account, SimulatorThread, expected_faults
from integrations.simulator.fleet import to_ms
from integrations.simulator.pages import Cursor
from integrations.telematics import EvReading, FaultCode, FaultReport, Page
from tests.integrations.conftest import ACCOUNT, NOW

AT = "2026-11-16T11:00:00Z"
TIME = datetime(2026, 11, 16, 11, tzinfo=UTC)
LIMITS = Limits.at(NOW)
LAMPS = {"stopIsOn": False, "protectIsOn": False, "warningIsOn": False, "emissionsIsOn": False}
SPN = {"spnId": 100, "fmiId": 1, "occurrenceCount": 3, "milStatus": 0, "txId": 0}


def decode(*vehicles: object, is_snapshot: bool = False) -> Decoded:
    body = json.dumps({"data": vehicles, "pagination": {"endCursor": "c", "hasNextPage": False}}).encode()
    try:
        return decode_page(body, LIMITS, is_snapshot=is_snapshot)
    except (*BROKEN, UnbelievableError):
        return salvage_page(body, LIMITS, is_snapshot=is_snapshot)


def of_record(record: object) -> Decoded:
    return decode({"id": "1", "faultCodes": [record]})


def of_j1939(*codes: object, **lamps: bool) -> Decoded:
    section = {"checkEngineLights": LAMPS | lamps, "diagnosticTroubleCodes": list(codes)}
    return of_record({"time": AT, "canBusType": "CANBUS_J1939_500", "j1939": section})


def of_obdii(*units: object, **more: object) -> Decoded:
    section = {"diagnosticTroubleCodes": list(units), **more}
    return of_record({"time": AT, "canBusType": "CANBUS_PASSENGER_15765_11_500", "obdii": section})


def codes(page: Decoded) -> list[tuple[str, str]]:
    return [(code.code, code.severity) for report in page.health.fault_reports for code in report.codes]


def aside(page: Decoded) -> list[tuple[str, str]]:
    return [(each.reason, each.field) for each in page.rejected]


class TestBatteries:
    def test_level_and_charging_of_one_instant_are_one_reading_and_the_level_stays_a_point(self) -> None:
        levels = [{"time": AT, "value": 55_000}, {"time": "2026-11-16T11:02:00Z", "value": 56_000}]
        status = [{"time": AT, "value": 2}, {"time": "2026-11-16T11:01:00Z", "value": 1}]
        page = decode({"id": "1", "evStateOfChargeMilliPercent": levels, "evChargingStatus": status})
        minute = timedelta(minutes=1)
        assert page.health.ev_readings == (
            EvReading("1", TIME, 55.0, "charging"),
            EvReading("1", TIME + minute, None, "not_charging"),
            EvReading("1", TIME + 2 * minute, 56.0, None),
        )
        assert [reading.battery_percent for reading in page.readings] == [55.0, 56.0]

    def test_a_status_that_samsara_calls_unknown_says_nothing(self) -> None:
        page = decode({"id": "1", "evChargingStatus": [{"time": AT, "value": 0}]})
        assert (page.health.ev_readings, page.rejected) == ((), [])

    @pytest.mark.parametrize(
        ("value", "reason"), [(3, "charging_state_unknown"), (4, "charging_state_unknown"), ("2", "wrong_type")]
    )
    def test_a_status_that_is_described_nowhere_is_set_aside_beside_the_good_ones(
        self, value: object, reason: str
    ) -> None:
        status = [{"time": AT, "value": value}, {"time": "2026-11-16T11:01:00Z", "value": 1}]
        page = decode({"id": "1", "evChargingStatus": status})
        assert [reading.charging_state for reading in page.health.ev_readings] == ["not_charging"]
        assert aside(page) == [(reason, "evChargingStatus.value")]

    def test_an_instant_in_the_future_is_set_aside(self) -> None:
        page = decode({"id": "1", "evChargingStatus": [{"time": "2027-01-01T00:00:00Z", "value": 1}]})
        assert page.health.ev_readings == ()
        assert aside(page) == [("time_in_future", "evChargingStatus.time")]

    def test_a_snapshot_has_single_objects(self) -> None:
        at = {"time": AT}
        vehicle = {"evStateOfChargeMilliPercent": at | {"value": 1000}, "evChargingStatus": at | {"value": 1}}
        page = decode({"id": "1", **vehicle}, is_snapshot=True)
        assert page.health.ev_readings == (EvReading("1", TIME, 1.0, "not_charging"),)


class TestJ1939:
    def test_a_code_is_known_by_its_parameter_failure_and_sender(self) -> None:
        told = {"spnDescription": "Oil pressure", "fmiDescription": "Low", "sourceAddressName": "Engine #1"}
        page = of_j1939(SPN | told, stopIsOn=True)
        code = FaultCode("j1939", "SPN 100 FMI 1", "critical", 100, 1, "0", "Oil pressure, Low, Engine #1", 3)
        assert page.health.fault_reports == (FaultReport("1", TIME, (code,), is_complete=True, scope="j1939"),)
        assert page.rejected == []

    @pytest.mark.parametrize(
        ("lamps", "mil", "severity"),
        [
            ({}, 0, "low"),
            ({}, None, "low"),
            ({}, 1, "medium"),
            ({"emissionsIsOn": True}, None, "medium"),
            ({"emissionsIsOn": True}, 0, "low"),
            ({"emissionsIsOn": True}, 1, "medium"),
            ({"warningIsOn": True}, 0, "medium"),
            ({"protectIsOn": True, "warningIsOn": True}, 0, "high"),
            ({"stopIsOn": True, "protectIsOn": True, "warningIsOn": True, "emissionsIsOn": True}, 1, "critical"),
        ],
    )
    def test_the_worst_lamp_is_the_severity(self, lamps: dict[str, bool], mil: int | None, severity: str) -> None:
        assert codes(of_j1939(SPN | {"milStatus": mil}, **lamps)) == [("SPN 100 FMI 1", severity)]

    def test_the_same_code_of_two_control_units_is_two_codes(self) -> None:
        page = of_j1939(SPN, SPN | {"txId": 3}, SPN)
        assert [code.source for code in page.health.fault_reports[0].codes] == ["0", "3"]

    @pytest.mark.parametrize(
        ("bad", "reason", "field"),
        [
            ({"spnId": 524_288}, "spn_out_of_range", ".spnId"),
            ({"spnId": None}, "spn_missing", ".spnId"),
            ({"spnId": "100"}, "wrong_type", ".spnId"),
            ({"fmiId": 32}, "fmi_out_of_range", ".fmiId"),
            ({"fmiId": -1}, "fmi_out_of_range", ".fmiId"),
        ],
    )
    def test_a_bad_code_costs_only_itself_but_then_nothing_counts_as_gone(
        self, bad: dict[str, object], reason: str, field: str
    ) -> None:
        page = of_j1939(SPN | bad, SPN | {"spnId": 110})
        assert codes(page) == [("SPN 110 FMI 1", "low")]
        assert not page.health.fault_reports[0].is_complete
        assert aside(page) == [(reason, f"faultCodes.j1939.diagnosticTroubleCodes{field}")]
        assert '"milStatus"' in page.rejected[0].payload and page.rejected[0].device_id == "1"

    @pytest.mark.parametrize("bad", [{"occurrenceCount": -1}, {"txId": "x"}, {"spnDescription": 7}])
    def test_a_bad_detail_costs_only_itself(self, bad: dict[str, object]) -> None:
        page = of_j1939(SPN | bad)
        assert codes(page) == [("SPN 100 FMI 1", "low")]
        assert page.health.fault_reports[0].is_complete
        assert len(page.rejected) == 1

    def test_an_empty_list_says_that_all_codes_of_its_protocol_are_gone(self) -> None:
        for page in (of_j1939(), of_record({"time": AT, "canBusType": "CANBUS_J1939_250"})):
            assert page.health.fault_reports == (FaultReport("1", TIME, (), is_complete=True, scope="j1939"),)
            assert page.rejected == []

    def test_codes_beyond_the_bound_are_set_aside_and_none_counts_as_gone(self) -> None:
        page = of_j1939(*(SPN | {"spnId": spn} for spn in range(MOST_CODES + 1)))
        (report,) = page.health.fault_reports
        assert (len(report.codes), report.is_complete) == (MOST_CODES, False)
        assert aside(page) == [("too_many_codes", "faultCodes.j1939")]

    @pytest.mark.parametrize("listed", ["none", {"spnId": 1}])
    def test_a_list_that_cannot_be_read_clears_nothing(self, listed: object) -> None:
        page = of_record({"time": AT, "j1939": {"diagnosticTroubleCodes": listed}})
        assert [(report.codes, report.is_complete) for report in page.health.fault_reports] == [((), False)]
        assert aside(page) == [("wrong_type", "faultCodes.j1939.diagnosticTroubleCodes")]


class TestObdii:
    def test_codes_are_rated_by_lamp_and_list(self) -> None:
        lists = {
            "confirmedDtcs": [{"dtcId": 769, "dtcShortCode": "P0301", "dtcDescription": "Misfire"}],
            "pendingDtcs": [{"dtcId": 1056, "dtcShortCode": "P0420"}],
            "permanentDtcs": [{"dtcId": 135, "dtcShortCode": "p0087"}],
        }
        dark, lit = of_obdii({"txId": 8, **lists}), of_obdii({"txId": 8, **lists}, checkEngineLightIsOn=True)
        rest = [("P0087", "medium"), ("P0420", "low")]
        assert codes(dark) == [("P0301", "medium"), *rest]
        assert codes(lit) == [("P0301", "high"), *rest]
        assert codes(of_obdii({"txId": 8, "milStatus": True, **lists})) == codes(lit)
        assert lit.health.fault_reports[0].codes[0] == FaultCode(
            "obdii", "P0301", "high", source="8", description="Misfire"
        )
        assert lit.health.fault_reports[0].scope == "obdii"

    def test_a_code_in_several_lists_has_the_worst_of_its_ratings(self) -> None:
        code = {"dtcShortCode": "P0301"}
        assert codes(of_obdii({"pendingDtcs": [code], "confirmedDtcs": [code]})) == [("P0301", "medium")]

    @pytest.mark.parametrize(
        ("number", "name"),
        [(0x0301, "P0301"), (0x4420, "C0420"), (0x9318, "B1318"), (0xFFFF, "U3FFF"), (0x1_0000, "DTC 65536")],
    )
    def test_a_code_without_its_short_form_is_named_from_its_number(self, number: int, name: str) -> None:
        assert codes(of_obdii({"confirmedDtcs": [{"dtcId": number}]})) == [(name, "medium")]

    def test_a_code_without_name_and_number_is_set_aside(self) -> None:
        page = of_obdii({"confirmedDtcs": [{"dtcDescription": "?"}, 7, {"dtcShortCode": "P0301"}]})
        assert codes(page) == [("P0301", "medium")]
        path = "faultCodes.obdii.diagnosticTroubleCodes.confirmedDtcs"
        assert aside(page) == [("code_missing", f"{path}.dtcShortCode"), ("wrong_type", path)]

    def test_a_list_without_end_is_read_to_a_bound_and_then_nothing_counts_as_gone(self) -> None:
        page = of_obdii(*([{}] * 10_001))
        assert [(report.codes, report.is_complete) for report in page.health.fault_reports] == [((), False)]
        assert aside(page) == [("too_many", "faultCodes.obdii.diagnosticTroubleCodes")]


class TestRecords:
    def test_the_makers_own_codes_are_of_no_standard(self) -> None:
        told = {"codeIdentifier": "E-17", "codeDescription": "Brake", "codeSeverity": "Severe", "codeSource": "EBS"}
        others = [{"codeIdentifier": "E-18", "codeSeverity": "purple"}, {"codeDescription": "nameless"}]
        page = of_record({"time": AT, "oem": {"diagnosticTroubleCodes": [told, *others]}})
        assert codes(page) == [("E-17", "critical"), ("E-18", "medium")]
        (report,) = page.health.fault_reports
        assert (report.scope, report.codes[0].protocol, report.codes[0].source) == ("other", "other", "EBS")
        assert aside(page) == [("code_missing", "faultCodes.oem.diagnosticTroubleCodes.codeIdentifier")]

    def test_each_protocol_in_a_record_is_a_report_of_its_own(self) -> None:
        sections = {"j1939": {"diagnosticTroubleCodes": [SPN]}, "obdii": {}, "oem": None}
        page = of_record({"time": AT, "canBusType": "CANBUS_J1939_500", **sections})
        assert [(report.scope, len(report.codes)) for report in page.health.fault_reports] == [
            ("j1939", 1),
            ("obdii", 0),
        ]

    @pytest.mark.parametrize(
        ("record", "reason", "field"),
        [
            ("none", "wrong_type", "faultCodes"),
            ({}, "time_missing", "faultCodes.time"),
            ({"time": "yesterday"}, "time_unreadable", "faultCodes.time"),
            ({"time": 1795149025}, "wrong_type", "faultCodes.time"),
            ({"time": "2026-11-16T12:05:11Z"}, "time_in_future", "faultCodes.time"),
            ({"time": "2007-04-07T11:00:00Z"}, "time_too_old", "faultCodes.time"),
            ({"time": AT}, "fault_protocol_unknown", "faultCodes.canBusType"),
            ({"time": AT, "canBusType": "CANBUS_OF_TOMORROW"}, "fault_protocol_unknown", "faultCodes.canBusType"),
            ({"time": AT, "canBusType": "CANBUS_J1939_500", "j1939": []}, "wrong_type", "faultCodes.j1939"),
        ],
    )
    def test_a_record_that_cannot_be_read_clears_nothing_and_costs_only_itself(
        self, record: object, reason: str, field: str
    ) -> None:
        good = {"time": AT, "canBusType": "CANBUS_J1939_500", "j1939": {"diagnosticTroubleCodes": [SPN]}}
        page = decode({"id": "1", "faultCodes": [record, good]})
        assert codes(page) == [("SPN 100 FMI 1", "low")]
        assert aside(page) == [(reason, field)]

    def test_reports_come_oldest_first_in_utc(self) -> None:
        section = {"canBusType": "CANBUS_J1939_500"}
        records = [section | {"time": "2026-11-16T13:00:01+02:00"}, section | {"time": AT}]
        page = decode({"id": "1", "faultCodes": records})
        assert [report.time for report in page.health.fault_reports] == [TIME, TIME + timedelta(seconds=1)]
        assert {report.time.tzinfo for report in page.health.fault_reports} == {UTC}

    def test_bad_positions_beside_them_cost_no_codes(self) -> None:
        record = {"time": AT, "canBusType": "CANBUS_J1939_500", "j1939": {"diagnosticTroubleCodes": [SPN]}}
        page = decode({"id": "1", "gps": [{"time": AT, "latitude": 91, "longitude": 1}], "faultCodes": [record]})
        assert codes(page) == [("SPN 100 FMI 1", "low")]
        assert aside(page) == [("latitude_out_of_range", "gps.latitude")]

    def test_a_snapshot_has_one_record(self) -> None:
        record = {"time": AT, "canBusType": "CANBUS_J1939_500", "j1939": {"diagnosticTroubleCodes": [SPN]}}
        assert codes(decode({"id": "1", "faultCodes": record}, is_snapshot=True)) == [("SPN 100 FMI 1", "low")]
        none: dict[str, Any] = {"id": "1", "faultCodes": None}
        assert decode(none, is_snapshot=True).health.fault_reports == ()


def told(page: Page) -> list[tuple[str, datetime, str | None, tuple[str, ...]]]:
    return [
        (report.device_id, report.time, report.scope, tuple(code.code for code in report.codes))
        for report in page.fault_reports
    ]


def test_every_report_of_the_simulated_fleet_is_read_once(samsara: Samsara) -> None:
    seen, cursor, has_more = list[tuple[str, datetime, str | None, tuple[str, ...]]](), None, True
    while has_more:
        page = samsara.read_feed("health", cursor)
        assert not page.rejected
        seen += told(page)
        cursor, has_more = page.cursor, page.has_more
    assert sorted(seen, key=str) == sorted((tuple(each) for each in expected_faults(ACCOUNT, NOW)), key=str)
    assert len({device for device, _, _, named in seen if named}) > 3
    assert {scope for _, _, scope, _ in seen} == {"j1939", "obdii"}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("missing_time", "time_missing"),
        ("future_time", "time_in_future"),
        ("wrong_types", "wrong_type"),
        ("nul", "time_unreadable"),
    ],
)
def test_a_bad_report_is_set_aside_and_every_good_one_beside_it_is_kept(
    simulator: SimulatorThread, samsara: Samsara, fault: str, reason: str
) -> None:
    good = samsara.read_feed("health", None)
    simulator.next(fault)
    page = samsara.read_feed("health", None)
    assert page.fault_reports == good.fault_reports
    assert page.ev_readings == good.ev_readings
    assert [(each.reason, each.device_id) for each in page.rejected] == [
        (reason, ACCOUNT.device_id(index)) for index in (0, 20)
    ]


def test_snapshot_and_feed_say_the_same_of_the_same_instant(session: HttpSession) -> None:
    account = Account("at-one-instant", 30, seed=3)
    with SimulatorThread(account, clock_ms=lambda: to_ms(NOW)) as other:
        client = Samsara(session, account.token, other.url, clock=lambda: NOW)
        snapshot, feed = client.read_snapshot("health", None), client.read_feed("health", None)
    assert snapshot.fault_reports == feed.fault_reports != ()
    assert snapshot.ev_readings == feed.ev_readings != ()


def test_a_cursor_from_before_the_feed_read_fault_codes_is_refused_so_that_the_feed_begins_anew(
    samsara: Samsara,
) -> None:
    of_old = Cursor("feed", to_ms(NOW), 0).encode(ACCOUNT, "evStateOfChargeMilliPercent")
    with pytest.raises(CursorRefused):
        samsara.read_feed("health", of_old)
    assert samsara.read_feed("health", None).fault_reports
