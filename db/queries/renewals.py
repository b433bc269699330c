"""Every statement of the renewal of credentials: one renewer an account at a time, a pair kept or lost whole.

A renewal holds a lease on the connection, not a lock: no transaction spans the provider's answer. A lease that is left
behind says that whoever held it may have been answered.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to renew. `interrupted_at` is when another renewal began that never said how it ended."""

    claim: UUID
    interrupted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Held:
    """How a connection stands: its credentials as stored, and for how long somebody else may be renewing them."""

    credentials_encrypted: bytes
    lease_left_s: float


_CLAIM = text(
    """
    WITH before AS (
        SELECT id, renewal_claimed_at FROM connections
        WHERE id = :id AND deleted_at IS NULL AND credentials_encrypted = :stored
          AND (renewal_claim IS NULL OR renewal_claimed_at <= clock_timestamp() - make_interval(secs => :lease_s))
        FOR UPDATE
    )
    UPDATE connections c SET renewal_claim = :claim, renewal_claimed_at = clock_timestamp()
    FROM before WHERE c.id = before.id
    RETURNING before.renewal_claimed_at
    """
)


def claim_renewal(
    connection: Connection, connection_id: UUID, stored: bytes, claim: UUID, *, lease_s: float
) -> Lease | None:
    """Take the right to renew; None where somebody holds it, or the credentials are no longer those of `stored`."""
    values = {"id": connection_id, "stored": stored, "claim": claim, "lease_s": lease_s}
    row = connection.execute(_CLAIM, values).one_or_none()
    return None if row is None else Lease(claim, row[0])


_HELD = text(
    """
    SELECT credentials_encrypted,
           coalesce(extract(epoch FROM renewal_claimed_at - clock_timestamp())::float8 + :lease_s, 0)
    FROM connections WHERE id = :id AND deleted_at IS NULL
    """
)


def read_held(connection: Connection, connection_id: UUID, *, lease_s: float) -> Held | None:
    """Return how a connection stands; None where it was removed."""
    row = connection.execute(_HELD, {"id": connection_id, "lease_s": lease_s}).one_or_none()
    return None if row is None else Held(bytes(row[0]), max(0.0, row[1]))


# What was cut off because of the credentials before is healed by those that follow them, however late they come.
_KEEP = text(
    """
    WITH kept AS (
        UPDATE connections SET credentials_encrypted = :new, renew_before = :renew_before,
            renewal_claim = NULL, renewal_claimed_at = NULL,
            status = CASE status WHEN 'reconnect' THEN 'active' ELSE status END,
            status_reason = CASE status WHEN 'reconnect' THEN NULL ELSE status_reason END
        WHERE id = :id AND deleted_at IS NULL AND credentials_encrypted = :stored
        RETURNING id, tenant_id
    ),
    resolved AS (
        UPDATE alerts a SET resolved_at = :now FROM kept k
        WHERE a.tenant_id = k.tenant_id AND a.kind = 'connection_rejected' AND a.subject = 'connection:' || k.id
          AND a.resolved_at IS NULL
    )
    SELECT count(*) FROM kept
    """
)


def keep_credentials(
    connection: Connection, connection_id: UUID, stored: bytes, new: bytes, renew_before: datetime | None, now: datetime
) -> bool:
    """Store the credentials that follow those of `stored`, and end every renewal. False: others followed before."""
    values = {"id": connection_id, "stored": stored, "new": new, "renew_before": renew_before, "now": now}
    return int(connection.execute(_KEEP, values).scalar_one()) == 1


_RELEASE = text(
    """
    UPDATE connections SET
        renewal_claim = CASE WHEN CAST(:interrupted_at AS timestamptz) IS NULL THEN NULL ELSE renewal_claim END,
        renewal_claimed_at = :interrupted_at
    WHERE id = :id AND renewal_claim = :claim
    """
)


def release_renewal(connection: Connection, connection_id: UUID, lease: Lease) -> None:
    """Give the right to renew back: nothing happened. An interruption before it is still remembered."""
    values = {"id": connection_id, "claim": lease.claim, "interrupted_at": lease.interrupted_at}
    connection.execute(_RELEASE, values)


# Also of paused connections: theirs would die meanwhile. One that waits for its owner has nothing to renew.
_DUE = text(
    """
    SELECT c.tenant_id, c.id FROM connections c JOIN tenants t ON t.id = c.tenant_id
    WHERE c.deleted_at IS NULL AND c.status <> 'reconnect' AND t.is_active AND t.deleted_at IS NULL
      AND c.renew_before <= :until
    ORDER BY c.tenant_id, c.renew_before
    """
)


def list_due(connection: Connection, until: datetime) -> dict[UUID, list[UUID]]:
    """Return the connections whose credentials end for good by an instant, by tenant, the soonest first."""
    due: dict[UUID, list[UUID]] = {}
    for tenant_id, connection_id in connection.execute(_DUE, {"until": until}):
        due.setdefault(tenant_id, []).append(connection_id)
    return due
