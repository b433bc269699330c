"""The receiver as a process: a listener, uvicorn with bounds of ours, an orderly end."""

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence

import structlog
import uvicorn
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from db.encryption import Keyring
from db.engine import Database
from jobs.notifications.unsubscribe import Unsubscriber
from jobs.notifications.web import routes
from jobs.settings import ReceiverSettings
from jobs.webhooks.app import THREADS, Bounds, make_app
from jobs.webhooks.receive import Receiver

_log = structlog.get_logger()
_IDLE_S = 5
_STOPS_WITHIN_S = 13


def serve(host: str, port: int, settings: ReceiverSettings) -> None:
    """Receive until SIGTERM or SIGINT; what was begun by then is answered.

    Raises:
        OSError: the address cannot be had. EncryptionError: a key is none.
    """
    url = settings.database_url.get_secret_value()
    keyring = Keyring.from_settings([key.get_secret_value() for key in settings.encryption_keys])
    # The pool over all tenants opens no connection: it has no other URL than the worker's, and nobody asks it.
    database = Database(url, url, pool_size=THREADS, name="fleet-webhooks")
    receiver = Receiver(database, keyring, settings.webhook_per_s)
    unsubscriber = Unsubscriber([key.get_secret_value().strip().encode() for key in settings.encryption_keys], "")
    listener = listen(host, port)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of each request that is no HTTP
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn takes them, and raises them again when it has ended
    _log.info("webhooks_started", address=host, port=listener.getsockname()[1])
    try:
        make_server(receiver, Bounds(), routes(database, unsubscriber)).run(sockets=[listener])
    finally:
        receiver.refusals.say()
        database.close()
        _log.info("webhooks_stopped")


def make_server(receiver: Receiver, bounds: Bounds, more: Sequence[Route] = ()) -> uvicorn.Server:
    """Return the server. It believes no header about where a request comes from."""
    return uvicorn.Server(
        uvicorn.Config(
            make_app(receiver, bounds, more),
            loop="asyncio",
            http=_protocol(bounds.head_s),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=bounds.connections,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_STOPS_WITHIN_S,
            h11_max_incomplete_event_size=bounds.head_bytes,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """Open a listener. It names its protocol: asyncio sends small answers at once on no other.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _protocol(head_s: float) -> type[H11Protocol]:
    class Hurried(H11Protocol):
        """Hangs up on who has not sent the head of a request within some seconds of connecting or of the last answer.

        uvicorn waits for a first head as long as it takes, and for the rest of a body that was refused.
        """

        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._deadline is not None:
                self._deadline.cancel()

        def on_response_complete(self) -> None:
            self._wait_for_head()
            super().on_response_complete()

        def _wait_for_head(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self.loop.call_later(head_s, self._hang_up)

        def _hang_up(self) -> None:
            if getattr(self.cycle, "response_complete", True):  # no cycle before the first head
                self.transport.abort()

    return Hurried
