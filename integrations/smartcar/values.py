"""What one answer says of one vehicle, signal by signal, each with an age of its own: one reading an instant.

The time of a value is when the vehicle reported it (`oemUpdatedAt`, `SC-Data-Age`); where that is not said, when
Smartcar got it from the maker (`retrievedAt`, `fetchedAt`), which is no earlier than the truth and stays the same until
Smartcar asks the maker again. Our own clock is never the time of a value: each poll would make a new point of it.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from integrations.aside import rejected
from integrations.bounds import Limits, is_null_island
from integrations.telematics import EvReading, FaultCode, FaultReport, Page, Reading, Rejected

KM_PER_MILE = 1.609344
_KM_PER_UNIT = {"kilometers": 1.0, "kilometres": 1.0, "km": 1.0, "miles": KM_PER_MILE, "mi": KM_PER_MILE}
_KPH_PER_UNIT = {
    **dict.fromkeys(("km/h", "kph", "kmh", "kilometers_per_hour", "kilometers per hour"), 1.0),
    **dict.fromkeys(("mph", "miles_per_hour", "miles per hour"), KM_PER_MILE),
}
_PERCENT = {"percent": 1.0, "percentage": 1.0, "%": 1.0}
_UNSAID = 1.0  # the API is metric unless asked otherwise, and a pushed value may come without its unit
_LARGEST = {"odometer_km": 1e7, "range_km": 1e4, "speed_kph": 500.0, "fuel_percent": 100.0, "battery_percent": 100.0}

_CHARGING = {
    "CHARGING": "charging",
    "FULLY_CHARGED": "charged",
    "CHARGING_COMPLETE": "charged",
    "COMPLETE": "charged",
    "NOT_CHARGING": "not_charging",
    "STOPPED": "not_charging",
    "DISCONNECTED": "not_charging",
}
_OBD = re.compile(r"[PCBU][0-3][0-9A-F]{3}")
_CODE = re.compile(r"[!-~]{1,64}")
_MOST_CODES = 200
_SECONDS_UNTIL = 1e11  # the year 5138 in seconds; in milliseconds, 1973
_MILLISECONDS_UNTIL = 1e14


class Record(NamedTuple):
    """One signal as it came: its code, what it says, when the vehicle said so, and its JSON text."""

    code: str
    body: Mapping[str, Any]
    at: datetime
    raw: bytes


class BadValue(Exception):  # noqa: N818 - a value, set aside at once
    """A signal or an instant cannot be; `reason` is a constant word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Values:
    """What is known of one vehicle from one answer."""

    def __init__(self, device_id: str, now: datetime) -> None:
        self.device_id = device_id
        self.rejected: list[Rejected] = []
        self._limits = Limits.at(now)
        self._readings: dict[datetime, dict[str, Any]] = {}
        self._batteries: dict[datetime, dict[str, Any]] = {}
        self._codes: Record | None = None
        self._lamp: str | None = None

    def instant(self, *told: object) -> datetime:
        """Return the first of several times that says anything.

        Epoch seconds and milliseconds both occur: they are told apart by their size. 0 is Smartcar's "not known".

        Raises:
            BadValue: none, or one that cannot be.
        """
        for each in told:
            if each in (None, 0, "") and each is not False:
                continue
            at = _as_instant(each)
            if doubt := self._limits.doubt(at):
                raise BadValue(doubt)
            return at
        raise BadValue("time_missing")

    def take(self, record: Record) -> None:
        """Take one signal; one that we have no place for is passed over, one that cannot be is set aside."""
        if record.code not in SIGNALS:
            return
        try:
            SIGNALS[record.code](self, record)
        except BadValue as bad:
            self.refuse(bad.reason, record.code, record.raw)

    def refuse(self, reason: str, field: str, raw: bytes) -> None:
        """Set something of this vehicle aside."""
        self.rejected.append(rejected(reason, field, raw, self.device_id))

    def page(self, cursor: str | None, has_more: bool) -> Page:
        """Return all of it, oldest first."""
        readings = [Reading(self.device_id, at, **self._readings[at]) for at in sorted(self._readings)]
        batteries = [EvReading(self.device_id, at, **self._batteries[at]) for at in sorted(self._batteries)]
        return Page(readings, self.rejected, cursor, has_more, batteries, self._faults())

    def located(self, record: Record) -> None:
        """Take a position; a bad heading costs only itself."""
        latitude = _number(record.body.get("latitude"), "latitude", -90, 90)
        longitude = _number(record.body.get("longitude"), "longitude", -180, 180)
        if latitude is None and longitude is None:
            return
        if latitude is None or longitude is None:
            raise BadValue("latitude_missing" if latitude is None else "longitude_missing")
        if is_null_island(latitude, longitude):
            raise BadValue("null_island")
        at = self._readings.setdefault(record.at, {})
        at |= {"latitude": latitude, "longitude": longitude}
        try:
            heading = _number(record.body.get("heading"), "heading", 0, 360)
        except BadValue as bad:
            self.refuse(bad.reason, f"{record.code}.heading", record.raw)
        else:
            if heading is not None:
                at["heading_deg"] = heading % 360

    def measured(self, record: Record, column: str, units: Mapping[str, float]) -> float | None:
        """Return a figure in our unit; None where it is null."""
        value = _number(record.body.get("value"), column, -math.inf, math.inf)
        if value is None:
            return None
        unit = record.body.get("unit")
        factor = _UNSAID if unit is None else units.get(unit.lower()) if isinstance(unit, str) else None
        if factor is None:
            raise BadValue("unknown_unit")
        return _number(round(value * factor, 6), column, 0, _LARGEST[column])

    def put(self, record: Record, column: str, units: Mapping[str, float]) -> None:
        """Take a figure into the reading of its instant."""
        value = self.measured(record, column, units)
        if value is not None:
            self._readings.setdefault(record.at, {})[column] = value

    def put_battery(self, record: Record, column: str, units: Mapping[str, float]) -> None:
        """Take a figure of the battery."""
        value = self.measured(record, column, units)
        if value is not None:
            self._batteries.setdefault(record.at, {})[column] = value
            if column == "battery_percent":
                self._readings.setdefault(record.at, {})[column] = value

    def charges(self, record: Record) -> None:
        """Take whether it charges; the detailed word is preferred to the bare yes or no, whichever comes first."""
        told = record.body.get("value")
        if told is None:
            return
        if record.code == "charge-ischarging":
            if not isinstance(told, bool):
                raise BadValue("wrong_type")
            self._batteries.setdefault(record.at, {}).setdefault("charging_state", _WHETHER[told])
        elif not isinstance(told, str):
            raise BadValue("wrong_type")
        elif told.upper() not in _CHARGING:
            raise BadValue("charging_state_unknown")
        else:
            self._batteries.setdefault(record.at, {})["charging_state"] = _CHARGING[told.upper()]

    def coded(self, record: Record) -> None:
        """Take the list of trouble codes; empty says that there are none."""
        codes = record.body.get("values")
        if not isinstance(codes, list):
            raise BadValue("wrong_type")
        if len(codes) > _MOST_CODES:
            raise BadValue("too_many_codes")
        self._codes = record

    def lit(self, record: Record) -> None:
        """Take the malfunction lamp: by it the codes are judged."""
        lamp = record.body.get("status")
        self._lamp = lamp if lamp in ("ALERT", "OK") else None

    def _faults(self) -> list[FaultReport]:
        if self._codes is None:
            return []
        severity = {"ALERT": "high", "OK": "low"}.get(self._lamp or "", "medium")
        codes: dict[str, FaultCode] = {}
        is_complete = True
        for entry in self._codes.body["values"]:
            code = entry.get("code") if isinstance(entry, dict) else None
            if not isinstance(code, str) or not _CODE.fullmatch(code.strip()):
                self.refuse("wrong_type", f"{self._codes.code}.code", self._codes.raw)
                is_complete = False
                continue
            code = code.strip().upper()
            codes[code] = FaultCode("obdii" if _OBD.fullmatch(code) else "other", code, severity)
        return [FaultReport(self.device_id, self._codes.at, tuple(codes.values()), is_complete)]


_WHETHER = {True: "charging", False: "not_charging"}

# smartcar.com/docs/api-reference/signals/schema, read 2026-11. Percent is 0 to 100 here.
SIGNALS: dict[str, Callable[[Values, Record], None]] = {
    "location-preciselocation": Values.located,
    "odometer-traveleddistance": lambda values, record: values.put(record, "odometer_km", _KM_PER_UNIT),
    "motion-currentspeed": lambda values, record: values.put(record, "speed_kph", _KPH_PER_UNIT),
    "internalcombustionengine-fuellevel": lambda values, record: values.put(record, "fuel_percent", _PERCENT),
    "tractionbattery-stateofcharge": lambda values, record: values.put_battery(record, "battery_percent", _PERCENT),
    "tractionbattery-range": lambda values, record: values.put_battery(record, "range_km", _KM_PER_UNIT),
    "charge-ischarging": Values.charges,
    "charge-detailedchargingstatus": Values.charges,
    "diagnostics-dtclist": Values.coded,
    "diagnostics-mil": Values.lit,
}


def _number(value: object, word: str, smallest: float, largest: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadValue("wrong_type")
    number = float(value) if abs(value) < 1e300 else math.inf
    if not (math.isfinite(number) and smallest <= number <= largest):
        raise BadValue(f"{word}_out_of_range")
    return number


def _as_instant(told: object) -> datetime:
    try:
        if isinstance(told, str):
            at = datetime.fromisoformat(told)
            if at.tzinfo is None:
                raise BadValue("time_unreadable")
            return at.astimezone(UTC)
        if isinstance(told, bool) or not isinstance(told, int | float) or not 0 < told < _MILLISECONDS_UNTIL:
            raise BadValue("time_unreadable")
        return datetime.fromtimestamp(told if told < _SECONDS_UNTIL else told / 1000, UTC)
    except (ValueError, OverflowError):
        raise BadValue("time_unreadable") from None
