"""The safety events of simulated vehicles: in the current stream by when they changed, and in the legacy list.

An event becomes known some intervals after it happened and is reviewed some minutes later: then the stream has it
again. When each vehicle meets one follows from the account's seed.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

from integrations.simulator.fleet import Account, from_ms, rfc3339, to_ms
from integrations.simulator.pages import Cursor, Slice
from integrations.simulator.spoilt import Refused
from integrations.simulator.tracks import motion_at, track_of, unit

PAGE = 100
FIRST_SIGHT = timedelta(hours=24)
"""How far back a reader asks when it sees an account for the first time."""

_KNOWN_AFTER = 4
_REVIEWED_AFTER = 120
_LABELS = (
    "Braking",
    "HarshTurn",
    "MobileUsage",
    "FollowingDistance",
    "SevereSpeeding",
    "Crash",
    "RollingStop",
    "Drowsy",
)
_REVIEWED = ("coached", "dismissed")


class Event(NamedTuple):
    """What one vehicle met at one instant."""

    vehicle: int
    at_ms: int
    number: int

    @property
    def label(self) -> str:
        """Samsara's first label of it."""
        return _LABELS[(self.vehicle + self.number) % len(_LABELS)]


class ExpectedEvent(NamedTuple):
    """What is known of an event: `event_id` depends on where it was read."""

    event_id: str
    device_id: str
    time: datetime
    label: str
    state: str


def events(account: Account, after_ms: int, until_ms: int) -> Iterator[Event]:
    """Yield what happens after an instant, up to another."""
    if account.start is not None:
        after_ms = max(after_ms, to_ms(account.start))
    until_ms = _until(account, until_ms)
    period_ms = round(account.events_every_s * 1000)
    for index in range(account.vehicles):
        for number in range(after_ms // period_ms, until_ms // period_ms + 1):
            at_ms = number * period_ms + int(unit(account.seed, index, 1000 + number) * period_ms)
            if after_ms < at_ms <= until_ms and not account.is_silent(index, at_ms):
                yield Event(index, at_ms, number)


def expected_safety_events(
    account: Account, until: datetime, *, since: datetime | None = None
) -> dict[str, ExpectedEvent]:
    """Return by its id every event that is known by `until` to a reader who began at `since`, in its last state.

    Without `since` the reader began at `until`: a day before is what it asks for.
    """
    until_ms, begins_ms = _until(account, to_ms(until)), to_ms((since or until) - FIRST_SIGHT)
    is_legacy = account.safety == "legacy"
    known = {}
    for event in events(account, begins_ms - _lag(account), until_ms) if account.safety != "none" else ():
        changed = [at_ms for at_ms, _ in _changes(account, event) if at_ms <= until_ms]
        if not changed or (event.at_ms if is_legacy else changed[-1]) < begins_ms:
            continue
        told = _legacy(account, event, until_ms) if is_legacy else _current(account, event, changed[-1])
        known[str(told["id"])] = ExpectedEvent(
            str(told["id"]),
            account.device_id(event.vehicle),
            from_ms(event.at_ms),
            event.label,
            str(told["coachingState" if is_legacy else "eventState"]),
        )
    return known


def stream_page(account: Account, start: str, after: str | None, now_ms: int) -> Slice:
    """Return a page of the current stream, by when events changed. Its cursor is bound to its `startTime`."""
    bond, here = f"safety {start}", Cursor("safety", _parsed("startTime", start) - 1, 0)
    if after:
        here = Cursor.decode(after, account, bond, ("safety",))
    until_ms = max(here.at_ms, _until(account, now_ms))
    changes = sorted(
        (at_ms, event)
        for event in events(account, here.at_ms - _lag(account), until_ms)
        for at_ms, _ in _changes(account, event)
        if here.at_ms < at_ms <= until_ms
    )
    page = changes[here.block : here.block + PAGE]
    has_next = here.block + len(page) < len(changes)
    there = here._replace(block=here.block + PAGE) if has_next else Cursor("safety", until_ms, 0)
    told = (json.dumps(_current(account, event, at_ms)) for at_ms, event in page)
    return Slice(",".join(told).encode(), there.encode(account, bond), has_next, until_ms)


def list_page(account: Account, start: str, end: str, after: str | None, now_ms: int) -> Slice:
    """Return a page of the legacy list: what happened in a window and has become known. Nothing is beyond its last."""
    bond, here = f"safety {start} {end}", Cursor("safety", 0, 0)
    if after:
        here = Cursor.decode(after, account, bond, ("safety",))
    start_ms, end_ms, until_ms = _parsed("startTime", start), _parsed("endTime", end), _until(account, now_ms)
    known = sorted(
        (_changes(account, event)[0][0], event)
        for event in events(account, start_ms - 1, end_ms)
        if _changes(account, event)[0][0] <= until_ms
    )
    page = known[here.block : here.block + PAGE]
    has_next = here.block + len(page) < len(known)
    there = here._replace(block=here.block + PAGE).encode(account, bond) if has_next else ""
    told = (json.dumps(_legacy(account, event, until_ms)) for _, event in page)
    return Slice(",".join(told).encode(), there, has_next, until_ms)


def _until(account: Account, at_ms: int) -> int:
    return at_ms if account.end is None else min(at_ms, to_ms(account.end))


def _lag(account: Account) -> int:
    return _REVIEWED_AFTER * account.interval_ms


def _changes(account: Account, event: Event) -> tuple[tuple[int, str], tuple[int, str]]:
    """Return when an event changed and what its state was then."""
    known_ms, reviewed_ms = (event.at_ms + after * account.interval_ms for after in (_KNOWN_AFTER, _REVIEWED_AFTER))
    return (known_ms, "needsReview"), (reviewed_ms, _REVIEWED[event.vehicle % len(_REVIEWED)])


def _state(account: Account, event: Event, at_ms: int) -> str:
    return [state for changed_ms, state in _changes(account, event) if changed_ms <= at_ms][-1]


def _current(account: Account, event: Event, changed_ms: int) -> dict[str, object]:
    motion = motion_at(track_of(account.seed, event.vehicle), event.at_ms / 1000)
    event_id = str(uuid5(NAMESPACE_URL, f"{account.device_id(event.vehicle)}-{event.at_ms}"))
    review = f"https://cloud.samsara.example/events/{event_id}"
    told: dict[str, object] = {
        "id": event_id,
        "asset": {"id": account.device_id(event.vehicle)},
        "driver": {"id": _driver(account, event)},
        "startMs": rfc3339(event.at_ms),
        "endMs": rfc3339(event.at_ms + 5_000),
        "createdAtTime": rfc3339(_changes(account, event)[0][0]),
        "updatedAtTime": rfc3339(changed_ms),
        "eventState": _state(account, event, changed_ms),
        "behaviorLabels": [{"label": event.label, "source": "automated"}],
        "contextLabels": [],
        "location": {
            "latitude": round(motion.latitude, 7),
            "longitude": round(motion.longitude, 7),
            "headingDegrees": round(motion.heading_deg),
        },
        "maxAccelerationGForce": _max_g(account, event),
        "media": [{"input": "dashcamRoadFacing", "url": f"https://media.samsara.example/{event_id}.mp4"}],
        "inboxEventUrl": review,
        "incidentReportUrl": review,
    }
    if "Speeding" in event.label:
        told["speedingMetadata"] = {"maxSpeedKilometersPerHour": 131, "postedSpeedLimitKilometersPerHour": 100}
    return told


def _legacy(account: Account, event: Event, at_ms: int) -> dict[str, object]:
    motion = motion_at(track_of(account.seed, event.vehicle), event.at_ms / 1000)
    identity = account.identity(event.vehicle)
    event_id = f"{identity.device_id}-{event.at_ms}"
    return {
        "id": event_id,
        "time": rfc3339(event.at_ms),
        "vehicle": {"id": identity.device_id, "name": identity.name},
        "driver": {"id": _driver(account, event), "name": "A. Driver"},
        "behaviorLabels": [
            {"label": event.label[0].lower() + event.label[1:], "name": event.label, "source": "automated"}
        ],
        "coachingState": _state(account, event, at_ms),
        "maxAccelerationGForce": _max_g(account, event),
        "location": {"latitude": round(motion.latitude, 7), "longitude": round(motion.longitude, 7)},
        "downloadForwardVideoUrl": f"https://media.samsara.example/{event_id}.mp4",
    }


def _max_g(account: Account, event: Event) -> float:
    return round(0.3 + 2 * unit(account.seed, event.vehicle, 2_000_000 + event.number), 3)


def _driver(account: Account, event: Event) -> str:
    return str(50_000_000 + account.seed * 1000 + event.vehicle % 997)


def _parsed(name: str, text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError
    except ValueError:
        raise Refused(400, f"Invalid value for parameter {name}.") from None
    return to_ms(at)
