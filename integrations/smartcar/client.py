"""One Smartcar account: a poll, vehicle by vehicle, in the shape of a feed.

The cursor of the feed says when each vehicle may be asked again; a page is one request, and empty while it is nobody's
turn. One vehicle's failure moves that vehicle back in the queue and never stops the others.
"""

import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from urllib.parse import quote

import msgspec

from integrations.aside import rejected
from integrations.bounds import BROKEN
from integrations.errors import CredentialsRejected, PermanentError, TransientError
from integrations.http import Answer, HttpSession
from integrations.smartcar.batch import PATHS, take_batch
from integrations.smartcar.listing import PAGE_SIZE_V2, PAGE_SIZE_V3, Listed, read_connections, read_ids
from integrations.smartcar.oauth import utc_now
from integrations.smartcar.options import PollOptions
from integrations.smartcar.papers import Papers, of_batch, of_signal
from integrations.smartcar.places import ORIGINS, Places
from integrations.smartcar.refusals import VehicleRefused, Verdict, judge
from integrations.smartcar.schedule import MOST_VEHICLES, Schedule, next_month
from integrations.smartcar.signals import decode_answer, take_resources
from integrations.smartcar.values import Values
from integrations.telematics import Device, DevicePage, Page, Rejected

FEED = "vehicles"
_DAY_S = 86_400
_PAPERS_AT_ONCE = 20
"""How many vehicles are asked for their papers before it is the feed's turn."""
_FAILURES_IN_A_ROW = 3
"""So many vehicles that fail one after the other are not the vehicles' failures."""


class Smartcar:
    """Fulfils `TelematicsProvider` with one feed. `clock` says what time it is."""

    name = "smartcar"
    feeds: tuple[str, ...] = (FEED,)
    snapshots: tuple[str, ...] = ()

    def __init__(
        self,
        session: HttpSession,
        credentials: Mapping[str, str],
        base_url: str = ORIGINS[0],
        options: Mapping[str, object] | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if not credentials.get("access_token"):
            raise CredentialsRejected("the credential 'access_token' is missing")
        self._session = session
        self._token = credentials["access_token"]
        self._user_id = credentials.get("user_id")
        self._places = Places.of(base_url)
        self._options = PollOptions.of(options or {})
        self._clock = clock
        self._failures = 0
        self._papers_asked = 0

    def list_devices(self, cursor: str | None) -> DevicePage:
        """Return one page of the account's vehicles, or the papers of one of them.

        Papers are asked for once, because each asking counts as a request of the vehicle; and a few at a time, because
        the feed needs the application's requests too. The cursor says what is to be asked; where that is nothing, or
        enough was asked for now, a page is empty.
        """
        papers = Papers(cursor, self._clock(), self._options.list_every_s)
        if (number := papers.next_page) is not None:
            listed = self._list(number)
            papers.take_page(listed.devices, listed.next)
            return DevicePage([], listed.rejected, papers.write(), self._goes_on(papers))
        waiting = papers.next_waiting
        if waiting is None or not self._goes_on(papers):
            return DevicePage([], [], cursor, False)
        self._papers_asked += 1
        aside: list[Rejected] = []
        devices: list[Device] = []
        is_known = False
        try:
            devices.append(self._read_papers(waiting, aside))
            self._failures, is_known = 0, True
        except VehicleRefused as refused:
            self._failures = 0
            if refused.verdict is Verdict.NEXT_DAY:
                devices.append(waiting)  # it will not say more: listed as far as it is known
        except CredentialsRejected:
            raise
        except PermanentError as error:
            aside.append(rejected("vehicle_refused", "vin", self._failed(error), waiting.device_id))
            devices.append(waiting)
        except TransientError as error:
            aside.append(rejected("vehicle_unreadable", "vin", self._failed(error), waiting.device_id))
        papers.settle(waiting, is_known=is_known, is_refused=bool(devices))
        return DevicePage(devices, aside, papers.write(), self._goes_on(papers))

    def read_snapshot(self, feed: str, cursor: str | None) -> Page:
        """Return what the feed returns: it begins with the last known values itself."""
        return self.read_feed(feed, cursor)

    def read_feed(self, feed: str, cursor: str | None) -> Page:
        """Return what the vehicle says whose turn it is; None begins with the list of vehicles."""
        schedule, now = Schedule(cursor), self._clock()
        now_s = int(now.timestamp())
        schedule.begin_month(now)
        if schedule.page is not None or schedule.listed_s + self._list_every_s(schedule) <= now_s:
            return self._read_list(schedule, now_s)
        if schedule.going_on is not None and schedule.going_on[0] in schedule.due:
            asked, schedule.going_on = schedule.going_on, None
            return self._poll(schedule, *asked, now)
        vehicle_id = schedule.next_due(now_s)
        if vehicle_id is None:
            return Page([], [], cursor, False)
        return self._poll(schedule, vehicle_id, {}, now)

    def close(self) -> None:
        """Close the HTTP connections."""
        self._session.close()

    def _goes_on(self, papers: Papers) -> bool:
        """Say whether the listing goes on at once."""
        may_ask = papers.next_waiting is not None and self._papers_asked < _PAPERS_AT_ONCE
        return may_ask or papers.next_page is not None

    def _read_list(self, schedule: Schedule, now_s: int) -> Page:
        listed = self._list(schedule.page or 0)
        schedule.found += [device.device_id for device in listed.devices]
        schedule.page = listed.next
        if len(schedule.found) > MOST_VEHICLES:
            told = msgspec.json.encode({"vehicles": len(schedule.found)})
            listed.rejected.append(rejected("too_many_vehicles", "vehicles", told))
            schedule.found, schedule.page = schedule.found[:MOST_VEHICLES], None
        if schedule.page is None:
            schedule.take_list(now_s)
        has_more = schedule.page is not None or schedule.next_due(now_s) is not None
        return Page([], listed.rejected, schedule.write(), has_more)

    def _poll(self, schedule: Schedule, vehicle_id: str, page: Mapping[str, str], now: datetime) -> Page:
        values, now_s = Values(vehicle_id, now), int(now.timestamp())
        asked_s = max(now_s, schedule.due[vehicle_id]) if page else now_s
        due_s = asked_s + self._options.interval_s(self._calls(schedule, vehicle_id))
        try:
            if self._options.api == "v2":
                self._ask_batch(schedule, values)
            elif further := self._ask_signals(values, page):
                schedule.going_on = (vehicle_id, further)
            self._failures = 0
        except VehicleRefused as refused:
            self._failures = 0
            due_s = max(due_s, _until(refused, now))
            if refused.type not in ("VEHICLE_STATE", "COMPATIBILITY"):
                told = msgspec.json.encode({"type": refused.type[:64], "code": refused.code[:64]})
                values.refuse("vehicle_refused", "vehicle", told)
        except CredentialsRejected:
            raise
        except PermanentError as error:
            values.refuse("vehicle_refused", "vehicle", self._failed(error))
            due_s = max(due_s, now_s + _DAY_S)
        except TransientError as error:
            values.refuse("vehicle_unreadable", "vehicle", self._failed(error))
        schedule.due[vehicle_id] = due_s + zlib.crc32(vehicle_id.encode()) % (1 + self._options.poll_every_s // 10)
        has_more = schedule.going_on is not None or schedule.next_due(now_s) is not None
        return values.page(schedule.write(), has_more)

    def _list_every_s(self, schedule: Schedule) -> int:
        """Return after how long the list is read again: one without any vehicle is not believed for long."""
        every_s = self._options.list_every_s
        return min(every_s, self._options.poll_every_s) if schedule.is_empty else every_s

    def _failed(self, error: TransientError | PermanentError) -> bytes:
        """Return what is kept of a failure, as JSON. Raises: `error`, where it is not the vehicle's."""
        self._failures += 1
        if self._failures >= _FAILURES_IN_A_ROW:
            raise error
        return msgspec.json.encode({"error": str(error)[:500]})

    def _calls(self, schedule: Schedule, vehicle_id: str) -> int:
        if self._options.api == "v3":
            return 1
        return max(1, len(PATHS) - schedule.never.get(vehicle_id, 0).bit_count())

    def _ask_signals(self, values: Values, page: Mapping[str, str]) -> dict[str, str]:
        """Take a page of signals. Returns the query of the next one."""
        answer = self._get(f"{self._places.v3}/vehicles/{quote(values.device_id, safe='')}/signals", page)
        try:
            told = decode_answer(answer.body)
        except BROKEN:
            raise TransientError(f"{answer.request}: answered with JSON that is no list of signals") from None
        if told.vehicle_id not in (None, values.device_id):
            values.refuse("foreign_device", "included.vehicle.id", b"")
            return {}
        take_resources(values, told.data)
        return told.next_page if told.data and told.next_page != page else {}

    def _ask_batch(self, schedule: Schedule, values: Values) -> None:
        never = schedule.never.get(values.device_id, 0)
        paths = [path for bit, path in enumerate(PATHS) if not never >> bit & 1] or [PATHS[0]]
        answer = self._batch(values.device_id, paths)
        try:
            refused = take_batch(values, answer.body, answer.request)
        except BROKEN:
            raise TransientError(f"{answer.request}: answered with JSON that is no batch") from None
        schedule.never[values.device_id] = never | sum(1 << PATHS.index(path) for path in set(refused))

    def _list(self, page: int) -> Listed:
        """Read a page of the list: what elsewhere is one vehicle's refusal is here the account's."""
        try:
            if self._options.api == "v2":
                params = {"limit": str(PAGE_SIZE_V2), "offset": str(page)}
                answer = self._get(f"{self._places.v2}/vehicles", params)
            else:
                params = {"page[size]": str(PAGE_SIZE_V3)} | ({"page[number]": str(page)} if page else {})
                answer = self._get(f"{self._places.v3}/connections", params)
        except VehicleRefused as refused:
            passes = refused.verdict in (Verdict.NEXT_ROUND, Verdict.VEHICLE_WAITS)
            raise (TransientError if passes else CredentialsRejected)(str(refused)) from None
        try:
            if self._options.api == "v2":
                return read_ids(answer.body, page)
            return read_connections(answer.body, page or 1, self._user_id)
        except BROKEN:
            raise TransientError(f"{answer.request}: answered with JSON that is no list") from None

    def _read_papers(self, known: Device, aside: list[Rejected]) -> Device:
        if self._options.api == "v2":
            return of_batch(self._batch(known.device_id, ["/", "/vin"]).body, known, aside)
        path = f"vehicles/{quote(known.device_id, safe='')}/signals/vehicleidentification-vin"
        return of_signal(self._get(f"{self._places.v3}/{path}", {}).body, known, aside)

    def _get(self, url: str, params: Mapping[str, str]) -> Answer:
        return self._session.get_json(url, params=params, bearer=self._token, headers=self._headers(), judge=judge)

    def _batch(self, vehicle_id: str, paths: list[str]) -> Answer:
        url = f"{self._places.v2}/vehicles/{quote(vehicle_id, safe='')}/batch"
        payload = {"requests": [{"path": path} for path in paths]}
        return self._session.post_json(url, payload=payload, bearer=self._token, headers=self._headers(), judge=judge)

    def _headers(self) -> dict[str, str]:
        """Ask in metric units, and on the owner's behalf where the token is the application's."""
        return {"SC-Unit-System": "metric"} | ({"sc-user-id": self._user_id} if self._user_id else {})


def _until(refused: VehicleRefused, now: datetime) -> int:
    """Return until when a vehicle that cannot be read is left alone, as seconds of the epoch."""
    if refused.verdict is Verdict.NEXT_MONTH:
        return next_month(now)
    now_s = int(now.timestamp())
    return now_s + (_DAY_S if refused.verdict is Verdict.NEXT_DAY else round(refused.wait_s or 0))
