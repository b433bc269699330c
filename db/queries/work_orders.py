"""Work orders for what broke, as machines and people report it. Transactions of one tenant."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from db.queries.work_order_numbers import hold, not_locked

RECENT_DAYS = 30
"""What was reported before is history: nobody wants an order for each defect of an imported archive."""
MOST = 5000
_TENANT = "(SELECT app_tenant_id())"
OPEN = "('open', 'in_progress', 'on_hold')"
_RECENT = f"CAST(:now AS timestamptz) - interval '{RECENT_DAYS} days'"

# A fault code that comes back after its order was closed is another fault; any other report has one order for good.
_FAULT = "left(concat_ws(':', f.protocol, f.code, nullif(f.source, '')), 200)"
_TOLD_AS = "'vehicle:' || f.vehicle_id || ':fault:' || f.protocol || ':' || f.code || ':' || f.source"
_INSPECTION = (
    "CASE i.kind WHEN 'other' THEN 'Failed inspection' ELSE 'Failed ' || replace(i.kind, '_', '-') || ' inspection' END"
)
_REPORTED = f"""
    reported AS (
        SELECT f.vehicle_id, 'fault_code' AS source, {_FAULT} AS source_id, f.severity,
               'Fault code ' || f.code AS title, f.description, f.description AS reason, f.first_seen_at AS since,
               'fault_code' AS told_kind, {_TOLD_AS} AS told_subject
        FROM vehicle_faults f
        WHERE f.tenant_id = {_TENANT} AND f.cleared_at IS NULL AND f.severity IN ('high', 'critical')
          AND f.last_seen_at >= {_RECENT}
        UNION ALL
        SELECT a.vehicle_id, 'anomaly', CAST(a.id AS text), a.severity, 'Anomaly: ' || a.kind, a.message, a.message,
               '-infinity', 'anomaly', 'anomaly:' || a.id
        FROM anomaly_alerts a
        WHERE a.tenant_id = {_TENANT} AND a.resolved_at IS NULL AND a.severity IN ('high', 'critical')
          AND a.detected_at >= {_RECENT}
        UNION ALL
        SELECT i.vehicle_id, 'inspection', CAST(i.id AS text), i.severity, coalesce(g.said, g.result),
               concat_ws(E'\\n\\n', g.result, i.summary), CASE WHEN g.said IS NOT NULL THEN g.result END,
               '-infinity', NULL, NULL
        FROM inspections i
        CROSS JOIN LATERAL (
            SELECT nullif(trim(regexp_replace(i.summary, '\\s+', ' ', 'g')), '') AS said, {_INSPECTION} AS result
        ) g
        WHERE i.tenant_id = {_TENANT} AND i.result = 'failed' AND i.inspected_at >= {_RECENT}
    ),
    unordered AS MATERIALIZED (
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


def _tell(orders: str, reason: str) -> str:
    """Tell of the orders that `orders` selects as `o`: with `reason`, why somebody is to repair something."""
    return f"""
        INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, subject, message, details, opened_at)
        SELECT app_tenant_id(), 'work_order_opened', o.priority, o.vehicle_id, 'work_order:' || o.id,
               left(v.name, 200) || ': ' || o.title,
               jsonb_build_object('work_order_id', o.id, 'work_order_number', o.reference, 'title', o.title,
                                  'vehicle_id', o.vehicle_id, 'vehicle_name', left(v.name, 200), 'source', o.source,
                                  'reason', left({reason}, 1000)),
               :now
        FROM {orders}
        CROSS JOIN LATERAL (SELECT name FROM vehicles WHERE id = o.vehicle_id LIMIT 1) v
        ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
    """


_NOT_TOLD = f"""
    (SELECT o.*, m.reason
     FROM opened o JOIN missing m USING (vehicle_id, source, source_id)
     LEFT JOIN LATERAL (
         SELECT true AS found FROM alerts
         WHERE tenant_id = {_TENANT} AND kind = m.told_kind AND subject = m.told_subject AND resolved_at IS NULL LIMIT 1
     ) t ON true
     WHERE t.found IS NULL) o
"""
_OPEN_CORRECTIVE = text(
    f"""
    WITH {_REPORTED},
    vehicles_free AS MATERIALIZED ({not_locked("SELECT vehicle_id FROM unordered")}),
    missing AS MATERIALIZED (SELECT * FROM unordered WHERE vehicle_id IN (SELECT id FROM vehicles_free)),
    numbers AS (
        UPDATE work_order_counters c SET last_number = c.last_number + n.missing
        FROM (SELECT CAST(count(*) AS integer) AS missing FROM missing) n
        WHERE c.tenant_id = {_TENANT} AND n.missing > 0
        RETURNING c.last_number - n.missing AS before
    ),
    opened AS (
        INSERT INTO work_orders (tenant_id, number, vehicle_id, type, priority, title, description, source, source_id,
                                 facility_id, odometer_km, engine_hours, created_at)
        SELECT app_tenant_id(), n.before + row_number() OVER (ORDER BY j.vehicle_id, j.source, j.source_id),
               j.vehicle_id, 'corrective', j.severity, left(j.title, 200), left(j.description, 10000), j.source,
               j.source_id, j.facility_id, k.value, h.value, :now
        FROM missing j CROSS JOIN numbers n
        LEFT JOIN vehicle_meters k ON k.vehicle_id = j.vehicle_id AND k.meter = 'odometer_km'
        LEFT JOIN vehicle_meters h ON h.vehicle_id = j.vehicle_id AND h.meter = 'engine_hours'
        RETURNING id, reference, vehicle_id, source, source_id, priority, title
    ),
    told AS ({_tell(_NOT_TOLD, "o.reason")})
    SELECT count(*) FROM opened
    """
)
_ANY = text(f"WITH {_REPORTED} SELECT EXISTS (SELECT FROM unordered)")


def open_corrective(connection: Connection, now: datetime) -> int:
    """Open a work order for each grave fault code, grave anomaly and failed inspection that has none; return how many.

    What no open alert tells of already is told. Twice is harmless: `uq_work_orders_source_open`, and only who holds the
    counter opens any.
    """
    if not connection.execute(_ANY, {"now": now}).scalar_one():
        return 0
    hold(connection, now)
    opened: int = connection.execute(_OPEN_CORRECTIVE, {"now": now}).scalar_one()
    return opened


_SETTLE = text(
    f"""
    WITH closed AS MATERIALIZED (
        SELECT a.id
        FROM alerts a
        CROSS JOIN LATERAL (
            SELECT status FROM work_orders
            WHERE vehicle_id = a.vehicle_id AND 'work_order:' || id = a.subject AND tenant_id = {_TENANT} LIMIT 1
        ) w
        WHERE a.tenant_id = {_TENANT} AND a.kind = 'work_order_opened' AND a.resolved_at IS NULL
          AND w.status NOT IN {OPEN}
        FOR NO KEY UPDATE OF a SKIP LOCKED
    )
    UPDATE alerts a SET resolved_at = :now
    WHERE a.id = ANY(ARRAY(SELECT id FROM closed)) AND a.resolved_at IS NULL
    """
)


def settle_opened(connection: Connection, now: datetime) -> int:
    """Resolve what was told of orders that are completed or cancelled by now; return how many. Twice is harmless."""
    return connection.execute(_SETTLE, {"now": now}).rowcount


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
    f"""
    WITH opened AS (
        INSERT INTO work_orders (tenant_id, vehicle_id, type, priority, title, description, source, source_id,
                                 facility_id, vendor_id, due_on, odometer_km, engine_hours)
        SELECT app_tenant_id(), v.id, 'corrective', :priority, :title, :description, CAST(:source AS text),
               CAST(:source_id AS text), coalesce(CAST(:facility_id AS uuid), v.facility_id), CAST(:vendor_id AS uuid),
               CAST(:due_on AS date),
               (SELECT value FROM vehicle_meters m WHERE m.vehicle_id = v.id AND m.meter = 'odometer_km'),
               (SELECT value FROM vehicle_meters m WHERE m.vehicle_id = v.id AND m.meter = 'engine_hours')
        FROM vehicles v
        WHERE v.id = CAST(:vehicle_id AS uuid) AND NOT EXISTS (
            SELECT FROM work_orders w
            WHERE w.vehicle_id = v.id AND w.source = CAST(:source AS text) AND w.source_id = CAST(:source_id AS text))
        ON CONFLICT DO NOTHING
        RETURNING id, reference, vehicle_id, source, priority, title, description
    ),
    told AS ({_tell("opened o", "o.description")})
    SELECT count(*) FROM opened
    """
)


def create_order(connection: Connection, report: Report, now: datetime) -> bool:
    """Open a work order for a report, and tell of it; False where the report has one already, open or closed."""
    hold(connection, now)
    values = {name: getattr(report, name) for name in Report.__slots__}
    opened: int = connection.execute(_CREATE, values | {"now": now}).scalar_one()
    return opened == 1


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
