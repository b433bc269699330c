"""What a connection may say of how its Traccar is read."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from integrations.errors import PermanentError
from integrations.traccar.wire import RecordId

Hours = Annotated[float, msgspec.Meta(gt=0, le=720)]


class Options(msgspec.Struct, frozen=True):
    """The settings of a connection that are Traccar's; others are not looked at.

    `group_ids` limits to the devices of these groups and of the groups within them. `backfill_h` is how far back a
    device is read at first sight, `late_h` how long after newer positions an older one may come and still be read.
    `odometer` is `vehicle` for what the vehicle's own computer counts, `distance` for what Traccar adds up from fix to
    fix: they count from different starts, and a series must not jump between them. `battery_level` is `vehicle` where
    trackers report that of the vehicle and not their own. `max_positions` is the server's `report.maxPositions`.
    """

    group_ids: tuple[RecordId, ...] = ()
    backfill_h: Hours = 24
    late_h: Hours = 1
    odometer: Literal["vehicle", "distance"] = "vehicle"
    battery_level: Literal["tracker", "vehicle"] = "tracker"
    max_positions: Annotated[int, msgspec.Meta(ge=100)] = 50_000


def read_options(settings: Mapping[str, object]) -> Options:
    """Return Traccar's part of a connection's settings.

    Raises:
        PermanentError: one of them cannot be.
    """
    try:
        return msgspec.convert(dict(settings), Options)
    except msgspec.ValidationError as error:
        raise PermanentError(f"traccar: the connection's settings: {error}") from None
