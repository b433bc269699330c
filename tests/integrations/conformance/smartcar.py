"""Smartcar for the suite: its vehicles say the same all along, because its clock stands still."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from integrations.simulator.fleet import to_ms
from integrations.simulator.smartcar import SmartcarThread
from integrations.simulator.smartcar_fleet import SmartcarAccount
from tests.integrations.conformance.adapter import END, Adapter, Key

_ACCOUNT = SmartcarAccount(vehicles=8)
_READINGS = ("location-", "odometer-", "tractionbattery-stateofcharge", "internalcombustionengine-")
_FAULTS = {
    "html": "html_200",
    "rate_limit": "application_rate",
    "server_error": "server",
    "refused_token": "authentication",
    "foreign_device": "foreign_vehicle",
}


class SmartcarAdapter(Adapter):
    """A fault spoils what one vehicle says: nothing is added."""

    provider = "smartcar"
    devices = _ACCOUNT.vehicles
    main_feed = "vehicles"
    adds_bad_records = False

    def __init__(self, simulator: SmartcarThread) -> None:
        super().__init__(simulator.url)
        self._simulator = simulator.simulator
        self._credentials = self._simulator.credentials()

    @classmethod
    def serve(cls) -> Iterator[Adapter]:
        with SmartcarThread(_ACCOUNT, clock_ms=lambda: to_ms(END)) as simulator:
            yield cls(simulator)

    def next(self, fault: str, *, retry_after_s: float | None = None) -> None:
        path = "/signals" if fault in ("wrong_type", "foreign_device") else ""
        self._simulator.next(_FAULTS.get(fault, fault), path=path, retry_after_s=retry_after_s)

    def heal(self) -> None:
        self._simulator.faults.clear()

    def expected(self, feed: str) -> set[Key] | None:
        return {
            (vehicle_id, datetime.fromtimestamp(signal.at_ms / 1000, UTC))
            for vehicle_id, index in _ACCOUNT.indices.items()
            for signal in _ACCOUNT.signals(index, to_ms(END))
            if signal.code.startswith(_READINGS)
        }

    def credentials(self) -> dict[str, str]:
        return self._credentials

    def options(self) -> dict[str, Any]:
        return {"calls_per_vehicle_and_month": 10_000_000}
