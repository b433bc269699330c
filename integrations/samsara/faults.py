"""Samsara's fault codes into reports: what a vehicle's J1939 bus, its OBD-II units and its maker say is wrong.

Shapes: VehicleStatsFaultCodes of the specification, developers.samsara.com/reference/getvehiclestatsfeed, read 2026-11.
A record lists all codes of its protocol, so its report is complete; but not where one could not be read, because a code
that may be that one must not count as gone.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from integrations.aside import Members, rejected
from integrations.bounds import BROKEN, Limits
from integrations.samsara.wire import Instant
from integrations.telematics import FaultCode, FaultReport, Rejected

MOST_CODES = 500
"""Of one protocol in one record; a lorry with every unit in distress reports some dozens."""

LOW, MEDIUM, HIGH, CRITICAL = SEVERITIES = ("low", "medium", "high", "critical")

# What the lamps of J1939-73 (DM1) mean, as Vector's introduction to J1939 puts it (elearning.vector.com, chapter 7,
# read 2026-11): red stop lamp, stop at once; protect lamp, something beside the electronics such as coolant too hot;
# amber warning lamp, less serious, drive on; malfunction indicator lamp, exhaust gas.
_LAMPS = (CRITICAL, HIGH, MEDIUM, MEDIUM)
_EMISSIONS = _LAMPS[-1]

# The maker's own words, which no page lists.
_OEM_SEVERITIES = {"critical": CRITICAL, "severe": CRITICAL, "high": HIGH, "major": HIGH, "low": LOW, "minor": LOW}

_TEXT = 200
_CODE = 64
MOST_SPN = 2**19 - 1
MOST_FMI = 2**5 - 1
MOST = 2**31 - 1
Spn = Annotated[int, Meta(ge=0, le=MOST_SPN)]
Fmi = Annotated[int, Meta(ge=0, le=MOST_FMI)]
Count = Annotated[int, Meta(ge=0, le=MOST)]

Codes = Iterator[FaultCode | None]


def decode_faults(raw: bytes, device_id: str, limits: Limits, aside: list[Rejected]) -> list[FaultReport]:
    """Return the reports of one record, one for each protocol that it speaks for; what is bad goes to `aside`."""
    try:
        record = Members(raw, "faultCodes.", device_id, aside)
    except BROKEN:
        aside.append(rejected("wrong_type", "faultCodes", raw, device_id))
        return []
    at: datetime | None = record.read("time", Instant, "time", required=True)
    doubt = limits.doubt(at) if at else None
    if doubt:
        record.refuse(doubt, "time")
    if at is None or doubt:
        return []
    reports = []
    before = len(aside)
    silent = _protocol_of(record.read("canBusType", str) or "")
    for key, (protocol, codes_of) in _SECTIONS.items():
        noted = len(aside)
        section = record.within(key)
        if section is None and (protocol != silent or len(aside) > noted):
            continue
        codes, is_complete = _distinct(section, codes_of(section)) if section is not None else ((), True)
        reports.append(FaultReport(device_id, at.astimezone(UTC), codes, is_complete, scope=protocol))
    if not reports and len(aside) == before:
        record.refuse("fault_protocol_unknown", "canBusType")
    return reports


def _protocol_of(bus: str) -> str | None:
    """Return what a bus such as CANBUS_J1939_500 or CANBUS_PASSENGER_15765_11_500 speaks."""
    return "j1939" if "J1939" in bus else "obdii" if "PASSENGER" in bus else None


def _distinct(section: Members, codes: Codes) -> tuple[tuple[FaultCode, ...], bool]:
    """Return codes once each, of several ratings the worst, and whether those are all."""
    known: dict[tuple[str, str], FaultCode] = {}
    is_complete = True
    for number, code in enumerate(codes):
        if number == MOST_CODES:
            section.refuse("too_many_codes")
            is_complete = False
            break
        if code is None:
            is_complete = False
            continue
        other = known.get((code.code, code.source))
        if other is None or SEVERITIES.index(code.severity) > SEVERITIES.index(other.severity):
            known[code.code, code.source] = code
    return tuple(known.values()), is_complete


def _j1939(section: Members) -> Codes:
    lamps = section.within("checkEngineLights")
    shared = lamp_severity(lamps, ("stopIsOn", "protectIsOn", "warningIsOn"))
    emissions = bool(lamps and lamps.read("emissionsIsOn", bool))
    for code in section.each("diagnosticTroubleCodes"):
        if code is None:
            yield None
            continue
        # The lamps are the vehicle's, except the malfunction indicator, which a code may tell for itself.
        own = code.read("milStatus", int)
        severity = shared or (_EMISSIONS if (emissions if own is None else own) else LOW)
        yield j1939_code(
            code.read("spnId", Spn, "spn", required=True),
            code.read("fmiId", Fmi, "fmi", required=True),
            severity,
            _source(code),
            [code.text(key, _TEXT) for key in ("spnDescription", "fmiDescription", "sourceAddressName")],
            code.read("occurrenceCount", Count, "occurrences"),
        )


def lamp_severity(lamps: Members | None, keys: tuple[str, ...]) -> str | None:
    """Return the severity of the worst lamp that is lit, None where none is; `keys` name them, the worst first."""
    for key, severity in zip(keys, _LAMPS, strict=False):
        if lamps and lamps.read(key, bool):
            return severity
    return None


def j1939_code(
    spn: int | None, fmi: int | None, severity: str, source: str, told: list[str | None], occurrences: int | None
) -> FaultCode | None:
    """Return a code that is known by its suspect parameter and failure mode; None where one is not given."""
    if spn is None or fmi is None:
        return None
    description = ", ".join(each for each in told if each) or None
    return FaultCode("j1939", f"SPN {spn} FMI {fmi}", severity, spn, fmi, source, description, occurrences)


def _obdii(section: Members) -> Codes:
    is_lit = bool(section.read("checkEngineLightIsOn", bool))
    for unit in section.each("diagnosticTroubleCodes"):
        if unit is None:
            yield None
            continue
        confirmed = HIGH if is_lit or unit.read("milStatus", bool) else MEDIUM
        source = _source(unit)
        for key, severity in (("confirmedDtcs", confirmed), ("permanentDtcs", MEDIUM), ("pendingDtcs", LOW)):
            for code in unit.each(key):
                yield _dtc(code, severity, source) if code else None


def _dtc(code: Members, severity: str, source: str) -> FaultCode | None:
    name = code.text("dtcShortCode", _CODE) or _short(code.read("dtcId", Count, "dtc"))
    if name is None:
        code.refuse("code_missing", "dtcShortCode")
        return None
    return FaultCode("obdii", name.upper(), severity, source=source, description=code.text("dtcDescription", _TEXT))


def _short(dtc_id: int | None) -> str | None:
    """Return the code that two bytes stand for (SAE J2012): system, digit, three hexadecimal digits."""
    if dtc_id is None:
        return None
    return f"{'PCBU'[dtc_id >> 14]}{dtc_id >> 12 & 3}{dtc_id & 0xFFF:03X}" if dtc_id <= 0xFFFF else f"DTC {dtc_id}"


def _oem(section: Members) -> Codes:
    for code in section.each("diagnosticTroubleCodes"):
        yield _oem_code(code) if code else None


def _oem_code(code: Members) -> FaultCode | None:
    name = code.text("codeIdentifier", _CODE)
    if name is None:
        code.refuse("code_missing", "codeIdentifier")
        return None
    severity = _OEM_SEVERITIES.get((code.text("codeSeverity", _CODE) or "").lower(), MEDIUM)
    source = code.text("codeSource", _CODE) or ""
    return FaultCode("other", name, severity, source=source, description=code.text("codeDescription", _TEXT))


def _source(unit: Members) -> str:
    """Return the sending unit's address: Samsara's name of it comes and goes, and is not in its webhooks."""
    address: int | None = unit.read("txId", Count, "tx_id")
    return "" if address is None else str(address)


_SECTIONS: dict[str, tuple[str, Callable[[Members], Codes]]] = {
    "j1939": ("j1939", _j1939),
    "obdii": ("obdii", _obdii),
    "oem": ("other", _oem),
}
