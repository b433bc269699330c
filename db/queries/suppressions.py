"""Addresses that nothing more is sent to, known by their digest only."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

_SUPPRESS = text(
    """
    INSERT INTO suppressed_addresses (tenant_id, address_digest, category, reason)
    SELECT id, :digest, :category, :reason FROM tenants WHERE id = :tenant_id
    ON CONFLICT DO NOTHING
    """
)
# As the delivery computes it: what is a small letter is for the database to say, and for nobody else.
_IS_ADDRESS = "address_digest = sha256(convert_to(tenant_id || ':' || lower(CAST(:address AS text)), 'UTF8'))"
_ALLOW = text(f"DELETE FROM suppressed_addresses WHERE tenant_id = :tenant_id AND {_IS_ADDRESS}")


def suppress(connection: Connection, tenant_id: UUID, digest: bytes, category: str, reason: str) -> bool:
    """Send an address nothing more of a category. False: nothing was sent to it already, or there is no such tenant."""
    values = {"tenant_id": tenant_id, "digest": digest, "category": category, "reason": reason}
    return connection.execute(_SUPPRESS, values).rowcount == 1


def allow(connection: Connection, tenant_id: UUID, address: str) -> bool:
    """Send to an address again. False: nothing kept us from it."""
    return connection.execute(_ALLOW, {"tenant_id": tenant_id, "address": address}).rowcount > 0


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Addresses of a tenant that are sent nothing of a category, for one reason: how many, and since when the last."""

    tenant: str
    category: str
    reason: str
    addresses: int
    last_at: datetime


_COUNT = """
    SELECT t.slug, s.category, s.reason, count(*), max(s.created_at)
    FROM suppressed_addresses s JOIN tenants t ON t.id = s.tenant_id
    WHERE {conditions}
    GROUP BY t.slug, s.category, s.reason ORDER BY t.slug, s.category <> 'all', s.category, s.reason
"""
_CONDITIONS = {"tenant_id": "s.tenant_id = :tenant_id", "address": _IS_ADDRESS}


def count_suppressed(connection: Connection, tenant_id: UUID | None, address: str | None) -> list[Suppressed]:
    """Return who is sent nothing, by tenant, category and reason; None does not narrow."""
    values = {"tenant_id": tenant_id, "address": address}
    wanted = [condition for name, condition in _CONDITIONS.items() if values[name] is not None]
    statement = text(_COUNT.replace("{conditions}", " AND ".join(wanted) or "true"))
    return [Suppressed(*row) for row in connection.execute(statement, values)]
