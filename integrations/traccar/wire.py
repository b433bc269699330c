"""Traccar's JSON as typed structs, with the bounds of what is believable.

Field names, units and shapes: github.com/traccar/traccar at 9e5c458, model/Position.java, Device.java and Group.java,
openapi.yaml, read 2026-11. Speed is in knots, distances are in metres, `hours` is in milliseconds.
"""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

KPH_PER_KNOT = 1.852
_FASTEST_KNOTS = 500 / KPH_PER_KNOT
_LONGEST_M = 1e10
_LONGEST_MS = 3.6e12

RecordId = Annotated[int, Meta(ge=1, le=2**53)]
Instant = Annotated[datetime, Meta(tz=True)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Course = Annotated[float, Meta(ge=0, le=360)]
Knots = Annotated[float, Meta(ge=0, le=_FASTEST_KNOTS)]
Meters = Annotated[float, Meta(ge=0, le=_LONGEST_M)]
Milliseconds = Annotated[float, Meta(ge=0, le=_LONGEST_MS)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Words = Annotated[str, Meta(max_length=1024)]


class Attributes(msgspec.Struct, gc=False, rename="camel"):
    """What we read of the attributes of a position; which of them there are depends on the tracker.

    `odometer` and `obd_odometer` are the vehicle's, `total_distance` is what Traccar adds up from fix to fix. `motion`
    and `hours` are Traccar's own where the tracker reports none. Several alarms are separated by commas, codes by
    blanks. `battery_level` is the tracker's as a rule.
    """

    odometer: Meters | None = None
    obd_odometer: Meters | None = None
    total_distance: Meters | None = None
    hours: Milliseconds | None = None
    fuel_level: Percent | None = None
    battery_level: Percent | None = None
    ignition: bool | None = None
    motion: bool | None = None
    alarm: Words | None = None
    dtcs: Words | None = None


class Position(msgspec.Struct, gc=False, rename="camel"):
    """One message of a tracker.

    `fix_time` is when it knew where it was, `device_time` when it spoke. Where it did not know anew, Traccar repeats
    the place and the time of its last fix, and only `device_time` and the attributes are new.
    """

    id: RecordId
    device_id: RecordId
    fix_time: Instant
    latitude: Latitude
    longitude: Longitude
    valid: bool = True
    device_time: Instant | None = None
    speed: Knots | None = None
    course: Course | None = None
    attributes: Attributes = msgspec.field(default_factory=Attributes)


class Device(msgspec.Struct, gc=False, rename="camel"):
    """What planning needs of a device. `last_update` is when Traccar last heard of it, by Traccar's clock."""

    id: RecordId
    group_id: int = 0
    last_update: Instant | None = None


class Group(msgspec.Struct, gc=False, rename="camel"):
    """A group of devices; `group_id` is the group that it is in, 0 when in none."""

    id: RecordId
    group_id: int = 0
