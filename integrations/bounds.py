"""What is believed of foreign bytes: which instants, which positions, and what parsing them can raise."""

from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

# What parsing foreign bytes can raise.
BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Provider clocks run a little ahead; a receiver that lost its date reports one 1024 weeks ago (GPS week
# rollover).
_AHEAD = timedelta(minutes=5)
_OLDEST = timedelta(days=3653)
# Within about 100 m of 0° N 0° E is open sea: the position of a receiver without a fix.
NULL_ISLAND_DEG = 0.001


class UnbelievableError(Exception):
    """All is well-formed, but an instant, a position or an id in it cannot be."""


class Limits(NamedTuple):
    """The instants that are believed: after `earliest`, up to `latest`."""

    earliest: datetime
    latest: datetime

    @classmethod
    def at(cls, now: datetime) -> "Limits":
        """Return the limits at an instant: ten years back, five minutes ahead."""
        return cls(now - _OLDEST, now + _AHEAD)

    def doubt(self, at: datetime) -> str | None:
        """Return why an instant is not believed, None where it is."""
        if at > self.latest:
            return "time_in_future"
        return "time_too_old" if at <= self.earliest else None


def is_null_island(latitude: float, longitude: float) -> bool:
    """Say whether a position is the one that receivers without a fix report."""
    return abs(latitude) < NULL_ISLAND_DEG and abs(longitude) < NULL_ISLAND_DEG
