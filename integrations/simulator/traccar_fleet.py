"""What the simulated Traccar knows of an account: its devices and groups, and positions as pure functions of time.

Shapes: github.com/traccar/traccar at 9e5c458, model/*.java and openapi.yaml, read 2026-11.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from integrations.simulator.fleet import Account, from_ms, to_ms
from integrations.simulator.tracks import motion_at, track_of, unit

_KNOTS_PER_MPS = 3600 / 1852
_HISTORY_MS = 3_600_000
_ALARM_SHARE = 0.004
_ALARMS = ("hardBraking", "hardAcceleration", "hardCornering", "overspeed", "lowBattery")
_CODES_EVERY = 5
_CODES = "P0301 U0100"
_FIRST_MS = 1_577_836_800_000  # 2020-01-01, from which positions are counted


class Backlog(NamedTuple):
    """What a tracker without a network keeps: positions after `after`, up to `until`, that arrive at `arrives_at`."""

    vehicle: int
    after: datetime
    until: datetime
    arrives_at: datetime


class Garage(NamedTuple):
    """A tracker that sees no sky: so many messages, one a minute, that repeat the fix of `at`."""

    vehicle: int
    at: datetime
    messages: int


class TraccarFleet:
    """One account at Traccar: the vehicles of an `Account`, a point an interval.

    History begins at the account's `start`, or an hour before `opened_ms`. A position is there once its time has come,
    or once its backlog has arrived.
    """

    def __init__(
        self,
        account: Account,
        opened_ms: int,
        backlogs: tuple[Backlog, ...] = (),
        garages: tuple[Garage, ...] = (),
    ) -> None:
        self.account = account
        self.backlogs = backlogs
        self.garages = garages
        self._first_ms = opened_ms - _HISTORY_MS if account.start is None else to_ms(account.start)

    def ids(self) -> range:
        """Return Traccar's ids of the devices."""
        first = int(self.account.device_id(0))
        return range(first, first + self.account.vehicles)

    def index_of(self, device: int) -> int:
        """Return which vehicle an id stands for."""
        return device - self.ids().start

    def groups(self) -> dict[int, tuple[str, int]]:
        """Return name and parent by group: two groups within one, and one by itself."""
        root = self.account.seed * 100 + 1
        return {
            root: ("Fleet", 0),
            root + 1: ("North", root),
            root + 2: ("South", root),
            root + 3: ("Yard", 0),
        }

    def group_of(self, index: int) -> int:
        """Return the group of a vehicle, 0 for none; no vehicle is in the first group itself."""
        return (0, *tuple(self.groups())[1:])[index % 4]

    def instants(self, index: int, after_ms: int, until_ms: int, now_ms: int) -> Iterator[int]:
        """Yield when a vehicle was at a place that is known by `now_ms`: after `after_ms`, up to `until_ms`."""
        end_ms = now_ms if self.account.end is None else min(now_ms, to_ms(self.account.end))
        kept = [
            (to_ms(backlog.after), to_ms(backlog.until))
            for backlog in self.backlogs
            if backlog.vehicle == index and to_ms(backlog.arrives_at) > now_ms
        ]
        for at_ms in self.account.instants(index, "gps", max(after_ms, self._first_ms), min(until_ms, end_ms)):
            if not any(after < at_ms <= until for after, until in kept):
                yield at_ms

    def latest(self, index: int, now_ms: int) -> int | None:
        """Return when a vehicle was last at a place that is known."""
        period = self.account.interval_ms * 12
        back_ms = now_ms if self.account.end is None else min(now_ms, to_ms(self.account.end))
        recent = max(self.instants(index, back_ms - period, back_ms, now_ms), default=None)
        return recent or max(self.instants(index, self._first_ms, now_ms, now_ms), default=None)

    def heard(self, index: int, now_ms: int) -> int | None:
        """Return when Traccar last heard of a vehicle: of its newest position, or of a backlog."""
        arrivals = (to_ms(backlog.arrives_at) for backlog in self.backlogs if backlog.vehicle == index)
        latest = self.latest(index, now_ms)
        arrived = [at_ms for at_ms in arrivals if at_ms <= now_ms]
        return max(chain(arrived, () if latest is None else (latest,)), default=None)

    def expected(self, until: datetime, *, since: datetime | None = None) -> Iterator[tuple[str, datetime]]:
        """Yield device and instant of every position after `since` that is known by `until`, each once."""
        after_ms = self._first_ms if since is None else to_ms(since)
        for index in range(self.account.vehicles):
            device_id = self.account.device_id(index)
            for at_ms in self.instants(index, after_ms, to_ms(until), to_ms(until)):
                yield device_id, from_ms(at_ms)

    def device(self, index: int, now_ms: int, *, with_attributes: bool) -> dict[str, Any]:
        """Return a device as Traccar lists it."""
        identity = self.account.identity(index)
        latest, heard = self.latest(index, now_ms), self.heard(index, now_ms)
        papers = {"vin": identity.vin, "licensePlate": identity.license_plate, "make": identity.make}
        return {
            "id": int(identity.device_id),
            "attributes": papers | {"year": identity.year} if with_attributes else {},
            "groupId": self.group_of(index),
            "calendarId": 0,
            "name": identity.name,
            "uniqueId": f"{35_000_000_000_000 + self.account.seed * 1_000_000 + index}",
            "status": "online" if heard is not None and now_ms - heard < 600_000 else "offline",
            "lastUpdate": None if heard is None else iso(heard),
            "positionId": 0 if latest is None else position_id(index, latest),
            "phone": None,
            "model": identity.model,
            "contact": None,
            "category": "truck",
            "disabled": False,
            "expirationTime": None,
        }

    def position(self, index: int, at_ms: int) -> str:
        """Return the position of an instant as JSON text."""
        motion = motion_at(track_of(self.account.seed, index), at_ms / 1000)
        alarm, codes = self.alarm(index, at_ms), self.codes(index, at_ms)
        seldom = f',"fuelLevel":{motion.fill_percent:.1f}' if not self.account.is_electric(index) else ""
        seldom += "" if alarm is None else f',"alarm":"{alarm}"'
        seldom += "" if codes is None else f',"dtcs":"{codes}"'
        at = iso(at_ms)
        return (
            f'{{"id":{position_id(index, at_ms)},"attributes":{{'
            f'"ignition":{_json(motion.engine_state != "Off")},"motion":{_json(motion.engine_state == "On")},'
            f'"sat":11,"batteryLevel":97,"odometer":{int(motion.odometer_m)},"distance":0.0,'
            f'"totalDistance":{motion.odometer_m - 1e6:.2f},"hours":{int(motion.engine_s * 1000)}{seldom}}},'
            f'"deviceId":{self.account.device_id(index)},"protocol":"teltonika","serverTime":"{at}",'
            f'"deviceTime":"{at}","fixTime":"{at}","valid":true,'
            f'"latitude":{motion.latitude:.7f},"longitude":{motion.longitude:.7f},"altitude":34.0,'
            f'"speed":{motion.speed_mps * _KNOTS_PER_MPS:.4f},"course":{motion.heading_deg:.1f},'
            '"address":null,"accuracy":0.0,"network":null,"geofenceIds":null}'
        )

    def repeated(self, index: int, since_ms: int, until_ms: int) -> Iterator[str]:
        """Yield the messages of a vehicle that repeat a fix of this time, as JSON text."""
        for garage in self.garages:
            at_ms = to_ms(garage.at)
            if garage.vehicle == index and since_ms <= at_ms <= until_ms:
                message = json.loads(self.position(index, at_ms))
                for said_ms in range(at_ms + 1, at_ms + 1 + garage.messages * 60_000, 60_000):
                    yield json.dumps(message | {"id": position_id(index, said_ms), "deviceTime": iso(said_ms)})

    def alarm(self, index: int, at_ms: int) -> str | None:
        """Return the alarm of a position; few have one."""
        if unit(self.account.seed, index, at_ms) >= _ALARM_SHARE:
            return None
        return _ALARMS[int(unit(self.account.seed, index, at_ms + 1) * len(_ALARMS))]

    def codes(self, index: int, at_ms: int) -> str | None:
        """Return the fault codes that a position reports: every fifth vehicle asks its engine now and then, and finds
        two in every other hour.
        """
        if index % _CODES_EVERY or (at_ms // self.account.interval_ms) % 12:
            return None
        return _CODES if at_ms // _HISTORY_MS % 2 else ""


def position_id(index: int, at_ms: int) -> int:
    """Return the id of a position; no other of the account has it."""
    return (at_ms - _FIRST_MS) * 10_000 + index % 10_000 + 1


@lru_cache(maxsize=8192)
def iso(at_ms: int) -> str:
    """Return an instant as Jackson writes it."""
    return from_ms(at_ms).isoformat(timespec="milliseconds")


def _json(flag: bool) -> str:
    return "true" if flag else "false"
