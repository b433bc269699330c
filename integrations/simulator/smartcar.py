"""The simulated Smartcar as a web application: OAuth, v3 and v2.0 under one origin, its refusals, and faults on demand.

Shapes and refusals: smartcar.com/docs/api-reference, read 2026-11.
"""

import asyncio
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from integrations.simulator.fleet import now_ms
from integrations.simulator.server import ServerThread
from integrations.simulator.smartcar_answers import REFUSALS, SPOILS, batch_item, signal_resource
from integrations.simulator.smartcar_fleet import SmartcarAccount
from integrations.simulator.smartcar_tokens import TokenRefused, Tokens

_LOOPBACK = ("127.0.0.1", "::1")

Answering = Callable[[SmartcarAccount, Request, Any], Any]


class SmartcarFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault for the next `times` requests whose path contains `path`: of `REFUSALS`, of `SPOILS`, `html_200`, or
    `lost`: done, and never answered.
    """

    fault: str
    times: int = 1
    path: str = ""
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.fault not in (*REFUSALS, *SPOILS, "html_200", "lost"):
            raise ValueError(f"no such fault: {self.fault}")


class SmartcarSimulator:
    """Accounts of simulated applications.

    `monthly` is how many requests a vehicle may have in all, None is no limit. `on_token` is called between making new
    tokens and answering with them; `token_delay_s` delays that answer.
    """

    def __init__(self, *accounts: SmartcarAccount, clock_ms: Callable[[], int] = now_ms) -> None:
        self.accounts = accounts or (SmartcarAccount(),)
        self.clock_ms = clock_ms
        self.tokens = Tokens(self.accounts, clock_ms)
        self.faults: list[SmartcarFault] = []
        self.monthly: int | None = None
        self.signals_a_page = 100
        self.on_token: Callable[[], None] | None = None
        self.token_delay_s = 0.0
        self.unit_system = "metric"
        self.by_path: Counter[str] = Counter()
        self.by_status: Counter[int] = Counter()
        self.by_vehicle: Counter[str] = Counter()

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        return [
            Route("/oauth/token", self._token, methods=["POST"]),
            Route("/oauth2/token", self._token, methods=["POST"]),
            Route("/v3/connections", self._answering(self._connections)),
            Route("/v3/vehicles/{id}", self._answering(self._vehicle)),
            Route("/v3/vehicles/{id}/signals", self._answering(self._signals)),
            Route("/v3/vehicles/{id}/signals/{code}", self._answering(self._signal)),
            Route("/v2.0/vehicles", self._answering(self._ids)),
            Route("/v2.0/vehicles/{id}/batch", self._answering(self._batch), methods=["POST"]),
            Route("/_smartcar/faults", self._set_faults, methods=["POST"]),
            Route("/_smartcar/stats", self._get_stats),
        ]

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(routes=self.routes())

    def next(self, fault: str, times: int = 1, *, path: str = "", retry_after_s: float | None = None) -> None:
        """Give the next answers a fault, behind those that already have one."""
        self.faults.append(SmartcarFault(fault, times, path, retry_after_s))

    def credentials(self, account: SmartcarAccount | None = None) -> dict[str, str]:
        """Return what a connection of an account holds after the owner's consent."""
        account = account or self.accounts[0]
        pair = self.tokens.pair(account)
        access_ends_s = self.clock_ms() / 1000 + self.tokens.access_ms / 1000
        refresh_ends_s = self.clock_ms() / 1000 + self.tokens.refresh_ms / 1000
        return {
            "client_id": account.client_id,
            "client_secret": account.client_secret,
            "access_token": str(pair["access_token"]),
            "access_expires_at": _iso(access_ends_s),
            "refresh_token": str(pair["refresh_token"]),
            "refresh_expires_at": _iso(refresh_ends_s),
            "management_token": account.management_token,
        }

    def push(self, index: int, *, kind: str = "VEHICLE_STATE", event_id: str | None = None) -> tuple[bytes, str]:
        """Return the body of a delivery of a vehicle's signals as of now, and its signature."""
        account, now = self.accounts[0], self.clock_ms()
        said = account.signals(index, now)
        identity = account.identity(index)
        told = {
            "eventId": event_id or str(uuid4()),
            "eventType": kind,
            "data": {
                "user": {"id": account.user_id},
                "vehicle": {"id": account.vehicle_id(index), "make": identity.make, "year": identity.year},
                "signals": [
                    {"code": s.code, "body": s.body, "meta": {"oemUpdatedAt": s.at_ms, "retrievedAt": now}}
                    for s in said
                ],
                "triggers": [],
            },
            "meta": {"version": "4.0", "deliveryId": str(uuid4()), "deliveredAt": now, "signalCount": len(said)},
        }
        body = json.dumps(told).encode()
        return body, hmac.new(account.management_token.encode(), body, hashlib.sha256).hexdigest()

    def stats(self) -> dict[str, Any]:
        """Return what was asked and answered so far."""
        return {
            "requests": sum(self.by_path.values()),
            "by_path": dict(self.by_path),
            "by_status": {str(status): count for status, count in self.by_status.items()},
            "by_vehicle": dict(self.by_vehicle),
            "granted": dict(self.tokens.granted),
        }

    async def _token(self, request: Request) -> Response:
        self.by_path[request.url.path] += 1
        fault = self._draw(request.url.path)
        form = dict(parse_qsl((await request.body()).decode()))
        if fault is not None and fault.fault not in ("lost", "html_200"):
            return self._counted(REFUSALS[fault.fault](fault.retry_after_s))
        try:
            is_application = request.url.path == "/oauth2/token"
            told = self.tokens.ask(request.headers.get("authorization", ""), form, is_application=is_application)
        except TokenRefused as refused:
            return self._counted(JSONResponse({"error": refused.error}, refused.status))
        if self.on_token is not None:
            await asyncio.to_thread(self.on_token)
        await asyncio.sleep(self.token_delay_s)
        if fault is not None:
            return self._counted(_GARBLED[fault.fault]())
        return self._counted(JSONResponse(told))

    def _answering(self, answer: Answering) -> Callable[[Request], Awaitable[Response]]:
        async def answering(request: Request) -> Response:
            self.by_path[request.url.path] += 1
            asked = json.loads(await request.body() or b"null")
            known = self.tokens.account_of(request.headers.get("authorization", ""))
            refused = "authentication" if known is None else self._refusal(*known, request, asked)
            fault = None if refused else self._draw(request.url.path)
            what = refused or (fault.fault if fault else "")
            if what in REFUSALS:
                return self._counted(REFUSALS[what](fault.retry_after_s if fault else None))
            if known is None or what in _GARBLED:
                return self._counted(_GARBLED[what]())
            told = answer(known[0], request, asked)
            if what in SPOILS:
                SPOILS[what](told)
            return self._counted(JSONResponse(told))

        return answering

    def _refusal(self, account: SmartcarAccount, is_application: bool, request: Request, asked: Any) -> str | None:
        """Return why a good token may not ask this, and count the request against its vehicle where it may."""
        vehicle_id = request.path_params.get("id")
        if vehicle_id is None:
            return None
        if is_application and request.headers.get("sc-user-id") != account.user_id:
            return "missing_user"
        if vehicle_id not in account.indices:
            return "not_found"
        paths = 1 if asked is None else len(asked.get("requests", []))
        if self.monthly is not None and self.by_vehicle[vehicle_id] + paths > self.monthly:
            return "vehicle_request_limit"
        self.by_vehicle[vehicle_id] += paths
        return None

    def _connections(self, account: SmartcarAccount, request: Request, _: Any) -> Any:
        size = int(request.query_params.get("page[size]", "10"))
        number = int(request.query_params.get("page[number]", "1"))
        ids = list(account.indices)[(number - 1) * size : number * size]
        more = number * size < account.vehicles
        link = f"/connections?page[size]={size}&page[number]={number + 1}" if more else None
        return {
            "data": [self._connection(account, each) for each in ids],
            "meta": {"totalCount": account.vehicles},
            "links": {"next": link},
        }

    def _connection(self, account: SmartcarAccount, vehicle_id: str) -> dict[str, Any]:
        identity = account.identity(account.indices[vehicle_id])
        vehicle = {"make": identity.make, "model": identity.model, "year": identity.year, "mode": "simulated"}
        return {
            "id": str(uuid4()),
            "type": "connection",
            "attributes": {"vehicle": vehicle, "permissions": ["read_location"]},
            "relationships": {
                "vehicle": {"data": {"id": vehicle_id, "type": "vehicle"}},
                "user": {"data": {"id": account.user_id, "type": "user"}},
            },
        }

    def _vehicle(self, account: SmartcarAccount, request: Request, _: Any) -> Any:
        vehicle_id = request.path_params["id"]
        identity = account.identity(account.indices[vehicle_id])
        attributes = {"make": identity.make, "model": identity.model, "year": identity.year}
        return {"id": vehicle_id, "type": "vehicle", "attributes": attributes}

    def _signals(self, account: SmartcarAccount, request: Request, _: Any) -> Any:
        vehicle_id = request.path_params["id"]
        now = self.clock_ms()
        said = account.signals(account.indices[vehicle_id], now)
        number = int(request.query_params.get("page", "1"))
        shown = said[(number - 1) * self.signals_a_page : number * self.signals_a_page]
        more = number * self.signals_a_page < len(said)
        link = f"/vehicles/{vehicle_id}/signals?page={number + 1}&pageSize={self.signals_a_page}" if more else None
        return {
            "data": [signal_resource(each, now) for each in shown],
            "meta": {"page": number, "pageSize": self.signals_a_page, "totalCount": len(said)},
            "links": {"next": link},
            "included": {"vehicle": self._vehicle(account, request, None)},
        }

    def _signal(self, account: SmartcarAccount, request: Request, _: Any) -> Any:
        said = account.signals(account.indices[request.path_params["id"]], self.clock_ms())
        code = request.path_params["code"]
        return signal_resource(next(each for each in said if each.code == code), self.clock_ms())

    def _ids(self, account: SmartcarAccount, request: Request, _: Any) -> Any:
        limit, offset = (
            int(request.query_params.get(name, default)) for name, default in (("limit", 10), ("offset", 0))
        )
        ids = list(account.indices)[offset : offset + min(limit, 50)]
        return {"vehicles": ids, "paging": {"count": account.vehicles, "offset": offset}}

    def _batch(self, account: SmartcarAccount, request: Request, asked: Any) -> Any:
        vehicle_id = request.path_params["id"]
        index, now = account.indices[vehicle_id], self.clock_ms()
        said = {each.code: each for each in account.signals(index, now)}
        identity = account.identity(index)
        papers = {"id": vehicle_id, "make": identity.make, "model": identity.model, "year": identity.year}
        items = [batch_item(each["path"], said, papers, now, self.unit_system) for each in asked["requests"]]
        return {"responses": items}

    def _draw(self, path: str) -> SmartcarFault | None:
        for place, fault in enumerate(self.faults):
            if fault.path in path:
                left = msgspec.structs.replace(fault, times=fault.times - 1)
                self.faults[place : place + 1] = [left] if left.times else []
                return fault
        return None

    def _counted(self, response: Response) -> Response:
        self.by_status[response.status_code] += 1
        return response

    async def _set_faults(self, request: Request) -> Response:
        """Replace the faults to come; only for callers on the same machine."""
        if request.client is None or request.client.host not in _LOOPBACK:
            return Response(status_code=404)
        try:
            self.faults = msgspec.json.decode(await request.body(), type=list[SmartcarFault])
        except msgspec.DecodeError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"faults": len(self.faults)})

    async def _get_stats(self, _: Request) -> Response:
        return JSONResponse(self.stats())


class SmartcarThread(ServerThread):
    """A simulated Smartcar beside a test."""

    def __init__(self, *accounts: SmartcarAccount, clock_ms: Callable[[], int] = now_ms) -> None:
        self.simulator = SmartcarSimulator(*accounts, clock_ms=clock_ms)
        super().__init__(self.simulator.app())

    @property
    def account(self) -> SmartcarAccount:
        """Return the first account."""
        return self.simulator.accounts[0]


def _iso(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at_s))


_GARBLED: dict[str, Callable[[], Response]] = {
    "html_200": lambda: Response(b"<!doctype html><title>Maintenance</title>", media_type="text/html"),
    "lost": lambda: Response(status_code=502),
}
