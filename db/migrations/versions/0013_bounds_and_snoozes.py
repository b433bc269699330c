"""Times and numbers of others that can be; services put off until a meter; how often an open alert was told again."""

from db.migrations.rules import execute

revision = "0013"
down_revision = "0012"

_DETECTED = "CASE WHEN created_at BETWEEN '1950-01-01' AND '2200-01-01' THEN created_at ELSE now() END"
# What a row becomes that was written before the bound was; NULL where nothing depends on it.
_TIMES = {
    "work_orders": {"due_on": "NULL", "started_at": "NULL", "cancelled_at": "now()", "created_at": "now()"},
    "work_order_lines": {"done_at": "NULL"},
    "purchase_orders": {"ordered_on": "NULL", "expected_on": "NULL", "received_on": "NULL"},
    "anomaly_alerts": {"detected_at": _DETECTED, "resolved_at": "now()"},
}
# NaN is above every number, so that a lower bound alone lets it in.
_COSTS = {
    "work_orders": ("labour_cost", "parts_cost"),
    "work_order_lines": ("quantity", "unit_cost"),
    "purchase_orders": ("total_cost",),
}


def upgrade() -> None:
    for table, columns in _TIMES.items():
        for column, instead in columns.items():
            _bound(table, column, instead)
    for table, costs in _COSTS.items():
        for column in costs:
            execute(
                f"""
                UPDATE {table} SET {column} = 0 WHERE {column} = 'NaN';
                ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{column}, ADD CONSTRAINT ck_{table}_{column}
                    CHECK ({column} BETWEEN 0 AND 99999999.99);
                """
            )
    execute(_REST)


def _bound(table: str, column: str, instead: str) -> None:
    name = f"ck_{table}_{column}_range"
    execute(
        f"""
        UPDATE {table} SET {column} = {instead} WHERE {column} NOT BETWEEN '1950-01-01' AND '2200-01-01';
        ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({column} BETWEEN '1950-01-01' AND '2200-01-01');
        """
    )


_REST = """
UPDATE anomaly_alerts SET score = NULL WHERE NOT (score > '-Infinity' AND score < 'Infinity');
ALTER TABLE anomaly_alerts
    ADD CONSTRAINT ck_anomaly_alerts_score CHECK (score > '-Infinity' AND score < 'Infinity');

ALTER TABLE alerts ADD COLUMN IF NOT EXISTS reminders integer NOT NULL DEFAULT 0
    CONSTRAINT ck_alerts_reminders CHECK (reminders BETWEEN 0 AND 1000);
COMMENT ON COLUMN alerts.reminders IS 'How often it was told again since it was opened; who raises it tells it again.';

ALTER TABLE maintenance_triggers
    ADD COLUMN snoozed_until_km double precision CONSTRAINT ck_maintenance_triggers_snoozed_until_km
        CHECK (snoozed_until_km BETWEEN 0 AND 10000000),
    ADD COLUMN snoozed_until_engine_hours double precision CONSTRAINT ck_maintenance_triggers_snoozed_until_engine_hours
        CHECK (snoozed_until_engine_hours BETWEEN 0 AND 1000000);
COMMENT ON COLUMN maintenance_triggers.snoozed_until IS
    'Until this day, or a meter beside it, whichever comes first, nothing is told and nothing opened. A cycle whose
order was cancelled begins anew with it.';
GRANT UPDATE (snoozed_until_km, snoozed_until_engine_hours) ON maintenance_triggers TO fleet_app;

DROP TRIGGER snooze_trigger ON maintenance_triggers;
CREATE TRIGGER snooze_trigger
    BEFORE UPDATE OF snoozed_until, snoozed_until_km, snoozed_until_engine_hours ON maintenance_triggers
    FOR EACH ROW WHEN (NEW.cycle = OLD.cycle AND num_nonnulls(NEW.snoozed_until, NEW.snoozed_until_km,
                                                              NEW.snoozed_until_engine_hours) > 0)
    EXECUTE FUNCTION snooze_trigger();

CREATE OR REPLACE VIEW maintenance_overdue WITH (security_invoker = true) AS
SELECT t.id, t.tenant_id, t.schedule_id, s.name AS schedule_name, t.vehicle_id, v.name AS vehicle_name, t.cycle,
       t.next_due_date, t.next_due_km, k.value AS odometer_km, t.next_due_engine_hours, h.value AS engine_hours
FROM maintenance_triggers t
JOIN tenants n ON n.id = t.tenant_id
JOIN maintenance_schedules s ON s.id = t.schedule_id
JOIN vehicles v ON v.id = t.vehicle_id
LEFT JOIN vehicle_meters k ON k.vehicle_id = t.vehicle_id AND k.meter = 'odometer_km'
LEFT JOIN vehicle_meters h ON h.vehicle_id = t.vehicle_id AND h.meter = 'engine_hours'
WHERE t.is_active AND v.deleted_at IS NULL
  AND ((t.snoozed_until > (now() AT TIME ZONE n.time_zone)::date OR t.snoozed_until_km > k.value
        OR t.snoozed_until_engine_hours > h.value) IS NOT TRUE
       OR t.snoozed_until <= (now() AT TIME ZONE n.time_zone)::date OR t.snoozed_until_km <= k.value
       OR t.snoozed_until_engine_hours <= h.value)
  AND (t.next_due_date + t.tolerance_days < (now() AT TIME ZONE n.time_zone)::date
       OR k.value > t.next_due_km + t.tolerance_km
       OR h.value > t.next_due_engine_hours + t.tolerance_engine_hours);
"""
