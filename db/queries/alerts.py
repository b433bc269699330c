"""Alerts and their thresholds, as an operator sees and sets them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from db.queries.folded import told_at


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a vehicle raises which alert; None: never. `fault_severity` is from which severity on a fault code does."""

    offline_after_s: int | None
    low_fuel_percent: float | None
    low_battery_percent: float | None
    fault_severity: str | None


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as a line of a list. `about` is the name of its vehicle or connection.

    What other applications wrote as infinite, or beyond what a calendar knows, is None.
    """

    id: UUID
    tenant: str
    kind: str
    severity: str
    about: str | None
    subject: str
    message: str
    details: dict[str, Any]
    opened_at: datetime | None
    resolved_at: datetime | None
    now: datetime


_LIST = f"""
    SELECT a.id, t.slug, left(a.kind, 200), a.severity, left(coalesce(v.name, c.name), 500), a.subject,
           left(a.message, 2000), a.details, {told_at("a.opened_at")}, {told_at("a.resolved_at")}, clock_timestamp()
    FROM alerts a JOIN tenants t ON t.id = a.tenant_id
    LEFT JOIN vehicles v ON v.tenant_id = a.tenant_id AND v.id = a.vehicle_id
    LEFT JOIN connections c ON c.tenant_id = a.tenant_id AND c.id = a.connection_id
    WHERE {{conditions}}
    ORDER BY a.opened_at DESC, a.id LIMIT :limit
"""
_CONDITIONS = {"tenant_id": "a.tenant_id = :tenant_id", "kind": "a.kind = :kind"}


def list_alerts(
    connection: Connection, *, tenant_id: UUID | None, kind: str | None, with_resolved: bool, limit: int
) -> list[Alert]:
    """Return the newest alerts first; None does not narrow."""
    values = {"tenant_id": tenant_id, "kind": kind}
    wanted = [condition for name, condition in _CONDITIONS.items() if values[name] is not None]
    wanted += [] if with_resolved else ["a.resolved_at IS NULL"]
    statement = text(_LIST.format(conditions=" AND ".join(wanted) or "true"))
    return [Alert(*row) for row in connection.execute(statement, {**values, "limit": limit})]


_RESOLVE = text(
    """
    UPDATE alerts SET resolved_at = clock_timestamp(),
           details = CASE WHEN octet_length(CAST(details AS text)) > 65000 THEN '{}' ELSE details END
                     || '{"resolved_by": "operator"}'
    WHERE id = :id AND resolved_at IS NULL
    """
)


def resolve_alert(connection: Connection, alert_id: UUID) -> bool:
    """Resolve an alert by hand. False: it was resolved already."""
    return connection.execute(_RESOLVE, {"id": alert_id}).rowcount == 1


@dataclass(frozen=True, slots=True)
class TenantThresholds:
    """What a tenant has set for a kind of vehicle; None where it has set nothing, so that the defaults hold."""

    tenant: str
    vehicle_kind: str
    thresholds: Thresholds | None


_THRESHOLDS = text(
    """
    SELECT t.slug, k.kind, a.tenant_id IS NOT NULL, a.offline_after_s, a.low_fuel_percent, a.low_battery_percent,
           a.fault_severity
    FROM tenants t CROSS JOIN unnest(CAST(:kinds AS text[])) WITH ORDINALITY AS k (kind, place)
    LEFT JOIN alert_thresholds a ON a.tenant_id = t.id AND a.vehicle_kind = k.kind
    WHERE t.deleted_at IS NULL AND (CAST(:tenant_id AS uuid) IS NULL OR t.id = :tenant_id)
    ORDER BY t.slug, k.place
    """
)


def list_thresholds(connection: Connection, tenant_id: UUID | None, kinds: Sequence[str]) -> list[TenantThresholds]:
    """Return the thresholds of a tenant, of all where it is None: a line for each kind of vehicle."""
    rows = connection.execute(_THRESHOLDS, {"tenant_id": tenant_id, "kinds": list(kinds)})
    return [TenantThresholds(row[0], row[1], Thresholds(*row[3:]) if row[2] else None) for row in rows]


_COLUMNS = [field.name for field in fields(Thresholds)]
_SET = f"""
    INSERT INTO alert_thresholds (tenant_id, vehicle_kind, {", ".join(_COLUMNS)})
    VALUES (:tenant_id, :vehicle_kind, {", ".join(f":{column}" for column in _COLUMNS)})
    ON CONFLICT (tenant_id, vehicle_kind) DO UPDATE SET {{changes}}
"""


def set_thresholds(
    connection: Connection,
    tenant_id: UUID,
    vehicle_kind: str,
    changes: Mapping[str, float | str | None],
    defaults: Thresholds,
) -> None:
    """Change some of a tenant's thresholds, by their names; the others stay, or become the defaults in a new row.

    Raises:
        sqlalchemy.exc.IntegrityError: one is out of its range.
    """
    changing = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS if column in changes)
    values = {"tenant_id": tenant_id, "vehicle_kind": vehicle_kind} | asdict(defaults) | dict(changes)
    connection.execute(text(_SET.format(changes=changing)), values)


_UNSET = text("DELETE FROM alert_thresholds WHERE tenant_id = :tenant_id AND vehicle_kind = :vehicle_kind")


def unset_thresholds(connection: Connection, tenant_id: UUID, vehicle_kind: str) -> bool:
    """Let the defaults hold again. False: they did already."""
    return connection.execute(_UNSET, {"tenant_id": tenant_id, "vehicle_kind": vehicle_kind}).rowcount == 1
