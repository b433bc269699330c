"""Addresses that nothing more is sent to, known by their digest only."""

from uuid import UUID

from sqlalchemy import Connection, text

_SUPPRESS = text(
    """
    INSERT INTO suppressed_addresses (tenant_id, address_digest, category, reason)
    SELECT id, :digest, :category, :reason FROM tenants WHERE id = :tenant_id
    ON CONFLICT DO NOTHING
    """
)
_ALLOW = text("DELETE FROM suppressed_addresses WHERE tenant_id = :tenant_id AND address_digest = :digest")


def suppress(connection: Connection, tenant_id: UUID, digest: bytes, category: str, reason: str) -> bool:
    """Send an address nothing more of a category. False: nothing was sent to it already, or there is no such tenant."""
    values = {"tenant_id": tenant_id, "digest": digest, "category": category, "reason": reason}
    return connection.execute(_SUPPRESS, values).rowcount == 1


def allow(connection: Connection, tenant_id: UUID, digest: bytes) -> bool:
    """Send to an address again. False: nothing kept us from it."""
    return connection.execute(_ALLOW, {"tenant_id": tenant_id, "digest": digest}).rowcount > 0
