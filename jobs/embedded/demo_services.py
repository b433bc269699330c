"""The demo's fleet managers, and the services that their vehicles are due for."""

from datetime import date, timedelta
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

EACH = 20
"""How many vehicles of a tenant have a schedule; a few are overdue, some due, some due soon, the rest not yet."""
CHECKLIST = ["Drain and refill the oil", "Replace the oil filter", "Look for leaks", "Reset the service light"]

_MANAGER = """
    INSERT INTO users (tenant_id, email, first_name, last_name, locale)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT (tenant_id, lower(email)) WHERE deleted_at IS NULL DO NOTHING
"""
_EVERYTHING_BY_MAIL = """
    INSERT INTO notification_preferences (tenant_id, category, channel, min_severity)
    VALUES (%s, 'all', 'email', 'medium') ON CONFLICT DO NOTHING
"""
_HAS_SCHEDULES = "SELECT EXISTS (SELECT FROM maintenance_schedules WHERE tenant_id = %s)"
_VEHICLES = "SELECT id FROM vehicles WHERE tenant_id = %s AND deleted_at IS NULL ORDER BY name LIMIT %s"
_SCHEDULE = """
    INSERT INTO maintenance_schedules (tenant_id, vehicle_id, name, interval_months, start_on, soon_days, checklist)
    VALUES (%s, %s, 'Annual service', 12, %s, 14, %s)
"""
_CHECK = "SELECT enqueue_job('maintenance.check_due', tenant_id => %s, requested_by => 'demo')"


def plan(connection: psycopg.Connection, tenant_id: UUID, slug: str, name: str, locale: str) -> None:
    """Give a tenant a fleet manager who is told everything, and schedules; ask for a check. Twice is harmless."""
    connection.execute(_MANAGER, (tenant_id, f"manager@{slug}.example", "Sam", name, locale))
    connection.execute(_EVERYTHING_BY_MAIL, (tenant_id,))
    if connection.execute(_HAS_SCHEDULES, (tenant_id,)).fetchone() == (False,):
        vehicles = connection.execute(_VEHICLES, (tenant_id, EACH)).fetchall()
        today = date.today()  # noqa: DTZ011 - a day more or less is no matter here
        with connection.cursor() as cursor:
            cursor.executemany(
                _SCHEDULE,
                [
                    (tenant_id, row[0], today - timedelta(days=365 + 14 - 7 * (number % 5)), Jsonb(CHECKLIST))
                    for number, row in enumerate(vehicles)
                ],
            )
    connection.execute(_CHECK, (tenant_id,))
