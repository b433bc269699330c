"""The contract of webhooks in: what a provider pushes to us, verified before it is believed.

The receiver calls `verify` with the raw bytes, keeps the delivery and answers; a job calls `read` later.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from integrations.telematics import Page


class WebhookRefused(Exception):  # noqa: N818 - named for the caller
    """A delivery is not believed: forged, stale, or no delivery at all.

    `reason` is a constant word (`signature_missing`, `signature_wrong`, `stale`, `unreadable` ...): it may be logged
    and counted, and never quotes what came.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Delivery(msgspec.Struct, frozen=True):
    """A believed delivery. `event_id` is the provider's, equal in every repeat; `sent_at` is when it was signed."""

    event_id: str
    kind: str
    sent_at: datetime | None


class Challenge(msgspec.Struct, frozen=True):
    """The provider asks whether we hold the secret; `answer` is the JSON body to answer with, status 200."""

    answer: bytes


class Pushed(msgspec.Struct, frozen=True):
    """What a delivery brings: records as a feed's page has them, and whether there is more to fetch from the feeds."""

    page: Page
    wakes_sync: bool


class Webhooks(Protocol):
    """How one provider signs and what it sends."""

    secret_name: str
    """The credential of a connection that verifies its deliveries."""

    def verify(self, body: bytes, headers: Mapping[str, str], secret: str, now: datetime) -> Delivery | Challenge:
        """Check a delivery, in constant time where secrets meet; header names are lower case.

        Raises:
            WebhookRefused: do not believe it.
        """
        ...

    def read(self, body: bytes, now: datetime) -> Pushed:
        """Return the records of a verified delivery; what cannot be read is in `page.rejected`."""
        ...
