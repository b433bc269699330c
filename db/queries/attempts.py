"""How attempts to send ended, written by claim. Over all tenants."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from db.queries.deliveries import DIGEST


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended.

    Args:
        state: `ready` again at `next_at`, or the end.
        attempt: what the history says of it; None where nobody was asked, so that it costs no attempt.
        is_bad_address: nothing more is to be sent there.
    """

    id: UUID
    state: Literal["ready", "sent", "failed", "suppressed"]
    attempt: Literal["accepted", "deferred", "refused", "unreadable"] | None
    at: datetime
    reason: str | None = None
    code: int | None = None
    provider_id: str | None = None
    next_at: datetime | None = None
    is_bad_address: bool = False


_RECORD = text(
    f"""
    WITH told AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(:outcomes) AS o
            (id uuid, state text, attempt text, at timestamptz, reason text, code integer, provider_id text,
             next_at timestamptz, is_bad_address boolean)
    ),
    recorded AS (
        UPDATE notifications n
        SET state = o.state, reason = o.reason, provider_id = coalesce(o.provider_id, n.provider_id),
            claim_token = NULL, claimed_until = NULL, next_attempt_at = coalesce(o.next_at, n.next_attempt_at),
            attempts = CASE WHEN o.attempt IS NULL THEN n.attempts - 1 ELSE n.attempts END,
            finished_at = CASE WHEN o.state <> 'ready' THEN o.at END
        FROM told o WHERE n.id = o.id AND n.claim_token = :token
        RETURNING n.id, n.tenant_id, n.address
    ),
    tried AS (
        INSERT INTO notification_attempts (notification_id, at, tenant_id, outcome, code, reason)
        SELECT n.id, o.at, n.tenant_id, o.attempt, o.code, o.reason
        FROM recorded n JOIN told o ON o.id = n.id WHERE o.attempt IS NOT NULL
        ON CONFLICT DO NOTHING
    ),
    suppressed AS (
        INSERT INTO suppressed_addresses (tenant_id, address_digest, reason)
        SELECT DISTINCT n.tenant_id, {DIGEST}, 'hard_bounce'
        FROM recorded n JOIN told o ON o.id = n.id WHERE o.is_bad_address
        ON CONFLICT DO NOTHING
    )
    SELECT (SELECT count(*) FROM recorded),
           (SELECT count(*) FROM told o JOIN notification_attempts t ON (t.notification_id, t.at) = (o.id, o.at))
    """
).bindparams(bindparam("outcomes", type_=JSONB))


def record(connection: Connection, token: UUID, outcomes: Sequence[Outcome]) -> int:
    """Write how attempts ended; twice is harmless.

    Returns:
        How many were still this claim's, or are written already: the others are another worker's by now.
    """
    rows = [
        {
            "id": str(each.id),
            "state": each.state,
            "attempt": each.attempt,
            "at": each.at.isoformat(),
            "reason": each.reason,
            "code": each.code,
            "provider_id": each.provider_id,
            "next_at": each.next_at.isoformat() if each.next_at is not None else None,
            "is_bad_address": each.is_bad_address,
        }
        for each in outcomes
    ]
    recorded, before = connection.execute(_RECORD, {"token": token, "outcomes": rows}).one()
    return int(recorded) + int(before)
