"""One delivery, its bytes in hand: believed or refused, kept with the run that will read it, answered.

Nothing of it is decoded here beyond what its verification needs, and nothing else is asked: no provider, no Redis.
"""

import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy.exc import SQLAlchemyError

from db.encryption import Keyring
from db.engine import Database
from db.queries import webhooks as queries
from integrations.webhooks import Challenge, Delivery, WebhookRefused
from jobs.webhooks.refusals import Refusals
from jobs.webhooks.senders import UNKNOWN, Sender, Senders

_log = structlog.get_logger()

READ_JOB = "telematics.read_webhook"
_LONGEST_KIND = 100
_NOBODY = b"\0" * 32
_NO_TENANT = UUID(int=0)
_LOOKED_EVERY_S = 1.0


@dataclass(frozen=True)
class Answer:
    """What the provider is told. Every refusal is the same one, so that nobody learns which connections there are."""

    status: int
    body: bytes = b""
    retry_after_s: int | None = None


_TAKEN = Answer(200)
_REFUSED = Answer(401)
_NOT_NOW = Answer(503, retry_after_s=5)
_TOO_MANY = Answer(429, retry_after_s=1)


class Receiver:
    """Takes deliveries, for all tenants, one tenant's transaction at a time. Thread-safe.

    Args:
        database: its `system` pool is never used.
        per_s: verified deliveries a second and connection. Forgeries do not count: they must not use up the real
            ones' turns.
    """

    def __init__(self, database: Database, keyring: Keyring, per_s: int, senders: Senders | None = None) -> None:
        self.refusals = Refusals()
        self._database = database
        self._senders = senders or Senders(database, keyring)
        self._turn = RateLimitItemPerSecond(per_s)
        self._turns = MovingWindowRateLimiter(MemoryStorage())
        self._is_away = False
        self._ready_until = 0.0

    def receive(
        self, tenant_id: UUID, connection_id: UUID, body: bytes, headers: Mapping[str, str], now: datetime
    ) -> Answer:
        """Take one delivery; once it says 200, the delivery is on disk. Header names are lower case."""
        try:
            verified = self._verify(self._find(tenant_id, connection_id, body), body, headers, now)
            if isinstance(verified, Challenge):
                return Answer(200, verified.answer)
            if not self._turns.hit(self._turn, str(connection_id)):
                self.refusals.add("too_many", connection_id)
                return _TOO_MANY
            self._keep(tenant_id, connection_id, verified, body)
        except WebhookRefused as refused:
            self.refusals.add(refused.reason, None if refused.reason == UNKNOWN else connection_id)
            return _REFUSED
        except SQLAlchemyError as error:
            self._note_away(error)
            return _NOT_NOW
        self._note_back()
        return _TAKEN

    def is_ready(self) -> bool:
        """Tell whether deliveries can be kept; asked in a loop, the database is looked at once a second."""
        if time.monotonic() < self._ready_until:
            return True
        try:
            with self._database.tenant_transaction(_NO_TENANT) as connection:
                queries.list_deliveries(connection, _NO_TENANT, 1)
        except SQLAlchemyError as error:
            self._note_away(error)
            return False
        self._note_back()
        self._ready_until = time.monotonic() + _LOOKED_EVERY_S
        return True

    def _find(self, tenant_id: UUID, connection_id: UUID, body: bytes) -> Sender:
        try:
            return self._senders.get(tenant_id, connection_id)
        except WebhookRefused:
            hmac.digest(_NOBODY, body, "sha256")  # nobody's address takes as long as a wrong signature
            raise

    def _verify(self, sender: Sender, body: bytes, headers: Mapping[str, str], now: datetime) -> Delivery | Challenge:
        try:
            verified = sender.webhooks.verify(body, headers, sender.secret, now)
        except WebhookRefused:
            raise
        except Exception as error:  # a bug of ours, met by bytes of anybody: it must not look different outside
            _log.error("webhook_verification_broken", error=type(error).__name__)
            raise WebhookRefused("verification_broken") from None
        if isinstance(verified, Delivery) and not _is_storable(verified.event_id):
            raise WebhookRefused("event_id_unusable")
        return verified

    def _keep(self, tenant_id: UUID, connection_id: UUID, delivery: Delivery, body: bytes) -> None:
        kind = "".join(filter(str.isprintable, delivery.kind))[:_LONGEST_KIND]
        with self._database.tenant_transaction(tenant_id) as connection:
            queries.keep_delivery(
                connection,
                connection_id,
                delivery.event_id,
                kind=kind,
                sent_at=delivery.sent_at,
                payload=body,
                job=READ_JOB,
            )

    def _note_away(self, error: SQLAlchemyError) -> None:
        if not self._is_away:
            _log.warning("webhooks_not_kept", error=type(error).__name__)
            self._is_away = True

    def _note_back(self) -> None:
        if self._is_away:
            _log.info("webhooks_kept_again")
            self._is_away = False


def _is_storable(event_id: str) -> bool:
    return 0 < len(event_id) <= queries.LONGEST_EVENT_ID and event_id.isprintable()
