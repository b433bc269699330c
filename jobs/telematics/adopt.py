"""What came beside points of a device that had no vehicle: kept aside, and stored on the day it gets one."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from db.queries import telematics
from db.queries.safety_events import keep_events
from db.timeseries.ev import store_ev
from integrations.telematics import EvReading, FaultReport, SafetyEvent
from jobs.telematics import faults

UNMATCHED = "unmatched_record"
"""The reason under which they are kept; `unmatched_device` is that of readings."""
_KINDS: dict[str, type[EvReading | FaultReport | SafetyEvent]] = {
    "ev_reading": EvReading,
    "fault_report": FaultReport,
    "safety_event": SafetyEvent,
}


def name_of(record: EvReading | FaultReport | SafetyEvent) -> str:
    """Return what the record is called in `rejected_records.field`."""
    return next(name for name, kind in _KINDS.items() if isinstance(record, kind))


def adopt_records(
    connection: Connection, connection_id: UUID, device_id: str, vehicle_id: UUID, oldest: datetime, now: datetime
) -> int:
    """Store what was kept aside of a device for its vehicle; the tenant is the transaction's. Returns how many records.

    Args:
        oldest: charging before it has no place any more.
    """
    kept = telematics.take_rejected(connection, connection_id, UNMATCHED, device_id)
    records = list(_decoded(kept))
    if charging := [each for each in records if isinstance(each, EvReading) and each.time >= oldest]:
        store_ev(connection, [(vehicle_id, each) for each in charging])
    if reports := [each for each in records if isinstance(each, FaultReport)]:
        faults.write_reports(connection, [(vehicle_id, each) for each in reports])
    if events := [each for each in records if isinstance(each, SafetyEvent)]:
        keep_events(connection, connection_id, [(vehicle_id, each) for each in events], now)
    return len(records)


def _decoded(kept: Iterable[tuple[str, str]]) -> Iterable[EvReading | FaultReport | SafetyEvent]:
    for name, payload in kept:
        try:
            yield msgspec.json.decode(payload, type=_KINDS[name])
        except msgspec.DecodeError:  # a report that was cut, being too long
            continue
