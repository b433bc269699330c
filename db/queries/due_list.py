"""What is due, as people ask for it, what a check has done, and putting a service off."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from db.engine import set_tenant
from db.queries.judging import JUDGE, METERS, TENANT, natural


@dataclass(frozen=True, slots=True)
class Due:
    """A service that is due, overdue, due soon or put off, and its work order where it has one."""

    trigger_id: UUID
    vehicle: str
    schedule: str
    status: str
    reason: str
    due_on: date | None
    predicted_on: date | None
    snoozed_until: date | None
    snoozed_until_km: float | None
    snoozed_until_engine_hours: float | None
    work_order: str | None


_LIST = text(
    f"""
    {JUDGE}
    SELECT id, vehicle_name, schedule_name, status, reason, next_due_date, predicted_on, snoozed_until,
           snoozed_until_km, snoozed_until_engine_hours, reference
    FROM judged
    WHERE CAST(:status AS text) IS NULL OR status = :status
    ORDER BY array_position(ARRAY['overdue', 'due', 'due_soon', 'snoozed'], status), predicted_on,
             {natural("vehicle_name")}, id
    LIMIT :limit
    """
)


def list_due(
    connection: Connection, now: datetime, today: date, *, status: str | None = None, limit: int | None = None
) -> list[Due]:
    """Return what is not in order, the worst first, as it is at this moment; None does not narrow."""
    values = {"now": now, "today": today, "status": status, "limit": limit}
    return [Due(*row) for row in connection.execute(_LIST, values)]


@dataclass(frozen=True, slots=True)
class Opened:
    """A work order that a check has opened."""

    reference: str
    priority: str
    vehicle: str
    schedule: str
    due_on: date | None
    description: str


_OPENED = text(
    f"""
    SELECT w.reference, w.priority, v.name, w.title, w.due_on, w.description
    FROM work_orders w JOIN vehicles v ON v.id = w.vehicle_id
    WHERE w.tenant_id = {TENANT} AND w.schedule_id IS NOT NULL AND w.created_at = :now ORDER BY w.number
    """
)


def list_opened(connection: Connection, now: datetime) -> list[Opened]:
    """Return the orders that the check of this moment has opened."""
    return [Opened(*row) for row in connection.execute(_OPENED, {"now": now})]


@dataclass(frozen=True, slots=True)
class Told:
    """An alert that a check has opened."""

    kind: str
    severity: str
    vehicle: str | None
    message: str


_TOLD = text(
    f"""
    SELECT a.kind, a.severity, v.name, a.message
    FROM alerts a LEFT JOIN vehicles v ON v.id = a.vehicle_id
    WHERE a.tenant_id = {TENANT} AND a.opened_at = :now AND a.resolved_at IS NULL
      AND a.kind LIKE ANY (ARRAY['maintenance%', 'work\\_order%'])
    ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], a.severity), {natural("v.name")}, a.message
    """
)


def list_told(connection: Connection, now: datetime) -> list[Told]:
    """Return what the check of this moment tells for the first time, the worst first."""
    return [Told(*row) for row in connection.execute(_TOLD, {"now": now})]


@dataclass(frozen=True, slots=True)
class Standing:
    """The day that it is for a service, and what its vehicle's meters show by now, forecast included; None: unknown."""

    today: date
    km: float | None
    engine_hours: float | None


_TENANT_OF = text("SELECT tenant_id FROM maintenance_triggers WHERE id = :id")
_STANDING = text(
    f"""
    WITH {METERS}
    SELECT CAST(CAST(:now AS timestamptz) AT TIME ZONE n.time_zone AS date), m.km, m.hours
    FROM maintenance_triggers t JOIN tenants n ON n.id = t.tenant_id LEFT JOIN meters m ON m.vehicle_id = t.vehicle_id
    WHERE t.id = :id
    """
)


def read_standing(connection: Connection, trigger_id: UUID, now: datetime) -> Standing:
    """Return what a service of any tenant is compared with."""
    set_tenant(connection, connection.execute(_TENANT_OF, {"id": trigger_id}).scalar_one())
    return Standing(*connection.execute(_STANDING, {"id": trigger_id, "now": now}).one())


_SNOOZE = text(
    """
    UPDATE maintenance_triggers
    SET snoozed_until = :until, snoozed_until_km = :until_km, snoozed_until_engine_hours = :until_engine_hours
    WHERE id = :id
    """
)


def snooze(
    connection: Connection,
    trigger_id: UUID,
    until: date | None,
    until_km: float | None = None,
    until_engine_hours: float | None = None,
) -> None:
    """Say and open nothing of a service until a day or a meter, whichever comes first.

    One whose order was cancelled gets another one from then on.

    Raises:
        sqlalchemy.exc.IntegrityError: a limit cannot be.
    """
    values = {"until": until, "until_km": until_km, "until_engine_hours": until_engine_hours}
    connection.execute(_SNOOZE, values | {"id": trigger_id})
