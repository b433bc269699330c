"""Connections and their devices, as an operator sees and steers them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """A connection as a line of a list. `rejected` counts occurrences, `unmatched` devices without a vehicle."""

    id: UUID
    tenant: str
    provider: str
    name: str
    base_url: str | None
    status: str
    status_reason: str | None
    last_synced_at: datetime | None
    newest_point_at: datetime | None
    pages: int
    points: int
    rejected: int
    unmatched: int
    now: datetime


_LIST = text(
    """
    SELECT c.id, t.slug, c.provider, c.name, c.base_url, c.status, c.status_reason, c.last_synced_at,
           c.newest_point_at, coalesce(cursors.pages, 0)::bigint, coalesce(cursors.points, 0)::bigint,
           (SELECT coalesce(sum(r.occurrences), 0)::bigint FROM rejected_records r WHERE r.connection_id = c.id),
           (SELECT count(*) FROM unmatched_devices u WHERE u.connection_id = c.id), clock_timestamp()
    FROM connections c JOIN tenants t ON t.id = c.tenant_id
    LEFT JOIN LATERAL (SELECT sum(s.pages) AS pages, sum(s.points) AS points
                       FROM sync_cursors s WHERE s.connection_id = c.id) cursors ON true
    WHERE c.deleted_at IS NULL AND (CAST(:tenant_id AS uuid) IS NULL OR c.tenant_id = :tenant_id)
    ORDER BY t.slug, c.provider, c.name
    """
)


def list_connections(connection: Connection, tenant_id: UUID | None) -> list[ConnectionRow]:
    """Return the connections of a tenant, of all where it is None."""
    return [ConnectionRow(*row) for row in connection.execute(_LIST, {"tenant_id": tenant_id})]


@dataclass(frozen=True, slots=True)
class StoredConnection:
    """What opening a connection's account takes."""

    id: UUID
    tenant_id: UUID
    provider: str
    name: str
    base_url: str | None
    status: str
    credentials_encrypted: bytes
    settings: dict[str, Any]


_STORED = """
    SELECT id, tenant_id, provider, name, base_url, status, credentials_encrypted, settings FROM connections
    WHERE deleted_at IS NULL {condition} ORDER BY id
"""


def list_stored(connection: Connection) -> list[StoredConnection]:
    """Return every connection with its encrypted credentials."""
    return [StoredConnection(*row) for row in connection.execute(text(_STORED.format(condition="")))]


def get_stored(connection: Connection, connection_id: UUID) -> StoredConnection:
    """Return one connection with its encrypted credentials.

    Raises:
        sqlalchemy.exc.NoResultFound: there is none, or it was removed.
    """
    row = connection.execute(text(_STORED.format(condition="AND id = :id")), {"id": connection_id}).one()
    return StoredConnection(*row)


_ADD = text(
    """
    INSERT INTO connections (id, tenant_id, provider, name, base_url, credentials_encrypted, settings, renew_before)
    VALUES (:id, :tenant_id, :provider, :name, :base_url, :credentials, :settings, :renew_before)
    ON CONFLICT DO NOTHING
    """
).bindparams(bindparam("settings", type_=JSONB))


def add_connection(
    connection: Connection,
    connection_id: UUID,
    tenant_id: UUID,
    provider: str,
    name: str,
    base_url: str | None,
    credentials: bytes,
    settings: dict[str, Any],
    renew_before: datetime | None,
) -> bool:
    """Add a connection under an id to which its credentials are already bound. False: the tenant has that name."""
    values = {
        "id": connection_id,
        "tenant_id": tenant_id,
        "provider": provider,
        "name": name,
        "base_url": base_url,
        "credentials": credentials,
        "settings": settings,
        "renew_before": renew_before,
    }
    return connection.execute(_ADD, values).rowcount == 1


_NAME_TAKEN = text(
    """
    SELECT EXISTS (SELECT FROM connections WHERE tenant_id = :tenant_id AND provider = :provider AND name = :name
                                             AND deleted_at IS NULL)
    """
)


def is_name_taken(connection: Connection, tenant_id: UUID, provider: str, name: str) -> bool:
    """Tell whether a tenant has a connection of that name, before a code is spent for another."""
    values = {"tenant_id": tenant_id, "provider": provider, "name": name}
    return bool(connection.execute(_NAME_TAKEN, values).scalar_one())


_SETTINGS = text(
    """
    WITH listed AS (
        UPDATE sync_cursors SET cursor = NULL, completed_at = NULL WHERE connection_id = :id AND feed = 'devices'
    )
    UPDATE connections SET settings = :settings WHERE id = :id
    """
).bindparams(bindparam("settings", type_=JSONB))


def write_settings(connection: Connection, connection_id: UUID, settings: dict[str, Any]) -> None:
    """Replace a connection's settings; its vehicles are listed anew, for what becomes of them may be another now."""
    connection.execute(_SETTINGS, {"id": connection_id, "settings": settings})


_MOVED_LAST = text("SELECT feed FROM sync_cursors WHERE connection_id = :id ORDER BY updated_at DESC LIMIT 1")


def find_moved_last(connection: Connection, connection_id: UUID) -> str | None:
    """Return which of a connection's stages was the last to go on; None before the first."""
    moved: str | None = connection.execute(_MOVED_LAST, {"id": connection_id}).scalar()
    return moved


_PAUSE = text(
    """
    UPDATE connections SET status = 'paused', status_reason = :reason
    WHERE id = :id AND deleted_at IS NULL AND status <> 'paused'
    """
)


def pause_connection(connection: Connection, connection_id: UUID, reason: str | None) -> bool:
    """Stop a connection's syncs. False: it is paused already."""
    return connection.execute(_PAUSE, {"id": connection_id, "reason": reason}).rowcount == 1


_RESUME = text(
    """
    WITH resumed AS (
        UPDATE connections SET status = 'active', status_reason = NULL
        WHERE id = :id AND deleted_at IS NULL AND status <> 'active' RETURNING id, tenant_id
    ),
    resolved AS (
        UPDATE alerts a SET resolved_at = clock_timestamp() FROM resumed r
        WHERE a.tenant_id = r.tenant_id AND a.kind = 'connection_rejected' AND a.subject = 'connection:' || r.id
          AND a.resolved_at IS NULL
    )
    SELECT count(*) FROM resumed
    """
)


def resume_connection(connection: Connection, connection_id: UUID) -> bool:
    """Let a connection be read again, and resolve the alert that it was cut off. False: it is active already."""
    return int(connection.execute(_RESUME, {"id": connection_id}).scalar_one()) == 1


_REPLACE = text(
    """
    UPDATE connections SET credentials_encrypted = :credentials
    WHERE id = :id AND deleted_at IS NULL AND credentials_encrypted = :before
    """
)


def replace_credentials(connection: Connection, connection_id: UUID, before: bytes, credentials: bytes) -> bool:
    """Store the same credentials, encrypted anew, where they are still those of before. False: they are others now."""
    values = {"id": connection_id, "before": before, "credentials": credentials}
    return connection.execute(_REPLACE, values).rowcount == 1


_GIVE = text(
    """
    UPDATE connections SET credentials_encrypted = :credentials, renew_before = :renew_before,
        renewal_claim = NULL, renewal_claimed_at = NULL
    WHERE id = :id AND deleted_at IS NULL AND credentials_encrypted = :before
    """
)


def give_credentials(
    connection: Connection, connection_id: UUID, before: bytes, credentials: bytes, renew_before: datetime | None
) -> bool:
    """Store other credentials in place of those of before; a renewal of those is over. False: they are others now."""
    values = {"id": connection_id, "before": before, "credentials": credentials, "renew_before": renew_before}
    return connection.execute(_GIVE, values).rowcount == 1


_REMOVE = text(
    """
    UPDATE connections SET deleted_at = clock_timestamp(), status = 'paused', status_reason = 'removed',
        credentials_encrypted = ''
    WHERE id = :id AND deleted_at IS NULL
    """
)
_UNBIND = text("UPDATE vehicles SET external_id = NULL WHERE connection_id = :id AND external_id IS NOT NULL")


def remove_connection(connection: Connection, connection_id: UUID) -> None:
    """Forget a connection's credentials and stop its syncs; its vehicles and their points stay.

    The vehicles are free for another connection's devices, also for the same account added anew.
    """
    connection.execute(_REMOVE, {"id": connection_id})
    connection.execute(_UNBIND, {"id": connection_id})


@dataclass(frozen=True, slots=True)
class RejectedGroup:
    """The records that were rejected for one reason at one field, with the newest of them."""

    reason: str
    field: str
    feed: str
    records: int
    occurrences: int
    newest_at: datetime
    device_id: str | None
    payload: str
    now: datetime


_REJECTED = text(
    """
    SELECT DISTINCT ON (r.reason, r.field, r.feed) r.reason, r.field, r.feed, count(*) OVER same,
           (sum(r.occurrences) OVER same)::bigint, r.updated_at, r.device_id, r.payload, clock_timestamp()
    FROM rejected_records r WHERE r.connection_id = :id
    WINDOW same AS (PARTITION BY r.reason, r.field, r.feed)
    ORDER BY r.reason, r.field, r.feed, r.updated_at DESC
    """
)


def list_rejected(connection: Connection, connection_id: UUID) -> list[RejectedGroup]:
    """Return what a connection's provider sent that could not be read, by reason, the newest of each."""
    return [RejectedGroup(*row) for row in connection.execute(_REJECTED, {"id": connection_id})]


@dataclass(frozen=True, slots=True)
class UnmatchedDevice:
    """A device that reports and has no vehicle; `points` are those that wait for one."""

    connection_id: UUID
    tenant: str
    provider: str
    connection: str
    external_id: str
    name: str | None
    vin: str | None
    license_plate: str | None
    make: str | None
    model: str | None
    year: int | None
    points: int
    newest_at: datetime | None
    now: datetime


_UNMATCHED = """
    SELECT u.connection_id, t.slug, c.provider, c.name, u.external_id, u.name, u.vin, u.license_plate, u.make, u.model,
           u.year, u.points, u.newest_at, clock_timestamp()
    FROM unmatched_devices u JOIN connections c ON c.id = u.connection_id JOIN tenants t ON t.id = u.tenant_id
    WHERE c.deleted_at IS NULL AND {condition}
    ORDER BY t.slug, c.provider, c.name, u.external_id
"""
_UNMATCHED_OF_TENANT = text(
    _UNMATCHED.format(condition="(CAST(:tenant_id AS uuid) IS NULL OR u.tenant_id = :tenant_id)")
)
_UNMATCHED_ONE = text(_UNMATCHED.format(condition="u.connection_id = :connection_id AND u.external_id = :external_id"))


def list_unmatched(connection: Connection, tenant_id: UUID | None) -> list[UnmatchedDevice]:
    """Return the devices without a vehicle of a tenant, of all where it is None."""
    return [UnmatchedDevice(*row) for row in connection.execute(_UNMATCHED_OF_TENANT, {"tenant_id": tenant_id})]


def find_unmatched(connection: Connection, connection_id: UUID, external_id: str) -> UnmatchedDevice | None:
    """Return one device without a vehicle."""
    values = {"connection_id": connection_id, "external_id": external_id}
    row = connection.execute(_UNMATCHED_ONE, values).one_or_none()
    return None if row is None else UnmatchedDevice(*row)


_BIND = text(
    """
    UPDATE vehicles v SET connection_id = c.id, external_id = :external_id
    FROM connections c
    WHERE c.id = :connection_id AND v.id = :vehicle_id AND v.tenant_id = c.tenant_id AND v.deleted_at IS NULL
      AND (v.external_id IS NULL OR (v.connection_id, v.external_id) = (c.id, :external_id))
    RETURNING v.id
    """
)


def bind_vehicle(connection: Connection, connection_id: UUID, external_id: str, vehicle_id: UUID) -> bool:
    """Make a vehicle the device's. False: it is another tenant's, or another device's already.

    Raises:
        sqlalchemy.exc.IntegrityError: the device has another vehicle (`uq_vehicles_external`).
    """
    values = {"connection_id": connection_id, "external_id": external_id, "vehicle_id": vehicle_id}
    return connection.execute(_BIND, values).rowcount == 1


_CREATE = text(
    """
    INSERT INTO vehicles (tenant_id, connection_id, external_id, name, vin, license_plate, make, model, year)
    SELECT tenant_id, connection_id, external_id, coalesce(name, external_id), vin, license_plate, make, model,
           CASE WHEN year BETWEEN 1900 AND 2200 THEN year END
    FROM unmatched_devices WHERE connection_id = :connection_id AND external_id = :external_id
    RETURNING id
    """
)


def create_vehicle(connection: Connection, connection_id: UUID, external_id: str) -> UUID:
    """Make a vehicle of what the provider says of an unmatched device.

    Raises:
        sqlalchemy.exc.IntegrityError: the tenant has a vehicle of that VIN (`uq_vehicles_vin`), or the device has one.
    """
    values = {"connection_id": connection_id, "external_id": external_id}
    vehicle_id: UUID = connection.execute(_CREATE, values).scalar_one()
    return vehicle_id


_FORGET = text("DELETE FROM unmatched_devices WHERE connection_id = :connection_id AND external_id = :external_id")


def forget_unmatched(connection: Connection, connection_id: UUID, external_id: str) -> None:
    """Take a device off the list of those without a vehicle."""
    connection.execute(_FORGET, {"connection_id": connection_id, "external_id": external_id})


_PENDING_SYNCS = text(
    """
    UPDATE job_runs SET state = 'cancelled', finished_at = clock_timestamp(), published_at = NULL,
        updated_at = clock_timestamp()
    WHERE state = 'pending' AND tenant_id = :tenant_id AND args ->> 'connection_id' = :connection_id
    """
)


def cancel_pending(connection: Connection, tenant_id: UUID, connection_id: UUID) -> int:
    """Cancel the pending runs of a connection that is removed. Returns how many."""
    values = {"tenant_id": tenant_id, "connection_id": str(connection_id)}
    return connection.execute(_PENDING_SYNCS, values).rowcount
