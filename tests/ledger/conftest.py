"""A platform that works, shared by the tests that break nothing; parts of one for those that do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.ledger.ledger import Ledger, Platform
from tests.ledger.processes import Processes, processes
from tests.servers import Database, PostgresServer, PrivateServers, RedisServer

_FIRST_OWN_DATABASE = 32  # the others of this Valkey belong to the fixture `redis_url`


def _prepared(database: Database, started: Processes) -> Ledger:
    started.define()
    ledger = Ledger(database)
    ledger.make_tables()
    return ledger


@pytest.fixture(scope="session")
def platform(
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    worker_id: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    """A relay, a prefork worker and their ledger, for the whole session; each test brings its own tenants."""
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    url = redis_server.database_url(_FIRST_OWN_DATABASE + number)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    directory = tmp_path_factory.mktemp("platform")
    with postgres_server.fresh_database() as database, processes(database, url, directory) as started:
        ledger = _prepared(database, started)
        started.relay()
        started.worker(size=2)
        ready = ledger.tenant()
        ledger.wait(ledger.enqueue("test.effect", tenant_id=ready))
        yield Platform(ledger, started, url)
        ledger.close()


@pytest.fixture
def idle(database: Database, redis_url: str, tmp_path: Path) -> Iterator[Platform]:
    """A ledger of this test's own on the shared servers, on which nothing works yet."""
    with processes(database, redis_url, tmp_path) as started:
        ledger = _prepared(database, started)
        yield Platform(ledger, started, redis_url)
        ledger.close()


@pytest.fixture
def private(private_servers: PrivateServers, tmp_path: Path) -> Iterator[Platform]:
    """A ledger on servers of this test's own, on which nothing works yet."""
    with processes(private_servers.database, private_servers.redis_url, tmp_path) as started:
        ledger = _prepared(private_servers.database, started)
        ledger.keep_promises()
        yield Platform(ledger, started, private_servers.redis_url)
        ledger.close()
