"""Serving the simulator: in the foreground for people, in a thread for tests; over real HTTP either way."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette

from integrations.simulator.app import Simulator
from integrations.simulator.faults import FaultPlan, Scripted
from integrations.simulator.fleet import Account, now_ms

# What the client asks for, so that these pages can be had ready.
FEED_TYPES = (
    "gps,obdOdometerMeters,gpsOdometerMeters",
    "fuelPercents,engineStates,obdEngineSeconds",
    "evStateOfChargeMilliPercent,faultCodes,evChargingStatus",
)
PAGE_BYTES = 256 * 1024 * 1024
_STARTS_WITHIN_S = 10.0


def serve(
    host: str,
    port: int,
    *,
    vehicles: int = 100,
    seed: int = 1,
    faults: FaultPlan | None = None,
    ready: Callable[[str], None] | None = None,
    accounts: Sequence[Account] = (),
    prerender: bool = False,
    page_bytes: int = PAGE_BYTES,
) -> None:
    """Serve until interrupted. `ready` is called with the base URL once requests are answered.

    Without `accounts` there is one, whose token is `simulated`. Port 0 takes a free one. `page_bytes`
    bounds the rendered pages that are remembered, 200 bytes a point; `prerender` renders those of all feeds
    before `ready`.
    """
    accounts = accounts or (Account("simulated", vehicles, seed),)
    simulator = Simulator(accounts, faults or FaultPlan(), now_ms, page_bytes)
    if prerender:
        simulator.prerender(FEED_TYPES)
    serve_app(simulator.app(), host, port, ready)


def serve_app(app: Starlette, host: str, port: int, ready: Callable[[str], None] | None = None) -> None:
    """Serve an application until interrupted, as `serve` does; of one simulator or of several together."""
    listener = _listen(host, port)
    if ready:
        # The listener is open: a request made from now on waits for the loop to start.
        ready(f"http://{host}:{listener.getsockname()[1]}")
    with suppress(KeyboardInterrupt):
        _server(app).run(sockets=[listener])


class ServerThread:
    """A web application beside a test, on a free port of 127.0.0.1, while the context lasts."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def __enter__(self) -> Self:
        listener = _listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = _server(self._app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="simulator", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError("the simulator did not start")
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(_STARTS_WITHIN_S)


class SimulatorThread(ServerThread):
    """A simulated Samsara beside a test."""

    def __init__(
        self,
        *accounts: Account,
        faults: FaultPlan | None = None,
        prerender: bool = False,
        page_bytes: int = PAGE_BYTES,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.accounts = accounts or (Account("simulated", 10),)
        self._simulator = Simulator(self.accounts, faults or FaultPlan(), clock_ms, page_bytes)
        if prerender:
            self._simulator.prerender(FEED_TYPES)
        super().__init__(self._simulator.app())

    @property
    def account(self) -> Account:
        """Return the first account."""
        return self.accounts[0]

    def plan(self, plan: FaultPlan) -> None:
        """Replace the plan of faults."""
        self._simulator.set_plan(plan)

    def next(self, fault: str, times: int = 1, *, retry_after_s: float | None = None, path: str = "") -> None:
        """Give the next answers a fault, and no other faults after them."""
        self.plan(FaultPlan(script=(Scripted(fault, times, retry_after_s, path),)))

    def stats(self) -> dict[str, object]:
        """Return what was asked and answered so far, as `GET /_stats` does."""
        return self._simulator.stats()


def _listen(host: str, port: int) -> socket.socket:
    """Open a listener that names its protocol: asyncio sends at once (TCP_NODELAY) on no other, and a small page would
    wait 40 ms for an acknowledgement that its reader delays.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _server(app: Starlette) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
