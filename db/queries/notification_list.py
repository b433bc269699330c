"""Notifications, preferences and endpoints as an operator sees and sets them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

STATES = ("pending", "ready", "sent", "failed", "suppressed", "expired", "folded")


def _masked(address: str) -> str:
    """Return how an address is shown: its first letter and its domain, and nothing that others put behind it."""
    return f"regexp_replace({address}, '^(.)[^@]*(@[^@\\s]+)?.*$', '\\1...\\2')"


_TO = f"""CASE WHEN n.channel = 'email' THEN {_masked("n.address")} ELSE coalesce(e.name, 'an endpoint') END"""


@dataclass(frozen=True, slots=True)
class Listed:
    """A notification as a line of a list; of an address only its first letter and its domain are shown.

    Args:
        about: the vehicle, the connection, or what else the alert is about; None of what tells of many.
    """

    id: UUID
    tenant: str
    state: str
    channel: str
    to: str
    kind: str
    about: str | None
    severity: str
    reason: str | None
    attempts: int
    alert_id: UUID | None
    next_attempt_at: datetime
    finished_at: datetime | None
    created_at: datetime
    now: datetime


_LIST = f"""
    SELECT n.id, t.slug, n.state, n.channel, {_TO}, n.kind || CASE WHEN n.is_resolution THEN '.resolved' ELSE '' END,
           left(coalesce(v.name, c.name, a.subject), 200), n.severity, n.reason, n.attempts, n.alert_id,
           n.next_attempt_at, n.finished_at, n.created_at, clock_timestamp()
    FROM notifications n
    JOIN tenants t ON t.id = n.tenant_id
    LEFT JOIN webhook_endpoints e ON e.id = n.endpoint_id
    LEFT JOIN alerts a ON a.id = n.alert_id
    LEFT JOIN vehicles v ON v.id = a.vehicle_id
    LEFT JOIN connections c ON c.id = a.connection_id
    WHERE {{conditions}}
    ORDER BY n.created_at DESC, n.id DESC LIMIT :limit
"""
_CONDITIONS = {
    "tenant_id": "n.tenant_id = :tenant_id",
    "state": "n.state = :state",
    "to": "(lower(n.address) = lower(:to) OR e.name = :to)",
    "kind": "n.kind = :kind",
}


def list_notifications(
    connection: Connection,
    *,
    tenant_id: UUID | None,
    state: str | None,
    limit: int,
    to: str | None = None,
    kind: str | None = None,
) -> list[Listed]:
    """Return the newest notifications first; None does not narrow.

    Args:
        to: an address, or the name of an endpoint.
    """
    values: dict[str, Any] = {"tenant_id": tenant_id, "state": state, "to": to, "kind": kind}
    wanted = [condition for name, condition in _CONDITIONS.items() if values[name] is not None]
    statement = text(_LIST.replace("{conditions}", " AND ".join(wanted) or "true"))
    return [Listed(*row) for row in connection.execute(statement, {**values, "limit": limit})]


@dataclass(frozen=True, slots=True)
class Shown:
    """All that is known of one notification, without its address."""

    id: UUID
    tenant: str
    state: str
    reason: str | None
    channel: str
    to: str
    kind: str
    category: str
    severity: str
    alert_id: UUID | None
    message: str | None
    is_named: bool
    is_resolution: bool
    folded_into: UUID | None
    created_at: datetime
    planned_at: datetime | None
    next_attempt_at: datetime
    expires_at: datetime
    finished_at: datetime | None
    provider_id: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send a notification, and what was answered."""

    at: datetime
    outcome: str
    code: int | None
    reason: str | None


_SHOW = text(
    f"""
    SELECT n.id, t.slug, n.state, n.reason, n.channel, {_TO}, n.kind, n.category, n.severity, n.alert_id,
           left(a.message, 500), n.is_named, n.is_resolution, n.folded_into, n.created_at, n.planned_at,
           n.next_attempt_at, least(n.expires_at, '9998-12-31'), n.finished_at, n.provider_id, clock_timestamp()
    FROM notifications n
    JOIN tenants t ON t.id = n.tenant_id
    LEFT JOIN alerts a ON a.id = n.alert_id
    LEFT JOIN webhook_endpoints e ON e.id = n.endpoint_id
    WHERE n.id = :id
    """
)
_ATTEMPTS = text("SELECT at, outcome, code, reason FROM notification_attempts WHERE notification_id = :id ORDER BY at")


def show_notification(connection: Connection, notification_id: UUID) -> tuple[Shown, list[Attempt]]:
    """Return a notification and its attempts, the first one first."""
    shown = Shown(*connection.execute(_SHOW, {"id": notification_id}).one())
    return shown, [Attempt(*row) for row in connection.execute(_ATTEMPTS, {"id": notification_id})]


_RETRY = text(
    """
    UPDATE notifications
    SET state = 'ready', reason = NULL, attempts = 0, next_attempt_at = now(), finished_at = NULL,
        expires_at = greatest(expires_at, now() + INTERVAL '1 day')
    WHERE id = :id AND state IN ('failed', 'expired')
    """
)


def retry(connection: Connection, notification_id: UUID) -> bool:
    """Send what failed or came too late after all. False: it is neither."""
    return connection.execute(_RETRY, {"id": notification_id}).rowcount == 1


@dataclass(frozen=True, slots=True)
class ListedPreference:
    """A preference as a line of a list; `user` is None for the tenant's default."""

    tenant: str
    user: str | None
    category: str
    channel: str
    enabled: bool
    min_severity: str
    quiet: str | None
    digest: str
    after_min: int


_PREFERENCES = text(
    f"""
    SELECT t.slug, {_masked("u.email")}, p.category, p.channel, p.enabled, p.min_severity,
           to_char(p.quiet_from, 'HH24:MI') || '-' || to_char(p.quiet_to, 'HH24:MI'),
           p.digest || CASE WHEN p.digest = 'daily' THEN to_char(p.digest_at, ' HH24:MI') ELSE '' END, p.after_min
    FROM notification_preferences p
    JOIN tenants t ON t.id = p.tenant_id
    LEFT JOIN users u ON u.tenant_id = p.tenant_id AND u.id = p.user_id
    WHERE CAST(:tenant_id AS uuid) IS NULL OR p.tenant_id = :tenant_id
    ORDER BY t.slug, u.email NULLS FIRST, p.category <> 'all', p.category, p.channel
    """
)
_FIND_USER = text(
    "SELECT id FROM users WHERE tenant_id = :tenant_id AND lower(email) = lower(:email) AND deleted_at IS NULL"
)
_SETTABLE = ("enabled", "min_severity", "quiet_from", "quiet_to", "digest", "digest_at", "after_min")


def list_preferences(connection: Connection, tenant_id: UUID | None) -> list[ListedPreference]:
    """Return the preferences of a tenant, of all where it is None."""
    return [ListedPreference(*row) for row in connection.execute(_PREFERENCES, {"tenant_id": tenant_id})]


def find_user(connection: Connection, tenant_id: UUID, email: str) -> UUID | None:
    """Return a user's id by address."""
    return connection.execute(_FIND_USER, {"tenant_id": tenant_id, "email": email}).scalar()


def set_preference(
    connection: Connection,
    tenant_id: UUID,
    user_id: UUID | None,
    category: str,
    channel: str,
    changes: Mapping[str, object],
) -> None:
    """Set a preference, or change what is given of it; the rest stays, or is the default in a new row."""
    given = [name for name in _SETTABLE if name in changes]
    names = "".join(f", {name}" for name in given)
    marks = "".join(f", :{name}" for name in given)
    changed = ", ".join(f"{name} = excluded.{name}" for name in given) or "category = excluded.category"
    statement = f"""
        INSERT INTO notification_preferences (tenant_id, user_id, category, channel{names})
        VALUES (:tenant_id, :user_id, :category, :channel{marks})
        ON CONFLICT (tenant_id, user_id, category, channel) DO UPDATE SET {changed}
    """
    key = {"tenant_id": tenant_id, "user_id": user_id, "category": category, "channel": channel}
    connection.execute(text(statement), {**key, **{name: changes[name] for name in given}})


@dataclass(frozen=True, slots=True)
class ListedEndpoint:
    """An endpoint as a line of a list; never its secret. `user` is None where it is nobody's in particular."""

    id: UUID
    tenant: str
    channel: str
    name: str
    user: str | None
    url: str | None
    events: list[str]
    min_severity: str
    failing_since: datetime | None
    disabled_reason: str | None
    now: datetime


_ENDPOINTS = text(
    f"""
    SELECT e.id, t.slug, e.channel, e.name, {_masked("u.email")}, e.url, e.events, e.min_severity, e.failing_since,
           e.disabled_reason, clock_timestamp()
    FROM webhook_endpoints e
    JOIN tenants t ON t.id = e.tenant_id
    LEFT JOIN users u ON u.tenant_id = e.tenant_id AND u.id = e.user_id
    WHERE e.deleted_at IS NULL AND (CAST(:tenant_id AS uuid) IS NULL OR e.tenant_id = :tenant_id)
    ORDER BY t.slug, e.name
    """
)
_OWNER = text("SELECT tenant_id FROM webhook_endpoints WHERE id = :id")


def list_endpoints(connection: Connection, tenant_id: UUID | None) -> list[ListedEndpoint]:
    """Return the endpoints of a tenant, of all where it is None."""
    return [ListedEndpoint(*row) for row in connection.execute(_ENDPOINTS, {"tenant_id": tenant_id})]


def tenant_of_endpoint(connection: Connection, endpoint_id: UUID) -> UUID:
    """Return whose an endpoint is."""
    found: UUID = connection.execute(_OWNER, {"id": endpoint_id}).scalar_one()
    return found
