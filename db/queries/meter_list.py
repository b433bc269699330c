"""Meters as lines of a list."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Meter:
    """What a meter of a vehicle is believed to show, and its use a day; None where it is not known yet."""

    tenant: str
    vehicle_id: UUID
    vehicle: str
    meter: str
    value: float
    read_at: datetime
    per_day: float | None
    now: datetime


_METERS = """
    SELECT t.slug, m.vehicle_id, v.name, m.meter, m.value, m.read_at, m.per_day, clock_timestamp()
    FROM vehicle_meters m JOIN tenants t ON t.id = m.tenant_id JOIN vehicles v ON v.id = m.vehicle_id
    WHERE CAST(:tenant_id AS uuid) IS NULL OR m.tenant_id = :tenant_id
    ORDER BY m.read_at, m.vehicle_id, m.meter LIMIT :limit
"""


def list_meters(connection: Connection, tenant_id: UUID | None, limit: int) -> list[Meter]:
    """Return what is believed of meters, the stalest first."""
    return [Meter(*row) for row in connection.execute(text(_METERS), {"tenant_id": tenant_id, "limit": limit})]
