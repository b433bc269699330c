"""A simulated account: its vehicles, and the instants at which each of them reports.

Time is cut into windows; a point is published when its window is over. So the page of a cursor never
changes, and the number of points up to any instant can be computed without having served one.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import msgspec

from integrations.simulator.tracks import unit
from integrations.simulator.vins import VIN_LETTERS, with_check_digit

# How often a stat is reported, in gps intervals, and how far behind the gps point, in parts of an interval.
# The odometer comes with a gps point; engine and battery have instants of their own.
RHYTHM = {
    "gps": (1, 0.0),
    "obdOdometerMeters": (12, 0.0),
    "fuelPercents": (12, 0.5),
    "engineStates": (12, 0.5),
    "obdEngineSeconds": (12, 0.5),
    "evStateOfChargeMilliPercent": (12, 0.25),
    "evChargingStatus": (12, 0.25),
    "faultCodes": (24, 0.75),
}
# These are reported but are no points.
BESIDE_POINTS = ("evChargingStatus", "faultCodes")
GPS_TYPES = ("gps", "obdOdometerMeters")
_ELECTRIC_EVERY = 7
_PHASES = 20
_NEVER_MS = 2**53
_FIRST_ID = 281_474_000_000_000
_IDS_OF_A_SEED = 10_000_000

_MAKES = (
    ("Freightliner", "Cascadia", "1FU"),
    ("Volvo", "FH16", "YV2"),
    ("Mercedes-Benz", "Sprinter", "WD3"),
    ("Ford", "Transit", "1FT"),
    ("MAN", "TGX", "WMA"),
)
_ELECTRIC = ("Ford", "E-Transit", "1FT")


class Identity(NamedTuple):
    """What stands on a vehicle's papers."""

    device_id: str
    name: str
    vin: str
    license_plate: str
    make: str
    model: str
    year: int


class Account(msgspec.Struct, frozen=True, dict=True):
    """One account: a token and its own fleet.

    A first feed call is answered as of `start` and followed by all that came since; without `start`, as of
    now. Nothing comes after `end`. Accounts with different seeds have different vehicles.

    The share `silent_share` of the vehicles reports nothing after `silent_from`, until `silent_until` where that is
    given. The share `fault_share` has fault codes now and then; where it is 0 nobody reports any. Each vehicle meets a
    safety event every `events_every_s`, somewhen in that time; `safety` says whether they are in the current stream,
    only in the legacy list, or nowhere because the token lacks the scope.
    """

    token: str
    vehicles: int
    seed: int = 1
    interval_s: float = 5.0
    window_points: int = 5
    start: datetime | None = None
    end: datetime | None = None
    silent_share: float = 0.0
    silent_from: datetime | None = None
    silent_until: datetime | None = None
    fault_share: float = 0.25
    events_every_s: float = 14_400.0
    safety: Literal["current", "legacy", "none"] = "current"

    @cached_property
    def interval_ms(self) -> int:
        """Return the time between two gps points of a vehicle."""
        return max(_PHASES, round(self.interval_s * 1000))

    @cached_property
    def window_ms(self) -> int:
        """Return the length of a window."""
        return self.interval_ms * self.window_points

    def horizon_ms(self, now_ms: int) -> int:
        """Return up to where points are published: the end of the last whole window."""
        until = now_ms if self.end is None else min(now_ms, to_ms(self.end))
        return until - until % self.window_ms

    def first_ms(self, now_ms: int) -> int:
        """Return the instant as of which a first feed call is answered."""
        return self.horizon_ms(now_ms if self.start is None else min(now_ms, to_ms(self.start)))

    def is_electric(self, index: int) -> bool:
        """Say whether a vehicle has a battery instead of a tank."""
        return index % _ELECTRIC_EVERY == _ELECTRIC_EVERY - 1

    def has_stat(self, index: int, stat: str) -> bool:
        """Say whether a vehicle ever reports a stat."""
        if stat not in RHYTHM or (stat == "faultCodes" and not self.fault_share):
            return False
        if stat in ("fuelPercents", "evStateOfChargeMilliPercent", "evChargingStatus"):
            return self.is_electric(index) == (stat != "fuelPercents")
        return True

    def falls_silent(self, index: int) -> bool:
        """Say whether a vehicle is one of those that stop reporting."""
        return self.silent_from is not None and unit(self.seed, index, 40) < self.silent_share

    @cached_property
    def silence_ms(self) -> tuple[int, int]:
        """Return after when and until when the silent ones are."""
        begins = _NEVER_MS if self.silent_from is None else to_ms(self.silent_from)
        return begins, _NEVER_MS if self.silent_until is None else to_ms(self.silent_until)

    def is_silent(self, index: int, at_ms: int) -> bool:
        """Say whether a vehicle reports nothing at an instant."""
        begins, ends = self.silence_ms
        return begins < at_ms <= ends and self.falls_silent(index)

    def instants(self, index: int, stat: str, after_ms: int, until_ms: int) -> Sequence[int]:
        """Return when a vehicle reports a stat: after `after_ms`, up to `until_ms`, in Unix milliseconds."""
        if not self.has_stat(index, stat):
            return range(0)
        period, offset = self._rhythm(index, stat)
        first = after_ms + 1 + (offset - after_ms - 1) % period
        instants = range(first, until_ms + 1, period)
        if not self.falls_silent(index):
            return instants
        return [at_ms for at_ms in instants if not self.is_silent(index, at_ms)]

    def last_instant(self, index: int, stat: str, at_ms: int) -> int:
        """Return when a vehicle last reported a stat that it has."""
        period, offset = self._rhythm(index, stat)
        last_ms = at_ms - (at_ms - offset) % period
        if not self.is_silent(index, last_ms):
            return last_ms
        begins = self.silence_ms[0]
        return begins - (begins - offset) % period

    def _rhythm(self, index: int, stat: str) -> tuple[int, int]:
        intervals, behind = RHYTHM[stat]
        phase = index * 7 % _PHASES * (self.interval_ms // _PHASES)
        shift = index % intervals * self.interval_ms
        return intervals * self.interval_ms, phase + shift + round(behind * self.interval_ms)

    def expected(
        self, until: datetime, *, since: datetime | None = None, types: tuple[str, ...] = GPS_TYPES
    ) -> Iterator[tuple[str, datetime]]:
        """Yield device and instant of every reading that a feed of `types` has published by `until`, each
        once.

        `since` is when the first feed call was made, for an account without a `start`.
        """
        first_ms = self.first_ms(to_ms(since or self.start or until))
        until_ms = self.horizon_ms(to_ms(until))
        for index in range(self.vehicles):
            stats = [stat for stat in types if self.has_stat(index, stat) and stat not in BESIDE_POINTS]
            known = {self.last_instant(index, stat, first_ms) for stat in stats}
            for stat in stats:
                known.update(self.instants(index, stat, first_ms, until_ms))
            device_id = self.device_id(index)
            yield from ((device_id, from_ms(at_ms)) for at_ms in known)

    def expected_points(
        self, until: datetime, *, since: datetime | None = None, types: tuple[str, ...] = GPS_TYPES
    ) -> int:
        """Return how many readings `expected` yields."""
        return sum(1 for _ in self.expected(until, since=since, types=types))

    def device_id(self, index: int) -> str:
        """Return the provider's id of a vehicle."""
        return str(_FIRST_ID + self.seed * _IDS_OF_A_SEED + index)

    def index_of(self, device_id: str) -> int:
        """Return which vehicle an id stands for."""
        return int(device_id) - _FIRST_ID - self.seed * _IDS_OF_A_SEED

    def identity(self, index: int) -> Identity:
        """Return what stands on a vehicle's papers."""
        make, model, maker = _ELECTRIC if self.is_electric(index) else _MAKES[index % len(_MAKES)]
        year = 2015 + int(unit(self.seed, index, 20) * 11)
        letters = "".join(VIN_LETTERS[int(unit(self.seed, index, what) * 23)] for what in range(21, 26))
        serial = self.seed % 10 * 100_000 + index % 100_000
        plate = f"{letters[0]}-{letters[1:3]} {int(unit(self.seed, index, 26) * 9000) + 1000}"
        vin = with_check_digit(f"{maker}{letters}0{VIN_LETTERS[year % 23]}A{serial:06}")
        return Identity(self.device_id(index), f"{model} {index + 1:05}", vin, plate, make, model, year)


def to_ms(at: datetime) -> int:
    """Return an instant as Unix milliseconds."""
    return round(at.timestamp() * 1000)


def from_ms(at_ms: int) -> datetime:
    """Return Unix milliseconds as an instant."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)


@lru_cache(maxsize=4096)
def rfc3339(at_ms: int) -> str:
    """Return Unix milliseconds as Samsara writes an instant."""
    text = from_ms(at_ms).isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds")
    return text.replace("+00:00", "Z")


def now_ms() -> int:
    """Return the present instant."""
    return time.time_ns() // 1_000_000
