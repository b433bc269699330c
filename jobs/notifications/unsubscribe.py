"""Links that unsubscribe without a login: they name tenant, address and category under our own signature.

Nothing is stored for them, so a link works as long as its key is in the ring; and it holds a digest, never the address.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from db.queries.notifications import CATEGORIES

PATH = "/unsubscribe"
_PURPOSE = b"fleet-jobs unsubscribe v1"
_MAC_BYTES = 16
_TOKEN_BYTES = 16 + 32 + _MAC_BYTES


def address_digest(tenant_id: UUID, address: str) -> bytes:
    """Return an address as `suppressed_addresses` knows it, but for letters that only a database makes small: `İ`."""
    return hashlib.sha256(f"{tenant_id}:{address.lower()}".encode()).digest()


@dataclass(frozen=True, slots=True)
class Wish:
    """Who no longer wants to be told of what."""

    tenant_id: UUID
    address_digest: bytes
    category: str


class Unsubscriber:
    """Makes and reads the links.

    Args:
        keys: the deployment's encryption keys; the first signs, all are believed.
        origin: where the internet reaches us, such as https://hooks.example.com.
    """

    def __init__(self, keys: Sequence[bytes], origin: str) -> None:
        self._keys = [hmac.digest(key, _PURPOSE, "sha256") for key in keys]
        self._origin = origin.rstrip("/")

    def url(self, tenant_id: UUID, address: str, category: str, digest: bytes | None = None) -> str:
        """Return the link for an address and a category.

        Args:
            digest: of the address, where the database has computed it.
        """
        named = tenant_id.bytes + (digest or address_digest(tenant_id, address))
        token = named + _mac(self._keys[0], named, category)
        return f"{self._origin}{PATH}/{category}/{base64.urlsafe_b64encode(token).decode().rstrip('=')}"

    def read(self, category: str, token: str) -> Wish | None:
        """Return what a link asks for; None where we have not made it."""
        if category not in (*CATEGORIES, "all") or len(token) > 2 * _TOKEN_BYTES:
            return None
        try:
            given = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            return None
        if len(given) != _TOKEN_BYTES:
            return None
        named, mac = given[:-_MAC_BYTES], given[-_MAC_BYTES:]
        if not any(hmac.compare_digest(mac, _mac(key, named, category)) for key in self._keys):
            return None
        return Wish(UUID(bytes=named[:16]), named[16:], category)


def _mac(key: bytes, named: bytes, category: str) -> bytes:
    return hmac.digest(key, named + category.encode(), "sha256")[:_MAC_BYTES]
