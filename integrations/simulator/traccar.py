"""The simulated Traccar as a web application: the endpoints that we read, its refusals, and faults on demand.

Shapes and refusals: github.com/traccar/traccar at 9e5c458, api/**.java, read 2026-11. It refuses with a stack trace as
text, and with 400 for nearly everything.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrations.simulator.faults import ANSWER_FAULTS, Scripted
from integrations.simulator.fleet import Account, now_ms, to_ms
from integrations.simulator.server import ServerThread
from integrations.simulator.spoilt import Refused, as_json, spoilt
from integrations.simulator.traccar_fleet import Backlog, Garage, TraccarFleet, iso

FOREIGN_DEVICE = 7
"""A device that is in no account."""
_LOOPBACK = ("127.0.0.1", "::1")
_WITHOUT_METERS: dict[str, Any] = {"sat": 0, "motion": False}

# Each adds a bad record to a list of positions, made of a good one; none is taken away.
RECORD_FAULTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "wrong_type": lambda good: good | {"latitude": "52.5"},
    "out_of_range": lambda good: good | {"latitude": 91.0},
    "null_island": lambda good: good | {"latitude": 0.0, "longitude": 0.0},
    "foreign_device": lambda good: good | {"deviceId": FOREIGN_DEVICE},
    "missing_time": lambda good: {name: value for name, value in good.items() if name != "fixTime"},
    "unreadable_time": lambda good: good | {"fixTime": "yesterday\0"},
    "future_time": lambda good: good | {"fixTime": _a_year_later(good["fixTime"])},
    "invalid_fix": lambda good: good | {"valid": False, "attributes": _WITHOUT_METERS},
}


class TraccarFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault for the next `times` requests whose path ends with `path`."""

    fault: str
    times: int = 1
    retry_after_s: float | None = None
    path: str = ""

    def __post_init__(self) -> None:
        if self.fault not in (*ANSWER_FAULTS, *RECORD_FAULTS) or self.fault == "loop":
            raise ValueError(f"no such fault: {self.fault}")


class TraccarSimulator:
    """All accounts of one simulated Traccar server; `max_positions` is its `report.maxPositions`.

    `takes_s` is how long it takes for a report, by its devices and its positions.
    """

    def __init__(
        self,
        accounts: Sequence[Account],
        *,
        clock_ms: Callable[[], int] = now_ms,
        backlogs: Sequence[Backlog] = (),
        garages: Sequence[Garage] = (),
        max_positions: int = 50_000,
    ) -> None:
        """`backlogs` and `garages` are those of the first account."""
        self._clock_ms = clock_ms
        self._max_positions = max_positions
        self.takes_s: Callable[[int, int], float] = lambda devices, positions: 0.0
        self._opened_ms = clock_ms()
        self._fleets: dict[str, TraccarFleet] = {}
        self._faults: list[TraccarFault] = []
        self.by_status: Counter[int] = Counter()
        self.by_path: Counter[str] = Counter()
        self.bytes_sent = 0
        for place, account in enumerate(accounts):
            self.add(account, *(() if place else (backlogs, garages)))

    def add(self, account: Account, backlogs: Sequence[Backlog] = (), garages: Sequence[Garage] = ()) -> None:
        """Add an account, or replace the one of its token."""
        self._fleets[account.token] = TraccarFleet(account, self._opened_ms, tuple(backlogs), tuple(garages))

    def fleet(self, token: str) -> TraccarFleet:
        """Return what is known of an account."""
        return self._fleets[token]

    def set_faults(self, faults: Sequence[TraccarFault]) -> None:
        """Replace the faults that are to come."""
        self._faults = [fault for fault in faults for _ in range(fault.times)]

    def stats(self) -> dict[str, object]:
        """Return what was asked and answered so far."""
        return {
            "requests": sum(self.by_path.values()),
            "by_path": dict(self.by_path),
            "by_status": {str(status): count for status, count in self.by_status.items()},
            "bytes_sent": self.bytes_sent,
        }

    def routes(self) -> list[Route]:
        """Return the endpoints, and the controls under /_traccar/."""
        return [
            Route("/api/devices", self._answering(self._devices)),
            Route("/api/groups", self._answering(self._groups)),
            Route("/api/positions", self._answering(self._positions)),
            Route("/api/reports/route", self._answering(self._route)),
            Route("/_traccar/faults", self._post_faults, methods=["POST"]),
            Route("/_traccar/stats", self._get_stats),
        ]

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(routes=self.routes())

    def _devices(self, fleet: TraccarFleet, request: Request) -> list[str]:
        at_ms = self._clock_ms()
        is_full = request.query_params.get("excludeAttributes") != "true"
        devices = range(fleet.account.vehicles)
        return [json.dumps(fleet.device(index, at_ms, with_attributes=is_full)) for index in devices]

    def _groups(self, fleet: TraccarFleet, _: Request) -> list[str]:
        return [
            json.dumps({"id": group, "attributes": {}, "groupId": parent, "name": name})
            for group, (name, parent) in fleet.groups().items()
        ]

    def _positions(self, fleet: TraccarFleet, request: Request) -> list[str]:
        """Answer with the latest position of each device, or with those of one device between two instants."""
        devices = _longs(request, "deviceId")[:1]
        if devices and devices[0] not in fleet.ids():
            raise Refused(400, "java.lang.SecurityException: Device access denied")
        if devices and {"from", "to"} <= request.query_params.keys():
            return self._between(fleet, devices, request)
        at_ms = self._clock_ms()
        latest = [(index, fleet.latest(index, at_ms)) for index in map(fleet.index_of, devices or fleet.ids())]
        return [fleet.position(index, known) for index, known in latest if known is not None]

    def _route(self, fleet: TraccarFleet, request: Request) -> list[str]:
        """Answer with the positions of devices and of groups; those of others are passed over in silence."""
        devices, wanted = _longs(request, "deviceId"), _longs(request, "groupId")
        if not devices and not wanted:
            return self._between(fleet, list(fleet.ids()), request)
        groups = set(wanted)
        groups |= {group for group, (_, parent) in fleet.groups().items() if parent in groups}
        in_groups = [device for device in fleet.ids() if fleet.group_of(fleet.index_of(device)) in groups - {0}]
        own = [device for device in devices if device in fleet.ids()]
        return self._between(fleet, list(dict.fromkeys(own + in_groups)), request)

    def _between(self, fleet: TraccarFleet, devices: list[int], request: Request) -> list[str]:
        since_ms, until_ms, at_ms = _instant(request, "from"), _instant(request, "to"), self._clock_ms()
        found: list[str] = []
        for index in map(fleet.index_of, devices):
            instants = fleet.instants(index, since_ms - 1, until_ms, at_ms)
            positions = chain(
                (fleet.position(index, each) for each in instants), fleet.repeated(index, since_ms, until_ms)
            )
            found += islice(positions, self._max_positions)
        return found

    def _answering(self, read: Callable[[TraccarFleet, Request], list[str]]) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            try:
                response = self._answer(read, request)
                if request.url.path.endswith("/route"):
                    devices = len(request.query_params.getlist("deviceId"))
                    await asyncio.sleep(self.takes_s(devices, getattr(response, "body", b"").count(b'"fixTime"')))
            except Refused as refused:
                trace = f"{refused}\n\tat org.traccar.api.BaseResource(BaseResource.java)"
                response = Response(trace, refused.status, refused.headers, "text/plain")
            self.by_path[request.url.path] += 1
            self.by_status[response.status_code] += 1
            self.bytes_sent += len(getattr(response, "body", b""))
            return response

        return answer

    def _answer(self, read: Callable[[TraccarFleet, Request], list[str]], request: Request) -> Response:
        fault = self._next_fault(request.url.path)
        fleet = self._authorized(request)
        records = read(fleet, request)
        if fault is not None and fault.fault in RECORD_FAULTS:
            good = json.loads(records[0] if records else fleet.position(0, self._clock_ms()))
            records.append(json.dumps(RECORD_FAULTS[fault.fault](good)))
        body = f"[{','.join(records)}]".encode()
        if fault is not None and fault.fault in ANSWER_FAULTS:
            return spoilt(Scripted(fault.fault, 1, fault.retry_after_s), body, 1.0, self._sent)
        return as_json(body)

    def _next_fault(self, path: str) -> TraccarFault | None:
        for place, fault in enumerate(self._faults):
            if path.endswith(fault.path):
                return self._faults.pop(place)
        return None

    def _authorized(self, request: Request) -> TraccarFleet:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token not in self._fleets:
            raise Refused(401, "jakarta.ws.rs.WebApplicationException: HTTP 401 Unauthorized")
        return self._fleets[token]

    def _sent(self, count: int) -> None:
        self.bytes_sent += count

    async def _post_faults(self, request: Request) -> Response:
        """Replace the faults; only for callers on the same machine."""
        if request.client is None or request.client.host not in _LOOPBACK:
            return Response(status_code=404)
        try:
            faults = msgspec.json.decode(await request.body() or b"[]", type=list[TraccarFault])
        except msgspec.DecodeError as error:
            return Response(str(error), 400)
        self.set_faults(faults)
        return as_json(msgspec.json.encode(faults))

    async def _get_stats(self, _: Request) -> Response:
        return as_json(msgspec.json.encode(self.stats()))


class TraccarThread(ServerThread):
    """A simulated Traccar beside a test."""

    def __init__(
        self,
        *accounts: Account,
        clock_ms: Callable[[], int] = now_ms,
        backlogs: Sequence[Backlog] = (),
        garages: Sequence[Garage] = (),
        max_positions: int = 50_000,
    ) -> None:
        self.accounts = accounts or (Account("simulated", 10),)
        self.simulator = TraccarSimulator(
            self.accounts, clock_ms=clock_ms, backlogs=backlogs, garages=garages, max_positions=max_positions
        )
        super().__init__(self.simulator.app())

    @property
    def fleet(self) -> TraccarFleet:
        """Return the first account's fleet."""
        return self.simulator.fleet(self.accounts[0].token)

    def next(self, fault: str, times: int = 1, *, retry_after_s: float | None = None, path: str = "") -> None:
        """Give the next answers a fault, and no other faults after them."""
        self.simulator.set_faults([TraccarFault(fault, times, retry_after_s, path)])

    def heal(self) -> None:
        """Forget the faults that are to come."""
        self.simulator.set_faults(())

    def stats(self) -> dict[str, object]:
        """Return what was asked and answered so far, as `GET /_traccar/stats` does."""
        return self.simulator.stats()


def _longs(request: Request, name: str) -> list[int]:
    try:
        return [int(text) for text in request.query_params.getlist(name)]
    except ValueError:
        raise Refused(404, "jakarta.ws.rs.NotFoundException: HTTP 404 Not Found") from None


def _instant(request: Request, name: str) -> int:
    try:
        at = datetime.fromisoformat(request.query_params[name])
        if at.tzinfo is None:
            raise ValueError
    except (KeyError, ValueError):
        raise Refused(400, "java.time.format.DateTimeParseException: could not be parsed") from None
    return to_ms(at)


def _a_year_later(at: str) -> str:
    return iso(to_ms(datetime.fromisoformat(at) + timedelta(days=365)))
