"""Samsara's JSON as typed structs, with the bounds of what is believable.

Field names, units and shapes: developers.samsara.com/reference/getvehiclestatsfeed, read 2026-11. The feed
answers with arrays under plural keys, the snapshot with single objects and three keys in the singular.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

_FASTEST_MPH = 500 / 1.609344
_LONGEST_M = 1e10
_LONGEST_S = 3.6e9

Text = str | None
DeviceId = Annotated[str, Meta(min_length=1, max_length=64)]
Instant = Annotated[datetime, Meta(tz=True)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Heading = Annotated[float, Meta(ge=0, le=360)]
SpeedMph = Annotated[float, Meta(ge=0, le=_FASTEST_MPH)]
Meters = Annotated[float, Meta(ge=0, le=_LONGEST_M)]
Seconds = Annotated[float, Meta(ge=0, le=_LONGEST_S)]
Percent = Annotated[float, Meta(ge=0, le=100)]
MilliPercent = Annotated[float, Meta(ge=0, le=100_000)]


class Gps(msgspec.Struct, gc=False, rename="camel"):
    """Speed is in miles per hour."""

    time: Instant
    latitude: Latitude
    longitude: Longitude
    heading_degrees: Heading | None = None
    speed_miles_per_hour: SpeedMph | None = None


class MetersAt(msgspec.Struct, gc=False):
    time: Instant
    value: Meters


class SecondsAt(msgspec.Struct, gc=False):
    time: Instant
    value: Seconds


class PercentAt(msgspec.Struct, gc=False):
    time: Instant
    value: Percent


class MilliPercentAt(msgspec.Struct, gc=False):
    time: Instant
    value: MilliPercent


class EngineStateAt(msgspec.Struct, gc=False):
    time: Instant
    value: Literal["Off", "On", "Idle"]


class ChargingStatusAt(msgspec.Struct, gc=False):
    """0 is unknown, 1 not charging, 2 charging; 3 and 4 are allowed by the specification and described nowhere."""

    time: Instant
    value: Literal[0, 1, 2]


class FeedVehicle(msgspec.Struct, gc=False, rename="camel"):
    """One vehicle of a feed page: each stat an array, oldest first as a rule but not for certain."""

    id: DeviceId
    gps: tuple[Gps, ...] = ()
    obd_odometer_meters: tuple[MetersAt, ...] = ()
    gps_odometer_meters: tuple[MetersAt, ...] = ()
    obd_engine_seconds: tuple[SecondsAt, ...] = ()
    fuel_percents: tuple[PercentAt, ...] = ()
    engine_states: tuple[EngineStateAt, ...] = ()
    ev_state_of_charge_milli_percent: tuple[MilliPercentAt, ...] = ()
    ev_charging_status: tuple[ChargingStatusAt, ...] = ()
    fault_codes: tuple[msgspec.Raw, ...] = ()


_SNAPSHOT_KEYS = {
    "obd_odometer_meters": "obdOdometerMeters",
    "gps_odometer_meters": "gpsOdometerMeters",
    "obd_engine_seconds": "obdEngineSeconds",
    "fuel_percents": "fuelPercent",
    "engine_states": "engineState",
    "ev_state_of_charge_milli_percent": "evStateOfChargeMilliPercent",
    "ev_charging_status": "evChargingStatus",
    "fault_codes": "faultCodes",
}


class SnapshotVehicle(msgspec.Struct, gc=False, rename=_SNAPSHOT_KEYS):
    """One vehicle of a snapshot page: each stat one object, some keys in the singular."""

    id: DeviceId
    gps: Gps | None = None
    obd_odometer_meters: MetersAt | None = None
    gps_odometer_meters: MetersAt | None = None
    obd_engine_seconds: SecondsAt | None = None
    fuel_percents: PercentAt | None = None
    engine_states: EngineStateAt | None = None
    ev_state_of_charge_milli_percent: MilliPercentAt | None = None
    ev_charging_status: ChargingStatusAt | None = None
    fault_codes: msgspec.Raw = msgspec.Raw(b"null")

    def as_feed(self) -> FeedVehicle:
        """Return the same in the shape of the feed."""
        return FeedVehicle(
            self.id,
            (self.gps,) if self.gps else (),
            (self.obd_odometer_meters,) if self.obd_odometer_meters else (),
            (self.gps_odometer_meters,) if self.gps_odometer_meters else (),
            (self.obd_engine_seconds,) if self.obd_engine_seconds else (),
            (self.fuel_percents,) if self.fuel_percents else (),
            (self.engine_states,) if self.engine_states else (),
            (self.ev_state_of_charge_milli_percent,) if self.ev_state_of_charge_milli_percent else (),
            (self.ev_charging_status,) if self.ev_charging_status else (),
            (self.fault_codes,) if bytes(self.fault_codes) != b"null" else (),
        )


class Pagination(msgspec.Struct, rename="camel"):
    has_next_page: bool
    end_cursor: str = ""


class FeedPage(msgspec.Struct):
    data: list[FeedVehicle]
    pagination: Pagination

    def vehicles(self) -> list[FeedVehicle]:
        """Return the vehicles as they are."""
        return self.data


class SnapshotPage(msgspec.Struct):
    data: list[SnapshotVehicle]
    pagination: Pagination

    def vehicles(self) -> list[FeedVehicle]:
        """Return the vehicles in the shape of the feed."""
        return [vehicle.as_feed() for vehicle in self.data]


class Envelope(msgspec.Struct):
    """A page of which nothing is believed but its outline."""

    data: list[msgspec.Raw]
    pagination: Pagination


class Vehicle(msgspec.Struct, rename="camel"):
    """One entry of /fleet/vehicles; everything but the id may be missing, and `year` is text."""

    id: DeviceId
    name: Text = None
    vin: Text = None
    license_plate: Text = None
    make: Text = None
    model: Text = None
    year: Text = None
