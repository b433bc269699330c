"""The providers of the demo: a Samsara, a Smartcar and a Traccar, simulated by one process on one port."""

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from starlette.applications import Starlette

from integrations.simulator import Account, FaultPlan
from integrations.simulator.app import Simulator
from integrations.simulator.fleet import now_ms
from integrations.simulator.server import PAGE_BYTES, serve_app
from integrations.simulator.smartcar import SmartcarSimulator
from integrations.simulator.smartcar_fleet import SmartcarAccount
from integrations.simulator.traccar import TraccarSimulator
from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.process import HOST

BACKLOG_S = 120
"""How much a fleet has already reported when its account is connected: something to catch up with."""
REPORT_EVERY_S = 2.0
READY_S = 30.0
FAULTS = FaultPlan(rate_limit=0.02, server_error=0.02, impossible=0.05, missing_time=0.05, wrong_types=0.05)
"""What Samsara does to everybody: refuse now and then, and report what cannot be."""
SILENT_SHARE, SILENT_AFTER_S = 0.02, 30
"""How many vehicles fall silent, and when, after the fleet's beginning."""
CODES_SHARE = 0.04


@dataclass(frozen=True)
class DemoAccount:
    """A tenant's account at a provider; `seed` makes its vehicles. `name` is what its token is kept under."""

    tenant: str
    provider: str
    vehicles: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.tenant}-{self.provider}"

    def credentials(self, token: str) -> dict[str, str]:
        """Return what an operator would type in to connect the account."""
        if self.provider != "smartcar":
            return {"token": token}
        owner = _owner(self, token)
        return {
            "client_id": owner.client_id,
            "client_secret": owner.client_secret,
            "code": owner.code,
            "redirect_uri": owner.redirect_uri,
        }


ACCOUNTS = (
    DemoAccount("northern-haulage", "samsara", 1420, 1),
    DemoAccount("northern-haulage", "smartcar", 20, 3),
    DemoAccount("bay-couriers", "samsara", 360, 2),
    DemoAccount("bay-couriers", "traccar", 200, 4),
)


def account_start(file: Path) -> datetime:
    """Return when the simulated fleets began to report, decided the first time and kept in `file`."""
    if not file.exists():
        file.write_text(f"{time.time() - BACKLOG_S:.0f}\n")
    return datetime.fromtimestamp(float(file.read_text()), UTC)


def provider_settings(tokens: dict[str, str], start: datetime, port: int) -> dict[str, str]:
    """Return what `serve_providers` reads from its environment."""
    told = {"tokens": tokens, "start": start.timestamp(), "port": port}
    return {"FLEET_DEMO_PROVIDERS": json.dumps(told)}


def serve_providers() -> None:
    """Serve the simulated accounts until interrupted: what the simulator's process runs."""
    told = json.loads(os.environ["FLEET_DEMO_PROVIDERS"])
    start = datetime.fromtimestamp(told["start"], UTC)
    tokens = told["tokens"]
    samsara = Simulator(_fleets("samsara", tokens, start), FAULTS, now_ms, PAGE_BYTES)
    traccar = TraccarSimulator(_fleets("traccar", tokens, start))
    owners = (_owner(each, tokens[each.name]) for each in ACCOUNTS if each.provider == "smartcar")
    smartcar = SmartcarSimulator(*owners)
    serve_app(Starlette(routes=[*samsara.routes(), *traccar.routes(), *smartcar.routes()]), HOST, told["port"])


def _fleets(provider: str, tokens: dict[str, str], start: datetime) -> list[Account]:
    """Return the accounts at a provider; `start` must stay the same while a cursor lives."""
    return [
        Account(
            tokens[each.name],
            each.vehicles,
            each.seed,
            interval_s=REPORT_EVERY_S,
            start=start,
            silent_share=SILENT_SHARE,
            silent_from=start + timedelta(seconds=SILENT_AFTER_S),
            fault_share=CODES_SHARE,
        )
        for each in ACCOUNTS
        if each.provider == provider
    ]


def _owner(account: DemoAccount, token: str) -> SmartcarAccount:
    """Return a Smartcar account whose secrets follow from the token that the stack keeps for it."""
    return SmartcarAccount(
        client_id=account.name,
        client_secret=token,
        code=token[::-1],
        management_token=f"{token}-management",
        vehicles=account.vehicles,
        seed=account.seed,
    )


def wait_until_served(port: int, is_alive: Callable[[], bool]) -> None:
    """Wait for the simulated providers to accept connections.

    Raises:
        EmbeddedServerError: they do not, within `READY_S`.
    """
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and is_alive():
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise EmbeddedServerError(f"the simulated providers do not answer on port {port}")


if __name__ == "__main__":
    serve_providers()
