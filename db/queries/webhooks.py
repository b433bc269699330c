"""Every statement of webhooks in. The receiver's and the job's are of one tenant, the operator's of all."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

LONGEST_EVENT_ID = 200
LARGEST_PAYLOAD = 262_144
"""As the table checks them."""

_SENDER = text(
    """
    SELECT c.provider, c.credentials_encrypted FROM connections c JOIN tenants t ON t.id = c.tenant_id
    WHERE c.id = :id AND c.deleted_at IS NULL AND t.deleted_at IS NULL
    """
)


def find_sender(connection: Connection, connection_id: UUID) -> tuple[str, bytes] | None:
    """Return provider and encrypted credentials of a connection of the tenant, whatever its status; None: no such."""
    row = connection.execute(_SENDER, {"id": connection_id}).one_or_none()
    return None if row is None else (row[0], bytes(row[1]))


_KEEP = text(
    """
    WITH kept AS (
        INSERT INTO webhook_deliveries AS d (connection_id, event_id, tenant_id, kind, sent_at, payload)
        VALUES (:connection_id, :event_id, app_tenant_id(), :kind, :sent_at, :payload)
        ON CONFLICT (connection_id, event_id) DO UPDATE SET repeats = d.repeats + 1
        RETURNING repeats = 0 AS is_new
    )
    SELECT is_new,
           CASE WHEN is_new THEN enqueue_job(:job, jsonb_build_object('connection_id', CAST(:connection_id AS uuid),
                                                                      'event_id', CAST(:event_id AS text)),
                                             requested_by => 'webhook') END
    FROM kept
    """
)


def keep_delivery(
    connection: Connection,
    connection_id: UUID,
    event_id: str,
    *,
    kind: str,
    sent_at: datetime | None,
    payload: bytes,
    job: str,
) -> bool:
    """Keep a delivery and enqueue the job that reads it; False for a repeat, which is counted only.

    The first body of an event id is kept. Of deliveries at the same time one is first, the others wait for it.
    """
    values = {"connection_id": connection_id, "event_id": event_id, "job": job}
    values |= {"kind": kind, "sent_at": sent_at, "payload": payload}
    return bool(connection.execute(_KEEP, values).one()[0])


# The row's lock is held to the end of the transaction: who reads the same delivery meanwhile finds no payload.
_TAKE = text(
    """
    WITH unread AS (
        SELECT connection_id, event_id, payload FROM webhook_deliveries
        WHERE connection_id = :connection_id AND event_id = :event_id AND payload IS NOT NULL FOR UPDATE
    )
    UPDATE webhook_deliveries d SET payload = NULL, read_at = :now
    FROM unread u WHERE (d.connection_id, d.event_id) = (u.connection_id, u.event_id)
    RETURNING u.payload
    """
)


def take_payload(connection: Connection, connection_id: UUID, event_id: str, now: datetime) -> bytes | None:
    """Return what a delivery brought and mark it read; it is gone with this commit. None: read before, or purged."""
    values = {"connection_id": connection_id, "event_id": event_id, "now": now}
    payload = connection.execute(_TAKE, values).scalar_one_or_none()
    return None if payload is None else bytes(payload)


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery as a line of a list."""

    event_id: str
    kind: str
    sent_at: datetime | None
    received_at: datetime
    repeats: int
    read_at: datetime | None
    payload_bytes: int | None
    now: datetime


_LIST = text(
    """
    SELECT event_id, kind, sent_at, created_at, repeats, read_at, octet_length(payload), clock_timestamp()
    FROM webhook_deliveries WHERE connection_id = :id ORDER BY created_at DESC, event_id LIMIT :limit
    """
)


def list_deliveries(connection: Connection, connection_id: UUID, limit: int) -> list[DeliveryRow]:
    """Return a connection's deliveries, the newest first."""
    return [DeliveryRow(*row) for row in connection.execute(_LIST, {"id": connection_id, "limit": limit})]


_SET_SECRET = text(
    """
    UPDATE connections SET credentials_encrypted = :credentials
    WHERE id = :id AND deleted_at IS NULL AND credentials_encrypted = :before AND renewal_claim IS NULL
    """
)


def set_secret(connection: Connection, connection_id: UUID, before: bytes, credentials: bytes) -> bool:
    """Store credentials that have a secret more. False: others replace them right now, who must not lose what they got.

    A renewal that has asked the provider already stores its new pair over what it read before.
    """
    values = {"id": connection_id, "before": before, "credentials": credentials}
    return connection.execute(_SET_SECRET, values).rowcount == 1
