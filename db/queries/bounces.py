"""What came back of a mail after a server had taken it. Over all tenants."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, text

_RECORD = text(
    """
    WITH returned AS (
        UPDATE notifications SET state = 'failed', reason = :reason, finished_at = :now
        WHERE id = :id AND channel = 'email' AND state = 'sent'
        RETURNING id, tenant_id, address
    ),
    tried AS (
        INSERT INTO notification_attempts (notification_id, at, tenant_id, outcome, reason)
        SELECT id, :now, tenant_id, 'refused', :reason FROM returned
    ),
    suppressed AS (
        INSERT INTO suppressed_addresses (tenant_id, address_digest, reason)
        SELECT tenant_id, sha256(convert_to(tenant_id || ':' || lower(address), 'UTF8')), :suppress FROM returned
        WHERE CAST(:suppress AS text) IS NOT NULL
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) FROM returned
    """
)


def record_returned(
    connection: Connection,
    notification_id: UUID,
    reason: str,
    now: datetime,
    *,
    suppress: Literal["hard_bounce", "complaint"] | None,
) -> bool:
    """Take back that a mail was sent. Twice is harmless: it is then no longer one that was.

    Args:
        suppress: why nothing more is sent to its address; None where something may be.

    Returns:
        Whether it was one of ours that had been sent.
    """
    values = {"id": notification_id, "reason": reason, "now": now, "suppress": suppress}
    return bool(connection.execute(_RECORD, values).scalar_one())
