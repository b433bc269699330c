"""Answers that are bad as a whole, and refusals with Samsara's error body."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from functools import cache
from uuid import uuid4

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from integrations.simulator.faults import Scripted

_MIB = 1024 * 1024
_HUGE_MIB = 50
_DRIP_S = 0.05


class Refused(Exception):  # noqa: N818
    """An answer other than 200."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def refusal(refused: Refused) -> Response:
    """Return a refusal as an answer."""
    body = msgspec.json.encode({"message": str(refused), "requestId": uuid4().hex})
    return Response(body, refused.status, refused.headers, "application/json")


def as_json(body: bytes) -> Response:
    """Return JSON text as an answer."""
    return Response(body, media_type="application/json")


def spoilt(scripted: Scripted, body: bytes, retry_after_s: float, sent: Callable[[int], None]) -> Response:
    """Return what a fault makes of a good body; `sent` is told the bytes of an endless one.

    Raises:
        Refused: the fault is a refusal.
    """
    match scripted.fault:
        case "rate_limit":
            wait_s = retry_after_s if scripted.retry_after_s is None else scripted.retry_after_s
            raise Refused(429, "Exceeded rate limit.", {"Retry-After": f"{wait_s:g}"})
        case "server_error":
            raise Refused(503, "Service unavailable.")
        case "expired_token":
            raise Refused(401, "Invalid token.")
        case "huge":
            return StreamingResponse(_huge(sent), media_type="application/json")
    return _SPOILT[scripted.fault](body)


def _redirect(_: bytes) -> Response:
    return Response(status_code=302, headers={"Location": "http://127.0.0.1:9/"})


def _html(_: bytes) -> Response:
    return Response(b"<!doctype html><title>Maintenance</title>", media_type="text/html")


class _BrokenOff(Response):
    """Announces a body, sends the first half of it and hangs up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": half, "more_body": True})


def _dripping(body: bytes) -> Response:
    return StreamingResponse(_drops(body), media_type="application/json")


def _zip_bomb(_: bytes) -> Response:
    return Response(_bomb(), headers={"Content-Encoding": "gzip"}, media_type="application/json")


_SPOILT: dict[str, Callable[[bytes], Response]] = {
    "redirect": _redirect,
    "html": _html,
    "empty": lambda _: as_json(b""),
    "truncated": lambda body: as_json(body[: len(body) // 2]),
    "malformed": lambda body: as_json(body.replace(b":", b"=", 1)),
    "broken_off": lambda body: _BrokenOff(body, media_type="application/json"),
    "dripping": _dripping,
    "zip_bomb": _zip_bomb,
}


@cache
def _bomb() -> bytes:
    return gzip.compress(b'{"data":["' + b" " * (_HUGE_MIB * _MIB) + b'"]}')


async def _drops(body: bytes) -> AsyncIterator[bytes]:
    """Send a byte now and then, each soon enough to keep a read timeout from striking."""
    for place in range(len(body)):
        yield body[place : place + 1]
        await asyncio.sleep(_DRIP_S)


async def _huge(sent: Callable[[int], None]) -> AsyncIterator[bytes]:
    yield b'{"data":["'
    for _ in range(_HUGE_MIB):
        sent(_MIB)
        yield b" " * _MIB
        await asyncio.sleep(0.001)  # time to notice that nobody listens any more
    yield b'"]}'
