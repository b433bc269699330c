"""The alarms of a position that tell of danger, as safety events.

Alarms: github.com/traccar/traccar at 9e5c458, model/Position.java, read 2026-11. Those about power, doors, fences or
the tracker itself are no safety events and not read.
"""

import re
from datetime import datetime

from integrations.telematics import SafetyEvent
from integrations.traccar.wire import KPH_PER_KNOT, Position

_SEVERITY = {
    "accident": "critical",
    "sos": "critical",
    "fallDown": "high",
    "fatigueDriving": "high",
    "overspeed": "medium",
    "hardBraking": "medium",
    "hardAcceleration": "medium",
    "hardCornering": "medium",
    "laneChange": "low",
}
_INNER_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


def read_alarms(position: Position, device_id: str, at: datetime) -> list[SafetyEvent]:
    """Return an event for each alarm of a position, known by the position's id and the alarm."""
    labels = dict.fromkeys(word.strip() for word in (position.attributes.alarm or "").split(","))
    return [
        SafetyEvent(
            f"{position.id}:{label}",
            device_id,
            at,
            _INNER_CAPITAL.sub("_", label).lower(),
            (label,),
            _SEVERITY[label],
            position.latitude if position.valid else None,
            position.longitude if position.valid else None,
            None if position.speed is None else position.speed * KPH_PER_KNOT,
        )
        for label in labels
        if label in _SEVERITY
    ]
