"""Who may push: the connections of the tenants, each with its provider's scheme and its secret."""

import threading
import time
from dataclasses import dataclass, field
from uuid import UUID

from db.encryption import EncryptionError, Keyring
from db.engine import Database
from db.queries import webhooks as queries
from integrations.registry import PROVIDERS
from integrations.webhooks import WebhookRefused, Webhooks

REMEMBERED_S = 10.0
"""How long a new secret, a new connection or a removal may go unnoticed."""
UNKNOWN = "connection_unknown"
_MOST_REMEMBERED = 4096

Key = tuple[UUID, UUID]


@dataclass(frozen=True)
class Sender:
    """A connection that pushes."""

    webhooks: Webhooks
    secret: str = field(repr=False)


class Senders:
    """Finds senders. Found or not, an answer is remembered for seconds; what is asked for first costs a look.

    Who makes addresses up fills the memory of what is not there, never that of senders. Thread-safe.
    """

    def __init__(self, database: Database, keyring: Keyring, *, remembered_s: float = REMEMBERED_S) -> None:
        self._database = database
        self._keyring = keyring
        self._remembered_s = remembered_s
        self._senders: dict[Key, tuple[float, Sender | str]] = {}
        self._others: dict[Key, tuple[float, Sender | str]] = {}
        self._lock = threading.Lock()

    def get(self, tenant_id: UUID, connection_id: UUID) -> Sender:
        """Return the sender behind an address.

        Raises:
            WebhookRefused: there is none, or it has no secret.
            sqlalchemy.exc.SQLAlchemyError: the database is away.
        """
        key = (tenant_id, connection_id)
        with self._lock:
            until, found = self._senders.get(key) or self._others.get(key, (0.0, ""))
        if time.monotonic() >= until:
            found = self._look_up(tenant_id, connection_id)
            self._remember(key, found)
        if isinstance(found, str):
            raise WebhookRefused(found)
        return found

    def _look_up(self, tenant_id: UUID, connection_id: UUID) -> Sender | str:
        """Return the sender, or the word for why there is none."""
        with self._database.tenant_transaction(tenant_id) as connection:
            row = queries.find_sender(connection, connection_id)
        if row is None:
            return UNKNOWN
        provider, stored = row
        webhooks = PROVIDERS[provider].webhooks if provider in PROVIDERS else None
        if webhooks is None:
            return "provider_without_webhooks"
        try:
            secret = self._keyring.decrypt_credentials(tenant_id, connection_id, stored).get(webhooks.secret_name)
        except EncryptionError:
            return "secret_unreadable"
        return Sender(webhooks, secret) if secret else "secret_missing"

    def _remember(self, key: Key, found: Sender | str) -> None:
        with self._lock:
            self._senders.pop(key, None)
            self._others.pop(key, None)
            kept = self._senders if isinstance(found, Sender) else self._others
            kept[key] = (time.monotonic() + self._remembered_s, found)  # the oldest is always first
            while len(kept) > _MOST_REMEMBERED:
                del kept[next(iter(kept))]
