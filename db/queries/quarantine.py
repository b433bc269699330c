"""Readings that cannot be: who is told of them, and what becomes of one that a person believes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from db.engine import set_tenant
from db.queries.meters import note_believed
from db.queries.schedule import read_clock
from db.queries.work_order_numbers import hold

# Until a reading is believed again: a service that goes by a meter which nobody trusts is a service that nobody does.
# What was read in the future is doubted since it came, not until its day.
_TELL = text(
    """
    WITH doubted AS MATERIALIZED (
        SELECT DISTINCT ON (r.vehicle_id, r.meter)
               r.vehicle_id, left(v.name, 200) AS name, r.meter, r.value, r.read_at, r.reason,
               'meter:' || r.vehicle_id || ':' || r.meter AS subject
        FROM meter_readings r
        JOIN vehicles v ON v.id = r.vehicle_id
        LEFT JOIN vehicle_meters m ON m.vehicle_id = r.vehicle_id AND m.meter = r.meter
        WHERE r.tenant_id = (SELECT app_tenant_id()) AND r.state = 'quarantined'
          AND (m.read_at IS NULL OR least(r.read_at, r.created_at) > m.read_at)
          AND v.deleted_at IS NULL AND v.status NOT IN ('retired', 'sold')
        ORDER BY r.vehicle_id, r.meter, least(r.read_at, r.created_at) DESC, r.id
    ),
    told AS (
        INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, subject, message, details, opened_at)
        SELECT app_tenant_id(), 'maintenance_meter_quarantined', 'medium', d.vehicle_id, d.subject,
               format('%s: the %s %s; services go by the reading before', d.name,
                      CASE d.meter WHEN 'odometer_km' THEN 'odometer' ELSE 'engine hours meter' END, d.reason),
               jsonb_build_object('vehicle_id', d.vehicle_id, 'vehicle_name', d.name, 'meter', d.meter,
                                  'value', d.value, 'read_at', d.read_at, 'reason', d.reason),
               :now
        FROM doubted d
        ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
        RETURNING 1
    ),
    done_with AS MATERIALIZED (
        SELECT a.id FROM alerts a
        WHERE a.tenant_id = (SELECT app_tenant_id()) AND a.kind = 'maintenance_meter_quarantined'
          AND a.resolved_at IS NULL AND NOT EXISTS (SELECT FROM doubted d WHERE d.subject = a.subject)
        FOR NO KEY UPDATE SKIP LOCKED
    ),
    resolved AS (
        UPDATE alerts a SET resolved_at = :now WHERE a.id = ANY(ARRAY(SELECT id FROM done_with)) RETURNING 1
    )
    SELECT (SELECT count(*) FROM told), (SELECT count(*) FROM resolved)
    """
)


def tell_quarantined(connection: Connection, now: datetime) -> dict[str, int]:
    """Raise one alert for each meter of the tenant whose newest reading cannot be; resolve it once one is believed."""
    told, resolved = connection.execute(_TELL, {"now": now}).one()
    return {"meters_doubted": told, "meters_believed": resolved}


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A reading that waits for a person, and what the meter is believed to show."""

    id: UUID
    tenant: str
    vehicle_id: UUID
    vehicle: str
    meter: str
    value: float
    read_at: datetime
    reason: str
    source: str
    accepted_value: float | None
    accepted_at: datetime | None
    now: datetime


_LIST = """
    SELECT r.id, t.slug, r.vehicle_id, v.name, r.meter, r.value, r.read_at, r.reason, r.source, m.value, m.read_at,
           clock_timestamp()
    FROM meter_readings r JOIN tenants t ON t.id = r.tenant_id JOIN vehicles v ON v.id = r.vehicle_id
    LEFT JOIN vehicle_meters m ON m.vehicle_id = r.vehicle_id AND m.meter = r.meter
    WHERE r.state = 'quarantined' AND (CAST(:tenant_id AS uuid) IS NULL OR r.tenant_id = :tenant_id)
    ORDER BY r.read_at DESC, r.id LIMIT :limit
"""


def list_quarantined(connection: Connection, tenant_id: UUID | None, limit: int) -> list[Quarantined]:
    """Return the readings that wait for a person, the newest first."""
    return [Quarantined(*row) for row in connection.execute(text(_LIST), {"tenant_id": tenant_id, "limit": limit})]


# What contradicts it gives way: all that came before it where the instrument was replaced, else what is higher before
# it and lower after it. A service that counted from the old instrument keeps the distance driven since.
_ACCEPT = text(
    """
    WITH chosen AS (
        SELECT r.*, (SELECT value FROM meter_readings b
                     WHERE b.vehicle_id = r.vehicle_id AND b.meter = r.meter AND b.read_at < r.read_at
                       AND b.state = 'accepted' ORDER BY b.read_at DESC LIMIT 1) AS before
        FROM meter_readings r WHERE r.id = :id AND r.state = 'quarantined' FOR UPDATE
    ),
    given_way AS (
        UPDATE meter_readings w SET state = 'superseded'
        FROM chosen c
        WHERE w.vehicle_id = c.vehicle_id AND w.meter = c.meter AND w.state = 'accepted'
          AND (w.read_at < c.read_at AND (:replaced OR w.value > c.value)
               OR w.read_at > c.read_at AND w.value < c.value)
        RETURNING 1
    ),
    moved AS (
        UPDATE maintenance_triggers t
        SET base_km = CASE c.meter WHEN 'odometer_km' THEN t.base_km + (c.value - c.before) ELSE t.base_km END,
            base_engine_hours = CASE c.meter WHEN 'engine_hours' THEN t.base_engine_hours + (c.value - c.before)
                                             ELSE t.base_engine_hours END
        FROM chosen c WHERE :replaced AND c.before IS NOT NULL AND t.vehicle_id = c.vehicle_id
        RETURNING 1
    )
    UPDATE meter_readings w SET state = 'accepted', reason = NULL FROM chosen c WHERE w.id = c.id
    RETURNING w.vehicle_id, w.meter, CASE WHEN :replaced THEN c.value - c.before END
    """.replace(":replaced", "CAST(:replaced AS boolean)")
)
# A limit that a service was put off until is read off the same instrument. Who writes a limit puts off, and begins a
# cycle anew whose order was cancelled: not so here, and the trigger is told.
_REPLACED = text("SELECT set_config('app.instrument_replaced', 'yes', true)")
_MOVE_LIMITS = text(
    """
    UPDATE maintenance_triggers
    SET snoozed_until_km = CASE :meter WHEN 'odometer_km'
            THEN least(10000000, greatest(0, snoozed_until_km + :moved)) ELSE snoozed_until_km END,
        snoozed_until_engine_hours = CASE :meter WHEN 'engine_hours'
            THEN least(1000000, greatest(0, snoozed_until_engine_hours + :moved)) ELSE snoozed_until_engine_hours END
    WHERE vehicle_id = :vehicle_id
      AND CASE :meter WHEN 'odometer_km' THEN snoozed_until_km ELSE snoozed_until_engine_hours END IS NOT NULL
    """.replace(":moved", "CAST(:moved AS double precision)").replace(":meter", "CAST(:meter AS text)")
)
_REJUDGE = text(
    """
    UPDATE meter_readings SET state = 'reported', reason = NULL
    WHERE vehicle_id = :vehicle_id AND meter = :meter AND state = 'quarantined'
      AND read_at > (SELECT read_at FROM meter_readings WHERE id = :id)
    """
)


_WAITING = text("SELECT tenant_id, read_at FROM meter_readings WHERE id = CAST(:id AS uuid) AND state = 'quarantined'")
# Shorter than `deadlock_timeout`: a person tries again, rather than another application whose transaction is ended.
_DO_NOT_WAIT = text("SELECT set_config('lock_timeout', '500ms', true)")
_REJECT = text("UPDATE meter_readings SET state = 'superseded', reason = NULL WHERE id = :id AND state = 'quarantined'")


class FutureReadingError(ValueError):
    """A reading cannot be believed before its time."""


def accept_reading(connection: Connection, reading_id: UUID, *, replaced: bool) -> bool:
    """Believe a reading of any tenant that was set aside; what came after it is judged anew by the next check.

    Args:
        replaced: the instrument is another one. Its numbers begin here, and services count on with the distance that
            was driven; otherwise the reading is right, and what contradicts it was wrong.

    Returns:
        False where no reading of that id waits.

    Raises:
        FutureReadingError: nothing that is read before that time would count.
    """
    now = read_clock(connection)
    read_at = _hold_tenant_of(connection, reading_id, now)
    if read_at is None:
        return False
    if read_at > now + timedelta(hours=1):
        raise FutureReadingError
    row = connection.execute(_ACCEPT, {"id": reading_id, "replaced": replaced}).one_or_none()
    if row is None:
        return False
    note_believed(connection, [row[0]])
    values = {"vehicle_id": row[0], "meter": row[1], "id": reading_id}
    connection.execute(_REJUDGE, values)
    if row[2] is not None:
        connection.execute(_REPLACED)
        connection.execute(_MOVE_LIMITS, values | {"moved": row[2]})
    return True


def reject_reading(connection: Connection, reading_id: UUID) -> bool:
    """Dismiss a reading of any tenant that was set aside: it is kept, and nobody is asked about it again.

    Returns:
        False where no reading of that id waits.
    """
    _hold_tenant_of(connection, reading_id, read_clock(connection))
    return connection.execute(_REJECT, {"id": reading_id}).rowcount == 1


def _hold_tenant_of(connection: Connection, reading_id: UUID, now: datetime) -> datetime | None:
    """Hold the counter of the reading's tenant, so that nothing rolls forward beside it; return when it was read."""
    waiting = connection.execute(_WAITING, {"id": reading_id}).one_or_none()
    if waiting is None:
        return None
    connection.execute(_DO_NOT_WAIT)
    set_tenant(connection, waiting.tenant_id)
    hold(connection, now)
    read_at: datetime = waiting.read_at
    return read_at
