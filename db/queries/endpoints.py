"""Where notifications go that are not mails: webhooks and chats, their secrets, and whether they work."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.sql.expression import bindparam

ROTATION_HOURS = 24
"""How long a replaced secret still signs beside its successor."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A row of `webhook_endpoints` as its sender needs it. `previous` only while it still signs."""

    id: UUID
    tenant_id: UUID
    channel: str
    name: str
    url: str | None
    secret_encrypted: bytes
    previous_encrypted: bytes | None
    failing_since: datetime | None
    is_disabled: bool


_READ = text(
    """
    SELECT id, tenant_id, channel, name, url, secret_encrypted,
           CASE WHEN previous_until > :now THEN previous_secret_encrypted END, failing_since,
           disabled_at IS NOT NULL OR deleted_at IS NOT NULL
    FROM webhook_endpoints WHERE id = ANY (:ids)
    """
).bindparams(bindparam("ids", type_=ARRAY(PG_UUID)))


def read_endpoints(connection: Connection, ids: Collection[UUID], now: datetime) -> dict[UUID, Endpoint]:
    """Return endpoints by id, disabled ones included."""
    rows = connection.execute(_READ, {"ids": list(ids), "now": now})
    return {row[0]: Endpoint(*row) for row in rows}


_WORKED = text("UPDATE webhook_endpoints SET failing_since = NULL WHERE id = :id AND failing_since IS NOT NULL")
# All that waits for it waits as long: one try finds out whether it is back.
_FAILED = text(
    """
    WITH failing AS (
        UPDATE webhook_endpoints SET failing_since = :now WHERE id = :id AND failing_since IS NULL
    )
    UPDATE notifications n SET next_attempt_at = :until
    WHERE n.state = 'ready' AND n.channel = :channel AND n.endpoint_id = :id AND n.next_attempt_at < :until
      AND n.claim_token IS NULL AND n.id <> :tried
    """
)


_LEAVE_ALONE = text(
    """
    UPDATE notifications SET next_attempt_at = :until
    WHERE state = 'ready' AND channel = :channel AND endpoint_id = :id AND next_attempt_at < :until
      AND claim_token IS NULL
    """
)


def note_success(connection: Connection, endpoint: Endpoint) -> None:
    """An endpoint works, again."""
    if endpoint.failing_since is not None:
        connection.execute(_WORKED, {"id": endpoint.id})


def note_failure(connection: Connection, endpoint: Endpoint, tried: UUID, now: datetime, until: datetime) -> None:
    """An endpoint did not take the notification `tried`: what else waits for it is left alone until then."""
    values = {"id": endpoint.id, "channel": endpoint.channel, "tried": tried, "now": now, "until": until}
    connection.execute(_FAILED, values)


def leave_alone(connection: Connection, endpoint: Endpoint, until: datetime) -> None:
    """An endpoint is slow: what waits for it gives way to the others until then."""
    connection.execute(_LEAVE_ALONE, {"id": endpoint.id, "channel": endpoint.channel, "until": until})


# Its owner is told by another way: the alert is everybody's who is told of such.
_DISABLE = text(
    """
    WITH disabled AS (
        UPDATE webhook_endpoints SET disabled_at = :now, disabled_reason = :reason
        WHERE id = :id AND disabled_at IS NULL
        RETURNING id, tenant_id, name
    ),
    ended AS (
        UPDATE notifications n SET state = 'suppressed', reason = 'the endpoint is disabled', finished_at = :now
        FROM disabled d WHERE n.endpoint_id = d.id AND n.state IN ('pending', 'ready') AND n.claim_token IS NULL
    )
    INSERT INTO alerts (tenant_id, kind, severity, subject, message, details, opened_at)
    SELECT tenant_id, 'endpoint_disabled', 'high', 'endpoint:' || id,
           format('The endpoint "%s" was turned off: %s', left(name, 100), CAST(:reason AS text)),
           jsonb_build_object('endpoint_id', id, 'name', left(name, 100), 'reason', CAST(:reason AS text)), :now
    FROM disabled
    ON CONFLICT DO NOTHING
    """
)


def disable(connection: Connection, endpoint_id: UUID, reason: str, now: datetime) -> None:
    """Send nothing more to an endpoint until somebody enables it, and raise an alert of it."""
    connection.execute(_DISABLE, {"id": endpoint_id, "reason": reason, "now": now})


_ADD = text(
    """
    INSERT INTO webhook_endpoints (id, tenant_id, user_id, channel, name, url, secret_encrypted, events, min_severity)
    VALUES (:id, :tenant_id, :user_id, :channel, :name, :url, :secret, :events, :min_severity)
    ON CONFLICT DO NOTHING
    """
)


def add_endpoint(
    connection: Connection,
    endpoint_id: UUID,
    tenant_id: UUID,
    *,
    channel: str,
    name: str,
    url: str | None,
    secret: bytes,
    events: Sequence[str] = (),
    min_severity: str = "low",
    user_id: UUID | None = None,
) -> bool:
    """Add an endpoint. False: the tenant has one of that name."""
    values = {
        "id": endpoint_id,
        "tenant_id": tenant_id,
        "user_id": user_id,
        "channel": channel,
        "name": name,
        "url": url,
        "secret": secret,
        "events": list(events),
        "min_severity": min_severity,
    }
    return connection.execute(_ADD, values).rowcount == 1


_IS_PREFERRED = text(
    """
    SELECT EXISTS (SELECT FROM notification_preferences
                   WHERE tenant_id = :tenant_id AND (user_id = :user_id OR user_id IS NULL)
                     AND channel = :channel AND enabled)
    """
)


def is_preferred(connection: Connection, tenant_id: UUID, user_id: UUID, channel: str) -> bool:
    """Tell whether a user, or the tenant for all users, asks to be told anything by a channel."""
    values = {"tenant_id": tenant_id, "user_id": user_id, "channel": channel}
    return bool(connection.execute(_IS_PREFERRED, values).scalar_one())


_ROTATE = text(
    f"""
    UPDATE webhook_endpoints
    SET previous_secret_encrypted = secret_encrypted, previous_until = now() + INTERVAL '{ROTATION_HOURS} hours',
        secret_encrypted = :secret
    WHERE id = :id AND channel = 'webhook' AND deleted_at IS NULL
    """
)
_ENABLE = text(
    """
    WITH resolved AS (
        UPDATE alerts SET resolved_at = now()
        WHERE kind = 'endpoint_disabled' AND subject = 'endpoint:' || :id AND resolved_at IS NULL
    )
    UPDATE webhook_endpoints SET disabled_at = NULL, disabled_reason = NULL, failing_since = NULL
    WHERE id = CAST(:id AS uuid) AND disabled_at IS NOT NULL AND deleted_at IS NULL
    """
)
_REMOVE = text(
    "UPDATE webhook_endpoints SET deleted_at = now(), secret_encrypted = '', previous_secret_encrypted = NULL,"
    " previous_until = NULL WHERE id = :id AND deleted_at IS NULL"
)


def rotate_secret(connection: Connection, endpoint_id: UUID, secret: bytes) -> bool:
    """Give a webhook a new secret; the old one signs too, for a day. False: there is no such webhook."""
    return connection.execute(_ROTATE, {"id": endpoint_id, "secret": secret}).rowcount == 1


def enable(connection: Connection, endpoint_id: UUID) -> bool:
    """Send to an endpoint again. False: it was not disabled."""
    return connection.execute(_ENABLE, {"id": str(endpoint_id)}).rowcount == 1


def remove(connection: Connection, endpoint_id: UUID) -> bool:
    """Forget an endpoint and its secret. False: there is none."""
    return connection.execute(_REMOVE, {"id": endpoint_id}).rowcount == 1


@dataclass(frozen=True, slots=True)
class StoredSecrets:
    """What an endpoint's row stores encrypted."""

    id: UUID
    tenant_id: UUID
    secret: bytes
    previous: bytes | None


_LOCK_SECRETS = text(
    "SELECT id, tenant_id, secret_encrypted, previous_secret_encrypted FROM webhook_endpoints"
    " WHERE deleted_at IS NULL ORDER BY id FOR UPDATE"
)
_REPLACE_SECRETS = text(
    "UPDATE webhook_endpoints SET secret_encrypted = :secret, previous_secret_encrypted = :previous WHERE id = :id"
)


def lock_secrets(connection: Connection) -> list[StoredSecrets]:
    """Return every endpoint's secrets; nobody else changes them until the commit."""
    return [StoredSecrets(*row) for row in connection.execute(_LOCK_SECRETS)]


def replace_secrets(connection: Connection, endpoint_id: UUID, secret: bytes | None, previous: bytes | None) -> None:
    """Store the same secrets under another key."""
    connection.execute(_REPLACE_SECRETS, {"id": endpoint_id, "secret": secret, "previous": previous})
