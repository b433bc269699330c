"""Meters: what can be believed of them, what devices say, and the use a day. Transactions of one tenant."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from db.queries.work_order_numbers import hold

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

_MOST = f"CASE r.meter WHEN 'odometer_km' THEN {MOST_KM_PER_DAY} ELSE 24 END"
_NOISE = f"CASE r.meter WHEN 'odometer_km' THEN {NOISE_KM} ELSE {NOISE_HOURS} END"


def _days(earlier: str, later: str) -> str:
    return f"CAST(extract(epoch FROM {later} - {earlier}) AS double precision) / 86400"


# Why a reading cannot be, beside the accepted ones before and after it; NULL where it can. What a later reading bears
# out is history: however long nobody read the meter around it, only the use a day counts.
PROBLEM = f"""
    CASE WHEN r.value < b.value - {_NOISE}
             THEN format('runs backwards: %s after %s', round(CAST(r.value AS numeric), 1),
                         round(CAST(b.value AS numeric), 1))
         WHEN r.value - b.value > {_MOST} * greatest(1, least(
                  CASE WHEN a.value IS NULL THEN {MOST_DAYS} END, {_days("b.read_at", "r.read_at")}))
             THEN format('jumps by %s in %s days', round(CAST(r.value - b.value AS numeric), 1),
                         round(CAST({_days("b.read_at", "r.read_at")} AS numeric), 1))
         WHEN a.value < r.value - {_NOISE}
             THEN format('more than a later reading: %s before %s', round(CAST(r.value AS numeric), 1),
                         round(CAST(a.value AS numeric), 1))
         WHEN a.value - r.value > {_MOST} * greatest(1, {_days("r.read_at", "a.read_at")})
             THEN format('is %s below a reading of %s days later', round(CAST(a.value - r.value AS numeric), 1),
                         round(CAST({_days("r.read_at", "a.read_at")} AS numeric), 1))
    END
"""
IN_FUTURE = "r.read_at > CAST(:now AS timestamptz) + interval '1 hour'"

_PER_DAY = """
    CASE WHEN n.read_at - f.read_at >= interval '1 day' THEN
        greatest(0, n.value - f.value) / (extract(epoch FROM n.read_at - f.read_at) / 86400) END
"""


def _first_of_average(condition: str = "true") -> str:
    return f"""
        SELECT value, read_at FROM meter_readings
        WHERE {condition} AND vehicle_id = n.vehicle_id AND meter = n.meter AND state = 'accepted'
          AND read_at >= n.read_at - interval '{AVERAGE_DAYS} days'
        ORDER BY read_at LIMIT 1
    """


# The use a day is that of the 30 days before the newest reading: a vehicle that fell silent, or whose instrument was
# replaced, keeps the one it had.
_NOTE = text(
    f"""
    INSERT INTO vehicle_meters AS m (tenant_id, vehicle_id, meter, value, read_at, per_day)
    SELECT app_tenant_id(), n.vehicle_id, n.meter, n.value, n.read_at, {_PER_DAY}
    FROM unnest(CAST(:vehicle_ids AS uuid[])) AS v (id)
    CROSS JOIN (VALUES ('odometer_km'), ('engine_hours')) AS k (meter)
    CROSS JOIN LATERAL (
        SELECT vehicle_id, meter, value, read_at FROM meter_readings
        WHERE vehicle_id = v.id AND meter = k.meter AND state = 'accepted' ORDER BY read_at DESC LIMIT 1
    ) n
    LEFT JOIN LATERAL ({_first_of_average()}) f ON true
    ORDER BY n.vehicle_id, n.meter
    ON CONFLICT (vehicle_id, meter) DO UPDATE
    SET value = excluded.value, read_at = excluded.read_at, per_day = coalesce(excluded.per_day, m.per_day)
    WHERE (m.value, m.read_at, m.per_day)
          IS DISTINCT FROM (excluded.value, excluded.read_at, coalesce(excluded.per_day, m.per_day))
    """
)


def note_believed(connection: Connection, vehicle_ids: Sequence[UUID]) -> None:
    """Keep what the meters of vehicles are believed to show, and their use a day. Who calls holds the counter."""
    connection.execute(_NOTE, {"vehicle_ids": list(vehicle_ids)})


# Newer than what is believed of the meter, so that nothing accepted comes after it. Of a clock that is hours ahead the
# reading is taken once its time has come. Where nothing was known of a meter no use a day is looked up: a first check
# of a large fleet would search rows of its own making.
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
        CROSS JOIN (SELECT CAST(NULL AS double precision) AS value, CAST(NULL AS timestamptz) AS read_at) a
        CROSS JOIN LATERAL (
            SELECT CASE WHEN {IN_FUTURE} THEN 'read in the future' ELSE {PROBLEM} END AS problem
        ) j
        WHERE p.tenant_id = (SELECT app_tenant_id()) AND r.value BETWEEN 0 AND 10000000
          AND r.read_at BETWEEN '1950-01-01' AND '2200-01-01'
          AND (NOT {IN_FUTURE} OR r.read_at > CAST(:now AS timestamptz) + interval '1 day')
          AND (b.vehicle_id IS NULL OR b.read_at < r.read_at)
        ORDER BY r.vehicle_id, r.meter
        ON CONFLICT (vehicle_id, meter, read_at) DO NOTHING
        RETURNING vehicle_id, meter, value, read_at, state
    ),
    noted AS (
        INSERT INTO vehicle_meters AS m (tenant_id, vehicle_id, meter, value, read_at, per_day)
        SELECT app_tenant_id(), n.vehicle_id, n.meter, n.value, n.read_at, {_PER_DAY}
        FROM taken n
        LEFT JOIN vehicle_meters k ON k.vehicle_id = n.vehicle_id AND k.meter = n.meter
        LEFT JOIN LATERAL ({_first_of_average("k.vehicle_id IS NOT NULL")}) f ON true
        WHERE n.state = 'accepted'
        ORDER BY n.vehicle_id, n.meter
        ON CONFLICT (vehicle_id, meter) DO UPDATE
        SET value = excluded.value, read_at = excluded.read_at, per_day = coalesce(excluded.per_day, m.per_day)
    )
    SELECT count(*) FILTER (WHERE state = 'accepted'), count(*) FILTER (WHERE state = 'quarantined') FROM taken
    """
)


def take_readings(connection: Connection, now: datetime) -> dict[str, int]:
    """Keep what each vehicle's device says of its meters as readings; set aside what cannot be.

    Twice is harmless: a reading is known by its vehicle, its meter and its time.
    """
    hold(connection, now)
    accepted, quarantined = connection.execute(_TAKE, {"now": now}).one()
    return {"readings": accepted, "quarantined": quarantined}
