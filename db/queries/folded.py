"""What was folded into one notification: a storm, or a digest."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

TEXT = "left(a.message, 2000), CASE WHEN length(a.details::text) < 50000 THEN a.details::text END"
"""Others write alerts too, of any size and depth; `details_of` reads what comes of the second."""


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


_FOLDED = text(
    f"""
    SELECT n.category, n.kind, n.severity, n.alert_id, left(a.subject, 2000), {TEXT}, {told_at("a.opened_at")},
           left(coalesce(v.name, a.details ->> 'vehicle_name'), 500), left(c.name, 500), c.provider
    FROM notifications n
    LEFT JOIN alerts a ON a.id = n.alert_id
    LEFT JOIN vehicles v ON v.id = a.vehicle_id
    LEFT JOIN connections c ON c.id = a.connection_id
    WHERE n.folded_into = :id
    ORDER BY n.priority, n.category, n.created_at, n.id LIMIT :most
    """
)
_COUNTS = text(
    "SELECT category, kind, count(*) FROM notifications WHERE folded_into = :id GROUP BY 1, 2 ORDER BY 3 DESC"
)


def read_folded(connection: Connection, notification_id: UUID, *, most: int) -> Folded:
    """Return what a summary or digest tells of: the worst first."""
    counts = {(row[0], row[1]): row[2] for row in connection.execute(_COUNTS, {"id": notification_id})}
    rows = connection.execute(_FOLDED, {"id": notification_id, "most": most})
    return Folded(counts, [Line(*(*row[:6], details_of(row[6]), *row[7:])) for row in rows])
