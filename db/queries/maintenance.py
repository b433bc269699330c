"""What is due: one statement finds it, opens its work orders and tells of it. Transactions of one tenant."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from db.engine import set_tenant
from db.queries.meters import LONGEST_FORECAST_DAYS, STALE_DAYS
from db.queries.work_order_numbers import hold, not_locked

KM_PER_MILE = 1.609344
FARTHEST_DAYS = 3650
"""A forecast beyond ten years is none."""
_TENANT = "(SELECT app_tenant_id())"
OPEN = "('open', 'in_progress', 'on_hold')"

# A meter that nobody has read for days is projected by the vehicle's own use a day, where that is known.
_METERS = f"""
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
            WHERE m.tenant_id = {_TENANT}
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
        WHERE t.tenant_id = {_TENANT} AND t.is_active
          AND (t.next_due_date <= CAST(:today AS date) + t.soon_days OR m.km >= t.next_due_km - t.soon_km
               OR m.hours >= t.next_due_engine_hours - t.soon_engine_hours)
    )
"""


def _forecast(due: str, value: str, per_day: str) -> str:
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


def _is_snoozed(alias: str, meters: str) -> str:
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
                   {_forecast("c.next_due_km", "c.km", "c.km_per_day")},
                   {_forecast("c.next_due_engine_hours", "c.hours", "c.hours_per_day")}) AS predicted_on,
               o.due_cycle IS NULL OR o.due_cycle < c.cycle AND NOT o.is_open AS is_unordered,
               coalesce(o.status IN ('in_progress', 'on_hold'), false) AS is_begun
        FROM conspicuous c
        CROSS JOIN LATERAL (SELECT * FROM maintenance_schedules WHERE id = c.schedule_id LIMIT 1) s
        JOIN vehicles v ON v.id = c.vehicle_id
        CROSS JOIN LATERAL (
            SELECT CASE WHEN {_is_snoozed("c", "c")} THEN 'snoozed'
                        WHEN c.level = 1 THEN 'due_soon' WHEN c.level = 2 THEN 'due' ELSE 'overdue' END AS status
        ) j
        LEFT JOIN LATERAL (
            SELECT w.id, w.reference, w.due_cycle, w.status, w.status IN {OPEN} AS is_open
            FROM work_orders w
            WHERE w.schedule_id = c.schedule_id AND w.vehicle_id = c.vehicle_id ORDER BY w.due_cycle DESC LIMIT 1
        ) o ON true
    )
"""

_RAISED = "CASE {0} WHEN 'low' THEN 'medium' WHEN 'medium' THEN 'high' ELSE 'critical' END"
_PRIORITY = f"CASE WHEN j.status = 'overdue' THEN {_RAISED.format('j.priority')} ELSE j.priority END"
# A cycle has one order, and a schedule one that is open; a cycle whose order was cancelled gets no other by itself.
# What is overdue raises an order that still has the priority of its schedule; another one is what a person chose. One
# that somebody writes at this moment is raised tomorrow: who writes it may wait for the counter that is held here.
_IS_MISSING = "j.status IN ('due', 'overdue') AND j.is_unordered"
_ORDERS = f"""
    missing AS MATERIALIZED (
        SELECT j.*, row_number() OVER (ORDER BY j.predicted_on, j.vehicle_id, j.schedule_id) AS place
        FROM judged j WHERE {_IS_MISSING} AND j.vehicle_id IN (SELECT id FROM vehicles_free)
    ),
    numbers AS (
        UPDATE work_order_counters c SET last_number = c.last_number + n.missing
        FROM (SELECT CAST(count(*) AS integer) AS missing FROM missing) n
        WHERE c.tenant_id = {_TENANT} AND n.missing > 0
        RETURNING c.last_number - n.missing AS before
    ),
    opened AS (
        INSERT INTO work_orders (tenant_id, number, vehicle_id, schedule_id, due_cycle, type, priority, title,
                                 description, facility_id, vendor_id, due_on, odometer_km, engine_hours,
                                 due_odometer_km, due_engine_hours, created_at)
        SELECT app_tenant_id(), n.before + j.place, j.vehicle_id, j.schedule_id, j.cycle, 'preventive', {_PRIORITY},
               j.schedule_name, left(concat_ws(E'\\n\\n', j.reason, j.description), 10000), j.facility_id, j.vendor_id,
               j.predicted_on, j.read_km, j.read_hours, j.km, j.hours, :now
        FROM missing j CROSS JOIN numbers n
        RETURNING id, reference, schedule_id, vehicle_id
    ),
    listed AS (
        INSERT INTO work_order_lines (tenant_id, work_order_id, position, description)
        SELECT app_tenant_id(), o.id, l.position, left(l.description, 2000)
        FROM opened o
        JOIN missing j ON j.schedule_id = o.schedule_id AND j.vehicle_id = o.vehicle_id
        CROSS JOIN LATERAL jsonb_array_elements_text(j.checklist) WITH ORDINALITY AS l (description, position)
    ),
    free AS MATERIALIZED (
        SELECT w.id FROM work_orders w JOIN judged j ON j.open_order_id = w.id
        WHERE w.id = ANY(ARRAY(SELECT open_order_id FROM judged WHERE status = 'overdue')) AND j.status = 'overdue'
          AND w.status IN {OPEN} AND w.priority = j.priority AND w.priority <> 'critical'
        FOR NO KEY UPDATE OF w SKIP LOCKED
    ),
    raised AS (
        UPDATE work_orders w SET priority = {_RAISED.format("w.priority")}
        WHERE w.id = ANY(ARRAY(SELECT id FROM free))
        RETURNING 1
    )
"""

# What is told of a cycle is told once: its alert stays while a forecast goes back behind it, and only what is worse
# replaces it. It is over with its service, when that is put off, or when a changed schedule makes it due later. What is
# overdue is told again each week, unless somebody is at it; by the tenant's days, whatever second a check starts at.
_KINDS = "ARRAY['maintenance_due_soon', 'maintenance_due', 'maintenance_overdue']"
_DUE_AT = """jsonb_build_object('due_on', {0}.next_due_date, 'due_km', {0}.next_due_km,
                                  'due_engine_hours', {0}.next_due_engine_hours)"""
_OVERDUE_SEVERITY = "CASE j.priority WHEN 'critical' THEN 'critical' ELSE 'high' END"
_MESSAGE = "left(j.vehicle_name, 200) || ': ' || j.reason"
# A mail shows a few lines of a checklist; all of them are in the work order.
MOST_LINES, LONGEST_LINE = 20, 200
_CHECKLIST = f"""
    (SELECT coalesce(jsonb_agg(left(l.line, {LONGEST_LINE}) ORDER BY l.place), '[]')
     FROM jsonb_array_elements_text(j.checklist) WITH ORDINALITY AS l (line, place) WHERE l.place <= {MOST_LINES})
"""
_DETAILS = f"""
    jsonb_build_object(
        'schedule_id', j.schedule_id, 'schedule_name', j.schedule_name, 'vehicle_id', j.vehicle_id,
        'vehicle_name', left(j.vehicle_name, 200), 'work_order_id', coalesce(o.id, j.open_order_id),
        'work_order_number', coalesce(o.reference, j.reference), 'status', j.status, 'reason', j.reason,
        'predicted_on', j.predicted_on, 'vendor_name', d.name, 'checklist', {_CHECKLIST}) || {_DUE_AT.format("j")}
"""
_ORDER_AND_VENDOR = """
        LEFT JOIN opened o ON o.schedule_id = j.schedule_id AND o.vehicle_id = j.vehicle_id
        LEFT JOIN vendors d ON d.id = j.vendor_id
"""
MOST_REMINDERS = 1000
# So many characters of what others have added to an alert; with ours it stays below the bound of the table.
MOST_KEPT = 8192
_TO_WRITE_OF = f"SELECT j.vehicle_id FROM judged j WHERE {_IS_MISSING} UNION SELECT vehicle_id FROM untold"
_TOLD_OF = f"""
    told AS MATERIALIZED (
        SELECT a.id, a.subject, a.level, a.weeks > a.reminders AND j.status = 'overdue' AND NOT j.is_begun AS is_late,
               a.weeks,
               CASE WHEN j.id IS NOT NULL
                    THEN j.status = 'snoozed' OR j.level < a.level AND NOT a.details @> {_DUE_AT.format("j")}
                    ELSE t.id IS NULL OR {_is_snoozed("t", "m")}
                         OR NOT a.details @> {_DUE_AT.format("t")} END AS is_over
        FROM (
            SELECT id, vehicle_id, subject, details, array_position({_KINDS}, kind) AS level, reminders,
                   CASE WHEN kind = 'maintenance_overdue' AND opened_at BETWEEN '1950-01-01' AND '2200-01-01'
                        THEN least({MOST_REMINDERS}, (CAST(:today AS date) - CAST(opened_at AT TIME ZONE (
                            SELECT time_zone FROM tenants WHERE id = {_TENANT}) AS date)) / 7)
                   END AS weeks
            FROM alerts
            WHERE tenant_id = {_TENANT} AND resolved_at IS NULL AND kind = ANY({_KINDS})
        ) a
        LEFT JOIN judged j ON 'maintenance:' || j.id = a.subject
        LEFT JOIN LATERAL (
            SELECT * FROM maintenance_triggers
            WHERE j.id IS NULL AND vehicle_id = a.vehicle_id AND 'maintenance:' || id = a.subject
              AND tenant_id = {_TENANT} AND is_active
            LIMIT 1
        ) t ON true
        LEFT JOIN meters m ON m.vehicle_id = t.vehicle_id
    ),
    standing AS MATERIALIZED (SELECT subject, max(level) AS level FROM told WHERE NOT is_over GROUP BY subject),
    untold AS MATERIALIZED (
        SELECT j.*, 'maintenance_' || j.status AS kind, 'maintenance:' || j.id AS subject
        FROM judged j LEFT JOIN standing a ON a.subject = 'maintenance:' || j.id
        WHERE j.status IN ('due_soon', 'due', 'overdue') AND (a.level IS NULL OR a.level < j.level)
    ),
    vehicles_free AS MATERIALIZED ({not_locked(_TO_WRITE_OF)})
"""
# An alert that somebody writes at this moment is resolved, or told again, by the next check; until then the lesser one
# stays open beside the worse.
_ALERTS = f"""
    to_tell AS MATERIALIZED (SELECT * FROM untold WHERE vehicle_id IN (SELECT id FROM vehicles_free)),
    done_with AS MATERIALIZED (
        SELECT o.id
        FROM told o
        LEFT JOIN standing s ON s.subject = o.subject AND s.level > o.level
        LEFT JOIN to_tell j ON j.subject = o.subject
        WHERE o.is_over OR s.subject IS NOT NULL OR j.subject IS NOT NULL
    ),
    late AS MATERIALIZED (SELECT id, subject, weeks FROM told WHERE is_late AND NOT is_over),
    alerts_free AS MATERIALIZED (
        SELECT id FROM alerts
        WHERE id = ANY(ARRAY(SELECT id FROM done_with UNION SELECT id FROM late)) AND resolved_at IS NULL
        FOR NO KEY UPDATE SKIP LOCKED
    ),
    alerted AS (
        INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, subject, message, details, opened_at)
        SELECT app_tenant_id(), j.kind,
               CASE j.status WHEN 'due_soon' THEN 'low' WHEN 'due' THEN 'medium' ELSE {_OVERDUE_SEVERITY} END,
               j.vehicle_id, j.subject, {_MESSAGE}, {_DETAILS}, :now
        FROM to_tell j {_ORDER_AND_VENDOR}
        ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
        RETURNING kind
    ),
    reminded AS (
        UPDATE alerts a
        SET reminders = r.weeks, severity = r.severity, message = r.message,
            details = CASE WHEN length(CAST(a.details AS text)) <= {MOST_KEPT} THEN a.details ELSE '{{}}' END
                      || r.details || jsonb_build_object('reminders', r.weeks)
        FROM (
            SELECT l.id, l.weeks, {_OVERDUE_SEVERITY} AS severity, {_MESSAGE} AS message, {_DETAILS} AS details
            FROM late l JOIN judged j ON 'maintenance:' || j.id = l.subject {_ORDER_AND_VENDOR}
            WHERE l.id IN (SELECT id FROM alerts_free)
        ) r
        WHERE a.id = r.id AND a.id = ANY(ARRAY(SELECT l.id FROM late l JOIN alerts_free f ON f.id = l.id))
          AND a.reminders < r.weeks
        RETURNING 1
    ),
    resolved AS (
        UPDATE alerts a SET resolved_at = :now
        WHERE a.id = ANY(ARRAY(SELECT o.id FROM done_with o JOIN alerts_free f ON f.id = o.id))
        RETURNING 1
    )
"""
_JUDGE = f"WITH {_METERS}, {_CONSPICUOUS}, {_JUDGED}"
_CHECK = text(
    f"""
    {_JUDGE}, {_TOLD_OF}, {_ORDERS}, {_ALERTS}
    SELECT status, count(*) FROM judged GROUP BY status
    UNION ALL SELECT 'work_orders', count(*) FROM opened
    UNION ALL SELECT 'raised', count(*) FROM raised
    UNION ALL SELECT 'alerts', count(*) FROM alerted
    UNION ALL SELECT 'reminded', count(*) FROM reminded
    UNION ALL SELECT 'resolved', count(*) FROM resolved
    """
)


def check_due(connection: Connection, now: datetime) -> dict[str, int]:
    """Judge every trigger of the tenant; open the work orders that are missing, and tell what has changed.

    Twice is harmless: `uq_work_orders_cycle`, `uq_work_orders_open`, `uq_alerts_open`.

    Returns:
        How many triggers are of each status that is not in order, and what was done: work_orders, raised, alerts,
        reminded, resolved.
    """
    today = hold(connection, now)
    rows = connection.execute(_CHECK, {"now": now, "today": today})
    return {row[0]: row[1] for row in rows if row[1]}


@dataclass(frozen=True, slots=True)
class Due:
    """A service that is due, overdue, due soon or put off, and its work order where it has one."""

    trigger_id: UUID
    vehicle: str
    schedule: str
    status: str
    reason: str
    due_on: date | None
    predicted_on: date | None
    snoozed_until: date | None
    snoozed_until_km: float | None
    snoozed_until_engine_hours: float | None
    work_order: str | None


_LIST = text(
    f"""
    {_JUDGE}
    SELECT id, vehicle_name, schedule_name, status, reason, next_due_date, predicted_on, snoozed_until,
           snoozed_until_km, snoozed_until_engine_hours, reference
    FROM judged
    WHERE CAST(:status AS text) IS NULL OR status = :status
    ORDER BY array_position(ARRAY['overdue', 'due', 'due_soon', 'snoozed'], status), predicted_on,
             {natural("vehicle_name")}, id
    LIMIT :limit
    """
)


def list_due(
    connection: Connection, now: datetime, today: date, *, status: str | None = None, limit: int | None = None
) -> list[Due]:
    """Return what is not in order, the worst first, as it is at this moment; None does not narrow."""
    values = {"now": now, "today": today, "status": status, "limit": limit}
    return [Due(*row) for row in connection.execute(_LIST, values)]


@dataclass(frozen=True, slots=True)
class Opened:
    """A work order that a check has opened."""

    reference: str
    priority: str
    vehicle: str
    schedule: str
    due_on: date | None
    description: str


_OPENED = text(
    f"""
    SELECT w.reference, w.priority, v.name, w.title, w.due_on, w.description
    FROM work_orders w JOIN vehicles v ON v.id = w.vehicle_id
    WHERE w.tenant_id = {_TENANT} AND w.schedule_id IS NOT NULL AND w.created_at = :now ORDER BY w.number
    """
)


def list_opened(connection: Connection, now: datetime) -> list[Opened]:
    """Return the orders that the check of this moment has opened."""
    return [Opened(*row) for row in connection.execute(_OPENED, {"now": now})]


@dataclass(frozen=True, slots=True)
class Told:
    """An alert that a check has opened."""

    kind: str
    severity: str
    vehicle: str | None
    message: str


_TOLD = text(
    f"""
    SELECT a.kind, a.severity, v.name, a.message
    FROM alerts a LEFT JOIN vehicles v ON v.id = a.vehicle_id
    WHERE a.tenant_id = {_TENANT} AND a.opened_at = :now AND a.resolved_at IS NULL
      AND a.kind LIKE ANY (ARRAY['maintenance%', 'work\\_order%'])
    ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], a.severity), {natural("v.name")}, a.message
    """
)


def list_told(connection: Connection, now: datetime) -> list[Told]:
    """Return what the check of this moment tells for the first time, the worst first."""
    return [Told(*row) for row in connection.execute(_TOLD, {"now": now})]


@dataclass(frozen=True, slots=True)
class Standing:
    """The day that it is for a service, and what its vehicle's meters show by now, forecast included; None: unknown."""

    today: date
    km: float | None
    engine_hours: float | None


_TENANT_OF = text("SELECT tenant_id FROM maintenance_triggers WHERE id = :id")
_STANDING = text(
    f"""
    WITH {_METERS}
    SELECT CAST(CAST(:now AS timestamptz) AT TIME ZONE n.time_zone AS date), m.km, m.hours
    FROM maintenance_triggers t JOIN tenants n ON n.id = t.tenant_id LEFT JOIN meters m ON m.vehicle_id = t.vehicle_id
    WHERE t.id = :id
    """
)


def read_standing(connection: Connection, trigger_id: UUID, now: datetime) -> Standing:
    """Return what a service of any tenant is compared with."""
    set_tenant(connection, connection.execute(_TENANT_OF, {"id": trigger_id}).scalar_one())
    return Standing(*connection.execute(_STANDING, {"id": trigger_id, "now": now}).one())


_SNOOZE = text(
    """
    UPDATE maintenance_triggers
    SET snoozed_until = :until, snoozed_until_km = :until_km, snoozed_until_engine_hours = :until_engine_hours
    WHERE id = :id
    """
)


def snooze(
    connection: Connection,
    trigger_id: UUID,
    until: date | None,
    until_km: float | None = None,
    until_engine_hours: float | None = None,
) -> None:
    """Say and open nothing of a service until a day or a meter, whichever comes first.

    One whose order was cancelled gets another one from then on.

    Raises:
        sqlalchemy.exc.IntegrityError: a limit cannot be.
    """
    values = {"until": until, "until_km": until_km, "until_engine_hours": until_engine_hours}
    connection.execute(_SNOOZE, values | {"id": trigger_id})
