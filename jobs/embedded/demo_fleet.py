"""The fleets of the demo: two tenants, each with an account at a provider that `serve_providers` simulates."""

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid5

import psycopg
from psycopg.types.json import Jsonb

from db.encryption import Keyring, connection_context
from integrations.registry import open_provider
from integrations.simulator import Account, FaultPlan, serve
from integrations.telematics import Device
from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.process import HOST

PROVIDER = "samsara"
BACKLOG_S = 120
"""How much a fleet has already reported when its account is connected: something to catch up with."""
REPORT_EVERY_S = 2.0
READY_S = 30.0
FAULTS = FaultPlan(rate_limit=0.02, server_error=0.02, impossible=0.05, missing_time=0.05, wrong_types=0.05)
"""What providers do to everybody: refuse now and then, and report what cannot be."""


@dataclass(frozen=True)
class DemoTenant:
    """One tenant of the demo; `seed` makes its vehicles."""

    slug: str
    name: str
    time_zone: str
    vehicles: int
    seed: int


TENANTS = (
    DemoTenant("northern-haulage", "Northern Haulage", "Europe/London", 1500, 1),
    DemoTenant("bay-couriers", "Bay Couriers", "America/Los_Angeles", 500, 2),
)
SLUGS = tuple(tenant.slug for tenant in TENANTS)


def accounts(tokens: dict[str, str], start: datetime) -> list[Account]:
    """Return the simulated accounts by their tokens; `start` must stay the same while a cursor lives."""
    return [
        Account(tokens[tenant.slug], tenant.vehicles, tenant.seed, interval_s=REPORT_EVERY_S, start=start)
        for tenant in TENANTS
    ]


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
    serve(HOST, told["port"], accounts=accounts(told["tokens"], start), faults=FAULTS)


def seed(database_url: str, origin: str, tokens: dict[str, str], encryption_key: str) -> None:
    """Make the tenants, their connections to `origin`, and the vehicles that the provider lists; ask for a sync.

    Twice is harmless: each row has a natural key. The origin is written anew: its port changes. The sync is
    asked for as any application would, so that nobody waits for the first tick.

    Raises:
        EmbeddedServerError: the provider does not answer.
    """
    with psycopg.connect(database_url) as connection:
        for tenant in TENANTS:
            tenant_id = _tenant(connection, tenant)
            token = tokens[tenant.slug]
            connection_id = _connection(connection, tenant_id, origin, token, encryption_key)
            devices = _devices(origin, token)
            with connection.cursor() as cursor:
                cursor.executemany(_VEHICLE, [_vehicle(tenant_id, connection_id, device) for device in devices])
            connection.execute(_SYNC, (Jsonb({"connection_id": str(connection_id)}), tenant_id))


_TENANT = """
    INSERT INTO tenants (slug, name, time_zone) VALUES (%s, %s, %s)
    ON CONFLICT (slug) DO UPDATE SET name = EXCLUDED.name RETURNING id
"""
_CONNECTION = """
    INSERT INTO connections (id, tenant_id, provider, name, base_url, credentials_encrypted)
    VALUES (%(id)s, %(tenant_id)s, %(provider)s, 'demo', %(origin)s, %(credentials)s)
    ON CONFLICT (id)
    DO UPDATE SET base_url = EXCLUDED.base_url, credentials_encrypted = EXCLUDED.credentials_encrypted,
        status = 'active', status_reason = NULL
"""
_VEHICLE = """
    INSERT INTO vehicles (tenant_id, connection_id, external_id, name, vin, license_plate, make, model, year)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""

_SYNC = "SELECT enqueue_job('telematics.sync_connection', %s, tenant_id => %s, requested_by => 'demo')"


def _tenant(connection: psycopg.Connection, tenant: DemoTenant) -> UUID:
    row = connection.execute(_TENANT, (tenant.slug, tenant.name, tenant.time_zone)).fetchone()
    assert row is not None
    tenant_id: UUID = row[0]
    return tenant_id


def _connection(connection: psycopg.Connection, tenant_id: UUID, origin: str, token: str, encryption_key: str) -> UUID:
    connection_id = uuid5(tenant_id, "demo")
    credentials = Keyring.from_settings([encryption_key]).encrypt(
        json.dumps({"token": token}).encode(), associated=connection_context(tenant_id, connection_id)
    )
    values = {
        "id": connection_id,
        "tenant_id": tenant_id,
        "provider": PROVIDER,
        "origin": origin,
        "credentials": credentials,
    }
    connection.execute(_CONNECTION, values)
    return connection_id


def _devices(origin: str, token: str) -> list[Device]:
    provider = open_provider(PROVIDER, {"token": token}, origin)
    try:
        page = provider.list_devices(None)
        devices = list(page.devices)
        while page.has_more:
            page = provider.list_devices(page.cursor)
            devices += page.devices
    finally:
        provider.close()
    return devices


def _vehicle(tenant_id: UUID, connection_id: UUID, device: Device) -> tuple[object, ...]:
    known = (device.vin, device.license_plate, device.make, device.model, device.year)
    return (tenant_id, connection_id, device.device_id, device.name or device.device_id, *known)


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
