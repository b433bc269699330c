"""What a connection's settings say of Smartcar; none of them is believed unseen."""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from integrations.errors import PermanentError

_MONTH_S = 31 * 86_400
_RESERVE = 10
"""Requests of a vehicle's month that are kept for its VIN and for what is repeated."""


class PollOptions(NamedTuple):
    """How often vehicles are asked, and of which version of the API."""

    api: Literal["v3", "v2"] = "v3"
    poll_every_s: int = 1800
    calls_per_vehicle_and_month: int = 500
    list_every_s: int = 21_600

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> "PollOptions":
        """Read a connection's settings. Raises: PermanentError where one cannot be."""
        api = settings.get("api", "v3")
        if api not in ("v3", "v2"):
            raise PermanentError("settings: api: expected v3 or v2")
        default = cls()
        return cls(
            "v2" if api == "v2" else "v3",
            _whole(settings, "poll_every_s", default.poll_every_s, 60, 86_400),
            _whole(settings, "calls_per_vehicle_and_month", default.calls_per_vehicle_and_month, 50, 10_000_000),
            _whole(settings, "list_every_s", default.list_every_s, 60, 86_400),
        )

    def interval_s(self, calls: int) -> int:
        """Return how long a vehicle rests after `calls` requests, so that its month never runs out of them."""
        usable = self.calls_per_vehicle_and_month - _RESERVE
        return max(self.poll_every_s, math.ceil(_MONTH_S * calls / usable))


def _whole(settings: Mapping[str, object], name: str, default: int, smallest: int, largest: int) -> int:
    value = settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise PermanentError(f"settings: {name}: expected a whole number from {smallest} to {largest}")
    return value
