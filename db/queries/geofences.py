"""Every statement about fences: what they are, which vehicles are inside, and what that led to."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Fence:
    """A fence as its tenant drew it; of `boundary` and the circle's three one is there."""

    id: UUID
    name: str
    kind: str
    boundary: dict[str, Any] | None
    center_latitude: float | None
    center_longitude: float | None
    radius_m: float | None
    alert_on_entry: bool
    alert_on_exit: bool
    alert_recipients: list[str]
    confirm_fixes: int
    exit_distance_m: float
    dwell_s: int | None
    problem: str | None


_VERSION = text("SELECT version FROM geofence_versions WHERE tenant_id = app_tenant_id()")


def read_version(connection: Connection) -> UUID | None:
    """Return what changes with every change of the tenant's fences; None where it never had any."""
    version: UUID | None = connection.execute(_VERSION).scalar_one_or_none()
    return version


class ListedFence(NamedTuple):
    """What it takes to read a fence: how many bytes its boundary is stored in, compressed or not."""

    id: UUID
    stored_bytes: int
    problem: str | None


_LIST = text(
    """
    SELECT id, coalesce(pg_column_size(boundary), 0), problem
    FROM geofences WHERE tenant_id = app_tenant_id() AND is_active AND deleted_at IS NULL ORDER BY created_at, id
    """
)
_LOAD = text(
    """
    SELECT id, name, kind, CAST(boundary AS text), center_latitude, center_longitude, radius_m, alert_on_entry,
           alert_on_exit, alert_recipients, confirm_fixes, exit_distance_m, dwell_s, problem
    FROM geofences WHERE id = ANY(CAST(:fences AS uuid[])) AND is_active AND deleted_at IS NULL ORDER BY created_at, id
    """
)


def list_fences(connection: Connection) -> list[ListedFence]:
    """Return the tenant's active fences, the oldest first."""
    return [ListedFence(*row) for row in connection.execute(_LIST)]


def load_fences(connection: Connection, fences: Iterable[UUID]) -> Iterator[Fence]:
    """Return those of the fences that are still active, the oldest first; decoded as they are taken."""
    return map(_fence, connection.execute(_LOAD, {"fences": _array(fences)}).all())


def _fence(row: Sequence[Any]) -> Fence:
    """Return a fence; without a boundary where its JSON is more than we read: one fence's matter, not its tenant's."""
    fence = Fence(*row)
    if fence.boundary is None:
        return fence
    try:
        return replace(fence, boundary=msgspec.json.decode(row[3]))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return replace(fence, boundary=None)


_NOTE_PROBLEMS = text(
    """
    UPDATE geofences g SET problem = n.problem
    FROM jsonb_to_recordset(CAST(:problems AS jsonb)) AS n (id uuid, problem text)
    WHERE g.id = n.id AND g.problem IS DISTINCT FROM n.problem
      AND EXISTS (SELECT FROM geofence_versions v WHERE v.tenant_id = g.tenant_id AND v.version = :version)
    """
)


def note_problems(connection: Connection, version: UUID | None, problems: dict[UUID, str | None]) -> None:
    """Write why fences are not evaluated, or that they are again; changes no version."""
    listed = [{"id": str(fence_id), "problem": problem} for fence_id, problem in problems.items()]
    connection.execute(_NOTE_PROBLEMS, {"problems": _json(listed), "version": version})


def _json(rows: Any) -> str:
    """Return rows as JSON text: one value for a whole page, and nothing for the driver to adapt."""
    return msgspec.json.encode(rows).decode()


def _array(ids: Iterable[UUID]) -> str:
    """Return ids as the text of an array: adapted one by one they take longer than the statement."""
    return "{" + ",".join(map(str, ids)) + "}"


# Locked in the order of their ids, as by any other who locks several: nobody waits in a circle. One value for all of
# them: taken one by one, they would cost more than the statement. Applications may write instants that are none.
_LOCK = text(
    """
    WITH known AS MATERIALIZED (
        SELECT vehicle_id, extract(epoch FROM least(greatest(fences_at, '1970-01-01'), '9999-01-01')) AS epoch_s
        FROM vehicle_positions WHERE vehicle_id = ANY(CAST(:vehicles AS uuid[]))
        ORDER BY vehicle_id FOR NO KEY UPDATE
    )
    SELECT (SELECT version FROM geofence_versions WHERE tenant_id = app_tenant_id()),
           CAST(coalesce(json_object_agg(vehicle_id, CAST(1000000 * (epoch_s - 946684800) AS bigint)), '{}') AS text)
    FROM known
    """
)
_PLACE = text(
    """
    INSERT INTO vehicle_positions (tenant_id, vehicle_id)
    SELECT app_tenant_id(), v FROM unnest(CAST(:vehicles AS uuid[])) AS v ORDER BY v
    ON CONFLICT (vehicle_id) DO NOTHING
    """
)


def lock_watermarks(connection: Connection, vehicles: Sequence[UUID]) -> tuple[UUID | None, dict[UUID, int]]:
    """Return up to where fences were evaluated for vehicles; nobody else moves that until the transaction ends.

    Returns:
        The version of the tenant's fences; and by vehicle microseconds since 2000, of 1970 where it never was asked.
    """
    version, marks = _lock(connection, vehicles)
    if len(marks) < len(vehicles):
        connection.execute(_PLACE, {"vehicles": _array(each for each in vehicles if each not in marks)})
        version, marks = _lock(connection, vehicles)
    return version, marks


def _lock(connection: Connection, vehicles: Iterable[UUID]) -> tuple[UUID | None, dict[UUID, int]]:
    version, told = connection.execute(_LOCK, {"vehicles": _array(vehicles)}).one()
    return version, msgspec.json.decode(told, type=dict[UUID, int])


_ADVANCE = text(
    """
    UPDATE vehicle_positions p SET fences_at = n.newest_at
    FROM unnest(CAST(:vehicles AS uuid[]), CAST(:newest AS timestamptz[])) AS n (vehicle_id, newest_at)
    WHERE p.vehicle_id = n.vehicle_id AND (p.fences_at IS NULL OR p.fences_at < n.newest_at)
    """
)


def advance_watermarks(connection: Connection, newest: dict[UUID, datetime]) -> None:
    """Move the watermarks of locked vehicles whose positions are not stored here on to their newest fix."""
    times = "{" + ",".join(at.isoformat() for at in newest.values()) + "}"
    connection.execute(_ADVANCE, {"vehicles": _array(newest), "newest": times})


_FORGET_WATERMARKS = text(
    """
    UPDATE vehicle_positions p SET fences_at = NULL
    FROM vehicles v WHERE v.id = p.vehicle_id AND v.connection_id IS NULL AND p.fences_at IS NOT NULL
    """
)


def forget_watermarks(connection: Connection) -> None:
    """Forget how far vehicles without a connection were evaluated, while the tenant has no fence at all."""
    connection.execute(_FORGET_WATERMARKS)


class PresenceRow(msgspec.Struct, frozen=True, gc=False):
    """A vehicle that is inside a fence, or not surely outside yet."""

    vehicle_id: UUID
    geofence_id: UUID
    entered_at: datetime | None
    dwelled_at: datetime | None
    pending_at: datetime | None
    pending_fixes: int
    pending_latitude: float | None
    pending_longitude: float | None


_PRESENCE = text(
    """
    SELECT vehicle_id, geofence_id, entered_at, dwelled_at, pending_at, pending_fixes, pending_latitude,
           pending_longitude
    FROM geofence_presence WHERE vehicle_id = ANY(CAST(:vehicles AS uuid[]))
    """
)


def read_presence(connection: Connection, vehicles: Sequence[UUID]) -> list[PresenceRow]:
    """Return where vehicles are inside, or are about to be."""
    return [PresenceRow(*row) for row in connection.execute(_PRESENCE, {"vehicles": _array(vehicles)})]


_HOLD = text("SELECT version FROM geofence_versions WHERE tenant_id = app_tenant_id() FOR SHARE")
_EVALUATED = text(
    """
    SELECT id FROM geofences
    WHERE id = ANY(CAST(:fences AS uuid[])) AND is_active AND deleted_at IS NULL AND problem IS NULL
    """
)


def hold_version(connection: Connection) -> UUID | None:
    """Return the version, and let nobody change fences until the transaction ends.

    Before any presence or alert is written: changes of fences hold the same row before they touch either, so that
    nobody waits in a circle, and whoever comes second sees what the first has written.
    """
    version: UUID | None = connection.execute(_HOLD).scalar_one_or_none()
    return version


def find_evaluated(connection: Connection, fences: Iterable[UUID]) -> set[UUID]:
    """Return those of the fences that are evaluated now."""
    return set(connection.execute(_EVALUATED, {"fences": _array(fences)}).scalars())


_KEEP_PRESENCE = text(
    """
    INSERT INTO geofence_presence AS p (tenant_id, vehicle_id, geofence_id, entered_at, dwelled_at, pending_at,
                                        pending_fixes, pending_latitude, pending_longitude)
    SELECT app_tenant_id(), n.vehicle_id, n.geofence_id, n.entered_at, n.dwelled_at, n.pending_at, n.pending_fixes,
           n.pending_latitude, n.pending_longitude
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS n (vehicle_id uuid, geofence_id uuid, entered_at timestamptz,
        dwelled_at timestamptz, pending_at timestamptz, pending_fixes smallint, pending_latitude float8,
        pending_longitude float8)
    ORDER BY n.vehicle_id, n.geofence_id
    ON CONFLICT (vehicle_id, geofence_id) DO UPDATE
    SET entered_at = excluded.entered_at, dwelled_at = excluded.dwelled_at, pending_at = excluded.pending_at,
        pending_fixes = excluded.pending_fixes, pending_latitude = excluded.pending_latitude,
        pending_longitude = excluded.pending_longitude
    """
)
_DROP_PRESENCE = text(
    """
    DELETE FROM geofence_presence p
    USING unnest(CAST(:vehicles AS uuid[]), CAST(:fences AS uuid[])) AS n (vehicle_id, geofence_id)
    WHERE p.vehicle_id = n.vehicle_id AND p.geofence_id = n.geofence_id
    """
)


def keep_presence(connection: Connection, rows: Iterable[PresenceRow]) -> None:
    """Write where vehicles are inside now."""
    connection.execute(_KEEP_PRESENCE, {"rows": _json(list(rows))})


def drop_presence(connection: Connection, pairs: Sequence[tuple[UUID, UUID]]) -> None:
    """Forget pairs of vehicle and fence."""
    values = {"vehicles": _array(pair[0] for pair in pairs), "fences": _array(pair[1] for pair in pairs)}
    connection.execute(_DROP_PRESENCE, values)


class Event(msgspec.Struct, frozen=True, gc=False):
    """A vehicle came into a fence, left it, or has stayed for long; `kind` is `entry`, `exit` or `dwell`."""

    vehicle_id: UUID
    geofence_id: UUID
    time: datetime
    kind: str
    latitude: float
    longitude: float


_ADD_EVENTS = text(
    """
    INSERT INTO geofence_events (tenant_id, vehicle_id, geofence_id, time, kind, latitude, longitude)
    SELECT app_tenant_id(), n.vehicle_id, n.geofence_id, n.time, n.kind, n.latitude, n.longitude
    FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS n
        (vehicle_id uuid, geofence_id uuid, time timestamptz, kind text, latitude float8, longitude float8)
    ORDER BY n.vehicle_id, n.geofence_id, n.time, n.kind
    ON CONFLICT (vehicle_id, geofence_id, time, kind) DO NOTHING
    RETURNING vehicle_id, geofence_id, time, kind, latitude, longitude
    """
)


def add_events(connection: Connection, events: Iterable[Event]) -> list[Event]:
    """Write events; return those that are new."""
    return [Event(*row) for row in connection.execute(_ADD_EVENTS, {"events": _json(list(events))})]


class FenceAlert(msgspec.Struct, frozen=True, gc=False):
    """An alert of a crossing; `kind` is `geofence_entry` or `geofence_exit`. None is still open."""

    kind: str
    subject: str
    vehicle_id: UUID
    geofence_id: UUID
    opened_at: datetime
    resolved_at: datetime | None


_RESOLVE_ALERTS = text(
    """
    UPDATE alerts a SET resolved_at = greatest(a.opened_at, n.at)
    FROM jsonb_to_recordset(CAST(:alerts AS jsonb)) AS n (kind text, subject text, at timestamptz)
    WHERE a.tenant_id = app_tenant_id() AND a.kind = n.kind AND a.subject = n.subject AND a.resolved_at IS NULL
    """
)
_OPEN_ALERTS = text(
    """
    INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, subject, message, details, recipients, opened_at,
                        resolved_at)
    SELECT app_tenant_id(), n.kind, 'medium', n.vehicle_id, n.subject,
           format(CASE n.kind WHEN 'geofence_entry' THEN '%s entered %s' ELSE '%s left %s' END, left(v.name, 200),
                  g.name),
           jsonb_build_object('geofence_id', g.id, 'geofence', g.name, 'time', n.opened_at),
           g.alert_recipients, n.opened_at, n.resolved_at
    FROM jsonb_to_recordset(CAST(:alerts AS jsonb)) AS n
        (kind text, vehicle_id uuid, geofence_id uuid, subject text, opened_at timestamptz, resolved_at timestamptz)
    JOIN vehicles v ON v.id = n.vehicle_id AND v.deleted_at IS NULL AND v.status NOT IN ('retired', 'sold')
    JOIN geofences g ON g.id = n.geofence_id
    ORDER BY n.subject, n.opened_at, n.kind
    ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
    """
)


def resolve_alerts(connection: Connection, alerts: Iterable[tuple[str, str, datetime]]) -> None:
    """Resolve what is open of a kind and subject, at an instant."""
    listed = [{"kind": kind, "subject": subject, "at": at} for kind, subject, at in alerts]
    connection.execute(_RESOLVE_ALERTS, {"alerts": _json(listed)})


def add_alerts(connection: Connection, alerts: Iterable[FenceAlert]) -> None:
    """Write alerts; where one of a kind and subject is open already, it stays the one."""
    connection.execute(_OPEN_ALERTS, {"alerts": _json(list(alerts))})


# Of each vehicle the oldest first, by its own key: whoever has much to catch up keeps nobody waiting.
_UNCONNECTED = text(
    """
    SELECT v.id, t.time, t.latitude, t.longitude
    FROM vehicles v
    LEFT JOIN vehicle_positions p ON p.vehicle_id = v.id
    CROSS JOIN LATERAL (
        SELECT time, latitude, longitude FROM telemetry
        WHERE vehicle_id = v.id AND time > coalesce(p.fences_at, :since) AND time <= :now AND latitude IS NOT NULL
        ORDER BY time LIMIT :each
    ) t
    WHERE v.tenant_id = app_tenant_id() AND v.connection_id IS NULL AND v.deleted_at IS NULL
    LIMIT :most
    """
)


def read_unconnected(
    connection: Connection, now: datetime, first: timedelta, *, each: int, most: int
) -> list[tuple[UUID, datetime, float, float]]:
    """Return fixes that no fence has seen yet, of vehicles without a connection: other applications stored them.

    Args:
        first: how far back to begin with a vehicle that was never evaluated.
        each: at most so many of a vehicle; `most` of all together.
    """
    values = {"now": now, "since": now - first, "each": each, "most": most}
    return [(row[0], row[1], row[2], row[3]) for row in connection.execute(_UNCONNECTED, values)]
