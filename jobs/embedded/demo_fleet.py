"""The fleets of the demo: two tenants, each with accounts at two providers, fences, thresholds and services due."""

from dataclasses import dataclass
from uuid import UUID, uuid5

import psycopg
from psycopg.types.json import Jsonb

from db.encryption import Keyring
from integrations.http import HttpSession
from integrations.registry import find_provider, open_provider
from integrations.telematics import Device
from jobs.embedded import demo_fences, demo_services
from jobs.embedded.demo_providers import ACCOUNTS, DemoAccount

OFFLINE_AFTER_S = 60
"""Nobody watches a screen for the usual half hour."""
SYNC_EVERY_S = 5


@dataclass(frozen=True)
class DemoTenant:
    """One tenant of the demo."""

    slug: str
    name: str
    time_zone: str
    locale: str


TENANTS = (
    DemoTenant("northern-haulage", "Northern Haulage", "Europe/London", "en-GB"),
    DemoTenant("bay-couriers", "Bay Couriers", "America/Los_Angeles", "es-US"),
)
TOKENS = tuple(account.name for account in ACCOUNTS)
"""What the stack keeps a token for."""


def seed(database_url: str, origin: str, tokens: dict[str, str], encryption_key: str) -> None:
    """Make the tenants, their connections to `origin`, their fences, schedules, and the vehicles that providers list.

    Twice is harmless: each row has a natural key. The origin is written anew: its port changes, and what runs out is
    exchanged for new. Syncs are asked for as any application would, so that nobody waits for the first tick.

    Raises:
        IntegrationError: a provider does not answer.
    """
    keyring = Keyring.from_settings([encryption_key])
    with psycopg.connect(database_url) as connection:
        ids = {tenant.slug: _tenant(connection, tenant) for tenant in TENANTS}
        for account in ACCOUNTS:
            tenant_id = ids[account.tenant]
            credentials = _exchanged(account, account.credentials(tokens[account.name]), origin)
            connection_id = _connection(connection, tenant_id, account, origin, credentials, keyring)
            devices = _devices(account, credentials, origin)
            with connection.cursor() as cursor:
                cursor.executemany(_VEHICLE, [_vehicle(tenant_id, connection_id, device) for device in devices])
            demo_fences.draw(connection, tenant_id, account.tenant, account.seed, account.vehicles)
            connection.execute(_SYNC, (Jsonb({"connection_id": str(connection_id)}), tenant_id))
        for tenant in TENANTS:
            demo_services.plan(connection, ids[tenant.slug], tenant.slug, tenant.name, tenant.locale)


_TENANT = """
    INSERT INTO tenants (slug, name, time_zone) VALUES (%s, %s, %s)
    ON CONFLICT (slug) DO UPDATE SET name = EXCLUDED.name RETURNING id
"""
_THRESHOLDS = """
    INSERT INTO alert_thresholds (tenant_id, vehicle_kind, offline_after_s, low_fuel_percent, low_battery_percent)
    VALUES (%s, 'vehicle', %s, 15, 20) ON CONFLICT DO NOTHING
"""
_CONNECTION = """
    INSERT INTO connections (id, tenant_id, provider, name, base_url, credentials_encrypted, settings)
    VALUES (%(id)s, %(tenant_id)s, %(provider)s, 'demo', %(origin)s, %(credentials)s, %(settings)s)
    ON CONFLICT (id)
    DO UPDATE SET base_url = EXCLUDED.base_url, credentials_encrypted = EXCLUDED.credentials_encrypted,
        status = 'active', status_reason = NULL, renewal_claim = NULL, renewal_claimed_at = NULL
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
    connection.execute(_THRESHOLDS, (tenant_id, OFFLINE_AFTER_S))
    return tenant_id


def _exchanged(account: DemoAccount, credentials: dict[str, str], origin: str) -> dict[str, str]:
    """Return what the account is read with: where the owner gave a code, what the provider gives for it."""
    exchange = find_provider(account.provider).exchange
    if exchange is None:
        return credentials
    with HttpSession() as http:
        return dict(exchange(http, credentials, origin))


def _connection(
    connection: psycopg.Connection,
    tenant_id: UUID,
    account: DemoAccount,
    origin: str,
    credentials: dict[str, str],
    keyring: Keyring,
) -> UUID:
    connection_id = uuid5(tenant_id, account.provider)
    values = {
        "id": connection_id,
        "tenant_id": tenant_id,
        "provider": account.provider,
        "origin": origin,
        "settings": Jsonb({} if account.provider == "smartcar" else {"poll_every_s": SYNC_EVERY_S}),
        "credentials": keyring.encrypt_credentials(tenant_id, connection_id, credentials),
    }
    connection.execute(_CONNECTION, values)
    return connection_id


def _devices(account: DemoAccount, credentials: dict[str, str], origin: str) -> list[Device]:
    provider = open_provider(account.provider, credentials, origin)
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
