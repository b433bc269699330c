"""What another application reports of a vehicle: checked, field by field, before an order is made of it."""

import re
from datetime import date, datetime

from sqlalchemy import Connection

from db.queries.work_orders import Report, create_order, find_unknown
from jobs.outcomes import Counts, InvalidArguments

PRIORITIES = ("low", "medium", "high", "critical")
_SOURCE = re.compile(r"[a-z][a-z0-9_]{0,49}")
_DAYS = (date(1950, 1, 1), date(2200, 1, 1))
_LONGEST = {"source_id": 200, "title": 200, "description": 10_000}


def open_order(connection: Connection, report: Report, now: datetime) -> Counts:
    """Open the report's work order, unless it has one.

    Raises:
        InvalidArguments: a field cannot be, or names what is not the tenant's.
    """
    if problem := _problem(report):
        raise InvalidArguments(f"work_orders.create: {problem}")
    if unknown := find_unknown(connection, report):
        raise InvalidArguments(f"work_orders.create: {unknown}: nothing of this tenant has this id")
    return {"opened": int(create_order(connection, report, now))}


def _problem(report: Report) -> str | None:
    if report.due_on is not None and not _DAYS[0] <= report.due_on <= _DAYS[1]:
        return f"due_on: {report.due_on}: expected a day from {_DAYS[0]} to {_DAYS[1]}"
    return _wrong_word(report) or _wrong_text(report)


def _wrong_word(report: Report) -> str | None:
    if not _SOURCE.fullmatch(report.source):
        return "source: expected a word of lower-case letters, digits and _, at most 50"
    if report.priority not in PRIORITIES:
        return f"priority: expected one of {', '.join(PRIORITIES)}"
    return None


def _wrong_text(report: Report) -> str | None:
    for name, longest in _LONGEST.items():
        given = getattr(report, name)
        if given is not None and not (name == "description" or given.strip()):
            return f"{name}: empty"
        if given is not None and len(given) > longest:
            return f"{name}: {len(given)} characters, more than {longest}"
        if given is not None and "\0" in given:
            return f"{name}: a character that cannot be stored"
    return None
