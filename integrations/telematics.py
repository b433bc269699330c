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


class Page(msgspec.Struct, frozen=True):
    """One answer of a feed.

    `cursor` is where to go on after this page has been stored; None where the feed has no more pages and no
    cursor. `has_more` says whether another page can be had at once. Readings are oldest first per device.
    """

    readings: Sequence[Reading]
    rejected: Sequence[Rejected]
    cursor: str | None
    has_more: bool


class DevicePage(msgspec.Struct, frozen=True):
    """One page of the provider's list of vehicles."""

    devices: Sequence[Device]
    rejected: Sequence[Rejected]
    cursor: str | None
    has_more: bool


class TelematicsProvider(Protocol):
    """One account at one provider. Reads only; knows neither our vehicles nor our database.

    Every method makes one HTTP request (with short retries) and may raise `TransientError`, `RateLimited`,
    `PermanentError`, `CursorRefused` or `CredentialsRejected`.
    """

    name: str
    feeds: tuple[str, ...]

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
