"""A platform in this process."""

from collections.abc import Iterator

import pytest

from tests.inprocess import Platform, platform_of
from tests.servers import Database


@pytest.fixture
def platform(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """The platform on plain PostgreSQL."""
    with platform_of(database, redis_url, monkeypatch) as running:
        yield running
