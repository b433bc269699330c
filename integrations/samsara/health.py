"""What Samsara says of batteries and fault codes, which is no reading: charging, and the codes that are present.

`evChargingStatus` is 0 for unknown, 1 for not charging, 2 for charging; a full battery has no number of its own.
Source: VehicleStatsEvChargingStatus, developers.samsara.com/reference/getvehiclestatsfeed, read 2026-11.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from integrations.bounds import Limits, UnbelievableError
from integrations.samsara.faults import decode_faults
from integrations.samsara.wire import FeedVehicle
from integrations.telematics import EvReading, FaultReport, Rejected

_CHARGING = {0: None, 1: "not_charging", 2: "charging"}
_MILLI = 1000


class Health(NamedTuple):
    """What a page brings beside its readings, oldest first per device."""

    ev_readings: tuple[EvReading, ...] = ()
    fault_reports: tuple[FaultReport, ...] = ()
    rejected: tuple[Rejected, ...] = ()


_NOTHING = Health()


def read_health(vehicles: list[FeedVehicle], limits: Limits) -> Health:
    """Return what vehicles say of their batteries and faults; a bad report is among the rejected.

    Raises:
        UnbelievableError: as `ev_readings` does.
    """
    talking = [each for each in vehicles if each.fault_codes or _is_electric(each)]
    if not talking:
        return _NOTHING
    readings: list[EvReading] = []
    reports: list[FaultReport] = []
    rejected: list[Rejected] = []
    for vehicle in talking:
        readings += ev_readings(vehicle, limits)
        told = [each for raw in vehicle.fault_codes for each in decode_faults(bytes(raw), vehicle.id, limits, rejected)]
        reports += sorted(told, key=lambda report: report.time)
    return Health(tuple(readings), tuple(reports), tuple(rejected))


def ev_readings(vehicle: FeedVehicle, limits: Limits) -> list[EvReading]:
    """Return what a vehicle says of its battery, one reading an instant.

    Raises:
        UnbelievableError: an instant out of limits.
    """
    by_time: dict[datetime, tuple[float | None, str | None]] = {}
    for status in vehicle.ev_charging_status:
        by_time[status.time] = (None, _CHARGING[status.value])
    for level in vehicle.ev_state_of_charge_milli_percent:
        by_time[level.time] = (level.value / _MILLI, by_time.get(level.time, (None, None))[1])
    if any(limits.doubt(at) for at in by_time):
        raise UnbelievableError
    return [
        EvReading(vehicle.id, at.astimezone(UTC), percent, state)
        for at, (percent, state) in sorted(by_time.items())
        if (percent, state) != (None, None)
    ]


def _is_electric(vehicle: FeedVehicle) -> bool:
    return bool(vehicle.ev_state_of_charge_milli_percent or vehicle.ev_charging_status)
