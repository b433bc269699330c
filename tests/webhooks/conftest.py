"""A receiver on loopback, as it is on the internet, and a provider that pushes to it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
import requests

from db import engine
from db.encryption import Keyring
from jobs.webhooks.app import Bounds
from jobs.webhooks.receive import Receiver
from jobs.webhooks.senders import Senders
from jobs.webhooks.server import listen, make_server
from tests.factories import ENCRYPTION_KEY, make_connection, make_tenant
from tests.inprocess import Platform, platform_of
from tests.servers import Database
from tests.webhooks.schemes import Samsara, Scheme, Smartcar

RING = Keyring.from_settings([ENCRYPTION_KEY])
STARTS_WITHIN_S = 10.0


def give_credentials(
    admin: psycopg.Connection, tenant_id: UUID, connection_id: UUID, credentials: dict[str, str]
) -> None:
    """Replace a connection's credentials."""
    stored = RING.encrypt_credentials(tenant_id, connection_id, credentials)
    admin.execute("UPDATE connections SET credentials_encrypted = %s WHERE id = %s", [stored, connection_id])


@contextmanager
def receiving(worker_url: str, *, bounds: Bounds | None = None, per_s: int = 1000, key: str = "") -> Iterator[str]:
    """Run a receiver that remembers nothing of its senders, in a thread; lend its URL."""
    database = engine.Database(worker_url, worker_url, pool_size=8)
    ring = Keyring.from_settings([key or ENCRYPTION_KEY])
    receiver = Receiver(database, ring, per_s, Senders(database, ring, remembered_s=0.0))
    server, listener = make_server(receiver, bounds or Bounds()), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="receiver", daemon=True)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.start()
    deadline = time.monotonic() + STARTS_WITHIN_S
    while not server.started:
        assert time.monotonic() < deadline
        assert thread.is_alive()
        time.sleep(0.005)
    try:
        yield url
    finally:
        server.should_exit = server.force_exit = True
        thread.join(STARTS_WITHIN_S)
        receiver.refusals.say()
        database.close()


class Hook:
    """A tenant's connection, its address at a receiver, and the provider's side of it."""

    def __init__(self, admin: psycopg.Connection, url: str, scheme: Scheme, tenant_id: UUID | None = None) -> None:
        self.admin = admin
        self.url = url
        self.scheme = scheme
        self.tenant_id = tenant_id or make_tenant(admin, f"t{make_number()}")
        origin = "https://api.samsara.com"
        self.id = make_connection(admin, self.tenant_id, origin, provider=scheme.provider)
        give_credentials(admin, self.tenant_id, self.id, {"token": "simulated", scheme.secret_name: scheme.secret})

    @property
    def address(self) -> str:
        """Where the provider pushes to."""
        return f"{self.url}/webhooks/{self.tenant_id}/{self.id}"

    def post(
        self, body: bytes, headers: dict[str, str] | None = None, *, address: str | None = None
    ) -> requests.Response:
        """Push a body, signed as of now where no headers are given."""
        given = self.scheme.sign(body) if headers is None else headers
        with requests.Session() as session:
            session.trust_env = False
            return session.post(address or self.address, data=body, headers=given, timeout=30)

    def rows(self) -> list[tuple[str, int]]:
        """Return every delivery's event id and how often it was repeated."""
        rows = self.admin.execute(
            "SELECT event_id, repeats FROM webhook_deliveries WHERE connection_id = %s ORDER BY event_id", [self.id]
        )
        return [(row[0], row[1]) for row in rows]

    def runs(self) -> list[Any]:
        """Return the ids of the runs that read this connection's deliveries, oldest first."""
        rows = self.admin.execute(
            "SELECT id FROM job_runs WHERE job = 'telematics.read_webhook' AND args ->> 'connection_id' = %s"
            " ORDER BY created_at",
            [str(self.id)],
        )
        return [row[0] for row in rows]


_numbers = iter(range(1, 1_000_000))


def make_number() -> int:
    """Return a number that no other call returns."""
    return next(_numbers)


@pytest.fixture
def platform(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """The platform, whose database knows this release's jobs."""
    with platform_of(database, redis_url, monkeypatch) as running:
        yield running


@pytest.fixture
def receiver_url(platform: Platform) -> Iterator[str]:
    """A receiver with the bounds of production."""
    with receiving(platform.urls.worker_url) as url:
        yield url


@pytest.fixture(params=[Samsara, Smartcar], ids=["samsara", "smartcar"])
def scheme(request: pytest.FixtureRequest) -> Scheme:
    """Each provider that pushes."""
    made: Scheme = request.param()
    return made


@pytest.fixture
def hook(platform: Platform, receiver_url: str, scheme: Scheme) -> Hook:
    """A connection at each provider that pushes."""
    return Hook(platform.admin, receiver_url, scheme)


@pytest.fixture
def samsara(platform: Platform, receiver_url: str) -> Hook:
    """A connection at Samsara."""
    return Hook(platform.admin, receiver_url, Samsara())
