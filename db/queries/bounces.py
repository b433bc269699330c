"""What came back of a mail after a server had taken it. Over all tenants."""

from collections.abc import Collection
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, text

_RECORD = text(
    """
    WITH named AS MATERIALIZED (
        SELECT id, state, claim_token IS NOT NULL AS is_claimed FROM notifications
        WHERE id = :id AND channel = 'email'
          AND (CAST(:addresses AS text[]) IS NULL OR lower(address) = ANY (CAST(:addresses AS text[])))
    ),
    returned AS (
        UPDATE notifications SET state = 'failed', reason = :reason, finished_at = :now
        WHERE id = (SELECT id FROM named) AND state = 'sent'
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
    SELECT CASE WHEN EXISTS (SELECT FROM returned) THEN 'recorded'
                WHEN EXISTS (SELECT FROM named WHERE is_claimed) THEN 'too early' ELSE 'unknown' END
    """
)


def record_returned(
    connection: Connection,
    notification_id: UUID,
    addresses: Collection[str] | None,
    reason: str,
    now: datetime,
    *,
    suppress: Literal["hard_bounce", "complaint"] | None,
) -> Literal["recorded", "too early", "unknown"]:
    """Take back that a mail was sent. Twice is harmless: it is then no longer one that was.

    Args:
        addresses: the ways to write whom it could not be delivered to, in lower case; None where nobody is named. What
            was sent to somebody else, such as a list that this one is on, has arrived.
        suppress: why nothing more is sent to its address; None where something may be.

    Returns:
        Whether it was one of ours that had been sent; too early where it is being sent, and not recorded yet.
    """
    values = {"id": notification_id, "reason": reason, "now": now, "suppress": suppress}
    given = None if addresses is None else sorted(addresses)
    found: Literal["recorded", "too early", "unknown"] = connection.execute(
        _RECORD, values | {"addresses": given}
    ).scalar_one()
    return found
