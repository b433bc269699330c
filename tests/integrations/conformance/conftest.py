"""Each provider in turn, beside its simulator."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from integrations.telematics import TelematicsProvider
from tests.integrations.conformance.adapter import Adapter
from tests.integrations.conformance.samsara import SamsaraAdapter
from tests.integrations.conformance.smartcar import SmartcarAdapter
from tests.integrations.conformance.traccar import TraccarAdapter

ADAPTERS: dict[str, type[Adapter]] = {
    adapter.provider: adapter for adapter in (SamsaraAdapter, SmartcarAdapter, TraccarAdapter)
}


@pytest.fixture(scope="package", params=ADAPTERS)
def served(request: pytest.FixtureRequest) -> Iterator[Adapter]:
    with contextmanager(ADAPTERS[request.param].serve)() as adapter:
        yield adapter


@pytest.fixture
def adapter(served: Adapter) -> Iterator[Adapter]:
    """One simulator for all tests of a provider; each finds it without faults."""
    yield served
    served.heal()


@pytest.fixture
def account(adapter: Adapter) -> Iterator[TelematicsProvider]:
    with adapter.opened() as account:
        yield account
