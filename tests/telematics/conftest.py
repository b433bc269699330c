"""A platform in this process, on each of the two storages of time series."""

from collections.abc import Iterator

import pytest

from tests.inprocess import Platform, platform_of


@pytest.fixture(params=["database", "timescale_database"], ids=["native", "timescale"])
def platform(request: pytest.FixtureRequest, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """The platform on plain PostgreSQL, and on TimescaleDB where the run has one."""
    with platform_of(request.getfixturevalue(request.param), redis_url, monkeypatch) as running:
        yield running
