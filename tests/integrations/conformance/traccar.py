"""Traccar for the suite."""

from collections.abc import Iterator
from datetime import UTC, datetime

from integrations.simulator import Account
from integrations.simulator.traccar import RECORD_FAULTS, TraccarThread
from tests.integrations.conformance.adapter import END, START, TOKEN, Adapter, Key

_ACCOUNT = Account(TOKEN, vehicles=12, seed=3, start=START, end=END)
_FAULTS = {"refused_token": "expired_token"}


class TraccarAdapter(Adapter):
    provider = "traccar"
    devices = _ACCOUNT.vehicles
    main_feed = "positions"

    def __init__(self, simulator: TraccarThread) -> None:
        super().__init__(simulator.url)
        self._simulator = simulator

    @classmethod
    def serve(cls) -> Iterator[Adapter]:
        with TraccarThread(_ACCOUNT) as simulator:
            yield cls(simulator)

    def next(self, fault: str, *, retry_after_s: float | None = None) -> None:
        path = "/api/reports/route" if fault in RECORD_FAULTS else ""
        self._simulator.next(_FAULTS.get(fault, fault), retry_after_s=retry_after_s, path=path)

    def heal(self) -> None:
        self._simulator.heal()

    def expected(self, feed: str) -> set[Key] | None:
        return set(self._simulator.fleet.expected(datetime.now(UTC)))
