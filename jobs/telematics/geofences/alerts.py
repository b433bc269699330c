"""Alerts of crossings: an entry's is open while the vehicle is inside, an exit's until it comes back."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import structs
from sqlalchemy import Connection

from db.queries import geofences as queries
from db.queries.geofences import Event, FenceAlert
from jobs.telematics.geofences.index import FenceIndex

ANNOUNCED_FOR = timedelta(minutes=15)
"""How old a crossing may be to be worth an alert: late fixes page nobody."""

_OPPOSITE = {"entry": "exit", "exit": "entry"}


def announce(connection: Connection, index: FenceIndex, events: Sequence[Event], now: datetime) -> None:
    """Resolve what new events end, and open what their fences ask for."""
    resolved: dict[tuple[str, str], datetime] = {}
    written: list[FenceAlert] = []
    open_here: dict[tuple[str, str], int] = {}
    for event in sorted(events, key=lambda event: event.time):
        if event.kind not in _OPPOSITE:
            continue
        subject = _subject(event.vehicle_id, event.geofence_id)
        alert = FenceAlert(f"geofence_{event.kind}", subject, event.vehicle_id, event.geofence_id, event.time, None)
        ended = (f"geofence_{_OPPOSITE[event.kind]}", subject)
        resolved.setdefault(ended, event.time)
        if (number := open_here.pop(ended, None)) is not None:
            written[number] = structs.replace(written[number], resolved_at=event.time)
        fence = index.fences[index.places[event.geofence_id]]
        wanted = fence.alert_on_entry if event.kind == "entry" else fence.alert_on_exit
        if wanted and event.time >= now - ANNOUNCED_FOR:
            open_here[alert.kind, subject] = len(written)
            written.append(alert)
    if resolved:
        queries.resolve_alerts(connection, [(kind, subject, at) for (kind, subject), at in resolved.items()])
    if written:
        queries.add_alerts(connection, written)


def withdraw(connection: Connection, gone: Sequence[tuple[UUID, UUID]], now: datetime) -> None:
    """Resolve what is open of pairs of vehicle and fence whose fence is no longer evaluated."""
    subjects = [_subject(*pair) for pair in gone]
    queries.resolve_alerts(connection, [(f"geofence_{kind}", each, now) for each in subjects for kind in _OPPOSITE])


def _subject(vehicle_id: UUID, geofence_id: UUID) -> str:
    return f"geofence:{geofence_id}:vehicle:{vehicle_id}"
