"""What the platform forgets, and when."""

from datetime import datetime

from sqlalchemy import Connection, text

from db.queries.meters import AVERAGE_DAYS

BATCH = 5000

_PURGE = {
    "job_runs": """
        DELETE FROM job_runs WHERE id IN (
            SELECT id FROM job_runs
            WHERE created_at < :now - INTERVAL '90 days' AND finished_at < :now - INTERVAL '90 days'
            ORDER BY created_at LIMIT :batch FOR UPDATE SKIP LOCKED)
    """,
    "rejected_records": """
        DELETE FROM rejected_records WHERE id IN (
            SELECT id FROM rejected_records WHERE updated_at < :now - INTERVAL '30 days'
            LIMIT :batch FOR UPDATE SKIP LOCKED)
    """,
    # A week: far more than the minutes for which a provider repeats an event, or a scheme believes a signature.
    "webhook_deliveries": """
        DELETE FROM webhook_deliveries WHERE (connection_id, event_id) IN (
            SELECT connection_id, event_id FROM webhook_deliveries WHERE created_at < :now - INTERVAL '7 days'
            LIMIT :batch FOR UPDATE SKIP LOCKED)
    """,
    # Its attempts go with it. What is still to be sent stays, however old; so does who was told of what is still open,
    # because they are told of its end.
    "notifications": """
        DELETE FROM notifications WHERE id IN (
            SELECT n.id FROM tenants t CROSS JOIN LATERAL (
                SELECT id FROM notifications
                WHERE tenant_id = t.id AND created_at < :now - INTERVAL '1 year' AND state NOT IN ('pending', 'ready')
                  AND NOT (channel = 'webhook' AND NOT is_resolution AND EXISTS (
                      SELECT FROM alerts a WHERE a.id = alert_id AND a.resolved_at IS NULL))
                ORDER BY created_at LIMIT :batch FOR UPDATE SKIP LOCKED) n
            LIMIT :batch)
    """,
    # What waits for a person stays, and so does what the newest accepted one is judged and projected by.
    "meter_readings": f"""
        DELETE FROM meter_readings WHERE id IN (
            SELECT r.id FROM vehicle_meters m CROSS JOIN LATERAL (
                SELECT id FROM meter_readings
                WHERE vehicle_id = m.vehicle_id AND meter = m.meter AND state IN ('accepted', 'superseded')
                  AND read_at < least(:now - INTERVAL '2 years', m.read_at - INTERVAL '{AVERAGE_DAYS} days')
                ORDER BY read_at LIMIT :batch FOR UPDATE SKIP LOCKED) r
            LIMIT :batch)
    """,
    # An alert that a person resolved while its cause lasts is what keeps it from being told again.
    "alerts": """
        DELETE FROM alerts WHERE id IN (
            SELECT a.id FROM tenants t CROSS JOIN LATERAL (
                SELECT a.id FROM alerts a
                WHERE a.tenant_id = t.id AND a.opened_at < :now - INTERVAL '1 year'
                  AND a.resolved_at < :now - INTERVAL '1 year'
                  AND NOT (a.kind IN ('low_fuel', 'low_battery', 'connection_silent') AND a.over_at IS NULL)
                  AND NOT (a.kind = 'fault_code' AND EXISTS (
                      SELECT FROM vehicle_faults f WHERE f.tenant_id = a.tenant_id AND f.vehicle_id = a.vehicle_id
                      AND f.cleared_at IS NULL AND CAST(f.id AS text) = a.details ->> 'fault_id'))
                  AND NOT (a.kind = 'offline' AND NOT EXISTS (
                      SELECT FROM alerts k WHERE k.tenant_id = a.tenant_id AND k.subject = a.subject
                      AND k.kind = a.kind AND k.opened_at > a.opened_at))
                ORDER BY a.opened_at LIMIT :batch FOR UPDATE OF a SKIP LOCKED) a
            LIMIT :batch)
    """,
}


def purge(connection: Connection, now: datetime) -> dict[str, int]:
    """Delete one bounded batch of each kind. Returns how many rows of each went."""
    return {
        table: connection.execute(
            text(statement.replace(":now", "CAST(:now AS timestamptz)")), {"now": now, "batch": BATCH}
        ).rowcount
        for table, statement in _PURGE.items()
    }
