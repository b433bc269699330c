"""The receiver's face: HTTP for whoever finds the address, with a bound on everything that they may send.

A body is refused by its announced length before a byte of it is read, by its real length while it comes, and when it
comes too slowly. What is refused is told by a status alone.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from db.queries.webhooks import LARGEST_PAYLOAD
from jobs.webhooks.receive import Answer, Receiver

_log = structlog.get_logger()

THREADS = 8
"""Deliveries that are verified and kept at once; each has a session of the database while it is kept."""
_LONGEST_LENGTH = 9


@dataclass(frozen=True)
class Bounds:
    """What a request may take. Smartcar gives up after 15 s (smartcar.com/docs, read 2026-11)."""

    head_s: float = 10.0
    body_s: float = 10.0
    answer_s: float = 12.0
    health_s: float = 2.0
    body_bytes: int = LARGEST_PAYLOAD
    head_bytes: int = 16_384
    connections: int = 256


class Face:
    """Brings requests to a receiver."""

    def __init__(self, receiver: Receiver, bounds: Bounds) -> None:
        self._receiver = receiver
        self._bounds = bounds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook")
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._look: asyncio.Future[bool] | None = None

    async def receive(self, request: Request) -> Response:
        """Take a delivery."""
        try:
            body = await self._read_body(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        if isinstance(body, Response):
            return body
        loop, now = asyncio.get_running_loop(), datetime.now(UTC)
        tenant_id, connection_id = request.path_params["tenant_id"], request.path_params["connection_id"]
        answering = loop.run_in_executor(
            self._threads, self._receiver.receive, tenant_id, connection_id, body, dict(request.headers), now
        )
        try:
            answer = await asyncio.wait_for(answering, self._bounds.answer_s)
        except TimeoutError:
            self._receiver.refusals.add("answer_too_late")
            return Response(status_code=503, headers={"retry-after": "5"})
        return _response(answer)

    async def health(self, request: Request) -> Response:
        """Tell whether deliveries can be kept, and no more; all who ask at once wait for one look, and not for long."""
        if self._look is None or self._look.done():
            self._look = asyncio.get_running_loop().run_in_executor(self._looking, self._receiver.is_ready)
        try:
            is_ready = await asyncio.wait_for(asyncio.shield(self._look), self._bounds.health_s)
        except TimeoutError:
            is_ready = False
        return Response(status_code=200 if is_ready else 503)

    async def _read_body(self, request: Request) -> bytes | Response:
        """Return the body, or what to answer where it is not taken."""
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            return self._refuse(415, "encoded")
        announced = request.headers.get("content-length", "0")
        if len(announced) > _LONGEST_LENGTH or int(announced) > self._bounds.body_bytes:
            return self._refuse(413, "too_large")
        body = bytearray()
        try:
            async with asyncio.timeout(self._bounds.body_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self._bounds.body_bytes:
                        return self._refuse(413, "too_large")
        except TimeoutError:
            return self._refuse(408, "too_slow")
        return bytes(body)

    def _refuse(self, status: int, reason: str) -> Response:
        self._receiver.refusals.add(reason)
        return Response(status_code=status, headers={"connection": "close"} if status == 408 else None)


def make_app(receiver: Receiver, bounds: Bounds, more: Sequence[Route] = ()) -> Starlette:
    """Return the application: two addresses, and an empty body with every status that is no 200; and `more`."""
    face = Face(receiver, bounds)
    app = Starlette(
        routes=[
            Route("/webhooks/{tenant_id:uuid}/{connection_id:uuid}", face.receive, methods=["POST"]),
            Route("/health", face.health, methods=["GET"]),
            *more,
        ],
        exception_handlers={HTTPException: _say_status, SQLAlchemyError: _say_away},
    )
    app.router.redirect_slashes = False  # a redirect would be to whatever host the request names
    return app


def _response(answer: Answer) -> Response:
    headers = {} if answer.retry_after_s is None else {"retry-after": str(answer.retry_after_s)}
    return Response(answer.body, answer.status, headers, "application/json" if answer.body else None)


async def _say_away(request: Request, error: Exception) -> Response:
    _log.warning("database_away", error_type=type(error).__name__)
    return Response(status_code=503, headers={"retry-after": "5"})


async def _say_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Response(status_code=error.status_code, headers=error.headers)
