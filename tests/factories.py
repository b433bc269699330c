"""Rows that tests begin with, made as an operator would make them."""

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg

from db.encryption import Keyring, connection_context, new_key

ENCRYPTION_KEY = new_key()


def make_tenant(connection: psycopg.Connection, slug: str = "acme", time_zone: str = "UTC") -> UUID:
    """Insert a tenant."""
    row = connection.execute(
        "INSERT INTO tenants (slug, name, time_zone) VALUES (%s, %s, %s) RETURNING id", [slug, slug.title(), time_zone]
    ).fetchone()
    assert row is not None
    return UUID(str(row[0]))


def make_connection(
    connection: psycopg.Connection,
    tenant_id: UUID,
    base_url: str,
    *,
    token: str = "simulated",
    provider: str = "samsara",
    settings: dict[str, Any] | None = None,
) -> UUID:
    """Insert a connection with an encrypted token; by default it makes vehicles of what it finds."""
    connection_id = uuid4()
    credentials = Keyring.from_settings([ENCRYPTION_KEY]).encrypt(
        json.dumps({"token": token}).encode(), associated=connection_context(tenant_id, connection_id)
    )
    given = {"create_vehicles": True, "requests_per_s": 1000} | (settings or {})
    connection.execute(
        "INSERT INTO connections (id, tenant_id, provider, name, base_url, credentials_encrypted, settings)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [connection_id, tenant_id, provider, f"{provider} {connection_id}", base_url, credentials, json.dumps(given)],
    )
    return connection_id
