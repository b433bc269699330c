"""Completed work orders that somebody should look at: told by the roll-forward, settled once it no longer matters."""

from datetime import datetime

from sqlalchemy import Connection, text

_TENANT = "(SELECT app_tenant_id())"


def _made_good(meter: str, given: str) -> str:
    """What was given is believed or dismissed by now; what was not is read, so that the schedule counts from that."""
    return f"""
        (NOT f.missing @> '["{meter}"]' OR CASE
            WHEN f.{given} IS NULL THEN EXISTS (
                SELECT FROM vehicle_meters m
                WHERE m.vehicle_id = f.vehicle_id AND m.meter = '{meter}' AND m.read_at > f.completed_at)
            ELSE EXISTS (
                SELECT FROM meter_readings r
                WHERE r.vehicle_id = f.vehicle_id AND r.meter = '{meter}' AND r.read_at = f.completed_at
                  AND r.value = f.{given} AND r.state IN ('accepted', 'superseded')) END)
    """


_SETTLE = text(
    f"""
    WITH flagged AS MATERIALIZED (
        SELECT a.id, coalesce(a.details -> 'missing_meters', '[]') AS missing, w.vehicle_id, w.schedule_id, w.due_cycle,
               w.completed_at, w.completion_odometer_km, w.completion_engine_hours
        FROM alerts a
        CROSS JOIN LATERAL (
            SELECT * FROM work_orders
            WHERE vehicle_id = a.vehicle_id AND 'work_order:' || id = a.subject AND tenant_id = {_TENANT} LIMIT 1
        ) w
        WHERE a.tenant_id = {_TENANT} AND a.kind = 'work_order_flagged' AND a.resolved_at IS NULL
    ),
    done_with AS MATERIALIZED (
        SELECT f.id FROM flagged f
        WHERE EXISTS (
            SELECT FROM work_orders l
            WHERE l.vehicle_id = f.vehicle_id AND l.schedule_id = f.schedule_id AND l.due_cycle > f.due_cycle
              AND l.rolled_at IS NOT NULL)
        OR (f.missing @> '["odometer_km"]' OR f.missing @> '["engine_hours"]')
           AND {_made_good("odometer_km", "completion_odometer_km")}
           AND {_made_good("engine_hours", "completion_engine_hours")}
    ),
    free AS MATERIALIZED (
        SELECT id FROM alerts WHERE id = ANY(ARRAY(SELECT id FROM done_with)) AND resolved_at IS NULL
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE alerts a SET resolved_at = :now WHERE a.id = ANY(ARRAY(SELECT id FROM free))
    """
)


def settle_flagged(connection: Connection, now: datetime) -> dict[str, int]:
    """Resolve what was flagged and no longer matters: the meter is known by now, or a later service counts instead.

    Twice is harmless: only what is open is resolved.
    """
    return {"unflagged": connection.execute(_SETTLE, {"now": now}).rowcount}
