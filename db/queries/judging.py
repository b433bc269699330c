"""How a service is judged, in SQL: its meters by now, how far it is, and why. The check and all lists begin with it."""

from db.queries.meters import LONGEST_FORECAST_DAYS, STALE_DAYS

KM_PER_MILE = 1.609344
FARTHEST_DAYS = 3650
"""A forecast beyond ten years is none."""
TENANT = "(SELECT app_tenant_id())"
OPEN = "('open', 'in_progress', 'on_hold')"

# A meter that nobody has read for days is projected by the vehicle's own use a day, where that is known.
METERS = f"""
    meters AS MATERIALIZED (
        SELECT p.vehicle_id,
               max(p.now_value) FILTER (WHERE p.meter = 'odometer_km') AS km,
               max(p.value) FILTER (WHERE p.meter = 'odometer_km') AS read_km,
               max(p.stale_days) FILTER (WHERE p.meter = 'odometer_km') AS km_stale_days,
               max(p.per_day) FILTER (WHERE p.meter = 'odometer_km') AS km_per_day,
               max(p.now_value) FILTER (WHERE p.meter = 'engine_hours') AS hours,
               max(p.value) FILTER (WHERE p.meter = 'engine_hours') AS read_hours,
               max(p.stale_days) FILTER (WHERE p.meter = 'engine_hours') AS hours_stale_days,
               max(p.per_day) FILTER (WHERE p.meter = 'engine_hours') AS hours_per_day
        FROM (
            SELECT m.vehicle_id, m.meter, m.value, m.per_day, s.stale_days,
                   m.value + CASE WHEN s.stale_days > 0 THEN least(s.stale_days, {LONGEST_FORECAST_DAYS}) * m.per_day
                                  ELSE 0 END AS now_value
            FROM vehicle_meters m, LATERAL (
                SELECT CASE WHEN CAST(:now AS timestamptz) - m.read_at >= interval '{STALE_DAYS} days' AND m.per_day > 0
                            THEN floor(extract(epoch FROM CAST(:now AS timestamptz) - m.read_at) / 86400) END
                       AS stale_days
            ) s
            WHERE m.tenant_id = {TENANT}
        ) p
        GROUP BY p.vehicle_id
    )
"""


def _level(due: str, value: str, soon: str, tolerance: str) -> str:
    return f"""CASE WHEN {value} > {due} + {tolerance} THEN 3 WHEN {value} >= {due} THEN 2
                        WHEN {value} >= {due} - {soon} THEN 1 END"""


_HOURS_LEVEL = _level("t.next_due_engine_hours", "m.hours", "t.soon_engine_hours", "t.tolerance_engine_hours")
# Everything that is not simply in order. 1 is due soon, 2 due, 3 overdue.
_CONSPICUOUS = f"""
    conspicuous AS MATERIALIZED (
        SELECT t.*, CAST(:today AS date) AS today, m.km, m.read_km, m.km_stale_days, m.km_per_day, m.hours,
               m.read_hours, m.hours_stale_days, m.hours_per_day, l.on_date, l.on_km, l.on_hours,
               greatest(l.on_date, l.on_km, l.on_hours) AS level
        FROM maintenance_triggers t
        LEFT JOIN meters m ON m.vehicle_id = t.vehicle_id
        CROSS JOIN LATERAL (
            SELECT {_level("t.next_due_date", "CAST(:today AS date)", "t.soon_days", "t.tolerance_days")} AS on_date,
                   {_level("t.next_due_km", "m.km", "t.soon_km", "t.tolerance_km")} AS on_km,
                   {_HOURS_LEVEL} AS on_hours
        ) l
        WHERE t.tenant_id = {TENANT} AND t.is_active
          AND (t.next_due_date <= CAST(:today AS date) + t.soon_days OR m.km >= t.next_due_km - t.soon_km
               OR m.hours >= t.next_due_engine_hours - t.soon_engine_hours)
    )
"""


def forecast(due: str, value: str, per_day: str) -> str:
    """The day on which a meter will show it; today where it does already: when it did, nobody knows."""
    days = f"({due} - {value}) / nullif({per_day}, 0)"
    return f"""CASE WHEN {value} >= {due} THEN c.today
                    WHEN {days} < {FARTHEST_DAYS} THEN c.today + CAST(ceil({days}) AS integer) END"""


def _use(value: str, due: str, interval: str, unit: str, word: str, stale: str) -> str:
    """How much of an interval is used, down to whole units: nothing looks due before it is."""
    number = "to_char(floor(({}) / {} + 0.000001), 'FM999,999,999,990')"
    return f"""{number.format(f"{value} - ({due} - {interval})", unit)} || ' of '
                   || to_char(round(CAST({interval} / {unit} AS numeric)), 'FM999,999,999,990') || {word}
                   || coalesce(', forecast: the last reading is ' || {stale} || ' days old', '')"""


_UNIT = f"CASE s.distance_unit WHEN 'mi' THEN {KM_PER_MILE} ELSE 1 END"
_KM_USED = _use("c.km", "c.next_due_km", "c.interval_km", _UNIT, "' ' || s.distance_unit", "c.km_stale_days")
_HOURS_USED = _use(
    "c.hours", "c.next_due_engine_hours", "c.interval_engine_hours", "1", "' engine hours'", "c.hours_stale_days"
)
_REASON = f"""
    left(s.name, 200) || ': ' || concat_ws('; ',
        CASE WHEN c.on_date = c.level THEN
            CASE WHEN c.next_due_date = c.today THEN 'due today'
                 WHEN c.next_due_date < c.today THEN 'due since ' || c.next_due_date
                 ELSE 'due on ' || c.next_due_date END END,
        CASE WHEN c.on_km = c.level THEN {_KM_USED} END,
        CASE WHEN c.on_hours = c.level THEN {_HOURS_USED} END)
"""


def natural(name: str) -> str:
    """Return what to order names by so that Van 2 comes before Van 10: their numbers are as long as each other."""
    return rf"""regexp_replace(regexp_replace(left({name}, 200), '(\d+)', '000000000000\1', 'g'),
                               '\d*(\d{{12}})', '\1', 'g')"""


def is_snoozed(alias: str, meters: str) -> str:
    """Some limit is still ahead, and none reached. A meter that nobody knows is no limit: it would never come."""
    limits = {
        "snoozed_until": "CAST(:today AS date)",
        "snoozed_until_km": f"{meters}.km",
        "snoozed_until_engine_hours": f"{meters}.hours",
    }
    ahead, reached = (
        " OR ".join(f"{alias}.{limit} {sign} {value}" for limit, value in limits.items()) for sign in (">", "<=")
    )
    return f"(({ahead}) IS TRUE AND ({reached}) IS NOT TRUE)"


_JUDGED = f"""
    judged AS MATERIALIZED (
        SELECT c.id, c.schedule_id, c.vehicle_id, c.cycle, c.level, c.next_due_date, c.next_due_km,
               c.next_due_engine_hours, c.snoozed_until, c.snoozed_until_km, c.snoozed_until_engine_hours, c.read_km,
               c.read_hours, c.km, c.hours,
               j.status, CASE WHEN o.is_open THEN o.id END AS open_order_id,
               CASE WHEN o.is_open THEN o.reference END AS reference,
               s.name AS schedule_name, s.description, s.checklist, s.vendor_id, s.facility_id, s.priority,
               v.name AS vehicle_name,
               {_REASON} AS reason,
               least(c.next_due_date,
                   {forecast("c.next_due_km", "c.km", "c.km_per_day")},
                   {forecast("c.next_due_engine_hours", "c.hours", "c.hours_per_day")}) AS predicted_on,
               o.due_cycle IS NULL OR o.due_cycle < c.cycle AND NOT o.is_open AS is_unordered,
               coalesce(o.status IN ('in_progress', 'on_hold'), false) AS is_begun
        FROM conspicuous c
        CROSS JOIN LATERAL (SELECT * FROM maintenance_schedules WHERE id = c.schedule_id LIMIT 1) s
        JOIN vehicles v ON v.id = c.vehicle_id
        CROSS JOIN LATERAL (
            SELECT CASE WHEN {is_snoozed("c", "c")} THEN 'snoozed'
                        WHEN c.level = 1 THEN 'due_soon' WHEN c.level = 2 THEN 'due' ELSE 'overdue' END AS status
        ) j
        LEFT JOIN LATERAL (
            SELECT w.id, w.reference, w.due_cycle, w.status, w.status IN {OPEN} AS is_open
            FROM work_orders w
            WHERE w.schedule_id = c.schedule_id AND w.vehicle_id = c.vehicle_id ORDER BY w.due_cycle DESC LIMIT 1
        ) o ON true
    )
"""

JUDGE = f"WITH {METERS}, {_CONSPICUOUS}, {_JUDGED}"
