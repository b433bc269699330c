"""Samsara's safety events into records, of the current stream and of the legacy list.

Shapes: SafetyEventV2ObjectResponseBody and SafetyEvent of the specification, developers.samsara.com/reference/
getsafetyeventsv2stream and getsafetyevents, read 2026-11. The stream's `startMs` and `endMs` hold RFC 3339 text in
spite of their names, and its speeds are in km/h where all other speeds of Samsara's are in mph or m/s.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from integrations.aside import Members, rejected
from integrations.bounds import BROKEN, Limits
from integrations.samsara.faults import CRITICAL, HIGH, LOW, MEDIUM, SEVERITIES
from integrations.samsara.wire import Instant, Latitude, Longitude
from integrations.telematics import Rejected, SafetyEvent

_ID = 128
_DEVICE_ID = 64
_TEXT = 64
_URL = 4096  # a signed address of a film is some 1,500 characters long
_LABELS = 32
SpeedKph = Annotated[float, Meta(ge=0, le=500)]
Gravities = Annotated[float, Meta(ge=0, le=1000)]
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[\s_-]+")

# By label, in snake case; what is not listed is medium. Samsara's own misspelling of `collision` is kept beside the
# right one. Braking, acceleration and turn are its harsh events.
_SEVERITY_OF = {
    "crash": CRITICAL,
    "collision": CRITICAL,
    "braking": HIGH,
    "harsh_braking": HIGH,
    "acceleration": HIGH,
    "harsh_acceleration": HIGH,
    "harsh_turn": HIGH,
    "severe_speeding": HIGH,
    "drowsy": HIGH,
    "drowsiness": HIGH,
    "near_collison": HIGH,
    "near_collision": HIGH,
    "near_pedestrian_collision": HIGH,
    "high_speed_sudden_disconnect": HIGH,
    "rollover_protection": HIGH,
    "yaw_control": HIGH,
    "ran_red_light": HIGH,
    "edge_railroad_crossing_violation": HIGH,
    "following_distance_severe": HIGH,
    "drinking": MEDIUM,
    "light_speeding": LOW,
    "idling": LOW,
    "defensive_driving": LOW,
    "invalid": LOW,
}


def decode_event(raw: bytes, limits: Limits, aside: list[Rejected]) -> SafetyEvent | None:
    """Return one event; None where it cannot be known, placed or dated. What is bad goes to `aside`."""
    try:
        event = Members(raw, "", None, aside)
    except BROKEN:
        aside.append(rejected("wrong_type", "safety_event", raw))
        return None
    event_id = event.identity("id", "event_id", _ID)
    key = "asset" if event.has("asset") else "vehicle"
    asset = event.within(key)
    if not event.has(key):
        event.refuse("device_id_missing", key)
    device_id = asset.identity("id", "device_id", _DEVICE_ID) if asset else None
    event.device_id = device_id
    time = _time(event, limits)
    if event_id is None or device_id is None or time is None:
        return None
    labels = _labels(event)
    latitude, longitude = _position(event)
    speeding, driver = event.within("speedingMetadata"), event.within("driver")
    return SafetyEvent(
        event_id,
        device_id,
        time.astimezone(UTC),
        labels[0] if labels else "unlabelled",
        labels,
        max((_SEVERITY_OF.get(label, MEDIUM) for label in labels), key=SEVERITIES.index, default=MEDIUM),
        latitude,
        longitude,
        speeding.read("maxSpeedKilometersPerHour", SpeedKph, "speed") if speeding else None,
        event.read("maxAccelerationGForce", Gravities, "max_g"),
        _driver_id(driver) if driver else None,
        _film(event),
        event.text("eventState", _TEXT) or event.text("coachingState", _TEXT),
        _rest(event, speeding),
    )


def snake_case(label: str) -> str:
    """Return a label such as `HarshTurn`, `harshTurn` or `Harsh Turn` as `harsh_turn`."""
    return _WORD.sub("_", label.strip()).lower()


def _time(event: Members, limits: Limits) -> datetime | None:
    key = "startMs" if event.has("startMs") else "time"
    at: datetime | int | None = event.read(key, Instant | int, "time", required=True)
    if isinstance(at, int):  # as the name of the field would have it
        at = datetime.fromtimestamp(at / 1000, UTC) if 0 < at < 1e14 else limits.earliest
    doubt = limits.doubt(at) if at is not None else None
    if doubt:
        event.refuse(doubt, key)
        return None
    return at


def _labels(event: Members) -> tuple[str, ...]:
    names = (label.text("label", _TEXT) for label in event.each("behaviorLabels") if label)
    return tuple(dict.fromkeys(snake_case(name) for name in names if name))[:_LABELS]


def _position(event: Members) -> tuple[float | None, float | None]:
    location = event.within("location")
    if location is None:
        return None, None
    latitude = location.read("latitude", Latitude, "latitude", required=True)
    longitude = location.read("longitude", Longitude, "longitude", required=True)
    return (None, None) if latitude is None or longitude is None else (latitude, longitude)


def _driver_id(driver: Members) -> str | None:
    """Return who drove, None where nobody is assigned, for which some answers have a zero."""
    driver_id = driver.text("id", _DEVICE_ID)
    return None if driver_id == "0" else driver_id


def _film(event: Members) -> str | None:
    """Return the address of the film that looks ahead, or else of any."""
    films = {media.text("input", _TEXT): media.text("url", _URL + 1) for media in event.each("media") if media}
    found = films.get("dashcamRoadFacing") or next((url for url in films.values() if url), None)
    url = found or event.text("downloadForwardVideoUrl", _URL + 1)
    if url is None or (url.startswith("https://") and len(url) <= _URL):
        return url
    event.refuse("video_url_unbelievable", "media" if found else "downloadForwardVideoUrl")
    return None


def _rest(event: Members, speeding: Members | None) -> str | None:
    """Return what else was said, as JSON text."""
    rest: dict[str, Any] = {
        "ended_at": event.text("endMs", _TEXT),
        "updated_at": event.text("updatedAtTime", _TEXT),
        "speed_limit_kph": speeding.read("postedSpeedLimitKilometersPerHour", SpeedKph) if speeding else None,
        "context": [name for each in event.each("contextLabels") if each and (name := each.text("name", _TEXT))],
    }
    rest["context"] = rest["context"][:_LABELS]
    said = {key: value for key, value in rest.items() if value}
    return msgspec.json.encode(said).decode() if said else None
