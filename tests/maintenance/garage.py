"""A tenant's garage: vehicles, meters and schedules as other applications write them, and mornings at will."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from sqlalchemy import Connection

from jobs.maintenance.check import STEPS
from tests.inprocess import Platform

MORNING = datetime(2023, 3, 2, 6, tzinfo=UTC)


@dataclass
class Garage:
    """One tenant, and what a test asks of its maintenance."""

    platform: Platform
    tenant_id: UUID
    now: datetime = MORNING

    @property
    def admin(self) -> psycopg.Connection:
        return self.platform.admin

    def insert(self, table: str, **values: Any) -> UUID:
        """Insert a row of the tenant and return its id."""
        given = {"tenant_id": self.tenant_id} | {
            name: Jsonb(value) if isinstance(value, list | dict) else value for name, value in values.items()
        }
        names, places = ", ".join(given), ", ".join(["%s"] * len(given))
        statement = f"INSERT INTO {table} ({names}) VALUES ({places}) RETURNING id"
        row = self.admin.execute(statement.encode(), list(given.values())).fetchone()
        assert row is not None
        return UUID(str(row[0]))

    def vehicle(self, name: str = "Van 1", **values: Any) -> UUID:
        return self.insert("vehicles", name=name, **values)

    def schedule(self, vehicle_id: UUID | None = None, name: str = "oil change", **values: Any) -> UUID:
        return self.insert("maintenance_schedules", vehicle_id=vehicle_id, name=name, **values)

    def drive(
        self, vehicle_id: UUID, km: float | None = None, hours: float | None = None, at: datetime | None = None
    ) -> None:
        """Let the vehicle's device report its meters, as a sync would store them."""
        read_at = at or self.now - timedelta(hours=1)
        self.admin.execute(
            "INSERT INTO vehicle_positions AS p"
            " (vehicle_id, tenant_id, odometer_km, odometer_at, engine_hours, engine_hours_at)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (vehicle_id) DO UPDATE"
            " SET odometer_km = coalesce(excluded.odometer_km, p.odometer_km),"
            "     odometer_at = coalesce(excluded.odometer_at, p.odometer_at),"
            "     engine_hours = coalesce(excluded.engine_hours, p.engine_hours),"
            "     engine_hours_at = coalesce(excluded.engine_hours_at, p.engine_hours_at)",
            [vehicle_id, self.tenant_id, km, km and read_at, hours, hours and read_at],
        )

    def pass_days(self, days: float) -> "Garage":
        self.now += timedelta(days=days)
        return self

    def check(self, *, days: float = 0) -> dict[str, int]:
        """Let days pass, and do the morning's check: each step its own transaction, as the job does."""
        self.pass_days(days)
        counts: dict[str, int] = {}
        for step in STEPS:
            with self.transaction() as connection:
                for name, number in step(connection, self.now).items():
                    counts[name] = counts.get(name, 0) + number
        return counts

    def transaction(self) -> Any:
        """Open a transaction of the tenant, as a worker does."""
        from jobs import process

        return process.get_database().tenant_transaction(self.tenant_id)

    def do(self, function: Any, *values: Any, **named: Any) -> Any:
        """Call a function of `db.queries` in a transaction of the tenant."""
        with self.transaction() as connection:
            assert isinstance(connection, Connection)
            return function(connection, *values, **named)

    def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        with self.admin.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement.encode(), values).fetchall()

    def trigger(self, schedule_id: UUID) -> dict[str, Any]:
        [row] = self.rows("SELECT * FROM maintenance_triggers WHERE schedule_id = %s", schedule_id)
        return row

    def orders(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM work_orders WHERE tenant_id = %s ORDER BY number", self.tenant_id)

    def open_alerts(self) -> list[tuple[str, str]]:
        """Return kind and message of the alerts that are open."""
        found = self.rows("SELECT kind, message FROM alerts WHERE resolved_at IS NULL ORDER BY message, kind")
        return [(row["kind"], row["message"]) for row in found]

    def complete(self, order_id: UUID, at: datetime | None = None, **values: Any) -> None:
        """Complete a work order as another application would."""
        given = {"status": "completed", "completed_at": at or self.now} | values
        setting = ", ".join(f"{name} = %s" for name in given)
        self.admin.execute(f"UPDATE work_orders SET {setting} WHERE id = %s".encode(), [*given.values(), order_id])


def day(text: str) -> date:
    return date.fromisoformat(text)
