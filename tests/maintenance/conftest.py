"""A platform in this process, and a garage on it."""

from collections.abc import Iterator

import pytest

from tests.factories import make_tenant
from tests.inprocess import Platform, platform_of
from tests.maintenance.garage import Garage
from tests.servers import Database


@pytest.fixture
def platform(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """The platform on plain PostgreSQL: maintenance touches no time series."""
    with platform_of(database, redis_url, monkeypatch) as running:
        yield running


@pytest.fixture
def garage(platform: Platform) -> Garage:
    """A tenant without vehicles."""
    return Garage(platform, make_tenant(platform.admin))
