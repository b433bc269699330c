"""Tenants, as the platform's operators make and see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant by its slug, and the zone of its wall clocks."""

    id: UUID
    slug: str
    name: str
    time_zone: str


_FIND = text("SELECT id, slug, name, time_zone FROM tenants WHERE slug = :slug AND deleted_at IS NULL")


def find_tenant(connection: Connection, slug: str) -> Tenant | None:
    """Return the tenant of a slug."""
    row = connection.execute(_FIND, {"slug": slug}).one_or_none()
    return None if row is None else Tenant(*row)


_ADD = text(
    """
    INSERT INTO tenants (slug, name, time_zone) VALUES (:slug, :name, :time_zone)
    ON CONFLICT (slug) DO NOTHING RETURNING id
    """
)


def add_tenant(connection: Connection, slug: str, name: str, time_zone: str) -> UUID | None:
    """Add a tenant; None where the slug is taken, also by a tenant that was removed.

    Raises:
        sqlalchemy.exc.IntegrityError: the slug's form, or the zone, is refused.
    """
    values = {"slug": slug, "name": name, "time_zone": time_zone}
    added: UUID | None = connection.execute(_ADD, values).scalar_one_or_none()
    return added


_CHANGEABLE = ("name", "time_zone", "locale", "is_active")


def change_tenant(
    connection: Connection, tenant_id: UUID, changes: Mapping[str, object], units: str | None = None
) -> None:
    """Change what is given of a tenant.

    Args:
        units: how distances are told; `auto` forgets what was set, None changes nothing.

    Raises:
        sqlalchemy.exc.IntegrityError: the zone is refused.
    """
    given = {name: changes[name] for name in _CHANGEABLE if name in changes}
    sets = [f"{name} = :{name}" for name in given]
    if units is not None:
        sets.append("settings = settings - 'units' || jsonb_strip_nulls(jsonb_build_object('units', :units))")
        given["units"] = None if units == "auto" else units
    statement = f"UPDATE tenants SET {', '.join(sets)} WHERE id = :id".replace(":units", "CAST(:units AS text)")
    connection.execute(text(statement), {**given, "id": tenant_id})


@dataclass(frozen=True, slots=True)
class TenantRow:
    """A tenant as a line of a list."""

    id: UUID
    slug: str
    name: str
    time_zone: str
    locale: str
    units: str | None
    is_active: bool
    connections: int
    vehicles: int
    created_at: datetime


_LIST = text(
    """
    SELECT t.id, t.slug, t.name, t.time_zone, t.locale, t.settings ->> 'units', t.is_active,
           (SELECT count(*) FROM connections c WHERE c.tenant_id = t.id AND c.deleted_at IS NULL),
           (SELECT count(*) FROM vehicles v WHERE v.tenant_id = t.id AND v.deleted_at IS NULL), t.created_at
    FROM tenants t WHERE t.deleted_at IS NULL ORDER BY t.slug
    """
)


def list_tenants(connection: Connection) -> list[TenantRow]:
    """Return every tenant, by slug."""
    return [TenantRow(*row) for row in connection.execute(_LIST)]
