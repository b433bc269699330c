"""The fault codes of simulated vehicles: lorries speak J1939, vans and electric vehicles OBD-II.

A faulty vehicle has codes in the first half of each of its cycles and none in the second; which ones follows from its
index and the cycle. So what a vehicle says at any instant can be computed without having asked it.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from integrations.simulator.fleet import Account, from_ms, rfc3339, to_ms
from integrations.simulator.tracks import unit

CYCLE_INTERVALS = 120
"""How long a cycle is, in gps intervals."""


class J1939(NamedTuple):
    """A code of a lorry, and the lamp that it lights."""

    spn: int
    fmi: int
    part: str
    failure: str
    unit: int
    unit_name: str
    lamp: str

    @property
    def code(self) -> str:
        """What we call it."""
        return f"SPN {self.spn} FMI {self.fmi}"


class Obdii(NamedTuple):
    """A code of a van, and whether it lights the check engine lamp."""

    code: str
    description: str
    is_lit: bool


LORRY_CODES = (
    J1939(100, 1, "Engine Oil Pressure", "Low - most severe", 0, "Engine #1", "stopIsOn"),
    J1939(1761, 17, "Aftertreatment 1 DEF Tank Level", "Low - least severe", 0, "Engine #1", "warningIsOn"),
    J1939(110, 0, "Engine Coolant Temperature", "High - most severe", 0, "Engine #1", "protectIsOn"),
    J1939(3226, 4, "Aftertreatment 1 SCR Outlet NOx", "Voltage below normal", 61, "Exhaust Emission", "emissionsIsOn"),
    J1939(639, 14, "J1939 Network #1", "Special instructions", 33, "Body Controller", ""),
)
VAN_CODES = (
    Obdii("P0301", "Cylinder 1 Misfire Detected", is_lit=True),
    Obdii("P0420", "Catalyst System Efficiency Below Threshold", is_lit=True),
    Obdii("P0128", "Coolant Thermostat Below Regulating Temperature", is_lit=False),
    Obdii("B1318", "Battery Voltage Low", is_lit=False),
)
_LORRIES = ("Freightliner", "Volvo", "MAN")


class ExpectedFaults(NamedTuple):
    """What one report says: all codes that a vehicle has at an instant."""

    device_id: str
    time: datetime
    protocol: str
    codes: tuple[str, ...]


def protocol_of(account: Account, index: int) -> str:
    """Return what a vehicle's bus speaks."""
    return "j1939" if account.identity(index).make in _LORRIES else "obdii"


def codes_at(account: Account, index: int, at_ms: int) -> tuple[J1939 | Obdii, ...]:
    """Return the codes that a vehicle has at an instant."""
    if unit(account.seed, index, 30) >= account.fault_share:
        return ()
    cycle_ms = CYCLE_INTERVALS * account.interval_ms
    cycle, into_ms = divmod(at_ms + int(unit(account.seed, index, 31) * cycle_ms), cycle_ms)
    if into_ms >= cycle_ms // 2:
        return ()
    known: tuple[J1939 | Obdii, ...] = LORRY_CODES if protocol_of(account, index) == "j1939" else VAN_CODES
    first = (index + cycle) % len(known)
    number = 2 if (index + cycle) % 3 == 0 else 1
    return tuple(known[(first + more) % len(known)] for more in range(number))


def fault_record(account: Account, index: int, at_ms: int) -> str:
    """Return what a vehicle says of its faults at an instant, as JSON text."""
    codes = codes_at(account, index, at_ms)
    head: dict[str, object] = {"time": rfc3339(at_ms)}
    if protocol_of(account, index) == "j1939":
        head |= {"canBusType": "CANBUS_J1939_500", "j1939": _j1939([each for each in codes if isinstance(each, J1939)])}
    else:
        of_van = [each for each in codes if isinstance(each, Obdii)]
        head |= {"canBusType": "CANBUS_PASSENGER_15765_11_500", "obdii": _obdii(of_van)}
    return json.dumps(head, separators=(",", ":"))


def expected_faults(account: Account, until: datetime, *, since: datetime | None = None) -> Iterator[ExpectedFaults]:
    """Yield every report that a feed has published by `until`, as `Account.expected` does of readings."""
    first_ms = account.first_ms(to_ms(since or account.start or until))
    for index in range(account.vehicles):
        instants = account.instants(index, "faultCodes", first_ms, account.horizon_ms(to_ms(until)))
        for at_ms in {account.last_instant(index, "faultCodes", first_ms), *instants}:
            codes = tuple(each.code for each in codes_at(account, index, at_ms))
            yield ExpectedFaults(account.device_id(index), from_ms(at_ms), protocol_of(account, index), codes)


def _j1939(codes: list[J1939]) -> dict[str, object]:
    lamps = ("emissionsIsOn", "protectIsOn", "stopIsOn", "warningIsOn")
    return {
        "checkEngineLights": {lamp: any(code.lamp == lamp for code in codes) for lamp in lamps},
        "diagnosticTroubleCodes": [
            {
                "spnId": code.spn,
                "spnDescription": code.part,
                "fmiId": code.fmi,
                "fmiDescription": code.failure,
                "occurrenceCount": 1 + code.spn % 5,
                "milStatus": int(code.lamp == "emissionsIsOn"),
                "txId": code.unit,
                "sourceAddressName": code.unit_name,
            }
            for code in codes
        ],
    }


def _obdii(codes: list[Obdii]) -> dict[str, object]:
    is_lit = any(code.is_lit for code in codes)
    told = [
        {"dtcId": _dtc_id(code.code), "dtcShortCode": code.code, "dtcDescription": code.description} for code in codes
    ]
    of_unit = {"txId": 2024, "confirmedDtcs": told, "pendingDtcs": [], "permanentDtcs": [], "milStatus": is_lit}
    return {"checkEngineLightIsOn": is_lit, "diagnosticTroubleCodes": [of_unit] if codes else []}


def _dtc_id(code: str) -> int:
    return "PCBU".index(code[0]) << 14 | int(code[1]) << 12 | int(code[2:], 16)
