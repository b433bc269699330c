"""Completed work orders become history, and their schedules begin to count anew. Transactions of one tenant."""

from datetime import datetime

from sqlalchemy import Connection, text

from db.queries.maintenance_triggers import NEVER_SERVED, months_until, periods_until
from db.queries.meters import LONGEST_FORECAST_DAYS, STALE_DAYS
from db.queries.reported import judge_read_off
from db.queries.work_order_numbers import hold, not_locked

BATCH = 5000
_TENANT = "(SELECT app_tenant_id())"
_UNROLLED = f"w.tenant_id = {_TENANT} AND w.status = 'completed' AND w.rolled_at IS NULL"

_AWAITING = f"""
    t.tenant_id = {_TENANT} AND (t.awaits_km_since IS NOT NULL OR t.awaits_engine_hours_since IS NOT NULL)
"""


def _first_after(since: str, meter: str) -> str:
    return f"""
        LEFT JOIN LATERAL (
            SELECT value FROM meter_readings
            WHERE vehicle_id = t.vehicle_id AND meter = '{meter}' AND state = 'accepted' AND read_at > t.{since}
            ORDER BY read_at LIMIT 1
        ) {meter} ON true
    """


_READ_SINCE = _first_after("awaits_km_since", "odometer_km") + _first_after("awaits_engine_hours_since", "engine_hours")
_WAITING = text(
    f"""
    SELECT EXISTS (SELECT FROM work_orders w WHERE {_UNROLLED}),
           EXISTS (SELECT FROM maintenance_triggers t {_READ_SINCE}
                   WHERE {_AWAITING} AND (odometer_km.value IS NOT NULL OR engine_hours.value IS NOT NULL))
    """
)

# Chosen once: an order that is completed between the statements below would be rolled without its meters. One whose
# service or vehicle another application has locked waits with it: nothing waits for a row while it holds the counter.
_CHOOSE = text(
    f"""
    WITH orders AS MATERIALIZED (
        SELECT w.id, w.vehicle_id, w.schedule_id, w.completed_at FROM work_orders w WHERE {_UNROLLED}
        ORDER BY w.completed_at, w.id LIMIT {BATCH} FOR NO KEY UPDATE SKIP LOCKED
    ),
    served AS MATERIALIZED (
        SELECT o.*, t.id AS trigger_id FROM orders o
        LEFT JOIN LATERAL (
            SELECT id FROM maintenance_triggers
            WHERE schedule_id = o.schedule_id AND vehicle_id = o.vehicle_id LIMIT 1
        ) t ON true
    ),
    held AS MATERIALIZED (
        SELECT id FROM maintenance_triggers
        WHERE id = ANY(ARRAY(SELECT trigger_id FROM served)) FOR NO KEY UPDATE SKIP LOCKED
    ),
    vehicles_free AS MATERIALIZED ({not_locked("SELECT vehicle_id FROM served")})
    SELECT id, vehicle_id FROM served
    WHERE (trigger_id IS NULL OR trigger_id IN (SELECT id FROM held)) AND vehicle_id IN (SELECT id FROM vehicles_free)
    """
)
_CHOSEN = "w.id = ANY(CAST(:ids AS uuid[]))"

# What the workshop read off is a reading like any other.
_READ_OFF = text(
    f"""
    INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at, source)
    SELECT app_tenant_id(), r.vehicle_id, r.meter, r.value, r.read_at, 'work_order'
    FROM (SELECT * FROM work_orders w WHERE {_CHOSEN}) d
    CROSS JOIN LATERAL (
        VALUES (d.vehicle_id, 'odometer_km', d.completion_odometer_km, d.completed_at),
               (d.vehicle_id, 'engine_hours', d.completion_engine_hours, d.completed_at)
    ) AS r (vehicle_id, meter, value, read_at)
    WHERE r.value IS NOT NULL
    ORDER BY r.vehicle_id, r.meter, r.read_at, r.value
    ON CONFLICT (vehicle_id, meter, read_at) DO NOTHING
    """
)


def _at_completion(meter: str, given: str) -> str:
    """The last accepted reading at or before the completion, projected to it where it is days old."""
    return f"""
        LEFT JOIN LATERAL (
            SELECT CASE WHEN f.days IS NULL THEN b.value
                        ELSE least(b.value + f.days * m.per_day, coalesce(a.value, 'infinity')) END AS value,
                   CASE WHEN b.value = {given} AND b.read_at = d.completed_at THEN 'given'
                        WHEN f.days IS NULL THEN 'reading' ELSE 'forecast' END AS source
            FROM (
                SELECT value, read_at FROM meter_readings
                WHERE vehicle_id = d.vehicle_id AND meter = '{meter}' AND state = 'accepted'
                  AND read_at <= d.completed_at ORDER BY read_at DESC LIMIT 1
            ) b
            LEFT JOIN LATERAL (
                SELECT value FROM meter_readings
                WHERE vehicle_id = d.vehicle_id AND meter = '{meter}' AND state = 'accepted'
                  AND read_at > d.completed_at ORDER BY read_at LIMIT 1
            ) a ON true
            LEFT JOIN LATERAL (
                SELECT per_day FROM vehicle_meters WHERE vehicle_id = d.vehicle_id AND meter = '{meter}' LIMIT 1
            ) m ON true
            CROSS JOIN LATERAL (
                SELECT CASE WHEN d.completed_at - b.read_at >= interval '{STALE_DAYS} days' AND m.per_day > 0
                            THEN least(extract(epoch FROM d.completed_at - b.read_at) / 86400,
                                       {LONGEST_FORECAST_DAYS}) END AS days
            ) f
        ) {meter} ON true
    """


def _last_line(unit: str) -> str:
    return f"t.base_{unit} + (t.periods_{unit} - 1) * t.interval_{unit}"


_LAST_DAY = """greatest({}, CAST(t.base_on + make_interval(months => {}) AS date))""".format(
    "t.base_on + (t.periods_days - 1) * t.interval_days", "(t.periods_months - 1) * t.interval_months"
)
# An order that was open counts for what it was opened for, though the completion says an earlier day or meter.
_DONE = f"""
    done AS MATERIALIZED (
        SELECT w.*, CAST(w.completed_at AT TIME ZONE n.time_zone AS date) AS completed_on,
               CASE WHEN NOT w.is_history THEN CAST(w.created_at AT TIME ZONE n.time_zone AS date) END AS opened_on
        FROM work_orders w JOIN tenants n ON n.id = w.tenant_id
        WHERE {_CHOSEN}
    ),
    served AS MATERIALIZED (
        SELECT d.id, d.reference, d.vehicle_id, d.schedule_id, d.due_cycle, d.completed_at, d.completed_on,
               d.total_cost, d.completion_odometer_km, d.completion_engine_hours, d.is_history,
               t.id AS trigger_id,
               odometer_km.value AS km, odometer_km.source AS km_source,
               engine_hours.value AS hours, engine_hours.source AS hours_source,
               s.served_on, s.served_km, s.served_hours,
               t.interval_km IS NOT NULL AND odometer_km.value IS NULL AS lacks_km,
               t.interval_engine_hours IS NOT NULL AND engine_hours.value IS NULL AS lacks_hours,
               d.completion_odometer_km IS NOT NULL AND odometer_km.source IS DISTINCT FROM 'given' AS doubts_km,
               d.completion_engine_hours IS NOT NULL AND engine_hours.source IS DISTINCT FROM 'given' AS doubts_hours,
               CASE t.anchor WHEN 'completion' THEN d.completed_on < t.base_on
                   ELSE b.on_date IS NOT FALSE AND b.on_km IS NOT FALSE AND b.on_hours IS NOT FALSE
                        AND (b.on_date OR b.on_km OR b.on_hours) IS TRUE END AS is_before_last
        FROM done d
        LEFT JOIN LATERAL (
            SELECT * FROM maintenance_triggers
            WHERE schedule_id = d.schedule_id AND vehicle_id = d.vehicle_id LIMIT 1
        ) t ON true
        {_at_completion("odometer_km", "d.completion_odometer_km")}
        {_at_completion("engine_hours", "d.completion_engine_hours")}
        CROSS JOIN LATERAL (
            SELECT greatest(d.completed_on + t.tolerance_days, d.opened_on) AS served_on,
                   greatest(odometer_km.value + t.tolerance_km, d.odometer_km, d.due_odometer_km) AS served_km,
                   greatest(engine_hours.value + t.tolerance_engine_hours, d.engine_hours, d.due_engine_hours)
                       AS served_hours
        ) s
        CROSS JOIN LATERAL (
            SELECT s.served_on < {_LAST_DAY} AS on_date, s.served_km < {_last_line("km")} AS on_km,
                   s.served_hours < {_last_line("engine_hours")} AS on_hours
        ) b
    )
"""


def _grid(unit: str, least: str) -> str:
    """The next line of a grid beyond what was served, tolerance included; never an earlier one."""
    return f"""periods_{unit} = CASE t.anchor WHEN 'schedule'
                THEN greatest(t.periods_{unit}, CASE WHEN t.interval_{unit} IS NOT NULL THEN {least} END)
                ELSE 1 END"""


def _floating(unit: str, value: str) -> str:
    """A meter that nobody knew at the completion counts from its next reading, and is not due before."""
    return f"""base_{unit} = CASE WHEN t.anchor = 'schedule' OR l.is_before_last THEN t.base_{unit}
                WHEN {value} IS NOT NULL AND t.interval_{unit} IS NOT NULL THEN greatest(t.base_{unit}, {value}) END"""


def _awaits(unit: str, lacks: str) -> str:
    """Of a grid the next reading says which line comes next."""
    return f"""awaits_{unit}_since = CASE WHEN l.is_before_last THEN t.awaits_{unit}_since
                WHEN t.anchor = 'schedule' AND {lacks} AND t.base_{unit} IS NOT NULL THEN l.completed_at END"""


def _next_line(unit: str, served: str) -> str:
    return _grid(unit, periods_until(f"t.base_{unit}", f"t.interval_{unit}", served, beyond=True))


_ROLL = text(
    f"""
    WITH {_DONE},
    latest AS MATERIALIZED (
        SELECT DISTINCT ON (trigger_id) * FROM served WHERE trigger_id IS NOT NULL
        ORDER BY trigger_id, completed_at DESC, due_cycle DESC
    ),
    rolled AS (
        UPDATE maintenance_triggers t
        SET cycle = greatest(t.cycle, l.due_cycle + 1),
            snoozed_until = NULL, snoozed_until_km = NULL, snoozed_until_engine_hours = NULL,
            base_on = CASE t.anchor WHEN 'schedule' THEN t.base_on ELSE greatest(t.base_on, l.completed_on) END,
            {_floating("km", "l.km")},
            {_floating("engine_hours", "l.hours")},
            {_awaits("km", "l.lacks_km")},
            {_awaits("engine_hours", "l.lacks_hours")},
            {_grid("days", periods_until("t.base_on", "t.interval_days", "l.served_on", beyond=True))},
            {_grid("months", months_until("t.base_on", "t.interval_months", "l.served_on", beyond=True))},
            {_next_line("km", "l.served_km")},
            {_next_line("engine_hours", "l.served_hours")}
        FROM latest l
        WHERE t.id = l.trigger_id AND t.id = ANY(ARRAY(SELECT trigger_id FROM latest))
        RETURNING t.id
    ),
    recorded AS (
        INSERT INTO maintenance_records (work_order_id, tenant_id, vehicle_id, schedule_id, due_cycle, performed_on,
                                         odometer_km, odometer_source, engine_hours, engine_hours_source, total_cost)
        SELECT id, app_tenant_id(), vehicle_id, schedule_id, due_cycle, completed_on, km, km_source, hours,
               hours_source, total_cost
        FROM served
        ON CONFLICT (work_order_id) DO NOTHING
    ),
    marked AS (
        UPDATE work_orders w SET rolled_at = :now WHERE {_CHOSEN} RETURNING 1
    ),
    done_with AS MATERIALIZED (
        SELECT a.id FROM alerts a
        WHERE a.tenant_id = {_TENANT} AND a.resolved_at IS NULL
          AND a.subject = ANY(ARRAY(SELECT 'maintenance:' || trigger_id FROM latest
                                    WHERE (is_before_last AND is_history) IS NOT TRUE))
          AND a.kind IN ('maintenance_due_soon', 'maintenance_due', 'maintenance_overdue')
        FOR NO KEY UPDATE SKIP LOCKED
    ),
    resolved AS (
        UPDATE alerts a SET resolved_at = :now WHERE a.id = ANY(ARRAY(SELECT id FROM done_with)) RETURNING 1
    ),
    flagged AS (
        INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, subject, message, details, opened_at)
        SELECT app_tenant_id(), 'work_order_flagged', 'low', f.vehicle_id, 'work_order:' || f.id,
               f.reference || ': ' || f.reason,
               jsonb_build_object('work_order_id', f.id, 'work_order_number', f.reference, 'status', 'completed',
                                  'schedule_id', f.schedule_id, 'schedule_name', s.name, 'vehicle_id', f.vehicle_id,
                                  'vehicle_name', v.name, 'reason', f.reason, 'missing_meters', f.missing_meters),
               :now
        FROM (
            SELECT e.*,
                array_remove(ARRAY[
                    CASE WHEN e.is_before_last IS NOT TRUE AND (e.lacks_km OR e.doubts_km) THEN 'odometer_km' END,
                    CASE WHEN e.is_before_last IS NOT TRUE AND (e.lacks_hours OR e.doubts_hours) THEN 'engine_hours' END
                ], NULL) AS missing_meters,
                concat_ws('; ',
                CASE WHEN e.doubts_km THEN 'the odometer of its completion cannot be and was set aside' END,
                CASE WHEN e.doubts_hours THEN 'the engine hours of its completion cannot be and were set aside' END,
                CASE WHEN e.lacks_km
                     THEN 'completed without an odometer: the distance counts from the next reading' END,
                CASE WHEN e.lacks_hours
                     THEN 'completed without engine hours: they count from the next reading' END,
                CASE WHEN e.is_before_last THEN 'completed before the service that it follows: nothing moves' END
            ) AS reason
            FROM served e
        ) f
        CROSS JOIN LATERAL (SELECT left(name, 200) AS name FROM vehicles WHERE id = f.vehicle_id LIMIT 1) v
        LEFT JOIN LATERAL (SELECT name FROM maintenance_schedules WHERE id = f.schedule_id LIMIT 1) s ON true
        WHERE f.reason <> ''
        ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM marked), (SELECT count(*) FROM rolled), (SELECT count(*) FROM flagged),
           (SELECT count(*) FROM resolved)
    """
)


def _early(unit: str) -> str:
    """How far ahead a line may be that a service counts for; where none was, the line ahead is owed."""
    return f"CASE WHEN t.awaits_{unit}_since > {NEVER_SERVED} THEN t.tolerance_{unit} ELSE 0 END"


# A grid that was served at a meter which nobody knew goes beyond the first reading since.
_LAY = text(
    f"""
    WITH read AS MATERIALIZED (
        SELECT t.id, odometer_km.value AS km, engine_hours.value AS hours
        FROM (SELECT * FROM maintenance_triggers t WHERE {_AWAITING} FOR NO KEY UPDATE SKIP LOCKED) t
        {_READ_SINCE}
        WHERE odometer_km.value IS NOT NULL OR engine_hours.value IS NOT NULL
    )
    UPDATE maintenance_triggers t
    SET {_next_line("km", f"(r.km + {_early('km')})")},
        {_next_line("engine_hours", f"(r.hours + {_early('engine_hours')})")},
        awaits_km_since = CASE WHEN r.km IS NULL THEN t.awaits_km_since END,
        awaits_engine_hours_since = CASE WHEN r.hours IS NULL THEN t.awaits_engine_hours_since END
    FROM read r
    WHERE t.id = r.id AND t.id = ANY(ARRAY(SELECT id FROM read))
    """
)


def roll_forward(connection: Connection, now: datetime) -> dict[str, int]:
    """Record up to `BATCH` completed work orders, and let their schedules count from the completion.

    Nothing moves back: a base is never earlier than the one before, a grid never goes to an earlier line. Twice is
    harmless: an order is marked (`rolled_at`) in the same transaction.

    Returns:
        completed, rolled, flagged, resolved; empty where nothing was completed.
    """
    are_completed, are_read = connection.execute(_WAITING).one()
    if not are_completed and not are_read:
        return {}
    hold(connection, now)
    counts = _roll(connection, now)
    connection.execute(_LAY)
    return counts


def _roll(connection: Connection, now: datetime) -> dict[str, int]:
    chosen = connection.execute(_CHOOSE).all()
    if not chosen:
        return {}
    ids = [row.id for row in chosen]
    if connection.execute(_READ_OFF, {"ids": ids}).rowcount:
        judge_read_off(connection, {row.vehicle_id for row in chosen}, now)
    completed, rolled, flagged, resolved = connection.execute(_ROLL, {"ids": ids, "now": now}).one()
    return {"completed": completed, "rolled": rolled, "flagged": flagged, "resolved": resolved}
