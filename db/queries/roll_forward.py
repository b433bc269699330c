"""Completed work orders become history, and their schedules begin to count anew. Transactions of one tenant."""

from datetime import datetime

from sqlalchemy import Connection, text

from db.queries.maintenance_triggers import months_until, periods_until
from db.queries.meters import LONGEST_FORECAST_DAYS, NEIGHBOURS, NOTED, PROBLEM, STALE_DAYS
from db.queries.work_order_numbers import hold

BATCH = 5000
_TENANT = "(SELECT app_tenant_id())"
_UNROLLED = f"w.tenant_id = {_TENANT} AND w.status = 'completed' AND w.rolled_at IS NULL"

_WAITING = text(f"SELECT EXISTS (SELECT FROM work_orders w WHERE {_UNROLLED})")

# Chosen once: an order that is completed between the statements below would be rolled without its meters.
_CHOOSE = text(
    f"""
    SELECT w.id FROM work_orders w WHERE {_UNROLLED}
    ORDER BY w.completed_at, w.id LIMIT {BATCH} FOR UPDATE SKIP LOCKED
    """
)
_CHOSEN = "w.id = ANY(CAST(:ids AS uuid[]))"

# What the workshop read off is a reading like any other: believed or set aside beside its neighbours.
_READ_OFF = text(
    f"""
    WITH taken AS (
        INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at, source, state, reason)
        SELECT app_tenant_id(), r.vehicle_id, r.meter, r.value, r.read_at, 'work_order',
               CASE WHEN j.problem IS NULL THEN 'accepted' ELSE 'quarantined' END, j.problem
        FROM (SELECT * FROM work_orders w WHERE {_CHOSEN}) d
        CROSS JOIN LATERAL (
            VALUES (d.vehicle_id, 'odometer_km', d.completion_odometer_km, d.completed_at),
                   (d.vehicle_id, 'engine_hours', d.completion_engine_hours, d.completed_at)
        ) AS r (vehicle_id, meter, value, read_at)
        {NEIGHBOURS}
        CROSS JOIN LATERAL (SELECT {PROBLEM} AS problem) j
        WHERE r.value IS NOT NULL
        ORDER BY r.vehicle_id, r.meter, r.read_at, r.value
        ON CONFLICT (vehicle_id, meter, read_at) DO NOTHING
        RETURNING vehicle_id, meter, value, read_at, state
    ),
    believed AS (
        SELECT DISTINCT ON (vehicle_id, meter) * FROM taken
        WHERE state = 'accepted' ORDER BY vehicle_id, meter, read_at DESC
    ),
    {NOTED}
    SELECT count(*) FROM taken
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


_DONE = f"""
    done AS MATERIALIZED (
        SELECT w.*, CAST(w.completed_at AT TIME ZONE n.time_zone AS date) AS completed_on,
               CAST(w.created_at AT TIME ZONE n.time_zone AS date) AS created_on
        FROM work_orders w JOIN tenants n ON n.id = w.tenant_id
        WHERE {_CHOSEN}
    ),
    served AS MATERIALIZED (
        SELECT d.id, d.reference, d.vehicle_id, d.schedule_id, d.due_cycle, d.completed_at, d.completed_on,
               d.total_cost, d.completion_odometer_km, d.completion_engine_hours,
               t.id AS trigger_id,
               odometer_km.value AS km, odometer_km.source AS km_source,
               engine_hours.value AS hours, engine_hours.source AS hours_source,
               greatest(d.completed_on + t.tolerance_days, d.created_on) AS served_on,
               greatest(odometer_km.value + t.tolerance_km, d.odometer_km) AS served_km,
               greatest(engine_hours.value + t.tolerance_engine_hours, d.engine_hours) AS served_hours,
               t.interval_km IS NOT NULL AND odometer_km.value IS NULL AS lacks_km,
               t.interval_engine_hours IS NOT NULL AND engine_hours.value IS NULL AS lacks_hours,
               d.completion_odometer_km IS NOT NULL AND odometer_km.source IS DISTINCT FROM 'given' AS doubts_km,
               d.completion_engine_hours IS NOT NULL AND engine_hours.source IS DISTINCT FROM 'given' AS doubts_hours,
               d.completed_on < t.base_on AND t.anchor = 'completion' AS is_before_last
        FROM done d
        LEFT JOIN LATERAL (
            SELECT * FROM maintenance_triggers
            WHERE schedule_id = d.schedule_id AND vehicle_id = d.vehicle_id LIMIT 1
        ) t ON true
        {_at_completion("odometer_km", "d.completion_odometer_km")}
        {_at_completion("engine_hours", "d.completion_engine_hours")}
    )
"""


def _grid(unit: str, least: str) -> str:
    """The next line of a grid beyond what was served, tolerance included; never an earlier one."""
    return f"""periods_{unit} = CASE t.anchor WHEN 'schedule'
                THEN greatest(t.periods_{unit}, CASE WHEN t.interval_{unit} IS NOT NULL THEN {least} END)
                ELSE 1 END"""


def _floating(unit: str, value: str) -> str:
    """A meter that nobody knew at the completion counts from its next reading, and is not due before."""
    return f"""base_{unit} = CASE WHEN t.anchor = 'schedule' THEN t.base_{unit}
                WHEN {value} IS NOT NULL AND t.interval_{unit} IS NOT NULL THEN greatest(t.base_{unit}, {value}) END"""


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
            {_grid("days", periods_until("t.base_on", "t.interval_days", "l.served_on", beyond=True))},
            {_grid("months", months_until("t.base_on", "t.interval_months", "l.served_on", beyond=True))},
            {_grid("km", periods_until("t.base_km", "t.interval_km", "l.served_km", beyond=True))},
            {
        _grid(
            "engine_hours",
            periods_until("t.base_engine_hours", "t.interval_engine_hours", "l.served_hours", beyond=True),
        )
    }
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
    resolved AS (
        UPDATE alerts a SET resolved_at = :now
        WHERE a.tenant_id = {_TENANT} AND a.resolved_at IS NULL
          AND a.subject = ANY(ARRAY(SELECT 'maintenance:' || trigger_id FROM latest))
          AND a.kind IN ('maintenance_due_soon', 'maintenance_due', 'maintenance_overdue')
        RETURNING 1
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
        CROSS JOIN LATERAL (SELECT name FROM vehicles WHERE id = f.vehicle_id LIMIT 1) v
        LEFT JOIN LATERAL (SELECT name FROM maintenance_schedules WHERE id = f.schedule_id LIMIT 1) s ON true
        WHERE f.reason <> ''
        ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM marked), (SELECT count(*) FROM rolled), (SELECT count(*) FROM flagged),
           (SELECT count(*) FROM resolved)
    """
)


def roll_forward(connection: Connection, now: datetime) -> dict[str, int]:
    """Record up to `BATCH` completed work orders, and let their schedules count from the completion.

    Nothing moves back: a base is never earlier than the one before, a grid never goes to an earlier line. Twice is
    harmless: an order is marked (`rolled_at`) in the same transaction.

    Returns:
        completed, rolled, flagged, resolved; empty where nothing was completed.
    """
    if not connection.execute(_WAITING).scalar_one():
        return {}
    hold(connection, now)
    if not (ids := list(connection.execute(_CHOOSE).scalars())):
        return {}
    connection.execute(_READ_OFF, {"ids": ids})
    completed, rolled, flagged, resolved = connection.execute(_ROLL, {"ids": ids, "now": now}).one()
    return {"completed": completed, "rolled": rolled, "flagged": flagged, "resolved": resolved}
