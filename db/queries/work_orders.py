"""Work orders for what broke, as machines and people report it. Transactions of one tenant."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from db.queries.work_order_numbers import hold

RECENT_DAYS = 30
"""What was reported before is history: nobody wants an order for each defect of an imported archive."""
MOST = 5000
_TENANT = "(SELECT app_tenant_id())"
OPEN = "('open', 'in_progress', 'on_hold')"
_RECENT = f"CAST(:now AS timestamptz) - interval '{RECENT_DAYS} days'"

# A fault code that comes back after its order was closed is another fault; any other report has one order for good.
_REPORTED = f"""
    reported AS (
        SELECT f.vehicle_id, 'fault_code' AS source, left(concat_ws(':', f.protocol, f.code, nullif(f.source, '')), 200)
                   AS source_id,
               f.severity, 'Fault code ' || f.code AS title, f.description, f.first_seen_at AS since
        FROM vehicle_faults f
        WHERE f.tenant_id = {_TENANT} AND f.cleared_at IS NULL AND f.severity IN ('high', 'critical')
          AND f.last_seen_at >= {_RECENT}
        UNION ALL
        SELECT a.vehicle_id, 'anomaly', CAST(a.id AS text), a.severity, 'Anomaly: ' || a.kind, a.message, '-infinity'
        FROM anomaly_alerts a
        WHERE a.tenant_id = {_TENANT} AND a.resolved_at IS NULL AND a.severity IN ('high', 'critical')
          AND a.detected_at >= {_RECENT}
        UNION ALL
        SELECT i.vehicle_id, 'inspection', CAST(i.id AS text), i.severity, 'Failed inspection: ' || i.kind, i.summary,
               '-infinity'
        FROM inspections i
        WHERE i.tenant_id = {_TENANT} AND i.result = 'failed' AND i.inspected_at >= {_RECENT}
    ),
    missing AS MATERIALIZED (
        SELECT DISTINCT ON (r.vehicle_id, r.source, r.source_id) r.*, v.facility_id
        FROM reported r
        JOIN vehicles v ON v.id = r.vehicle_id AND v.tenant_id = {_TENANT}
        LEFT JOIN LATERAL (
            SELECT true AS found FROM work_orders w
            WHERE w.vehicle_id = r.vehicle_id AND w.source = r.source AND w.source_id = r.source_id
              AND (w.status IN {OPEN} OR w.created_at >= r.since) LIMIT 1
        ) o ON true
        WHERE o.found IS NULL AND v.deleted_at IS NULL AND v.status NOT IN ('retired', 'sold')
        ORDER BY r.vehicle_id, r.source, r.source_id, r.severity <> 'critical' LIMIT {MOST}
    )
"""
_OPEN_CORRECTIVE = text(
    f"""
    WITH {_REPORTED},
    numbers AS (
        UPDATE work_order_counters c SET last_number = c.last_number + n.missing
        FROM (SELECT CAST(count(*) AS integer) AS missing FROM missing) n
        WHERE c.tenant_id = {_TENANT} AND n.missing > 0
        RETURNING c.last_number - n.missing AS before
    )
    INSERT INTO work_orders (tenant_id, number, vehicle_id, type, priority, title, description, source, source_id,
                             facility_id, odometer_km, engine_hours, created_at)
    SELECT app_tenant_id(), n.before + row_number() OVER (ORDER BY j.vehicle_id, j.source, j.source_id), j.vehicle_id,
           'corrective', j.severity, left(j.title, 200), left(j.description, 10000), j.source, j.source_id,
           j.facility_id, k.value, h.value, :now
    FROM missing j CROSS JOIN numbers n
    LEFT JOIN vehicle_meters k ON k.vehicle_id = j.vehicle_id AND k.meter = 'odometer_km'
    LEFT JOIN vehicle_meters h ON h.vehicle_id = j.vehicle_id AND h.meter = 'engine_hours'
    """
)
_ANY = text(f"WITH {_REPORTED} SELECT EXISTS (SELECT FROM missing)")


def open_corrective(connection: Connection, now: datetime) -> int:
    """Open a work order for each grave fault code, grave anomaly and failed inspection that has none; return how many.

    Twice is harmless: `uq_work_orders_source_open`, and only who holds the counter opens any.
    """
    if not connection.execute(_ANY, {"now": now}).scalar_one():
        return 0
    hold(connection, now)
    return connection.execute(_OPEN_CORRECTIVE, {"now": now}).rowcount


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody wants repaired. `source` and `source_id` are theirs: one report of a vehicle is one work order."""

    vehicle_id: UUID
    source: str
    source_id: str
    title: str
    description: str | None
    priority: str
    facility_id: UUID | None
    vendor_id: UUID | None
    due_on: date | None


_KNOWN = text(
    """
    SELECT EXISTS (SELECT FROM vehicles WHERE id = :vehicle_id AND tenant_id = app_tenant_id() AND deleted_at IS NULL),
           :facility_id IS NULL OR EXISTS (SELECT FROM facilities
               WHERE id = :facility_id AND tenant_id = app_tenant_id() AND deleted_at IS NULL),
           :vendor_id IS NULL OR EXISTS (SELECT FROM vendors
               WHERE id = :vendor_id AND tenant_id = app_tenant_id() AND deleted_at IS NULL)
    """.replace(":facility_id", "CAST(:facility_id AS uuid)").replace(":vendor_id", "CAST(:vendor_id AS uuid)")
)


def find_unknown(connection: Connection, report: Report) -> str | None:
    """Return the first field that names nothing of the tenant's; None where all is known."""
    values = {"vehicle_id": report.vehicle_id, "facility_id": report.facility_id, "vendor_id": report.vendor_id}
    known = connection.execute(_KNOWN, values).one()
    return next((name for name, is_known in zip(values, known, strict=True) if not is_known), None)


_CREATE = text(
    """
    INSERT INTO work_orders (tenant_id, vehicle_id, type, priority, title, description, source, source_id, facility_id,
                             vendor_id, due_on, odometer_km, engine_hours)
    SELECT app_tenant_id(), :vehicle_id, 'corrective', :priority, :title, :description, :source, :source_id,
           coalesce(:facility_id, v.facility_id), :vendor_id, :due_on,
           (SELECT value FROM vehicle_meters m WHERE m.vehicle_id = v.id AND m.meter = 'odometer_km'),
           (SELECT value FROM vehicle_meters m WHERE m.vehicle_id = v.id AND m.meter = 'engine_hours')
    FROM vehicles v
    WHERE v.id = :vehicle_id AND NOT EXISTS (
        SELECT FROM work_orders w WHERE w.vehicle_id = :vehicle_id AND w.source = :source AND w.source_id = :source_id)
    ON CONFLICT DO NOTHING
    """.replace(":vehicle_id", "CAST(:vehicle_id AS uuid)")
    .replace(":facility_id", "CAST(:facility_id AS uuid)")
    .replace(":vendor_id", "CAST(:vendor_id AS uuid)")
    .replace(":due_on", "CAST(:due_on AS date)")
    .replace(":source_id", "CAST(:source_id AS text)")
    .replace(":source,", "CAST(:source AS text),")
)


def create_order(connection: Connection, report: Report, now: datetime) -> bool:
    """Open a work order for a report; False where the report has one already, open or closed."""
    hold(connection, now)
    values = {name: getattr(report, name) for name in Report.__slots__}
    return connection.execute(_CREATE, values).rowcount == 1


@dataclass(frozen=True, slots=True)
class Order:
    """A work order as a line of a list."""

    id: UUID
    tenant: str
    reference: str
    status: str
    priority: str
    type: str
    vehicle: str
    title: str
    due_on: date | None
    total_cost: float
    created_at: datetime
    now: datetime


_LIST = f"""
    SELECT w.id, t.slug, w.reference, w.status, w.priority, w.type, v.name, w.title, w.due_on,
           CAST(w.total_cost AS double precision), w.created_at, clock_timestamp()
    FROM work_orders w JOIN tenants t ON t.id = w.tenant_id JOIN vehicles v ON v.id = w.vehicle_id
    WHERE (CAST(:tenant_id AS uuid) IS NULL OR w.tenant_id = :tenant_id) AND (:with_closed OR w.status IN {OPEN})
    ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], w.priority), w.created_at DESC, w.number DESC
    LIMIT :limit
"""


def list_orders(connection: Connection, tenant_id: UUID | None, *, with_closed: bool, limit: int) -> list[Order]:
    """Return work orders, the gravest first."""
    values = {"tenant_id": tenant_id, "with_closed": with_closed, "limit": limit}
    statement = text(_LIST.replace(":with_closed", "CAST(:with_closed AS boolean)"))
    return [Order(*row) for row in connection.execute(statement, values)]


_FIND = text("SELECT id FROM work_orders WHERE tenant_id = :tenant_id AND number = :number")


def find_order(connection: Connection, tenant_id: UUID, number: int) -> UUID | None:
    """Return the id of a tenant's work order."""
    found: UUID | None = connection.execute(_FIND, {"tenant_id": tenant_id, "number": number}).scalar_one_or_none()
    return found


_MOVE = text(
    """
    UPDATE work_orders SET status = :status,
           completion_odometer_km = coalesce(:odometer_km, completion_odometer_km),
           completion_engine_hours = coalesce(:engine_hours, completion_engine_hours)
    WHERE id = :id
    """.replace(":odometer_km", "CAST(:odometer_km AS double precision)").replace(
        ":engine_hours", "CAST(:engine_hours AS double precision)"
    )
)


def move_order(
    connection: Connection,
    order_id: UUID,
    status: str,
    *,
    odometer_km: float | None = None,
    engine_hours: float | None = None,
) -> None:
    """Give a work order another status, with the meters of its completion.

    Raises:
        sqlalchemy.exc.IntegrityError: the status may not follow the one that it has, or a meter cannot be.
    """
    values = {"id": order_id, "status": status, "odometer_km": odometer_km, "engine_hours": engine_hours}
    connection.execute(_MOVE, values)
