"""Both storages of time series, each with two tenants that have a row in everything."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from tests.conftest import SERVERS
from tests.notifications.conftest import desk, inbox, platform, told
from tests.schema.catalogue import Connection, connect, fill
from tests.servers import Database, PostgresServer

__all__ = ["TwoTenants", "desk", "inbox", "platform", "server", "tenants", "told"]


@dataclass(frozen=True)
class TwoTenants:
    """A database in which tenant `mine` asks and tenant `theirs` must not be touched."""

    database: Database
    admin: Connection
    mine: UUID
    theirs: UUID


@pytest.fixture(scope="session", params=["native", "timescale"])
def server(request: pytest.FixtureRequest) -> PostgresServer:
    """The cluster of each storage."""
    servers = request.config.stash[SERVERS]
    return servers.postgres() if request.param == "native" else servers.timescaledb()


@pytest.fixture(scope="module")
def tenants(server: PostgresServer) -> Iterator[TwoTenants]:
    """Two tenants with a row in everything."""
    with server.fresh_database() as database, connect(database.admin_url) as admin:
        mine, theirs = uuid4(), uuid4()
        fill(admin, mine)
        fill(admin, theirs)
        yield TwoTenants(database, admin, mine, theirs)
