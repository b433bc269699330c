"""Schedules as operators see and end them, and what they will make due. Transactions of one tenant."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from db.queries.judging import JUDGE, METERS, OPEN, forecast, is_snoozed, natural

_TENANT = "(SELECT app_tenant_id())"
_IN_USE = "v.deleted_at IS NULL AND v.status NOT IN ('retired', 'sold')"

# How many vehicles of a type have a schedule of their own of the same name, which goes before the type's.
_OVERRIDDEN = f"""
    overridden AS MATERIALIZED (
        SELECT s.id, count(DISTINCT v.id) AS vehicles
        FROM maintenance_schedules s
        JOIN maintenance_schedules o ON o.name = s.name AND o.tenant_id = s.tenant_id
        JOIN vehicles v ON v.id = o.vehicle_id AND v.vehicle_type = s.vehicle_type
        WHERE s.tenant_id = {_TENANT} AND s.vehicle_type IS NOT NULL AND s.deleted_at IS NULL AND o.is_active
          AND o.deleted_at IS NULL AND {_IN_USE}
        GROUP BY s.id
    ),
    of_type AS MATERIALIZED (
        SELECT v.vehicle_type, count(*) AS vehicles FROM vehicles v
        WHERE v.tenant_id = {_TENANT} AND v.vehicle_type IS NOT NULL AND {_IN_USE} GROUP BY v.vehicle_type
    )
"""

# Of how many rows a WITH yields the planner has no idea, and nests loops over thousands.
WITHOUT_LOOPS = text("SELECT set_config('enable_nestloop', 'off', true), set_config('jit', 'off', true)")


@dataclass(frozen=True, slots=True)
class ListedSchedule:
    """A schedule as a line of a list; `vehicles` are those in use that it is for, with or without a check since."""

    id: UUID
    tenant: str
    name: str
    vehicle: str | None
    vehicle_type: str | None
    interval_days: int | None
    interval_months: int | None
    interval_distance: float | None
    distance_unit: str
    interval_engine_hours: float | None
    anchor: str
    is_active: bool
    vehicles: int
    due: int
    overdue: int


_LIST = text(
    f"""
    {JUDGE},
    listed AS MATERIALIZED (
        SELECT s.*, v.name AS vehicle, {_IN_USE} AS is_in_use
        FROM maintenance_schedules s LEFT JOIN vehicles v ON v.id = s.vehicle_id
        WHERE s.tenant_id = {_TENANT} AND s.deleted_at IS NULL
        ORDER BY s.name, s.vehicle_type, {natural("v.name")}, s.id LIMIT :limit
    ),
    {_OVERRIDDEN},
    standing AS MATERIALIZED (
        SELECT j.schedule_id, count(*) FILTER (WHERE j.status = 'due') AS due,
               count(*) FILTER (WHERE j.status = 'overdue') AS overdue
        FROM judged j GROUP BY j.schedule_id
    )
    SELECT s.id, n.slug, s.name, s.vehicle, s.vehicle_type, s.interval_days, s.interval_months, s.interval_distance,
           s.distance_unit, s.interval_engine_hours, s.anchor, s.is_active,
           coalesce(y.vehicles - coalesce(r.vehicles, 0), CASE WHEN s.is_in_use THEN 1 END, 0),
           CASE WHEN s.is_active THEN coalesce(d.due, 0) ELSE 0 END,
           CASE WHEN s.is_active THEN coalesce(d.overdue, 0) ELSE 0 END
    FROM listed s
    JOIN tenants n ON n.id = s.tenant_id
    LEFT JOIN of_type y ON y.vehicle_type = s.vehicle_type
    LEFT JOIN overridden r ON r.id = s.id
    LEFT JOIN standing d ON d.schedule_id = s.id
    ORDER BY s.name, s.vehicle_type, {natural("s.vehicle")}, s.id
    """
)


def list_schedules(connection: Connection, now: datetime, today: date, limit: int) -> list[ListedSchedule]:
    """Return the tenant's schedules by name, and how many of their services are due at this moment."""
    connection.execute(WITHOUT_LOOPS)
    rows = connection.execute(_LIST, {"now": now, "today": today, "limit": limit})
    return [ListedSchedule(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A service and when it will be due: by its calendar, and as its vehicle is used. Distances are in km.

    `first` is which of its intervals comes first: date, distance or engine hours. What is left of one is None where
    there is no such interval, or nobody has read the meter; below zero where it is due already.
    """

    trigger_id: UUID
    tenant: str
    vehicle: str
    schedule: str
    predicted_on: date
    first: str
    due_on: date | None
    due_km: float | None
    due_engine_hours: float | None
    left_days: int | None
    left_km: float | None
    left_engine_hours: float | None
    distance_unit: str
    is_snoozed: bool
    snoozed_until: date | None
    snoozed_until_km: float | None
    snoozed_until_engine_hours: float | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What will be due, the first first; how many services nothing can be said of, and how many schedules wait."""

    upcoming: list[Upcoming]
    unpredictable: int
    unmet: int


_UPCOMING = text(
    f"""
    WITH {METERS},
    counted AS NOT MATERIALIZED (
        SELECT t.*, CAST(:today AS date) AS today, m.km, m.km_per_day, m.hours, m.hours_per_day
        FROM maintenance_triggers t LEFT JOIN meters m ON m.vehicle_id = t.vehicle_id
        WHERE t.tenant_id = {_TENANT} AND t.is_active
    ),
    expected AS MATERIALIZED (
        SELECT c.*, s.name AS schedule, s.distance_unit, v.name AS vehicle, f.on_km,
               least(c.next_due_date, f.on_km, f.on_hours) AS predicted_on
        FROM counted c
        JOIN maintenance_schedules s ON s.id = c.schedule_id AND s.is_active AND s.deleted_at IS NULL
        JOIN vehicles v ON v.id = c.vehicle_id AND {_IN_USE}
        CROSS JOIN LATERAL (
            SELECT {forecast("c.next_due_km", "c.km", "c.km_per_day")} AS on_km,
                   {forecast("c.next_due_engine_hours", "c.hours", "c.hours_per_day")} AS on_hours
        ) f
    ),
    {_OVERRIDDEN},
    unmet AS (
        SELECT count(*) AS schedules FROM maintenance_schedules s
        LEFT JOIN of_type y ON y.vehicle_type = s.vehicle_type
        LEFT JOIN overridden r ON r.id = s.id
        WHERE s.tenant_id = {_TENANT} AND s.is_active AND s.deleted_at IS NULL
          AND NOT EXISTS (SELECT FROM maintenance_triggers t WHERE t.schedule_id = s.id)
          AND (EXISTS (SELECT FROM vehicles v WHERE v.id = s.vehicle_id AND {_IN_USE})
               OR y.vehicles > coalesce(r.vehicles, 0))
    )
    SELECT e.id, (SELECT slug FROM tenants WHERE id = {_TENANT}), e.vehicle, e.schedule, e.predicted_on,
           CASE e.predicted_on WHEN e.next_due_date THEN 'date' WHEN e.on_km THEN 'distance' ELSE 'engine hours' END,
           e.next_due_date, e.next_due_km, e.next_due_engine_hours, e.next_due_date - e.today,
           e.next_due_km - e.km, e.next_due_engine_hours - e.hours, e.distance_unit,
           {is_snoozed("e", "e")}, e.snoozed_until, e.snoozed_until_km, e.snoozed_until_engine_hours,
           p.unpredictable, u.schedules
    FROM unmet u
    CROSS JOIN (SELECT count(*) AS unpredictable FROM expected WHERE predicted_on IS NULL) p
    LEFT JOIN expected e ON e.predicted_on <= CAST(:today AS date) + CAST(:days AS integer)
    ORDER BY e.predicted_on, {natural("e.vehicle")}, e.schedule, e.id LIMIT :limit
    """
)


def list_upcoming(connection: Connection, now: datetime, today: date, days: int, limit: int) -> Outlook:
    """Return what is due by that many days from now, what is so already included."""
    connection.execute(WITHOUT_LOOPS)
    rows = connection.execute(_UPCOMING, {"now": now, "today": today, "days": days, "limit": limit}).all()
    return Outlook([Upcoming(*row[:-2]) for row in rows if row[0] is not None], rows[0][-2], rows[0][-1])


@dataclass(frozen=True, slots=True)
class NamedSchedule:
    """A schedule that somebody means to pause, resume or remove."""

    id: UUID
    tenant: str
    name: str
    of: str
    open_orders: int


_FIND = text(
    f"""
    SELECT s.id, t.slug, s.name, coalesce(v.name, 'every ' || s.vehicle_type),
           (SELECT count(*) FROM work_orders w WHERE w.schedule_id = s.id AND w.status IN {OPEN})
    FROM maintenance_schedules s JOIN tenants t ON t.id = s.tenant_id LEFT JOIN vehicles v ON v.id = s.vehicle_id
    WHERE s.id BETWEEN :first AND :last AND s.deleted_at IS NULL ORDER BY s.id LIMIT 3
    """
)


def find_schedules(connection: Connection, first: UUID, last: UUID) -> list[NamedSchedule]:
    """Return up to three schedules, of whichever tenant, between two ids: enough to tell one from several."""
    return [NamedSchedule(*row) for row in connection.execute(_FIND, {"first": first, "last": last})]


_TURN = text("UPDATE maintenance_schedules SET is_active = :active WHERE id = :id AND is_active <> :active")
_REMOVE = text("UPDATE maintenance_schedules SET deleted_at = now() WHERE id = :id AND deleted_at IS NULL")


def turn_schedule(connection: Connection, schedule_id: UUID, *, active: bool) -> bool:
    """Pause or resume a schedule. False: it is so already."""
    return connection.execute(_TURN, {"id": schedule_id, "active": active}).rowcount == 1


def remove_schedule(connection: Connection, schedule_id: UUID) -> None:
    """Remove a schedule; its work orders and its history stay."""
    connection.execute(_REMOVE, {"id": schedule_id})
