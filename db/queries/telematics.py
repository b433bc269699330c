"""Every statement of the telematics sync. Transactions of one tenant; a connection's rows only."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT
from sqlalchemy.sql.expression import bindparam

from integrations.telematics import Device, Reading, Rejected


@dataclass(frozen=True, slots=True)
class Account:
    """A connection as the sync needs it."""

    id: UUID
    tenant_id: UUID
    provider: str
    name: str
    base_url: str | None
    credentials_encrypted: bytes
    settings: dict[str, Any]
    status: str


_ACCOUNT = text(
    """
    SELECT id, tenant_id, provider, name, base_url, credentials_encrypted, settings, status
    FROM connections WHERE id = :id AND deleted_at IS NULL
    """
)


def find_account(connection: Connection, connection_id: UUID) -> Account | None:
    """Return a connection of the tenant; None where it has none of that id."""
    row = connection.execute(_ACCOUNT, {"id": connection_id}).one_or_none()
    return None if row is None else Account(row[0], row[1], row[2], row[3], row[4], bytes(row[5]), row[6], row[7])


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a feed was read; `completed_at` is when its last page was."""

    cursor: str | None
    completed_at: datetime | None


def read_cursors(connection: Connection, connection_id: UUID) -> dict[str, Cursor]:
    """Return the cursor of every feed of a connection that was ever read."""
    rows = connection.execute(
        text("SELECT feed, cursor, completed_at FROM sync_cursors WHERE connection_id = :id"), {"id": connection_id}
    )
    return {row[0]: Cursor(row[1], row[2]) for row in rows}


_ADVANCE = text(
    """
    INSERT INTO sync_cursors AS c (connection_id, tenant_id, feed, cursor, completed_at, pages, points)
    VALUES (:id, app_tenant_id(), :feed, :new, :completed_at, :pages, :points)
    ON CONFLICT (connection_id, feed) DO UPDATE
    SET cursor = excluded.cursor, completed_at = coalesce(excluded.completed_at, c.completed_at),
        pages = c.pages + excluded.pages, points = c.points + excluded.points
    WHERE c.cursor IS NOT DISTINCT FROM :old
    """
)


def advance_cursor(
    connection: Connection,
    connection_id: UUID,
    feed: str,
    old: str | None,
    new: str | None,
    *,
    pages: int,
    points: int,
    completed_at: datetime | None,
) -> bool:
    """Move a feed's cursor from `old` to `new`; False where it is no longer at `old`: somebody else has moved it."""
    values = {"id": connection_id, "feed": feed, "old": old, "new": new, "completed_at": completed_at}
    values |= {"pages": pages, "points": points}
    return connection.execute(_ADVANCE, values).rowcount == 1


_MATCH = text(
    """
    SELECT external_id, id FROM vehicles
    WHERE connection_id = :id AND external_id = ANY(:devices) AND deleted_at IS NULL
    """
).bindparams(bindparam("devices", type_=ARRAY(TEXT)))


def match_devices(connection: Connection, connection_id: UUID, devices: Sequence[str]) -> dict[str, UUID]:
    """Return the tenant's own vehicles behind a page's devices; a device without one is absent."""
    rows = connection.execute(_MATCH, {"id": connection_id, "devices": list(devices)})
    return {row[0]: row[1] for row in rows}


_LISTED_BEFORE = text(
    """
    SELECT external_id FROM vehicles
    WHERE connection_id = :id AND external_id = ANY(:devices) AND deleted_at IS NULL
    UNION ALL SELECT external_id FROM unmatched_devices WHERE connection_id = :id AND external_id = ANY(:devices)
    """
).bindparams(bindparam("devices", type_=ARRAY(TEXT)))


def find_listed(connection: Connection, connection_id: UUID, devices: Sequence[str]) -> set[str]:
    """Return which devices the connection's account is known to have, with a vehicle or without."""
    return set(connection.execute(_LISTED_BEFORE, {"id": connection_id, "devices": list(devices)}).scalars())


# Known already: nothing. A vehicle of the tenant with the device's VIN and no device: linked. The rest: kept as
# unmatched, or made a vehicle where the connection says so.
_LISTED = """
    listed AS (
        SELECT * FROM jsonb_to_recordset(:devices) AS d
            (device_id text, name text, vin text, license_plate text, make text, model text, year smallint)
        WHERE NOT EXISTS (SELECT FROM vehicles v WHERE v.connection_id = :id AND v.external_id = d.device_id
                                                    AND v.deleted_at IS NULL)
    ),
    linked AS (
        UPDATE vehicles v SET connection_id = :id, external_id = l.device_id
        FROM (SELECT DISTINCT ON (vin) vin, device_id FROM listed WHERE vin IS NOT NULL ORDER BY vin, device_id) l
        WHERE v.vin = l.vin AND v.external_id IS NULL AND v.deleted_at IS NULL
        RETURNING v.external_id
    ),
    unknown AS (SELECT * FROM listed WHERE device_id NOT IN (SELECT external_id FROM linked))
"""
_LINK_OR_KEEP = text(
    f"""
    WITH {_LISTED},
    kept AS (
        INSERT INTO unmatched_devices AS u
            (connection_id, external_id, tenant_id, name, vin, license_plate, make, model, year)
        SELECT :id, device_id, app_tenant_id(), name, vin, license_plate, make, model, year
        FROM unknown ORDER BY device_id
        ON CONFLICT (connection_id, external_id) DO UPDATE SET name = excluded.name, vin = excluded.vin,
            license_plate = excluded.license_plate, make = excluded.make, model = excluded.model, year = excluded.year
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM linked), 0, (SELECT count(*) FROM kept)
    """
).bindparams(bindparam("devices", type_=JSONB))
_LINK_OR_CREATE = text(
    f"""
    WITH {_LISTED},
    created AS (
        INSERT INTO vehicles (tenant_id, connection_id, external_id, name, vin, license_plate, make, model, year)
        SELECT app_tenant_id(), :id, u.device_id, coalesce(u.name, u.device_id),
               CASE WHEN NOT EXISTS (SELECT FROM vehicles v WHERE v.vin = u.vin AND v.deleted_at IS NULL)
                     AND row_number() OVER (PARTITION BY u.vin ORDER BY u.device_id) = 1 THEN u.vin END,
               u.license_plate, u.make, u.model, u.year
        FROM unknown u
        ON CONFLICT DO NOTHING
        RETURNING external_id
    ),
    settled AS (
        DELETE FROM unmatched_devices
        WHERE connection_id = :id AND external_id IN (SELECT external_id FROM created) RETURNING 1
    )
    SELECT (SELECT count(*) FROM linked), (SELECT count(*) FROM created), 0
    """
).bindparams(bindparam("devices", type_=JSONB))


def take_devices(
    connection: Connection, connection_id: UUID, devices: Iterable[Device], *, create_vehicles: bool
) -> dict[str, int]:
    """Link a page of the provider's vehicles to the tenant's by VIN; keep the unknown ones, or make them vehicles.

    Of a device that is listed twice the last word holds.

    Returns:
        `devices_linked`, `vehicles_created` and `devices_unmatched`.
    """
    listed = [
        {
            "device_id": d.device_id,
            "name": d.name,
            "vin": d.vin,
            "license_plate": d.license_plate,
            "make": d.make,
            "model": d.model,
            "year": d.year,
        }
        for d in {d.device_id: d for d in devices}.values()
    ]
    statement = _LINK_OR_CREATE if create_vehicles else _LINK_OR_KEEP
    row = connection.execute(statement, {"id": connection_id, "devices": listed}).one()
    return {"devices_linked": row[0], "vehicles_created": row[1], "devices_unmatched": row[2]}


_UNMATCHED = text(
    """
    INSERT INTO unmatched_devices AS u (connection_id, external_id, tenant_id, points, newest_at)
    SELECT :id, device_id, app_tenant_id(), count(*), max(time)
    FROM jsonb_to_recordset(:readings) AS r (device_id text, time timestamptz)
    GROUP BY device_id ORDER BY device_id
    ON CONFLICT (connection_id, external_id) DO UPDATE
    SET points = u.points + excluded.points, newest_at = greatest(u.newest_at, excluded.newest_at)
    RETURNING external_id, points
    """
).bindparams(bindparam("readings", type_=JSONB))


def count_unmatched(connection: Connection, connection_id: UUID, readings: Sequence[Reading]) -> dict[str, int]:
    """Note what devices without a vehicle have reported. Returns how many readings each has brought so far."""
    told = [{"device_id": r.device_id, "time": r.time.isoformat()} for r in readings]
    rows = connection.execute(_UNMATCHED, {"id": connection_id, "readings": told})
    return {row[0]: row[1] for row in rows}


_REJECT = text(
    """
    INSERT INTO rejected_records AS r
        (tenant_id, connection_id, feed, reason, field, device_id, payload, fingerprint)
    SELECT app_tenant_id(), :id, :feed, n.reason, n.field, n.device_id, n.payload, decode(n.fingerprint, 'hex')
    FROM jsonb_to_recordset(:records) AS n
        (reason text, field text, device_id text, payload text, fingerprint text)
    ORDER BY n.fingerprint
    ON CONFLICT (connection_id, fingerprint) DO UPDATE SET occurrences = r.occurrences + 1
    """
).bindparams(bindparam("records", type_=JSONB))


def keep_rejected(connection: Connection, connection_id: UUID, feed: str, records: Iterable[Rejected]) -> int:
    """Keep unreadable records with their reason. Returns how many; equal ones share a row and are counted there."""
    rows = {}
    number = 0
    for record in records:
        number += 1
        told = "\0".join((feed, record.reason, record.field, record.device_id or "", record.payload))
        fingerprint = hashlib.sha256(told.encode()).hexdigest()
        rows[fingerprint] = {
            "reason": record.reason,
            "field": record.field,
            "device_id": record.device_id,
            "payload": record.payload,
            "fingerprint": fingerprint,
        }
    if rows:
        connection.execute(_REJECT, {"id": connection_id, "feed": feed, "records": list(rows.values())})
    return number


_WAITING = text(
    """
    SELECT DISTINCT r.device_id, v.id
    FROM rejected_records r
    JOIN vehicles v ON v.connection_id = r.connection_id AND v.external_id = r.device_id AND v.deleted_at IS NULL
    WHERE r.connection_id = :id AND r.reason IN ('unmatched_device', 'unmatched_record') AND r.device_id = ANY(:devices)
    ORDER BY r.device_id LIMIT :most
    """
).bindparams(bindparam("devices", type_=ARRAY(TEXT)))


def list_waiting(
    connection: Connection, connection_id: UUID, devices: Sequence[str], most: int
) -> list[tuple[str, UUID]]:
    """Return devices that have got a vehicle while something of theirs was kept aside, with it; up to so many."""
    rows = connection.execute(_WAITING, {"id": connection_id, "devices": list(devices), "most": most})
    return [(row[0], row[1]) for row in rows]


def take_rejected(connection: Connection, connection_id: UUID, reason: str, device_id: str) -> list[tuple[str, str]]:
    """Take what was kept aside of a device for a reason, and keep it no longer. Returns field and payload of each."""
    rows = connection.execute(
        text(
            "DELETE FROM rejected_records WHERE connection_id = :id AND reason = :reason AND device_id = :device"
            " RETURNING field, payload"
        ),
        {"id": connection_id, "reason": reason, "device": device_id},
    )
    return [(row[0], row[1]) for row in rows]


def note_sync(connection: Connection, connection_id: UUID, now: datetime) -> None:
    """Note that a connection was read to its end."""
    connection.execute(
        text("UPDATE connections SET last_synced_at = :now WHERE id = :id"), {"id": connection_id, "now": now}
    )


_NEWEST = text(
    """
    UPDATE connections SET newest_point_at = :newest
    WHERE id = :id AND (newest_point_at IS NULL OR newest_point_at < :newest)
    """
)


def note_newest(connection: Connection, connection_id: UUID, newest: datetime) -> None:
    """Note the time of a connection's newest point, never backwards."""
    connection.execute(_NEWEST, {"id": connection_id, "newest": newest})


def begin_anew(connection: Connection, connection_id: UUID, feed: str) -> None:
    """Forget a feed's cursor: the provider does not know it any more."""
    connection.execute(
        text("UPDATE sync_cursors SET cursor = NULL WHERE connection_id = :id AND feed = :feed"),
        {"id": connection_id, "feed": feed},
    )


_CUT_OFF = text(
    """
    WITH marked AS (
        UPDATE connections SET status = 'reconnect', status_reason = :reason
        WHERE id = :id AND status <> 'reconnect' AND credentials_encrypted = :refused
        RETURNING id, tenant_id, provider, name
    )
    INSERT INTO alerts (tenant_id, kind, severity, connection_id, subject, message, opened_at)
    SELECT tenant_id, 'connection_rejected', 'high', id, 'connection:' || id,
           format('%s connection "%s" must be connected again: %s', provider, name, :reason), :now
    FROM marked
    ON CONFLICT DO NOTHING
    """.replace(":reason)", "CAST(:reason AS text))")
)


def cut_off(connection: Connection, account: Account, reason: str, now: datetime) -> None:
    """Mark a connection whose account refuses us, and tell its owner once: it is not read until connected again.

    Credentials that were replaced since the account was read are not judged by what the ones before met.
    """
    values = {"id": account.id, "refused": account.credentials_encrypted, "reason": reason[:500], "now": now}
    connection.execute(_CUT_OFF, values)
