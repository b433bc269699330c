"""The simulated Samsara as a web application: its endpoints, its refusals, and the switches of its faults.

Shapes and refusals: developers.samsara.com/reference, read 2026-11.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from integrations.simulator.faults import RECORD_FAULTS, FaultPlan, Faults, Scripted
from integrations.simulator.fleet import Account
from integrations.simulator.pages import BadCursor, Pages, Slice
from integrations.simulator.samsara_events import list_page, stream_page
from integrations.simulator.spoilt import Refused, as_json, refusal, spoilt

STAT_TYPES = frozenset(
    [
        "gps",
        "obdOdometerMeters",
        "gpsOdometerMeters",
        "gpsDistanceMeters",
        "fuelPercents",
        "engineStates",
        "obdEngineSeconds",
        "syntheticEngineSeconds",
        "faultCodes",
        "batteryMilliVolts",
        "defLevelMilliPercent",
        "evStateOfChargeMilliPercent",
        "evChargingStatus",
        "ecuSpeedMph",
        "engineRpm",
        "idlingDurationMilliseconds",
        "fuelConsumedMilliliters",
        "seatbeltDriver",
        "ecuDoorStatus",
    ]
)
_LOOPBACK = ("127.0.0.1", "::1")


class Simulator:
    """All accounts of one simulated provider."""

    def __init__(
        self, accounts: Sequence[Account], plan: FaultPlan, clock_ms: Callable[[], int], page_bytes: int
    ) -> None:
        self.accounts = {account.token: account for account in accounts}
        self.faults = Faults(plan)
        self.pages = Pages(page_bytes)
        self.clock_ms = clock_ms
        self.by_status: Counter[int] = Counter()
        self.by_path: Counter[str] = Counter()
        self.bytes_sent = 0

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(routes=[*self.routes(), Route("/{path:path}", self._answering(_not_found))])

    def routes(self) -> list[Route]:
        """Return all routes but the last, which refuses every other path: for an application of several simulators."""
        return [
            Route("/fleet/vehicles", self._answering(self._vehicles)),
            Route("/fleet/vehicles/stats", self._answering(self._snapshot)),
            Route("/fleet/vehicles/stats/feed", self._answering(self._feed)),
            Route("/safety-events/stream", self._answering(self._safety_stream)),
            Route("/fleet/safety-events", self._answering(self._safety_list)),
            Route("/_faults", self._set_faults, methods=["POST"]),
            Route("/_stats", self._get_stats),
        ]

    def prerender(self, types: Sequence[str]) -> None:
        """Render the feeds of all accounts up to now, as far as memory is granted."""
        for account in self.accounts.values():
            for combination in types:
                self.pages.prerender(account, combination, self.clock_ms())

    def stats(self) -> dict[str, object]:
        """Return what was asked and answered so far, and how many records the faults have added."""
        return {
            "requests": sum(self.by_path.values()),
            "by_path": dict(self.by_path),
            "by_status": {str(status): count for status, count in self.by_status.items()},
            "added": dict(self.faults.added),
            "bytes_sent": self.bytes_sent,
        }

    def _vehicles(self, account: Account, request: Request) -> Slice:
        limit = request.query_params.get("limit", "512")
        if not limit.isdigit() or not 1 <= int(limit) <= 512:
            raise Refused(400, "Invalid value for parameter limit.")
        return self.pages.vehicles(account, request.query_params.get("after"), int(limit))

    def _snapshot(self, account: Account, request: Request) -> Slice:
        after = request.query_params.get("after")
        return self.pages.snapshot(account, _types(request), after, self.clock_ms())

    def _feed(self, account: Account, request: Request) -> Slice:
        if len(request.query_params.get("decorations", "").split(",")) > 2:
            raise Refused(400, "At most 2 decorations may be requested.")
        after = request.query_params.get("after")
        return self.pages.feed(account, _types(request), after, self.clock_ms())

    def _safety_stream(self, account: Account, request: Request) -> Slice:
        _check_scope(account)
        if account.safety == "legacy":
            raise Refused(404, "Not found.")
        asked = request.query_params
        if asked.get("queryByTimeField", "updatedAtTime") != "updatedAtTime":
            raise Refused(400, "Only updatedAtTime is simulated for parameter queryByTimeField.")
        return stream_page(account, asked.get("startTime", ""), asked.get("after"), self.clock_ms())

    def _safety_list(self, account: Account, request: Request) -> Slice:
        _check_scope(account)
        asked = request.query_params
        window = asked.get("startTime", ""), asked.get("endTime", "")
        return list_page(account, *window, asked.get("after"), self.clock_ms())

    def _answering(self, page_of: Callable[[Account, Request], Slice]) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            faults = self.faults.draw(request.url.path)
            if self.faults.plan.latency_s:
                await asyncio.sleep(self.faults.plan.latency_s)
            try:
                account = self._account(request)
                response = self._faulty(faults, account, page_of(account, request), request)
            except BadCursor:
                response = refusal(Refused(400, "Invalid value for parameter after."))
            except Refused as refused:
                response = refusal(refused)
            self._count(request, response)
            return response

        return answer

    def _account(self, request: Request) -> Account:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.accounts:
            raise Refused(401, "Invalid token.")
        return self.accounts[token]

    def _faulty(self, faults: list[Scripted], account: Account, page: Slice, request: Request) -> Response:
        after = request.query_params.get("after", "")
        for scripted in faults:
            if scripted.fault in RECORD_FAULTS:
                data = self.faults.spoil(scripted.fault, page.data, account, page.at_ms)
                page = page._replace(data=data)
            elif scripted.fault == "loop":
                page = page._replace(cursor=after, has_next=True)
            else:
                return spoilt(scripted, _body(page), self.faults.plan.retry_after_s, self._sent)
        return as_json(_body(page))

    def _sent(self, count: int) -> None:
        self.bytes_sent += count

    def _count(self, request: Request, response: Response) -> None:
        self.by_path[request.url.path] += 1
        self.by_status[response.status_code] += 1
        self.bytes_sent += len(response.body) if not isinstance(response, StreamingResponse) else 0

    async def _set_faults(self, request: Request) -> Response:
        """Replace the plan; only for callers on the same machine."""
        if request.client is None or request.client.host not in _LOOPBACK:
            return refusal(Refused(404, "Not found."))
        try:
            plan = msgspec.json.decode(await request.body() or b"{}", type=FaultPlan)
        except msgspec.DecodeError as error:
            return refusal(Refused(400, str(error)))
        self.set_plan(plan)
        return as_json(msgspec.json.encode(plan))

    def set_plan(self, plan: FaultPlan) -> None:
        """Replace the plan; the counts of what was added go on."""
        added = self.faults.added
        self.faults = Faults(plan)
        self.faults.added = added

    async def _get_stats(self, _: Request) -> Response:
        return as_json(msgspec.json.encode(self.stats()))


def _check_scope(account: Account) -> None:
    if account.safety == "none":
        raise Refused(403, "The token lacks the scope Read Safety Events & Scores.")


def _types(request: Request) -> str:
    types = request.query_params.get("types", "")
    names = types.split(",")
    if len(names) > 3 or not STAT_TYPES.issuperset(names):
        raise Refused(400, "Invalid value for parameter types.")
    return types


def _body(page: Slice) -> bytes:
    pagination = msgspec.json.encode({"endCursor": page.cursor, "hasNextPage": page.has_next})
    return b'{"data":[%b],"pagination":%b}' % (page.data, pagination)


def _not_found(_: Account, __: Request) -> Slice:
    raise Refused(404, "Not found.")
