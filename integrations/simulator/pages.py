"""Pages of the simulated Samsara: what a cursor stands for, and its answer as JSON text.

Nothing is kept for a point or a reader: a cursor names an instant and a block of vehicles, and the page
follows from it. Rendered pages are remembered up to a bound, because a benchmark asks for the same ones
again.
"""

import base64
import binascii
import json
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from integrations.simulator.fleet import RHYTHM, Account, rfc3339
from integrations.simulator.samsara_faults import fault_record
from integrations.simulator.tracks import REMEMBERED, Motion, Track, motion_at, track_of

BLOCK = 512
_MPH_PER_MPS = 3600 / 1609.344
_SINGULAR = {"fuelPercents": "fuelPercent", "engineStates": "engineState"}


class BadCursor(ValueError):  # noqa: N818
    """No cursor of ours, or one of other types or another account."""


class Cursor(NamedTuple):
    """A place in an account's stream of some types.

    `kind` is `known` for the last known values as of `at_ms`, `feed` for the window that begins at `at_ms`. A
    snapshot's and a list's cursors are `snapshot` and `vehicles`.
    """

    kind: str
    at_ms: int
    block: int

    def encode(self, account: Account, types: str) -> str:
        """Return it as opaque text, bound to an account and its types."""
        text = json.dumps([_bond(account, types), *self], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, account: Account, types: str, kinds: tuple[str, ...]) -> "Cursor":
        """Read one back. Raises: BadCursor."""
        try:
            bond, kind, at_ms, block = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (ValueError, TypeError, binascii.Error):
            raise BadCursor from None
        if bond != _bond(account, types) or kind not in kinds:
            raise BadCursor
        return cls(kind, int(at_ms), int(block))


class Slice(NamedTuple):
    """What a page says, without the braces around it, as of when, and where it goes on."""

    data: bytes
    cursor: str
    has_next: bool
    at_ms: int = 0


class Pages:
    """Answers of all accounts, remembered up to `memory_bytes`."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._used_bytes = 0
        self._rendered: OrderedDict[tuple[str, str, Cursor], bytes] = OrderedDict()

    def vehicles(self, account: Account, after: str | None, limit: int) -> Slice:
        """Return a page of the list of vehicles. The block of its cursor is the index of the next vehicle."""
        first = Cursor.decode(after, account, "", ("vehicles",)).block if after else 0
        last = min(first + limit, account.vehicles)
        data = ",".join(_listed(account, index) for index in range(first, last)).encode()
        has_next = last < account.vehicles
        cursor = Cursor("vehicles", 0, last).encode(account, "") if has_next else ""
        return Slice(data, cursor, has_next)

    def snapshot(self, account: Account, types: str, after: str | None, now_ms: int) -> Slice:
        """Return a page of the last known values."""
        here = Cursor("snapshot", account.horizon_ms(now_ms), 0)
        if after:
            here = Cursor.decode(after, account, types, ("snapshot",))
        has_next = (here.block + 1) * BLOCK < account.vehicles
        there = here._replace(block=here.block + 1).encode(account, types) if has_next else ""
        return Slice(self._page(account, types, here), there, has_next, here.at_ms)

    def feed(self, account: Account, types: str, after: str | None, now_ms: int) -> Slice:
        """Return a page of the feed: first the last known values, then one window after the other.

        A window that is not over is an empty page whose cursor stays where it is.
        """
        here = Cursor("known", account.first_ms(now_ms), 0)
        if after:
            here = Cursor.decode(after, account, types, ("known", "feed"))
        horizon_ms = account.horizon_ms(now_ms)
        if here.kind == "feed" and here.at_ms + account.window_ms > horizon_ms:
            return Slice(b"", here.encode(account, types), False)
        there = following(account, here)
        has_next = there.block > 0 or there.at_ms + account.window_ms <= horizon_ms
        return Slice(self._page(account, types, here), there.encode(account, types), has_next, here.at_ms)

    def prerender(self, account: Account, types: str, now_ms: int) -> None:
        """Render all pages of a feed up to now, or up to the memory bound."""
        here = Cursor("known", account.first_ms(now_ms), 0)
        horizon_ms = account.horizon_ms(now_ms)
        while here.kind == "known" or here.at_ms + account.window_ms <= horizon_ms:
            if self._used_bytes >= self._memory_bytes:
                return
            self._page(account, types, here)
            here = following(account, here)

    def _page(self, account: Account, types: str, here: Cursor) -> bytes:
        key = (account.token, types, here)
        page = self._rendered.get(key)
        if page is None:
            page = self._rendered[key] = render(account, types, here).encode()
            self._used_bytes += len(page)
        self._rendered.move_to_end(key)
        while self._used_bytes > self._memory_bytes and len(self._rendered) > 1:
            self._used_bytes -= len(self._rendered.popitem(last=False)[1])
        return page


def following(account: Account, here: Cursor) -> Cursor:
    """Return the place in a feed that comes after a page."""
    if (here.block + 1) * BLOCK < account.vehicles:
        return here._replace(block=here.block + 1)
    return Cursor("feed", here.at_ms if here.kind == "known" else here.at_ms + account.window_ms, 0)


def render(account: Account, types: str, here: Cursor) -> str:
    """Return the vehicles of a page as JSON text, separated by commas."""
    first = here.block * BLOCK
    stats = [stat for stat in types.split(",") if stat in RHYTHM]
    vehicles = (_vehicle(account, index, stats, here) for index in range(first, min(first + BLOCK, account.vehicles)))
    return ",".join(vehicle for vehicle in vehicles if vehicle)


def record(track: Track, stat: str, at_ms: int) -> str:
    """Return what a vehicle says of one stat at one instant."""
    motion = motion_at(track, at_ms / 1000)
    at = rfc3339(at_ms)
    if stat == "gps":
        return (
            f'{{"time":"{at}","latitude":{motion.latitude:.7f},"longitude":{motion.longitude:.7f},'
            f'"headingDegrees":{motion.heading_deg:.1f},'
            f'"speedMilesPerHour":{motion.speed_mps * _MPH_PER_MPS:.2f},'
            f'"isEcuSpeed":false,"reverseGeo":{{"formattedLocation":"{track.city}"}}}}'
        )
    return f'{{"time":"{at}","value":{_value(stat, motion)}}}'


def _record(account: Account, index: int, stat: str, at_ms: int) -> str:
    if stat == "faultCodes":
        return fault_record(account, index, at_ms)
    return record(track_of(account.seed, index), stat, at_ms)


def _value(stat: str, motion: Motion) -> str:
    if stat == "obdOdometerMeters":
        return str(int(motion.odometer_m))
    if stat == "obdEngineSeconds":
        return str(int(motion.engine_s))
    if stat == "fuelPercents":
        return str(round(motion.fill_percent))
    if stat == "evStateOfChargeMilliPercent":
        return str(round(motion.fill_percent * 1000))
    if stat == "evChargingStatus":
        return "2" if motion.engine_state == "Off" else "1"
    return f'"{motion.engine_state}"'


def _vehicle(account: Account, index: int, stats: Iterable[str], here: Cursor) -> str:
    members = []
    for stat in stats:
        if here.kind == "feed":
            instants = account.instants(index, stat, here.at_ms, here.at_ms + account.window_ms)
            records = ",".join(_record(account, index, stat, at_ms) for at_ms in instants)
            members += [f'"{stat}":[{records}]'] if records else []
        elif account.has_stat(index, stat):
            latest = _record(account, index, stat, account.last_instant(index, stat, here.at_ms))
            is_single = here.kind == "snapshot"
            members.append(f'"{_SINGULAR.get(stat, stat)}":{latest}' if is_single else f'"{stat}":[{latest}]')
    if not members:
        return ""
    return f"{_head(account, index)},{','.join(members)}}}"


@lru_cache(maxsize=REMEMBERED)
def _head(account: Account, index: int) -> str:
    identity = account.identity(index)
    external = f'"externalIds":{{"samsara.vin":"{identity.vin}"}}'
    return f'{{"id":"{identity.device_id}","name":"{identity.name}",{external}'


def _listed(account: Account, index: int) -> str:
    identity = account.identity(index)
    return json.dumps(
        {
            "id": identity.device_id,
            "name": identity.name,
            "vin": identity.vin,
            "licensePlate": identity.license_plate,
            "make": identity.make,
            "model": identity.model,
            "year": str(identity.year),
            "createdAtTime": "2025-01-01T00:00:00Z",
            "updatedAtTime": "2025-01-01T00:00:00Z",
        }
    )


def _bond(account: Account, types: str) -> int:
    return zlib.crc32(f"{account.seed} {account.vehicles} {types}".encode())
