"""A simulated Smartcar account: vehicles that drive as the other simulators' do, and report each thing at its own time.

What a vehicle says is a pure function of time: any instant can be asked for again, and repeats itself until it reports
anew.
"""

from functools import cached_property
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from integrations.simulator.fleet import Account, Identity
from integrations.simulator.tracks import Motion, motion_at, track_of

_EVERY_MS = {"location": 30_000, "odometer": 60_000, "level": 300_000, "codes": 3_600_000}
_CODES = ("P0301", "P0171", "P0420", "U0100")
_WITH_CODES_EVERY = 5


class Signal(NamedTuple):
    """One thing that a vehicle says, as v3 words it, and when the vehicle said it, in Unix milliseconds."""

    code: str
    body: dict[str, Any]
    at_ms: int


class SmartcarAccount(msgspec.Struct, frozen=True, dict=True):
    """An owner's account at one application. `code` is what the owner's consent gave."""

    client_id: str = "simulated-client"
    client_secret: str = "simulated-secret"  # noqa: S105
    code: str = "simulated-code"
    redirect_uri: str = "https://fleet.example/connected"
    user_id: str = "7b1d0b7e-3b0c-4f0e-9d2a-5a3d8f6c1e24"
    management_token: str = "simulated-management-token"  # noqa: S105
    vehicles: int = 10
    seed: int = 1

    @cached_property
    def fleet(self) -> Account:
        """Return the same vehicles as the other simulators have for this seed."""
        return Account(self.client_id, self.vehicles, self.seed)

    @cached_property
    def indices(self) -> dict[str, int]:
        """Return every vehicle's id, and which one it is."""
        return {self.vehicle_id(index): index for index in range(self.vehicles)}

    def vehicle_id(self, index: int) -> str:
        """Return the provider's id of a vehicle."""
        return str(UUID(int=uuid5(NAMESPACE_URL, f"smartcar/{self.seed}/{index}").int, version=4))

    def identity(self, index: int) -> Identity:
        """Return what stands on a vehicle's papers."""
        return self.fleet.identity(index)

    def signals(self, index: int, now_ms: int) -> list[Signal]:
        """Return what a vehicle has last said, as of an instant."""
        said: list[Signal] = []
        at_ms, motion = self._at(index, "location", now_ms)
        where = {"latitude": round(motion.latitude, 6), "longitude": round(motion.longitude, 6)}
        said.append(Signal("location-preciselocation", where | {"heading": round(motion.heading_deg, 1)}, at_ms))
        at_ms, motion = self._at(index, "odometer", now_ms)
        said.append(Signal("odometer-traveleddistance", _figure(motion.odometer_m / 1000, "kilometers"), at_ms))
        at_ms, motion = self._at(index, "level", now_ms)
        level = _figure(motion.fill_percent, "percent")
        if self.fleet.is_electric(index):
            is_charging = motion.engine_state == "Off"
            said.append(Signal("tractionbattery-stateofcharge", level, at_ms))
            said.append(Signal("tractionbattery-range", _figure(motion.fill_percent * 4, "kilometers"), at_ms))
            said.append(Signal("charge-ischarging", {"value": is_charging}, at_ms))
        else:
            said.append(Signal("internalcombustionengine-fuellevel", level, at_ms))
        at_ms, _ = self._at(index, "codes", now_ms)
        codes = [_CODES[index % len(_CODES)]] if index % _WITH_CODES_EVERY == 0 else []
        listed = [{"code": code, "timestamp": None} for code in codes]
        said.append(Signal("diagnostics-dtclist", {"values": listed}, at_ms))
        said.append(Signal("diagnostics-mil", {"status": "ALERT" if codes else "OK"}, at_ms))
        said.append(Signal("vehicleidentification-vin", {"value": self.identity(index).vin}, 0))
        return said

    def _at(self, index: int, what: str, now_ms: int) -> tuple[int, Motion]:
        every_ms = _EVERY_MS[what]
        at_ms = now_ms - (now_ms - index * 997) % every_ms
        return at_ms, motion_at(track_of(self.seed, index), at_ms / 1000)


def _figure(value: float, unit: str) -> dict[str, Any]:
    return {"value": round(value, 3), "unit": unit}
