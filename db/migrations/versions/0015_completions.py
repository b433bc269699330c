"""Completions that count once and are not changed after it; meters of inspections; readings found where they wait."""

from db.migrations.rules import execute

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    execute(_COLUMNS)
    execute(_RECORDS)
    execute(_INSPECTIONS)
    execute(_INDEXES)


_COLUMNS = """
ALTER TABLE work_orders
    ADD COLUMN due_odometer_km double precision,
    ADD COLUMN due_engine_hours double precision,
    ADD COLUMN is_history boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN work_orders.due_odometer_km IS
    'What the odometer was taken to show when the order was opened, forecast included; odometer_km is what was read.';
COMMENT ON COLUMN work_orders.is_history IS
    'Inserted as completed: nobody had opened it, so that it counts for the time of its completion only.';

ALTER TABLE maintenance_triggers
    ADD COLUMN awaits_km_since timestamptz,
    ADD COLUMN awaits_engine_hours_since timestamptz;
COMMENT ON COLUMN maintenance_triggers.awaits_km_since IS
    'A grid was served then, at an odometer that nobody knew: the first reading after it says which line is next.';

CREATE FUNCTION mark_work_order_history() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.is_history := true;
    RETURN NEW;
END $$;
CREATE TRIGGER mark_work_order_history BEFORE INSERT ON work_orders
    FOR EACH ROW WHEN (NEW.status = 'completed') EXECUTE FUNCTION mark_work_order_history();
REVOKE ALL ON FUNCTION mark_work_order_history FROM PUBLIC;
"""

# Invoices come days after the completion; its day and its meters have moved a schedule by then.
_RECORDS = """
UPDATE maintenance_records r SET total_cost = w.total_cost
FROM work_orders w WHERE w.id = r.work_order_id AND w.total_cost IS DISTINCT FROM r.total_cost;
ALTER TABLE maintenance_records
    ADD CONSTRAINT ck_maintenance_records_total_cost CHECK (total_cost BETWEEN 0 AND 99999999.99);

CREATE FUNCTION carry_work_order_costs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE maintenance_records SET total_cost = NEW.total_cost WHERE work_order_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER carry_work_order_costs AFTER UPDATE OF labour_cost, parts_cost ON work_orders
    FOR EACH ROW WHEN (NEW.rolled_at IS NOT NULL AND NEW.total_cost IS DISTINCT FROM OLD.total_cost)
    EXECUTE FUNCTION carry_work_order_costs();

CREATE FUNCTION keep_rolled_work_order() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'work order %: % is counted already', OLD.reference,
        concat_ws(', ', CASE WHEN NEW.completed_at <> OLD.completed_at THEN 'completed_at' END,
                  CASE WHEN NEW.completion_odometer_km IS DISTINCT FROM OLD.completion_odometer_km
                       THEN 'completion_odometer_km' END,
                  CASE WHEN NEW.completion_engine_hours IS DISTINCT FROM OLD.completion_engine_hours
                       THEN 'completion_engine_hours' END)
        USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_work_orders_rolled',
              HINT = 'history is kept: insert a meter reading, or set the start of the schedule';
END $$;
CREATE TRIGGER keep_rolled_work_order
    BEFORE UPDATE OF completed_at, completion_odometer_km, completion_engine_hours ON work_orders
    FOR EACH ROW WHEN (OLD.rolled_at IS NOT NULL AND NEW.status = OLD.status
                       AND (NEW.completed_at, NEW.completion_odometer_km, NEW.completion_engine_hours)
                           IS DISTINCT FROM (OLD.completed_at, OLD.completion_odometer_km, OLD.completion_engine_hours))
    EXECUTE FUNCTION keep_rolled_work_order();
REVOKE ALL ON FUNCTION carry_work_order_costs, keep_rolled_work_order FROM PUBLIC;
"""

# As the owner: other applications may report a reading, and judge none. A corrected inspection takes the place of what
# it said before, until that is believed.
_INSPECTIONS = """
CREATE FUNCTION report_inspection_meters() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        UPDATE meter_readings SET state = 'superseded', reason = NULL
        WHERE vehicle_id = OLD.vehicle_id AND read_at = OLD.inspected_at AND source = 'inspection'
          AND meter IN ('odometer_km', 'engine_hours') AND state IN ('reported', 'quarantined');
    END IF;
    INSERT INTO meter_readings AS r (tenant_id, vehicle_id, meter, value, read_at, source)
    SELECT NEW.tenant_id, NEW.vehicle_id, m.meter, m.value, NEW.inspected_at, 'inspection'
    FROM (VALUES ('odometer_km', NEW.odometer_km), ('engine_hours', NEW.engine_hours)) AS m (meter, value)
    WHERE m.value IS NOT NULL
    ON CONFLICT (vehicle_id, meter, read_at) DO UPDATE SET value = excluded.value, state = 'reported', reason = NULL
    WHERE r.source = 'inspection' AND r.tenant_id = excluded.tenant_id AND r.state <> 'accepted';
    RETURN NULL;
END $$;
CREATE TRIGGER report_inspection_meters AFTER INSERT ON inspections
    FOR EACH ROW WHEN (NEW.odometer_km IS NOT NULL OR NEW.engine_hours IS NOT NULL)
    EXECUTE FUNCTION report_inspection_meters();
CREATE TRIGGER report_corrected_inspection_meters AFTER UPDATE ON inspections
    FOR EACH ROW WHEN ((NEW.vehicle_id, NEW.inspected_at, NEW.odometer_km, NEW.engine_hours)
                       IS DISTINCT FROM (OLD.vehicle_id, OLD.inspected_at, OLD.odometer_km, OLD.engine_hours))
    EXECUTE FUNCTION report_inspection_meters();
REVOKE ALL ON FUNCTION report_inspection_meters FROM PUBLIC;

-- As far back as readings are kept.
INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at, source)
SELECT i.tenant_id, i.vehicle_id, m.meter, m.value, i.inspected_at, 'inspection'
FROM inspections i
CROSS JOIN LATERAL (VALUES ('odometer_km', i.odometer_km), ('engine_hours', i.engine_hours)) AS m (meter, value)
WHERE m.value IS NOT NULL AND i.inspected_at > now() - INTERVAL '2 years'
ON CONFLICT (vehicle_id, meter, read_at) DO NOTHING;
"""

# A backlog is judged from its oldest on, each beside what is believed: neither is found by passing over the others.
_INDEXES = """
CREATE INDEX ix_meter_readings_reported ON meter_readings (tenant_id, vehicle_id, meter, read_at)
    WHERE state = 'reported';
CREATE INDEX ix_meter_readings_quarantined ON meter_readings (tenant_id, read_at) WHERE state = 'quarantined';
CREATE INDEX ix_meter_readings_accepted ON meter_readings (vehicle_id, meter, read_at) INCLUDE (value)
    WHERE state = 'accepted';
DROP INDEX ix_meter_readings_waiting;
CREATE INDEX ix_maintenance_triggers_awaiting ON maintenance_triggers (tenant_id)
    WHERE awaits_km_since IS NOT NULL OR awaits_engine_hours_since IS NOT NULL;
"""
