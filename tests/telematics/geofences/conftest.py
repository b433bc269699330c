"""A database with a tenant, its vehicles, and nothing drawn yet."""

from collections.abc import Iterator

import psycopg
import pytest

from db.engine import Database
from jobs.telematics.geofences import cache
from tests import servers
from tests.telematics.geofences.places import Fleet, make_fleet


@pytest.fixture
def admin(database: servers.Database) -> Iterator[psycopg.Connection]:
    """A superuser's connection that sees every row."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def engine(database: servers.Database) -> Iterator[Database]:
    """The database as a worker sees it."""
    opened = Database(database.worker_url, database.system_url, pool_size=2)
    yield opened
    opened.close()
    cache.forget()


@pytest.fixture
def fleet(admin: psycopg.Connection) -> Fleet:
    """A tenant with three vehicles."""
    return make_fleet(admin)
