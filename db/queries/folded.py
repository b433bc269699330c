"""What was folded into one notification: a storm, or a digest."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError

TEXT = "left(a.message, 2000), a.details::text"
"""Others write alerts too: `ck_alerts_details_size` bounds their details, and `details_of` reads them."""


def told_at(column: str) -> str:
    """Return an instant where it is one that Python knows: an alert since infinity must not end the run of all."""
    return f"CASE WHEN {column} BETWEEN '0002-01-01' AND '9998-12-31' THEN {column} END"


def details_of(written: str | None) -> dict[str, Any]:
    """Return an alert's details; nothing where they are no object, or nested too deep to be read."""
    try:
        details = json.loads(written or "{}")
    except (ValueError, RecursionError):
        return {}
    return details if isinstance(details, dict) else {}


def vehicle_of(name: str | None, details: dict[str, Any]) -> str | None:
    """Return a vehicle's name; what the alert calls it where there is none."""
    told = details.get("vehicle_name")
    return name if name is not None or not isinstance(told, str) else told[:500]


def is_of_the_row(error: SQLAlchemyError) -> bool:
    """Tell whether it is one row that cannot be read, and not the database that is away."""
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return isinstance(error, DataError) or (state or "").startswith("54")  # program_limit_exceeded


@dataclass(frozen=True, slots=True)
class Line:
    """One of the notifications that were folded into another."""

    category: str
    kind: str
    severity: str
    alert_id: UUID | None
    subject: str | None
    message: str | None
    details: dict[str, Any]
    opened_at: datetime | None
    vehicle: str | None
    connection: str | None
    provider: str | None


@dataclass(frozen=True, slots=True)
class Folded:
    """What was folded into a notification: how many of each category and kind, and the first lines."""

    counts: dict[tuple[str, str], int]
    lines: list[Line]


_FEW = 5
"""Of each kind at first, so that one flood does not hide all else."""
# By name as people count: Van 2 before Van 12.
_NATURAL = "regexp_replace(left(v.name, 200), '[0-9]+', '', 'g'), length(v.name), left(v.name, 200)"
_FOLDED = text(
    f"""
    WITH placed AS (
        SELECT n.id, row_number() OVER (PARTITION BY n.category, n.kind
                                        ORDER BY n.priority, {_NATURAL}, n.created_at, n.id) AS place
        FROM notifications n
        LEFT JOIN alerts a ON a.id = n.alert_id
        LEFT JOIN vehicles v ON v.id = a.vehicle_id
        WHERE n.folded_into = :id
    )
    SELECT n.category, n.kind, n.severity, n.alert_id, left(a.subject, 2000), {TEXT}, {told_at("a.opened_at")},
           left(v.name, 500), left(c.name, 500), c.provider
    FROM (SELECT p.*, f.priority FROM placed p JOIN notifications f USING (id)
          ORDER BY p.place > {_FEW}, f.priority, f.category, f.kind, p.place LIMIT :most) p
    JOIN notifications n USING (id)
    LEFT JOIN alerts a ON a.id = n.alert_id
    LEFT JOIN vehicles v ON v.id = a.vehicle_id
    LEFT JOIN connections c ON c.id = a.connection_id
    ORDER BY p.place > {_FEW}, n.priority, n.category, n.kind, p.place
    """
)
_COUNTS = text(
    "SELECT category, kind, count(*) FROM notifications WHERE folded_into = :id GROUP BY 1, 2 ORDER BY 3 DESC"
)


def read_folded(connection: Connection, notification_id: UUID, *, most: int) -> Folded:
    """Return what a summary or digest tells of: the worst first, and a few of each kind before many of one."""
    counts = {(row[0], row[1]): row[2] for row in connection.execute(_COUNTS, {"id": notification_id})}
    rows = connection.execute(_FOLDED, {"id": notification_id, "most": most})
    return Folded(counts, [_line(row) for row in rows])


def _line(row: Sequence[Any]) -> Line:
    details = details_of(row[6])
    return Line(*(*row[:6], details, row[7], vehicle_of(row[8], details), *row[9:]))
