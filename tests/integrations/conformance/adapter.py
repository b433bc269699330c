"""What the suite must know of a provider to ask it everything: its simulator, its faults, and what it should bring."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations.http import HttpSettings
from integrations.registry import open_provider
from integrations.telematics import TelematicsProvider

TOKEN = "token-of-the-conformance-suite"
START = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
END = START + timedelta(minutes=4)
"""The simulated vehicles drive between these, so that every figure is known and none changes during a test."""

ONCE = HttpSettings(attempts=1, short_waits=0, read_s=5.0, total_s=10.0)
"""No repeats: each fault is met by the first request."""

Key = tuple[str, datetime]

FAULTS = ("html", "rate_limit", "server_error", "refused_token", "wrong_type", "foreign_device")
"""`wrong_type` and `foreign_device` spoil or add a record of `main_feed`; the others are an answer's."""


class Adapter(ABC):
    """One provider beside its running simulator, with one account."""

    provider: str
    devices: int
    """How many vehicles the account has."""
    main_feed: str
    """The feed whose records a fault spoils."""
    adds_bad_records: bool = True
    """Whether a record's fault adds a bad one beside the good ones; else it spoils what one vehicle says."""
    knows_its_devices: bool = True
    """Whether the provider can tell a device of another account from its own by what it has asked for."""

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    @abstractmethod
    def serve(cls) -> "Iterator[Adapter]":
        """Start the simulator, yield an adapter, and stop it."""

    @abstractmethod
    def next(self, fault: str, *, retry_after_s: float | None = None) -> None:
        """Give the next request a fault of `FAULTS`; one of a record, the next request for records of `main_feed`."""

    @abstractmethod
    def heal(self) -> None:
        """Forget faults that have not come yet."""

    @abstractmethod
    def expected(self, feed: str) -> set[Key] | None:
        """Return device and instant of every reading that a feed brings, None where that cannot be said."""

    def credentials(self) -> dict[str, str]:
        """Return what opens the account."""
        return {"token": TOKEN}

    def options(self) -> dict[str, Any]:
        """Return the connection's settings."""
        return {}

    @contextmanager
    def opened(
        self, credentials: dict[str, str] | None = None, base_url: str | None = None
    ) -> Iterator[TelematicsProvider]:
        """Open the account through the registry, as a sync does."""
        keys = self.credentials() if credentials is None else credentials
        account = open_provider(self.provider, keys, base_url or self.url, ONCE, options=self.options())
        try:
            yield account
        finally:
            account.close()
