"""A tenant with one connection to a simulated Smartcar, as tests of syncs and of tokens begin with it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from db.encryption import Keyring
from integrations.simulator.smartcar import SmartcarThread
from integrations.simulator.smartcar_fleet import SmartcarAccount
from tests.factories import ENCRYPTION_KEY, make_connection, make_tenant
from tests.inprocess import Platform

SYNC = "telematics.sync_connection"
RENEW = "telematics.renew_token"


class Owner:
    """The tenant, its connection, and what the database holds of it."""

    def __init__(self, platform: Platform, simulator: SmartcarThread, slug: str = "acme", **settings: Any) -> None:
        self.platform = platform
        self.simulator = simulator
        platform.allow(simulator.url)
        self.tenant_id = make_tenant(platform.admin, slug)
        given = {"calls_per_vehicle_and_month": 10_000_000, "poll_every_s": 60, **settings}
        self.id = make_connection(platform.admin, self.tenant_id, simulator.url, provider="smartcar", settings=given)
        self.keep(simulator.simulator.credentials())

    @property
    def account(self) -> SmartcarAccount:
        """The account at the simulator."""
        return self.simulator.account

    def keep(self, credentials: dict[str, str]) -> None:
        """Store credentials, and when they end for good."""
        self.platform.admin.execute(
            "UPDATE connections SET credentials_encrypted = %s, renew_before = %s WHERE id = %s",
            [encrypted(self, credentials), credentials.get("refresh_expires_at"), self.id],
        )

    def stored(self) -> dict[str, str]:
        """Return the credentials as they are stored."""
        stored = self.value("credentials_encrypted")
        return _ring().decrypt_credentials(self.tenant_id, self.id, bytes(stored))

    def expire_access(self) -> None:
        """Let the access run out, there and here."""
        self.simulator.simulator.tokens.forget_accesses()
        self.keep(self.stored() | {"access_expires_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat()})

    def value(self, column: str) -> Any:
        """Return a column of the connection."""
        return self.platform.value(f"SELECT {column} FROM connections WHERE id = %s", self.id)

    def sync(self, **kwargs: Any) -> dict[str, Any]:
        """Run one sync to its end."""
        return self.platform.work(self.enqueue(), **kwargs)

    def enqueue(self, job: str = SYNC) -> UUID:
        """Enqueue a run of the connection."""
        return self.platform.enqueue(job, self.tenant_id, connection_id=self.id)

    def renewals(self) -> int:
        """Return how many pairs the provider has given for a refresh token."""
        return self.simulator.simulator.tokens.granted["refresh_token"]

    def alerts(self) -> list[tuple[str, bool]]:
        """Return what the owner was told, and whether it is over."""
        rows = self.platform.admin.execute(
            "SELECT message, resolved_at IS NOT NULL FROM alerts WHERE kind = 'connection_rejected' ORDER BY opened_at"
        )
        return [(row[0], row[1]) for row in rows]

    def rejected(self) -> dict[str, int]:
        """Return how many records were kept aside, by reason."""
        rows = self.platform.admin.execute(
            "SELECT reason, sum(occurrences)::int FROM rejected_records WHERE connection_id = %s GROUP BY 1", [self.id]
        )
        return {row[0]: row[1] for row in rows}


def encrypted(owner: Owner, credentials: dict[str, str]) -> bytes:
    """Return credentials as they would be stored, under a nonce of their own."""
    return _ring().encrypt_credentials(owner.tenant_id, owner.id, credentials)


def _ring() -> Keyring:
    return Keyring.from_settings([ENCRYPTION_KEY])
