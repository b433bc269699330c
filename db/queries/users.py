"""Users as an operator lists, adds and disables them; over all tenants, so every statement names its tenant."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user as a line of a list; of an address only its first letter and its domain are shown.

    `told_by` is whose preference for mails holds: own, the tenant's, or None, and then nobody tells them anything.
    """

    id: UUID
    tenant: str
    address: str
    locale: str | None
    time_zone: str | None
    status: str
    told_by: str | None
    created_at: datetime


_LIST = text(
    """
    SELECT u.id, t.slug, regexp_replace(u.email, '^(.)[^@]*', '\\1...'), u.locale, u.time_zone, u.status,
           CASE WHEN EXISTS (SELECT FROM notification_preferences p WHERE p.tenant_id = u.tenant_id
                             AND p.user_id = u.id AND p.channel = 'email') THEN 'own'
                WHEN EXISTS (SELECT FROM notification_preferences p WHERE p.tenant_id = u.tenant_id
                             AND p.user_id IS NULL AND p.channel = 'email') THEN 'tenant' END,
           u.created_at
    FROM users u JOIN tenants t ON t.id = u.tenant_id
    WHERE u.deleted_at IS NULL AND (CAST(:tenant_id AS uuid) IS NULL OR u.tenant_id = :tenant_id)
    ORDER BY t.slug, u.email, u.id LIMIT :limit
    """
)


def list_users(connection: Connection, tenant_id: UUID | None, limit: int) -> list[ListedUser]:
    """Return the users of one tenant, or of all."""
    return [ListedUser(*row) for row in connection.execute(_LIST, {"tenant_id": tenant_id, "limit": limit})]


_ADD = text(
    """
    INSERT INTO users (tenant_id, email, first_name, last_name, locale, time_zone)
    VALUES (:tenant_id, :email, :first_name, :last_name, :locale, :time_zone)
    ON CONFLICT (tenant_id, lower(email)) WHERE deleted_at IS NULL DO NOTHING
    RETURNING id
    """
)


def add_user(
    connection: Connection,
    tenant_id: UUID,
    email: str,
    *,
    first_name: str | None,
    last_name: str | None,
    locale: str | None,
    time_zone: str | None,
) -> UUID | None:
    """Add a user without a password; None where the tenant has one of that address, in whatever case."""
    values = {"tenant_id": tenant_id, "email": email, "first_name": first_name, "last_name": last_name}
    added: UUID | None = connection.execute(
        _ADD, values | {"locale": locale, "time_zone": time_zone}
    ).scalar_one_or_none()
    return added


_SET_STATUS = text(
    """
    UPDATE users u SET status = :status
    FROM (SELECT id, status FROM users WHERE tenant_id = :tenant_id AND lower(email) = lower(:email)
                                             AND deleted_at IS NULL FOR UPDATE) b
    WHERE u.id = b.id RETURNING u.id, b.status
    """
)


def set_user_status(connection: Connection, tenant_id: UUID, email: str, status: str) -> tuple[UUID, str] | None:
    """Set whether a user is active.

    Returns:
        The id, and what the status was before; None where the tenant has no user of that address.
    """
    values = {"tenant_id": tenant_id, "email": email, "status": status}
    row = connection.execute(_SET_STATUS, values).one_or_none()
    return None if row is None else (row[0], row[1])


_HAS_DEFAULT = text(
    """
    SELECT EXISTS (SELECT FROM notification_preferences
                   WHERE tenant_id = :tenant_id AND user_id IS NULL AND channel = 'email' AND enabled)
    """
)


def tells_all_users(connection: Connection, tenant_id: UUID) -> bool:
    """Tell whether a tenant wishes all its users to be told something by mail."""
    return connection.execute(_HAS_DEFAULT, {"tenant_id": tenant_id}).scalar_one() is True
