"""Schedules meet their vehicles: one trigger for each pair, kept as its schedule says. Transactions of one tenant."""

from datetime import datetime

from sqlalchemy import Connection, text

from db.queries.work_order_numbers import hold, not_locked

NEVER_SERVED = "timestamptz '1950-01-01'"
"""What a grid waits since for the first reading of a meter that has none at all."""
_COPIED = (
    *("anchor", "start_on", "start_km", "start_engine_hours"),
    *("interval_days", "interval_months", "interval_km", "interval_engine_hours"),
    *("soon_days", "soon_km", "soon_engine_hours", "tolerance_days", "tolerance_km", "tolerance_engine_hours"),
)


def _copied(alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in _COPIED)


# What a vehicle has of its own goes before what its type has of the same name.
# A span longer than half its interval would make everything due soon, for ever; a tolerance beyond a quarter would
# let one completion count twice.
_PAIRS = """
    schedules AS NOT MATERIALIZED (
        SELECT s.id AS schedule_id, s.name, s.vehicle_id, s.vehicle_type, s.anchor, s.start_on, s.start_km,
               s.start_engine_hours, s.interval_days, s.interval_months, s.interval_km, s.interval_engine_hours,
               least(s.soon_days, d.days / 2) AS soon_days, least(s.soon_km, s.interval_km / 2) AS soon_km,
               least(s.soon_engine_hours, s.interval_engine_hours / 2) AS soon_engine_hours,
               least(s.tolerance_days, d.days / 4) AS tolerance_days,
               least(s.tolerance_km, s.interval_km / 4) AS tolerance_km,
               least(s.tolerance_engine_hours, s.interval_engine_hours / 4) AS tolerance_engine_hours
        FROM maintenance_schedules s, LATERAL (SELECT least(s.interval_days, s.interval_months * 30) AS days) d
        WHERE s.tenant_id = (SELECT app_tenant_id()) AND s.is_active AND s.deleted_at IS NULL
    ),
    fleet AS MATERIALIZED (
        SELECT v.id, v.vehicle_type, k.value AS odometer_km, h.value AS engine_hours
        FROM vehicles v
        LEFT JOIN vehicle_meters k ON k.vehicle_id = v.id AND k.meter = 'odometer_km'
        LEFT JOIN vehicle_meters h ON h.vehicle_id = v.id AND h.meter = 'engine_hours'
        WHERE v.tenant_id = (SELECT app_tenant_id()) AND v.deleted_at IS NULL AND v.status NOT IN ('retired', 'sold')
    ),
    pairs AS (
        SELECT s.*, v.id AS of_vehicle, v.odometer_km, v.engine_hours
        FROM schedules s JOIN fleet v ON v.id = s.vehicle_id WHERE s.vehicle_id IS NOT NULL
        UNION ALL
        SELECT s.*, v.id, v.odometer_km, v.engine_hours
        FROM schedules s
        JOIN fleet v ON v.vehicle_type = s.vehicle_type
        LEFT JOIN (SELECT DISTINCT vehicle_id, name FROM schedules WHERE vehicle_id IS NOT NULL) own
            ON own.vehicle_id = v.id AND own.name = s.name
        WHERE s.vehicle_type IS NOT NULL AND own.vehicle_id IS NULL
    )
"""
_DIFFERENT = f"""
    different AS MATERIALIZED (
        SELECT t.id, p.schedule_id AS of_schedule, p.of_vehicle, p.odometer_km, p.engine_hours, {_copied("p")},
               CAST(:today AS date) AS today
        FROM pairs p
        FULL JOIN (SELECT * FROM maintenance_triggers WHERE tenant_id = (SELECT app_tenant_id())) t
            ON t.schedule_id = p.schedule_id AND t.vehicle_id = p.of_vehicle
        WHERE t.id IS NULL
           OR (p.schedule_id IS NULL AND t.is_active)
           OR (p.schedule_id IS NOT NULL AND (
               NOT t.is_active OR ({_copied("p")}) IS DISTINCT FROM ({_copied("t")})
               OR (p.interval_km IS NOT NULL AND t.base_km IS NULL AND p.odometer_km IS NOT NULL)
               OR (p.interval_engine_hours IS NOT NULL AND t.base_engine_hours IS NULL
                   AND p.engine_hours IS NOT NULL)))
    )
"""


def months_until(base: str, months: str, day: str, *, beyond: bool) -> str:
    """Return SQL for the least number n >= 1 of periods with `base + n * months` not before `day`, or `beyond` it.

    A month is clamped to its end, each time from the base: 31 January, 28 February, 31 March.
    """
    apart = (
        f"((extract(year FROM {day}) - extract(year FROM {base})) * 12"
        f" + extract(month FROM {day}) - extract(month FROM {base}))"
    )
    least = f"CAST(greatest(1, ceil({apart} / {months})) AS integer)"
    reached = f"CAST({base} + make_interval(months => {least} * {months}) AS date)"
    return f"({least} + CASE WHEN {reached} {'<=' if beyond else '<'} {day} THEN 1 ELSE 0 END)"


def periods_until(base: str, interval: str, value: str, *, beyond: bool) -> str:
    """Return SQL for the least number n >= 1 with `base + n * interval` not before `value`, or `beyond` it."""
    whole = f"({value} - {base}) / CAST({interval} AS double precision)"
    return f"CAST(greatest(1, {f'floor({whole}) + 1' if beyond else f'ceil({whole})'}) AS integer)"


_FIRST_ON = "coalesce(d.start_on, d.today)"
_FIRST_KM = "coalesce(d.start_km, d.odometer_km)"
_FIRST_HOURS = "coalesce(d.start_engine_hours, d.engine_hours)"


def _first(unit: str, since: str) -> str:
    """A grid owes nothing for the time before it met its vehicle: it begins with its first line that is not behind."""
    if unit == "months":
        periods = months_until(since, "d.interval_months", "d.today", beyond=False)
    else:
        reached = {"days": "d.today", "km": "d.odometer_km", "engine_hours": "d.engine_hours"}[unit]
        periods = periods_until(since, f"d.interval_{unit}", reached, beyond=False)
    return f"CASE d.anchor WHEN 'schedule' THEN coalesce({periods}, 1) ELSE 1 END"


def _awaits(unit: str, value: str) -> str:
    """A grid of a meter that nobody has read yet: the first reading chooses its line, and owes nothing behind it."""
    return f"""CASE WHEN d.anchor = 'schedule' AND d.interval_{unit} IS NOT NULL AND d.start_{unit} IS NOT NULL
                          AND d.{value} IS NULL THEN {NEVER_SERVED} END"""


_SINCE = {"days": _FIRST_ON, "months": _FIRST_ON, "km": _FIRST_KM, "engine_hours": _FIRST_HOURS}
_MADE = f"""
    vehicles_free AS MATERIALIZED ({not_locked("SELECT of_vehicle FROM different WHERE id IS NULL")}),
    made AS (
        INSERT INTO maintenance_triggers
            (tenant_id, schedule_id, vehicle_id, base_on, base_km, base_engine_hours, {", ".join(_COPIED)},
             {", ".join(f"periods_{unit}" for unit in _SINCE)}, awaits_km_since, awaits_engine_hours_since)
        SELECT app_tenant_id(), d.of_schedule, d.of_vehicle, {_FIRST_ON},
               CASE WHEN d.interval_km IS NOT NULL THEN {_FIRST_KM} END,
               CASE WHEN d.interval_engine_hours IS NOT NULL THEN {_FIRST_HOURS} END, {_copied("d")},
               {", ".join(_first(unit, since) for unit, since in _SINCE.items())},
               {_awaits("km", "odometer_km")}, {_awaits("engine_hours", "engine_hours")}
        FROM different d WHERE d.id IS NULL AND d.of_vehicle IN (SELECT id FROM vehicles_free)
        ON CONFLICT (schedule_id, vehicle_id) DO NOTHING
        RETURNING 1
    )
"""

_FLOATS_NOW = "d.anchor = 'completion' AND t.anchor = 'schedule'"
_SERVED_ON = """greatest(t.base_on, t.base_on + (t.periods_days - 1) * t.interval_days,
                CAST(t.base_on + make_interval(months => (t.periods_months - 1) * t.interval_months) AS date))"""


def _is_anew(start: str) -> str:
    """Whether the count begins again where the schedule says: it says so only now, or has become a grid."""
    return f"""(d.{start} IS NOT NULL AND (
                    d.{start} IS DISTINCT FROM t.{start} OR t.anchor = 'completion' AND d.anchor = 'schedule'))"""


def _base(meter: str, value: str) -> str:
    """What a meter counts from; one that nobody knew counts from now."""
    return f"""base_{meter} = CASE
                WHEN d.interval_{meter} IS NULL THEN NULL
                WHEN {_is_anew(f"start_{meter}")} OR t.interval_{meter} IS NULL
                    THEN coalesce(d.start_{meter}, d.{value})
                WHEN {_FLOATS_NOW} THEN t.base_{meter} + (t.periods_{meter} - 1) * t.interval_{meter}
                ELSE coalesce(t.base_{meter}, d.{value}) END"""


def _periods(unit: str, start: str) -> str:
    """What is behind stays behind: of another interval, as many periods as the ones served until now make."""
    kept = "t.base_on" if unit in ("days", "months") else _SINCE[unit]
    return f"""periods_{unit} = CASE
                WHEN d.anchor = 'completion' THEN 1
                WHEN {_is_anew(start)} THEN {_first(unit, _SINCE[unit])}
                WHEN t.interval_{unit} IS NULL THEN {_first(unit, kept)}
                WHEN t.anchor = 'completion' THEN 1
                WHEN t.interval_{unit} <> d.interval_{unit} THEN floor(
                    (t.periods_{unit} - 1) * t.interval_{unit} / CAST(d.interval_{unit} AS double precision)) + 1
                ELSE t.periods_{unit} END"""


# What somebody writes at this moment is changed tomorrow: who writes it may wait for the counter that is held here.
_CHANGED = f"""
    free AS MATERIALIZED (
        SELECT id FROM maintenance_triggers
        WHERE id = ANY(ARRAY(SELECT id FROM different WHERE id IS NOT NULL)) FOR NO KEY UPDATE SKIP LOCKED
    ),
    changed AS (
        UPDATE maintenance_triggers t
        SET is_active = true, {", ".join(f"{name} = d.{name}" for name in _COPIED)},
            base_on = CASE WHEN {_is_anew("start_on")} THEN d.start_on
                           WHEN {_FLOATS_NOW} THEN {_SERVED_ON} ELSE t.base_on END,
            {_base("km", "odometer_km")},
            {_base("engine_hours", "engine_hours")},
            {_periods("days", "start_on")},
            {_periods("months", "start_on")},
            {_periods("km", "start_km")},
            {_periods("engine_hours", "start_engine_hours")}
        FROM different d
        WHERE d.id = t.id AND d.of_schedule IS NOT NULL AND t.id = ANY(ARRAY(SELECT id FROM free))
        RETURNING 1
    ),
    ended AS (
        UPDATE maintenance_triggers t SET is_active = false
        FROM different d
        WHERE d.id = t.id AND d.of_schedule IS NULL AND t.id = ANY(ARRAY(SELECT id FROM free))
        RETURNING 1
    )
"""
_EXPAND = text(
    f"""
    WITH {_PAIRS}, {_DIFFERENT}, {_MADE}, {_CHANGED}
    SELECT (SELECT count(*) FROM made), (SELECT count(*) FROM changed), (SELECT count(*) FROM ended)
    """
)


def expand_schedules(connection: Connection, now: datetime) -> dict[str, int]:
    """Give every vehicle in use a trigger for each schedule of it or of its type; end those of the others.

    Twice is harmless: a pair has one trigger, and one that is as its schedule says is left alone.
    """
    today = hold(connection, now)
    made, changed, ended = connection.execute(_EXPAND, {"today": today}).one()
    return {"triggers_made": made, "triggers_changed": changed, "triggers_ended": ended}
