"""Fault codes: reports of one instant each become the times during which a code was there.

A vehicle reports what it has now, again and again; what is stored is a row for each time a code came, with when it was
first and last seen and when a report was without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from db.queries import faults as queries
from db.queries.faults import ALL, Complete, Fault, Key, Known
from integrations.telematics import FaultCode, FaultReport
from jobs.outcomes import Counts

SEVERITIES = ("low", "medium", "high", "critical")
"""A report that is not complete was pushed, and does not say which lamps are on: it makes no code less severe."""
PROTOCOLS = ("j1939", "obdii", "other")


@dataclass(frozen=True)
class Changes:
    """What reports make of what is known.

    Rows to insert, rows to rewrite, when complete reports were, and how many reports came late.
    """

    added: list[Fault]
    changed: list[Fault]
    complete: Complete
    late: int


def write_reports(connection: Connection, reports: Sequence[tuple[UUID, FaultReport]]) -> Counts:
    """Write what reports change, and open and resolve the alerts that follow.

    Returns:
        `fault_reports`, of which `fault_reports_late` changed nothing, `faults` that came, `faults_cleared`, `alerts`.
    """
    vehicles = {vehicle_id for vehicle_id, _ in reports}
    changes = merge(queries.lock_known(connection, vehicles), reports)
    queries.write_faults(connection, changes.added, changes.changed)
    queries.write_complete(connection, changes.complete)
    return {
        "fault_reports": len(reports),
        "fault_reports_late": changes.late,
        "faults": len(changes.added),
        "faults_cleared": sum(each.cleared_at is not None for each in (*changes.added, *changes.changed)),
        "alerts": queries.settle_fault_alerts(connection, vehicles).opened,
    }


def merge(known: Known, reports: Sequence[tuple[UUID, FaultReport]]) -> Changes:
    """Return what reports change.

    Reports that are older than what is known of their vehicle change nothing: history is not rewritten, and a page that
    is read twice is late the second time, or says the same.

    Args:
        known: of the vehicles of `reports`.
        reports: with their vehicles, in any order.
    """
    history = _History(known)
    late = 0
    for vehicle_id, report in sorted(reports, key=lambda each: (each[0], each[1].time)):
        late += not history.take(vehicle_id, report)
    return Changes(history.added, history.changed, history.complete, late)


class _History:
    """The rows of some vehicles while reports are applied to them, oldest first."""

    def __init__(self, known: Known) -> None:
        self.complete: Complete = {}
        self._open: dict[UUID, dict[Key, Fault]] = {}
        self._newest: dict[tuple[UUID, str | None], datetime] = {}
        self._before: dict[UUID, Fault] = {}
        self._closed: list[Fault] = []
        for (vehicle_id, scope), time in known.complete.items():
            self._heard(vehicle_id, scope, time)
        for fault in known.faults:
            self._before[fault.id] = fault
            self._saw(fault.vehicle_id, fault.protocol, fault.cleared_at or fault.last_seen_at)
            if fault.cleared_at is None:
                self._open.setdefault(fault.vehicle_id, {})[fault.key] = fault

    @property
    def added(self) -> list[Fault]:
        return [each for each in self._now() if each.id not in self._before]

    @property
    def changed(self) -> list[Fault]:
        return [each for each in self._now() if each.id in self._before and each != self._before[each.id]]

    def _now(self) -> list[Fault]:
        return [*self._closed, *(fault for of_vehicle in self._open.values() for fault in of_vehicle.values())]

    def take(self, vehicle_id: UUID, report: FaultReport) -> bool:
        """Apply a report; False where all of it is late."""
        is_open = self._open.setdefault(vehicle_id, {})
        named = {Key(code.protocol, code.code, code.source): code for code in report.codes}
        timely = [key for key in named if self._is_timely(vehicle_id, report, key.protocol)]
        for key in timely:
            is_open[key] = _seen(is_open.get(key), vehicle_id, named[key], report)
        gone: list[Key] = []
        if report.is_complete:
            gone = [
                key
                for key, fault in is_open.items()
                if key not in named
                and report.scope in (None, key.protocol)
                and fault.last_seen_at < report.time
                and self._is_timely(vehicle_id, report, key.protocol)
            ]
        for key in gone:
            self._closed.append(replace(is_open.pop(key), cleared_at=report.time))
        for protocol in {key.protocol for key in (*timely, *gone)}:
            self._saw(vehicle_id, protocol, report.time)
        scope = report.scope or ALL
        is_timely = self._is_timely(vehicle_id, report, scope)
        if report.is_complete and is_timely:
            self.complete[vehicle_id, scope] = report.time
            self._heard(vehicle_id, scope, report.time)
        return bool(timely or gone) or (is_timely and not named)

    def _is_timely(self, vehicle_id: UUID, report: FaultReport, protocol: str) -> bool:
        """Tell whether a report is as new as what is known: of its protocol where it speaks of one, else of any."""
        newest = self._newest.get((vehicle_id, None if report.scope is None else protocol))
        return newest is None or report.time >= newest

    def _heard(self, vehicle_id: UUID, scope: str, time: datetime) -> None:
        for protocol in PROTOCOLS if scope == ALL else (scope,):
            self._saw(vehicle_id, protocol, time)

    def _saw(self, vehicle_id: UUID, protocol: str, time: datetime) -> None:
        for key in ((vehicle_id, protocol), (vehicle_id, None)):
            self._newest[key] = max(time, self._newest.get(key, time))


def _seen(fault: Fault | None, vehicle_id: UUID, code: FaultCode, report: FaultReport) -> Fault:
    if fault is None:
        return Fault.first(vehicle_id, code, report.time)
    return replace(
        fault,
        severity=code.severity if report.is_complete else max(fault.severity, code.severity, key=SEVERITIES.index),
        description=code.description or fault.description,
        occurrences=fault.occurrences if code.occurrences is None else code.occurrences,
        last_seen_at=report.time,
        reports=fault.reports + (report.time > fault.last_seen_at),
    )
