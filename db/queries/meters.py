"""Meters: what devices and people report, what of it is believed, and the use a day. Transactions of one tenant."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

MOST_KM_PER_DAY = 2500
"""Two drivers in turn on a motorway for a whole day; no vehicle of a fleet does more."""
MOST_DAYS = 30
"""However long a vehicle was silent, a jump of more than so many days' use is for a person to believe."""
NOISE_KM, NOISE_HOURS = 1.0, 0.1
"""So much a meter may fall back: devices and dashboards round differently."""
AVERAGE_DAYS = 30
STALE_DAYS = 2
"""From a reading that is older, the meter is projected by the vehicle's own use a day."""
LONGEST_FORECAST_DAYS = 90
_MOST_ROUNDS = 50

_MOST = f"CASE r.meter WHEN 'odometer_km' THEN {MOST_KM_PER_DAY} ELSE 24 END"
_NOISE = f"CASE r.meter WHEN 'odometer_km' THEN {NOISE_KM} ELSE {NOISE_HOURS} END"


def _days(earlier: str, later: str) -> str:
    apart = f"CAST(extract(epoch FROM {later} - {earlier}) AS double precision) / 86400"
    return f"greatest(1, least({MOST_DAYS}, {apart}))"


# Why a reading cannot be, beside the accepted ones before and after it; NULL where it can.
PROBLEM = f"""
    CASE WHEN r.value < b.value - {_NOISE}
             THEN format('runs backwards: %s after %s', round(CAST(r.value AS numeric), 1),
                         round(CAST(b.value AS numeric), 1))
         WHEN r.value - b.value > {_MOST} * {_days("b.read_at", "r.read_at")}
             THEN format('jumps by %s in %s days', round(CAST(r.value - b.value AS numeric), 1),
                         round(CAST(extract(epoch FROM r.read_at - b.read_at) / 86400 AS numeric), 1))
         WHEN a.value < r.value - {_NOISE}
             THEN format('more than a later reading: %s before %s', round(CAST(r.value AS numeric), 1),
                         round(CAST(a.value AS numeric), 1))
    END
"""
NEIGHBOURS = """
    LEFT JOIN LATERAL (
        SELECT value, read_at FROM meter_readings
        WHERE vehicle_id = r.vehicle_id AND meter = r.meter AND read_at <= r.read_at AND state = 'accepted'
        ORDER BY read_at DESC LIMIT 1
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT value FROM meter_readings
        WHERE vehicle_id = r.vehicle_id AND meter = r.meter AND read_at > r.read_at AND state = 'accepted'
        ORDER BY read_at LIMIT 1
    ) a ON true
"""

# The use a day is that of the 30 days before the newest reading: a vehicle that fell silent keeps the one it had. Where
# nothing was known there is nothing to look up; a first check of a large fleet would search rows of its own making.
NOTED = f"""
    noted AS (
        INSERT INTO vehicle_meters AS m (tenant_id, vehicle_id, meter, value, read_at, per_day)
        SELECT app_tenant_id(), n.vehicle_id, n.meter, n.value, n.read_at,
               CASE WHEN n.read_at - f.read_at >= interval '1 day' THEN
                   greatest(0, n.value - f.value) / (extract(epoch FROM n.read_at - f.read_at) / 86400) END
        FROM believed n
        LEFT JOIN vehicle_meters k ON k.vehicle_id = n.vehicle_id AND k.meter = n.meter
        LEFT JOIN LATERAL (
            SELECT value, read_at FROM meter_readings
            WHERE k.vehicle_id IS NOT NULL AND vehicle_id = n.vehicle_id AND meter = n.meter AND state = 'accepted'
              AND read_at >= n.read_at - interval '{AVERAGE_DAYS} days'
            ORDER BY read_at LIMIT 1
        ) f ON true
        ORDER BY n.vehicle_id, n.meter
        ON CONFLICT (vehicle_id, meter) DO UPDATE
        SET value = excluded.value, read_at = excluded.read_at, per_day = coalesce(excluded.per_day, m.per_day)
        WHERE excluded.read_at > m.read_at
    )
"""
_COUNTS = """
    SELECT count(*) FILTER (WHERE state = 'accepted'), count(*) FILTER (WHERE state = 'quarantined')
"""
# Newer than what is believed of the meter, so that nothing accepted comes after it.
_TAKE = text(
    f"""
    WITH taken AS (
        INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at, source, state, reason)
        SELECT app_tenant_id(), r.vehicle_id, r.meter, r.value, r.read_at, 'telematics',
               CASE WHEN j.problem IS NULL THEN 'accepted' ELSE 'quarantined' END, j.problem
        FROM vehicle_positions p
        CROSS JOIN LATERAL (
            VALUES (p.vehicle_id, 'odometer_km', p.odometer_km, p.odometer_at),
                   (p.vehicle_id, 'engine_hours', p.engine_hours, p.engine_hours_at)
        ) AS r (vehicle_id, meter, value, read_at)
        LEFT JOIN vehicle_meters b ON b.vehicle_id = r.vehicle_id AND b.meter = r.meter
        CROSS JOIN (SELECT CAST(NULL AS double precision) AS value) a
        CROSS JOIN LATERAL (SELECT {PROBLEM} AS problem) j
        WHERE p.tenant_id = (SELECT app_tenant_id()) AND r.value BETWEEN 0 AND 10000000
          AND r.read_at BETWEEN '1950-01-01' AND CAST(:now AS timestamptz) + interval '1 hour'
          AND (b.vehicle_id IS NULL OR b.read_at < r.read_at)
        ORDER BY r.vehicle_id, r.meter
        ON CONFLICT (vehicle_id, meter, read_at) DO NOTHING
        RETURNING vehicle_id, meter, value, read_at, state
    ),
    believed AS (SELECT * FROM taken WHERE state = 'accepted'),
    {NOTED}
    {_COUNTS} FROM taken
    """
)

# The oldest of each meter at a time: whether the next one can be depends on it.
_JUDGE = text(
    f"""
    WITH judged AS (
        UPDATE meter_readings w
        SET state = CASE WHEN j.problem IS NULL THEN 'accepted' ELSE 'quarantined' END, reason = j.problem
        FROM (
            SELECT DISTINCT ON (vehicle_id, meter) * FROM meter_readings
            WHERE tenant_id = (SELECT app_tenant_id()) AND state = 'reported' ORDER BY vehicle_id, meter, read_at
        ) r
        {NEIGHBOURS}
        CROSS JOIN LATERAL (SELECT CASE WHEN r.read_at > CAST(:now AS timestamptz) + interval '1 hour'
                                        THEN 'read in the future' ELSE {PROBLEM} END AS problem) j
        WHERE w.id = r.id AND w.state = 'reported'
        RETURNING w.vehicle_id, w.meter, w.value, w.read_at, w.state
    ),
    believed AS (SELECT * FROM judged WHERE state = 'accepted'),
    {NOTED}
    {_COUNTS} FROM judged
    """
)


def take_readings(connection: Connection, now: datetime) -> dict[str, int]:
    """Keep each vehicle's newest meters as readings, and judge what people reported; set aside what cannot be.

    Twice is harmless: a reading is known by its vehicle, its meter and its time. Readings by hand are judged oldest
    first, up to 50 of a meter; the rest waits for the next check.
    """
    accepted = quarantined = 0
    for statement in (_JUDGE,) * _MOST_ROUNDS:
        judged = connection.execute(statement, {"now": now}).one()
        accepted, quarantined = accepted + judged[0], quarantined + judged[1]
        if not sum(judged):
            break
    taken = connection.execute(_TAKE, {"now": now}).one()
    return {"readings": accepted + taken[0], "quarantined": quarantined + taken[1]}


@dataclass(frozen=True, slots=True)
class Meter:
    """What a meter of a vehicle is believed to show, and its use a day; None where it is not known yet."""

    tenant: str
    vehicle_id: UUID
    vehicle: str
    meter: str
    value: float
    read_at: datetime
    per_day: float | None
    now: datetime


_METERS = """
    SELECT t.slug, m.vehicle_id, v.name, m.meter, m.value, m.read_at, m.per_day, clock_timestamp()
    FROM vehicle_meters m JOIN tenants t ON t.id = m.tenant_id JOIN vehicles v ON v.id = m.vehicle_id
    WHERE CAST(:tenant_id AS uuid) IS NULL OR m.tenant_id = :tenant_id
    ORDER BY m.read_at, m.vehicle_id, m.meter LIMIT :limit
"""


def list_meters(connection: Connection, tenant_id: UUID | None, limit: int) -> list[Meter]:
    """Return what is believed of meters, the stalest first."""
    return [Meter(*row) for row in connection.execute(text(_METERS), {"tenant_id": tenant_id, "limit": limit})]
