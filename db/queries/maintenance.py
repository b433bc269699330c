"""What is due: one statement finds it, opens its work orders and tells of it. Transactions of one tenant."""

from datetime import datetime

from sqlalchemy import Connection, text

from db.queries.judging import JUDGE, OPEN, TENANT, is_snoozed
from db.queries.work_order_numbers import hold, not_locked

_RAISED = "CASE {0} WHEN 'low' THEN 'medium' WHEN 'medium' THEN 'high' ELSE 'critical' END"
_PRIORITY = f"CASE WHEN j.status = 'overdue' THEN {_RAISED.format('j.priority')} ELSE j.priority END"
# A cycle has one order, and a schedule one that is open; a cycle whose order was cancelled gets no other by itself.
# What is overdue raises an order that still has the priority of its schedule; another one is what a person chose. One
# that somebody writes at this moment is raised tomorrow: who writes it may wait for the counter that is held here.
_IS_MISSING = "j.status IN ('due', 'overdue') AND j.is_unordered"
_ORDERS = f"""
    missing AS MATERIALIZED (
        SELECT j.*, row_number() OVER (ORDER BY j.predicted_on, j.vehicle_id, j.schedule_id) AS place
        FROM judged j WHERE {_IS_MISSING} AND j.vehicle_id IN (SELECT id FROM vehicles_free)
    ),
    numbers AS (
        UPDATE work_order_counters c SET last_number = c.last_number + n.missing
        FROM (SELECT CAST(count(*) AS integer) AS missing FROM missing) n
        WHERE c.tenant_id = {TENANT} AND n.missing > 0
        RETURNING c.last_number - n.missing AS before
    ),
    opened AS (
        INSERT INTO work_orders (tenant_id, number, vehicle_id, schedule_id, due_cycle, type, priority, title,
                                 description, facility_id, vendor_id, due_on, odometer_km, engine_hours,
                                 due_odometer_km, due_engine_hours, created_at)
        SELECT app_tenant_id(), n.before + j.place, j.vehicle_id, j.schedule_id, j.cycle, 'preventive', {_PRIORITY},
               j.schedule_name, left(concat_ws(E'\\n\\n', j.reason, j.description), 10000), j.facility_id, j.vendor_id,
               j.predicted_on, j.read_km, j.read_hours, j.km, j.hours, :now
        FROM missing j CROSS JOIN numbers n
        RETURNING id, reference, schedule_id, vehicle_id
    ),
    listed AS (
        INSERT INTO work_order_lines (tenant_id, work_order_id, position, description)
        SELECT app_tenant_id(), o.id, l.position, left(l.description, 2000)
        FROM opened o
        JOIN missing j ON j.schedule_id = o.schedule_id AND j.vehicle_id = o.vehicle_id
        CROSS JOIN LATERAL jsonb_array_elements_text(j.checklist) WITH ORDINALITY AS l (description, position)
    ),
    free AS MATERIALIZED (
        SELECT w.id FROM work_orders w JOIN judged j ON j.open_order_id = w.id
        WHERE w.id = ANY(ARRAY(SELECT open_order_id FROM judged WHERE status = 'overdue')) AND j.status = 'overdue'
          AND w.status IN {OPEN} AND w.priority = j.priority AND w.priority <> 'critical'
        FOR NO KEY UPDATE OF w SKIP LOCKED
    ),
    raised AS (
        UPDATE work_orders w SET priority = {_RAISED.format("w.priority")}
        WHERE w.id = ANY(ARRAY(SELECT id FROM free))
        RETURNING 1
    )
"""

# What is told of a cycle is told once: its alert stays while a forecast goes back behind it, and only what is worse
# replaces it. It is over with its service, when that is put off, or when a changed schedule makes it due later. What is
# overdue is told again each week, unless somebody is at it; by the tenant's days, whatever second a check starts at.
_KINDS = "ARRAY['maintenance_due_soon', 'maintenance_due', 'maintenance_overdue']"
_DUE_AT = """jsonb_build_object('due_on', {0}.next_due_date, 'due_km', {0}.next_due_km,
                                  'due_engine_hours', {0}.next_due_engine_hours)"""
_OVERDUE_SEVERITY = "CASE j.priority WHEN 'critical' THEN 'critical' ELSE 'high' END"
_MESSAGE = "left(j.vehicle_name, 200) || ': ' || j.reason"
# A mail shows a few lines of a checklist; all of them are in the work order.
MOST_LINES, LONGEST_LINE = 20, 200
_CHECKLIST = f"""
    (SELECT coalesce(jsonb_agg(left(l.line, {LONGEST_LINE}) ORDER BY l.place), '[]')
     FROM jsonb_array_elements_text(j.checklist) WITH ORDINALITY AS l (line, place) WHERE l.place <= {MOST_LINES})
"""
_DETAILS = f"""
    jsonb_build_object(
        'schedule_id', j.schedule_id, 'schedule_name', j.schedule_name, 'vehicle_id', j.vehicle_id,
        'vehicle_name', left(j.vehicle_name, 200), 'work_order_id', coalesce(o.id, j.open_order_id),
        'work_order_number', coalesce(o.reference, j.reference), 'status', j.status, 'reason', j.reason,
        'predicted_on', j.predicted_on, 'vendor_name', d.name, 'checklist', {_CHECKLIST}) || {_DUE_AT.format("j")}
"""
_ORDER_AND_VENDOR = """
        LEFT JOIN opened o ON o.schedule_id = j.schedule_id AND o.vehicle_id = j.vehicle_id
        LEFT JOIN vendors d ON d.id = j.vendor_id
"""
MOST_REMINDERS = 1000
# So many characters of what others have added to an alert; with ours it stays below the bound of the table.
MOST_KEPT = 8192
_TO_WRITE_OF = f"SELECT j.vehicle_id FROM judged j WHERE {_IS_MISSING} UNION SELECT vehicle_id FROM untold"
_TOLD_OF = f"""
    told AS MATERIALIZED (
        SELECT a.id, a.subject, a.level, a.weeks > a.reminders AND j.status = 'overdue' AND NOT j.is_begun AS is_late,
               a.weeks,
               CASE WHEN j.id IS NOT NULL
                    THEN j.status = 'snoozed' OR j.level < a.level AND NOT a.details @> {_DUE_AT.format("j")}
                    ELSE t.id IS NULL OR {is_snoozed("t", "m")}
                         OR NOT a.details @> {_DUE_AT.format("t")} END AS is_over
        FROM (
            SELECT id, vehicle_id, subject, details, array_position({_KINDS}, kind) AS level, reminders,
                   CASE WHEN kind = 'maintenance_overdue' AND opened_at BETWEEN '1950-01-01' AND '2200-01-01'
                        THEN least({MOST_REMINDERS}, (CAST(:today AS date) - CAST(opened_at AT TIME ZONE (
                            SELECT time_zone FROM tenants WHERE id = {TENANT}) AS date)) / 7)
                   END AS weeks
            FROM alerts
            WHERE tenant_id = {TENANT} AND resolved_at IS NULL AND kind = ANY({_KINDS})
        ) a
        LEFT JOIN judged j ON 'maintenance:' || j.id = a.subject
        LEFT JOIN LATERAL (
            SELECT * FROM maintenance_triggers
            WHERE j.id IS NULL AND vehicle_id = a.vehicle_id AND 'maintenance:' || id = a.subject
              AND tenant_id = {TENANT} AND is_active
            LIMIT 1
        ) t ON true
        LEFT JOIN meters m ON m.vehicle_id = t.vehicle_id
    ),
    standing AS MATERIALIZED (SELECT subject, max(level) AS level FROM told WHERE NOT is_over GROUP BY subject),
    untold AS MATERIALIZED (
        SELECT j.*, 'maintenance_' || j.status AS kind, 'maintenance:' || j.id AS subject
        FROM judged j LEFT JOIN standing a ON a.subject = 'maintenance:' || j.id
        WHERE j.status IN ('due_soon', 'due', 'overdue') AND (a.level IS NULL OR a.level < j.level)
    ),
    vehicles_free AS MATERIALIZED ({not_locked(_TO_WRITE_OF)})
"""
# An alert that somebody writes at this moment is resolved, or told again, by the next check; until then the lesser one
# stays open beside the worse.
_ALERTS = f"""
    to_tell AS MATERIALIZED (SELECT * FROM untold WHERE vehicle_id IN (SELECT id FROM vehicles_free)),
    done_with AS MATERIALIZED (
        SELECT o.id
        FROM told o
        LEFT JOIN standing s ON s.subject = o.subject AND s.level > o.level
        LEFT JOIN to_tell j ON j.subject = o.subject
        WHERE o.is_over OR s.subject IS NOT NULL OR j.subject IS NOT NULL
    ),
    late AS MATERIALIZED (SELECT id, subject, weeks FROM told WHERE is_late AND NOT is_over),
    alerts_free AS MATERIALIZED (
        SELECT id FROM alerts
        WHERE id = ANY(ARRAY(SELECT id FROM done_with UNION SELECT id FROM late)) AND resolved_at IS NULL
        FOR NO KEY UPDATE SKIP LOCKED
    ),
    alerted AS (
        INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, subject, message, details, opened_at)
        SELECT app_tenant_id(), j.kind,
               CASE j.status WHEN 'due_soon' THEN 'low' WHEN 'due' THEN 'medium' ELSE {_OVERDUE_SEVERITY} END,
               j.vehicle_id, j.subject, {_MESSAGE}, {_DETAILS}, :now
        FROM to_tell j {_ORDER_AND_VENDOR}
        ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
        RETURNING kind
    ),
    reminded AS (
        UPDATE alerts a
        SET reminders = r.weeks, severity = r.severity, message = r.message,
            details = CASE WHEN length(CAST(a.details AS text)) <= {MOST_KEPT} THEN a.details ELSE '{{}}' END
                      || r.details || jsonb_build_object('reminders', r.weeks)
        FROM (
            SELECT l.id, l.weeks, {_OVERDUE_SEVERITY} AS severity, {_MESSAGE} AS message, {_DETAILS} AS details
            FROM late l JOIN judged j ON 'maintenance:' || j.id = l.subject {_ORDER_AND_VENDOR}
            WHERE l.id IN (SELECT id FROM alerts_free)
        ) r
        WHERE a.id = r.id AND a.id = ANY(ARRAY(SELECT l.id FROM late l JOIN alerts_free f ON f.id = l.id))
          AND a.reminders < r.weeks
        RETURNING 1
    ),
    resolved AS (
        UPDATE alerts a SET resolved_at = :now
        WHERE a.id = ANY(ARRAY(SELECT o.id FROM done_with o JOIN alerts_free f ON f.id = o.id))
        RETURNING 1
    )
"""
_CHECK = text(
    f"""
    {JUDGE}, {_TOLD_OF}, {_ORDERS}, {_ALERTS}
    SELECT status, count(*) FROM judged GROUP BY status
    UNION ALL SELECT 'work_orders', count(*) FROM opened
    UNION ALL SELECT 'raised', count(*) FROM raised
    UNION ALL SELECT 'alerts', count(*) FROM alerted
    UNION ALL SELECT 'reminded', count(*) FROM reminded
    UNION ALL SELECT 'resolved', count(*) FROM resolved
    """
)


def check_due(connection: Connection, now: datetime) -> dict[str, int]:
    """Judge every trigger of the tenant; open the work orders that are missing, and tell what has changed.

    Twice is harmless: `uq_work_orders_cycle`, `uq_work_orders_open`, `uq_alerts_open`.

    Returns:
        How many triggers are of each status that is not in order, and what was done: work_orders, raised, alerts,
        reminded, resolved.
    """
    today = hold(connection, now)
    rows = connection.execute(_CHECK, {"now": now, "today": today})
    return {row[0]: row[1] for row in rows if row[1]}
