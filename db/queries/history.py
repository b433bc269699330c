"""What the ledger forgets, and when."""

from datetime import datetime

from sqlalchemy import Connection, text

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
    # Its attempts go with it. What is still to be sent stays, however old.
    "notifications": """
        DELETE FROM notifications WHERE id IN (
            SELECT n.id FROM tenants t CROSS JOIN LATERAL (
                SELECT id FROM notifications
                WHERE tenant_id = t.id AND created_at < :now - INTERVAL '90 days' AND state NOT IN ('pending', 'ready')
                ORDER BY created_at LIMIT :batch FOR UPDATE SKIP LOCKED) n
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
