"""Samsara for the suite."""

from collections.abc import Iterator
from datetime import UTC, datetime

from integrations.simulator import Account, FaultPlan, SimulatorThread
from tests.integrations.conformance.adapter import END, START, TOKEN, Adapter, Key

_ACCOUNT = Account(TOKEN, vehicles=12, start=START, end=END)
_FAULTS = {"refused_token": "expired_token", "wrong_type": "wrong_types"}
_STATS = {
    "gps": ("gps", "obdOdometerMeters"),
    "engine": ("fuelPercents", "engineStates", "obdEngineSeconds"),
    "health": ("evStateOfChargeMilliPercent",),
}


class SamsaraAdapter(Adapter):
    """Its feeds name no devices, they bring the whole organisation: whose they are shows when they are matched."""

    provider = "samsara"
    devices = _ACCOUNT.vehicles
    main_feed = "gps"
    knows_its_devices = False

    def __init__(self, simulator: SimulatorThread) -> None:
        super().__init__(simulator.url)
        self._simulator = simulator

    @classmethod
    def serve(cls) -> Iterator[Adapter]:
        with SimulatorThread(_ACCOUNT) as simulator:
            yield cls(simulator)

    def next(self, fault: str, *, retry_after_s: float | None = None) -> None:
        path = "/stats/feed" if fault == "wrong_type" else ""
        self._simulator.next(_FAULTS.get(fault, fault), retry_after_s=retry_after_s, path=path)

    def heal(self) -> None:
        self._simulator.plan(FaultPlan())

    def expected(self, feed: str) -> set[Key] | None:
        return set(_ACCOUNT.expected(datetime.now(UTC), types=_STATS[feed])) if feed in _STATS else None
