"""The contract that every telematics provider fulfils, and the records it yields.

Everything behind this contract is in our units and in UTC: km/h, km, hours, percent (0 to 100), degrees
(WGS 84). A provider yields *readings*; what we store of them are *points*.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec


class Device(msgspec.Struct, frozen=True, gc=False):
    """A vehicle as the provider lists it. Only the id is certain."""

    device_id: str
    name: str | None = None
    vin: str | None = None
    license_plate: str | None = None
    make: str | None = None
    model: str | None = None
    year: int | None = None


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a device reported for one instant; None means the provider did not say.

    Several stats of one device at one instant are one reading. `latitude` and `longitude` come together or
    not at all. `engine_state` is one of `off`, `on`, `idle`. `raw` is JSON text of what the provider said
    beyond these columns.
    """

    device_id: str
    time: datetime
    latitude: float | None = None
    longitude: float | None = None
    heading_deg: float | None = None
    speed_kph: float | None = None
    odometer_km: float | None = None
    engine_hours: float | None = None
    fuel_percent: float | None = None
    battery_percent: float | None = None
    engine_state: str | None = None
    raw: str | None = None


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """One unreadable record, kept aside with its reason while the rest of its page goes on.

    `reason` is a constant word (`latitude_out_of_range`, `time_missing`, `time_in_future`, `wrong_type` ...),
    `field` the path in the provider's record, `payload` the provider's own JSON text, cut to 4 KiB.
    """

    reason: str
    field: str
    payload: str
    device_id: str | None = None


class EvReading(msgspec.Struct, frozen=True, gc=False):
    """What an electric vehicle reported of its battery beyond the state of charge in `Reading`.

    `charging_state` is one of `charging`, `charged`, `not_charging`. `raw` as in `Reading`.
    """

    device_id: str
    time: datetime
    battery_percent: float | None = None
    charging_state: str | None = None
    range_km: float | None = None
    energy_kwh: float | None = None
    raw: str | None = None


class FaultCode(msgspec.Struct, frozen=True, gc=False):
    """One diagnostic trouble code that a vehicle reports as present.

    `protocol` is `j1939`, `obdii` or `other`; `code` is what identifies it there: `SPN 100 FMI 1`, `P0301`. `source` is
    the control unit that reports it, as the provider names it. `severity` is one of `low`, `medium`, `high`,
    `critical`, from the lamp that the vehicle lights for it. `occurrences` is the vehicle's own count.
    """

    protocol: str
    code: str
    severity: str
    spn: int | None = None
    fmi: int | None = None
    source: str = ""
    description: str | None = None
    occurrences: int | None = None


class FaultReport(msgspec.Struct, frozen=True, gc=False):
    """The codes of one vehicle at one instant. A complete report says by its silence that every other code is gone.

    `scope` narrows that: the report speaks for the codes of this protocol only; None speaks for all.
    """

    device_id: str
    time: datetime
    codes: tuple[FaultCode, ...]
    is_complete: bool = True
    scope: str | None = None


class SafetyEvent(msgspec.Struct, frozen=True, gc=False):
    """Something that a camera or a sensor saw: harsh braking, a collision. Known by the provider's id, and updated.

    `kind` is the provider's first label in snake case (`harsh_braking`); `labels` are all of them. `severity` as in
    `FaultCode`. `max_g` is the largest acceleration in g. `driver_id` is the provider's. `video_url` expires soon.
    """

    event_id: str
    device_id: str
    time: datetime
    kind: str
    labels: tuple[str, ...] = ()
    severity: str = "medium"
    latitude: float | None = None
    longitude: float | None = None
    speed_kph: float | None = None
    max_g: float | None = None
    driver_id: str | None = None
    video_url: str | None = None
    state: str | None = None
    raw: str | None = None


class Page(msgspec.Struct, frozen=True):
    """One answer of a feed.

    `cursor` is where to go on after this page has been stored; None where the feed has no more pages and no
    cursor. `has_more` says whether another page can be had at once. Records are oldest first per device.
    """

    readings: Sequence[Reading]
    rejected: Sequence[Rejected]
    cursor: str | None
    has_more: bool
    ev_readings: Sequence[EvReading] = ()
    fault_reports: Sequence[FaultReport] = ()
    safety_events: Sequence[SafetyEvent] = ()

    @property
    def size(self) -> int:
        """How many records the page brings, rejected ones aside."""
        return len(self.readings) + len(self.ev_readings) + len(self.fault_reports) + len(self.safety_events)


class DevicePage(msgspec.Struct, frozen=True):
    """One page of the provider's list of vehicles."""

    devices: Sequence[Device]
    rejected: Sequence[Rejected]
    cursor: str | None
    has_more: bool


class TelematicsProvider(Protocol):
    """One account at one provider. Reads only; knows neither our vehicles nor our database.

    `feeds` are read in their order; those in `snapshots` begin with a snapshot at first sight. A feed may be a poll in
    disguise: then its cursor says what was asked when, and a page is empty until it is time to ask again.

    Every method makes one HTTP request (with short retries) and may raise `TransientError`, `RateLimited`,
    `PermanentError`, `CursorRefused` or `CredentialsRejected`.
    """

    name: str
    feeds: tuple[str, ...]
    snapshots: tuple[str, ...]

    def list_devices(self, cursor: str | None) -> DevicePage:
        """Return one page of the account's vehicles; None starts at the first."""
        ...

    def read_snapshot(self, feed: str, cursor: str | None) -> Page:
        """Return one page of the latest values of the stats of `feed`; `cursor` pages within them."""
        ...

    def read_feed(self, feed: str, cursor: str | None) -> Page:
        """Return what came since `cursor`; None asks for the last known values and the first cursor."""
        ...

    def close(self) -> None:
        """Close the HTTP connections."""
        ...
