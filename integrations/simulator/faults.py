"""What can go wrong on purpose, by chance or on demand.

Faults of an answer spoil all of it; faults of a record add a bad, late or repeated record to a good page
and take nothing away, so that the number of good points stays what the account says.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from integrations.simulator.fleet import Account, from_ms
from integrations.simulator.pages import record as record_of
from integrations.simulator.samsara_spoilt import EVENT_FAULTS, REPORT_FAULTS
from integrations.simulator.tracks import track_of

ANSWER_FAULTS = (
    "rate_limit",
    "server_error",
    "expired_token",
    "redirect",
    "html",
    "empty",
    "truncated",
    "malformed",
    "broken_off",
    "dripping",
    "huge",
    "zip_bomb",
    "loop",
)
_SHARE = 20
_LATE_MS = 3_600_000
_BACKFILL_MS = 7 * 86_400_000


class Scripted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault for the next `times` requests whose path ends with `path`."""

    fault: str
    times: int = 1
    retry_after_s: float | None = None
    path: str = ""

    def __post_init__(self) -> None:
        if self.fault not in (*ANSWER_FAULTS, *RECORD_FAULTS):
            raise ValueError(f"no such fault: {self.fault}")


class FaultPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Chances from 0 to 1 that an answer has a fault; `script` comes before chance.

    `latency_s` delays every answer, `retry_after_s` is what a rate limit says. The same seed and the same
    requests meet the same faults. `late` repeats an older point of the stream and needs an account with a
    `start`.
    """

    rate_limit: float = 0.0
    server_error: float = 0.0
    expired_token: float = 0.0
    redirect: float = 0.0
    html: float = 0.0
    empty: float = 0.0
    truncated: float = 0.0
    malformed: float = 0.0
    broken_off: float = 0.0
    dripping: float = 0.0
    huge: float = 0.0
    zip_bomb: float = 0.0
    loop: float = 0.0
    impossible: float = 0.0
    null_island: float = 0.0
    missing_time: float = 0.0
    future_time: float = 0.0
    wrong_types: float = 0.0
    nul: float = 0.0
    not_a_number: float = 0.0
    late: float = 0.0
    duplicate: float = 0.0
    backfill: float = 0.0
    latency_s: float = 0.0
    retry_after_s: float = 0.4
    seed: int = 0
    script: tuple[Scripted, ...] = ()


class Place(msgspec.Struct, frozen=True):
    """Where in a fleet and in time a record is to be spoilt."""

    account: Account
    index: int
    at_ms: int

    def gps(self, at_ms: int | None = None) -> dict[str, Any]:
        """Return the good point of an instant."""
        text = record_of(track_of(self.account.seed, self.index), "gps", self.at_ms if at_ms is None else at_ms)
        point: dict[str, Any] = msgspec.json.decode(text)
        return point


def _changed(**fields: Any) -> Callable[[Place, dict[str, Any]], None]:
    def add(place: Place, vehicle: dict[str, Any]) -> None:
        vehicle["gps"].append(place.gps() | fields)

    return add


def _missing_time(place: Place, vehicle: dict[str, Any]) -> None:
    point = place.gps()
    del point["time"]
    vehicle["gps"].append(point)


def _future_time(place: Place, vehicle: dict[str, Any]) -> None:
    ahead = from_ms(place.at_ms) + timedelta(days=365)
    vehicle["gps"].append(place.gps() | {"time": ahead.isoformat()})


def _late(place: Place, vehicle: dict[str, Any]) -> None:
    start_ms = place.account.first_ms(place.at_ms)
    older = place.account.instants(place.index, "gps", max(start_ms, place.at_ms - _LATE_MS), place.at_ms)
    if older:
        vehicle["gps"].append(place.gps(older[len(older) // 2]))


def _backfill(place: Place, vehicle: dict[str, Any]) -> None:
    at_ms = place.account.last_instant(place.index, "gps", place.at_ms - _BACKFILL_MS)
    vehicle["gps"].append(place.gps(at_ms))


def _duplicate(_: Place, vehicle: dict[str, Any]) -> None:
    vehicle["gps"].append(vehicle["gps"][0])


def _nul(place: Place, vehicle: dict[str, Any]) -> None:
    vehicle["name"] = f"{vehicle['name']}\0"
    vehicle["gps"].append(place.gps() | {"time": "\0"})


RECORD_FAULTS: dict[str, Callable[[Place, dict[str, Any]], None]] = {
    "impossible": _changed(latitude=91.0),
    "null_island": _changed(latitude=0.0, longitude=0.0),
    "missing_time": _missing_time,
    "future_time": _future_time,
    "wrong_types": _changed(latitude="52.5", longitude=[13.4]),
    "nul": _nul,
    "not_a_number": _changed(longitude=float("nan")),
    "late": _late,
    "duplicate": _duplicate,
    "backfill": _backfill,
}


class Faults:
    """A plan at work: what is left of its script, its dice, and how many records it has added."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self.added: Counter[str] = Counter()
        self._dice = random.Random(plan.seed)  # noqa: S311 - repeatable on purpose
        self._script = [scripted for scripted in plan.script for _ in range(scripted.times)]

    def draw(self, path: str) -> list[Scripted]:
        """Return the faults of the answer to one request: the next of the script, or what chance brings."""
        for place, scripted in enumerate(self._script):
            if path.endswith(scripted.path):
                return [self._script.pop(place)]
        chances = ((fault, getattr(self.plan, fault)) for fault in (*ANSWER_FAULTS, *RECORD_FAULTS))
        return [Scripted(fault) for fault, chance in chances if chance and self._dice.random() < chance]

    def spoil(self, fault: str, data: bytes, account: Account, at_ms: int) -> bytes:
        """Return a page with the records of a fault added to every twentieth vehicle or event, at least to one.

        Vehicles get bad positions, or bad reports of fault codes where they say nothing of positions.
        """
        records = json.loads(b"[%b]" % data)
        for record in records[::_SHARE]:
            if isinstance(record.get("gps"), list):
                RECORD_FAULTS[fault](Place(account, account.index_of(record["id"]), at_ms), record)
            elif isinstance(reports := record.get("faultCodes"), list) and fault in REPORT_FAULTS:
                reports.append(REPORT_FAULTS[fault](reports[-1]))
            elif "behaviorLabels" in record and fault in EVENT_FAULTS:
                records.append(EVENT_FAULTS[fault](record))
            else:
                continue
            self.added[fault] += 1
        return json.dumps(records)[1:-1].encode()
