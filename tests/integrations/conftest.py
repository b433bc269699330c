"""A simulated Samsara over real HTTP, at an instant that stands still."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from integrations.http import HttpSession, HttpSettings
from integrations.samsara import Samsara
from integrations.simulator import Account, FaultPlan, SimulatorThread
from integrations.simulator.fleet import to_ms

NOW = datetime(2026, 11, 16, 12, 0, 10, tzinfo=UTC)
ACCOUNT = Account("token-of-the-test", vehicles=40, start=NOW - timedelta(minutes=3))
QUICK = HttpSettings(read_s=2.0, total_s=5.0, retry_window_s=1.0, short_wait_s=0.5)


@pytest.fixture(scope="package")
def shared_simulator() -> Iterator[SimulatorThread]:
    with SimulatorThread(ACCOUNT, clock_ms=lambda: to_ms(NOW)) as simulator:
        yield simulator


@pytest.fixture
def simulator(shared_simulator: SimulatorThread) -> Iterator[SimulatorThread]:
    """One simulator for all tests; each finds it without faults."""
    yield shared_simulator
    shared_simulator.plan(FaultPlan())


@pytest.fixture
def session() -> Iterator[HttpSession]:
    with HttpSession(QUICK) as session:
        yield session


@pytest.fixture
def samsara(simulator: SimulatorThread, session: HttpSession) -> Samsara:
    return Samsara(session, ACCOUNT.token, simulator.url, clock=lambda: NOW)
