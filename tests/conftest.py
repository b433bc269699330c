"""What every test may ask for: real servers, a migrated database of its own, and a closed network."""

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings

from tests.servers import Database, PostgresServer, PrivateServers, RedisServer, SharedServers
from tests.servers import private_servers as start_private_servers

# How long an example takes says how busy the machine is, nothing about the code.
settings.register_profile("fleet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fleet")

SERVERS = pytest.StashKey[SharedServers]()


NOWHERE = {
    "FLEET_DATABASE_URL": "postgresql://nobody:none@127.0.0.1:1/nowhere",
    "FLEET_SYSTEM_DATABASE_URL": "postgresql://nobody:none@127.0.0.1:1/nowhere",
    "FLEET_REDIS_URL": "redis://127.0.0.1:1/0",
}
"""What `jobs.app` needs to be imported; nothing answers there, so a test that forgot to say where fails at once."""


class OutsideConnectionError(RuntimeError):
    """A test tried to leave the machine. Not an OSError, so that no retry mistakes it for an outage."""


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    _forget_settings()
    given = getattr(config, "workerinput", None)
    if given is not None and "fleet_servers" in given:
        config.stash[SERVERS] = SharedServers.from_controller(given["fleet_servers"])
    else:
        config.stash[SERVERS] = SharedServers(
            admin_url=os.environ.get("FLEET_TEST_DATABASE_ADMIN_URL"),
            redis_url=os.environ.get("FLEET_TEST_REDIS_URL"),
            timescaledb_url=os.environ.get("FLEET_TEST_TIMESCALEDB_URL"),
            postgis_url=os.environ.get("FLEET_TEST_POSTGIS_URL"),
        )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the servers, started by the controller, to an xdist worker."""
    node.workerinput["fleet_servers"] = node.config.stash[SERVERS].for_worker()


@pytest.hookimpl
def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.stash[SERVERS].stop()


def _forget_settings() -> None:
    """Let no setting of the person who runs the tests reach them."""
    for name in [name for name in os.environ if name.startswith("FLEET_") and not name.startswith("FLEET_TEST_")]:
        del os.environ[name]
    os.environ.update(NOWHERE)


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> PostgresServer:
    """The cluster that all tests share."""
    return request.config.stash[SERVERS].postgres()


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> RedisServer:
    """The Valkey that all tests share."""
    return request.config.stash[SERVERS].redis()


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[Database]:
    """A migrated, empty database of this test's own."""
    with postgres_server.fresh_database() as fresh:
        yield fresh


@pytest.fixture
def timescale_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Like `database`, where TimescaleDB stores the time series."""
    with request.config.stash[SERVERS].timescaledb().fresh_database() as fresh:
        yield fresh


@pytest.fixture
def postgis_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Like `database`, where PostGIS was there before the schema."""
    with request.config.stash[SERVERS].postgis().fresh_database() as fresh:
        yield fresh


@pytest.fixture
def redis_url(redis_server: RedisServer, worker_id: str) -> str:
    """The URL of an empty logical database that no other worker uses."""
    number = 1 + int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 1
    url = redis_server.database_url(number)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def private_servers() -> Iterator[PrivateServers]:
    """Servers of this test's own, to be killed and started again."""
    with start_private_servers() as servers:
        yield servers


@pytest.fixture(autouse=True, scope="session")
def _closed_network() -> Iterator[None]:
    """Refuse every connection beyond the loopback."""
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, _on_loopback_only(getattr(socket.socket, name)))
    yield
    patch.undo()


def _on_loopback_only(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any, /) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(str(address[0])):
            raise OutsideConnectionError(f"a test connects to {address[0]}: only the loopback is allowed")
        return connect(self, address)

    return guarded


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
