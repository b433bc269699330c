"""Maintenance: schedules and what is due of them, meters, work orders, and what calls for one."""

from db.migrations.rules import execute, grant, isolate_tenants, server_version, touch_updated_at

revision = "0011"
down_revision = "0010"

_CRUD = "SELECT, INSERT, UPDATE, DELETE"
_LEVELS = "('low', 'medium', 'high', 'critical')"
_OPEN = "('open', 'in_progress', 'on_hold')"

# What another application may give an order; number, stamps and the mark of the roll-forward are the database's.
_ORDER_GIVEN = (
    "status, priority, title, description, source, source_id, facility_id, vendor_id, due_on, started_at, completed_at,"
    " completion_odometer_km, completion_engine_hours, labour_cost, parts_cost, notes"
)


def upgrade() -> None:
    new_id = "uuidv7()" if server_version() >= 18 else "gen_random_uuid()"
    execute(_SCHEDULES)
    execute(_METERS.replace("{new_id}", new_id))
    execute(_WORK_ORDERS.replace("{new_id}", new_id).replace("{levels}", _LEVELS).replace("{open}", _OPEN))
    execute(_SIGNALS.replace("{levels}", _LEVELS))
    for table in (
        *("vendors", "maintenance_schedules", "maintenance_triggers", "vehicle_meters", "meter_readings"),
        *("work_orders", "work_order_lines", "purchase_orders", "inspections", "anomaly_alerts"),
    ):
        touch_updated_at(table)
        isolate_tenants(table)
    isolate_tenants("work_order_counters")
    isolate_tenants("maintenance_records")
    execute(_FUNCTIONS)
    execute(_VIEW)
    for table in ("vendors", "maintenance_schedules", "purchase_orders", "inspections"):
        grant(table, worker="SELECT", app=_CRUD)
    grant("anomaly_alerts", worker="SELECT, INSERT, UPDATE", app="SELECT, INSERT, UPDATE")
    grant("maintenance_triggers", worker="SELECT, INSERT, UPDATE", app="SELECT, UPDATE (snoozed_until)")
    grant("vehicle_meters", worker="SELECT, INSERT, UPDATE", app="SELECT")
    grant("meter_readings", worker="SELECT, INSERT, UPDATE", app="SELECT")
    grant("work_order_counters", worker="SELECT, INSERT, UPDATE", app="")
    grant("work_orders", worker="SELECT, INSERT, UPDATE", app=f"SELECT, UPDATE ({_ORDER_GIVEN})")
    grant("work_order_lines", worker="SELECT, INSERT", app=_CRUD)
    grant("maintenance_records", worker="SELECT, INSERT", app="SELECT")
    grant("maintenance_overdue", worker="SELECT", app="SELECT", system="SELECT")
    execute(
        f"""
        GRANT INSERT (id, tenant_id, vehicle_id, schedule_id, type, {_ORDER_GIVEN}) ON work_orders TO fleet_app;
        GRANT INSERT (id, tenant_id, vehicle_id, meter, value, read_at, source) ON meter_readings TO fleet_app;
        """
    )


_SCHEDULES = """
CREATE TABLE vendors (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    name text NOT NULL CONSTRAINT ck_vendors_name CHECK (length(name) BETWEEN 1 AND 200),
    contact_name text,
    email text,
    phone text,
    address text,
    notes text,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT uq_vendors_tenant UNIQUE (tenant_id, id)
);
CREATE UNIQUE INDEX uq_vendors_name ON vendors (tenant_id, name) WHERE deleted_at IS NULL;
COMMENT ON COLUMN vendors.contact_name IS 'personal: null';
COMMENT ON COLUMN vendors.email IS 'personal: null';
COMMENT ON COLUMN vendors.phone IS 'personal: null';
COMMENT ON COLUMN vendors.notes IS 'personal: null';

CREATE TABLE maintenance_schedules (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    vehicle_id uuid,
    vehicle_type text,
    name text NOT NULL CONSTRAINT ck_maintenance_schedules_name CHECK (length(name) BETWEEN 1 AND 200),
    description text,
    interval_days integer
        CONSTRAINT ck_maintenance_schedules_interval_days CHECK (interval_days BETWEEN 1 AND 36525),
    interval_months integer
        CONSTRAINT ck_maintenance_schedules_interval_months CHECK (interval_months BETWEEN 1 AND 1200),
    interval_distance double precision CONSTRAINT ck_maintenance_schedules_interval_distance
        CHECK (interval_distance >= 1 AND interval_distance <= 10000000),
    distance_unit text NOT NULL DEFAULT 'km'
        CONSTRAINT ck_maintenance_schedules_distance_unit CHECK (distance_unit IN ('km', 'mi')),
    interval_km double precision GENERATED ALWAYS AS
        (interval_distance * CASE distance_unit WHEN 'mi' THEN 1.609344 ELSE 1 END) STORED,
    interval_engine_hours double precision CONSTRAINT ck_maintenance_schedules_interval_engine_hours
        CHECK (interval_engine_hours >= 1 AND interval_engine_hours <= 1000000),
    anchor text NOT NULL DEFAULT 'completion'
        CONSTRAINT ck_maintenance_schedules_anchor CHECK (anchor IN ('completion', 'schedule')),
    start_on date CONSTRAINT ck_maintenance_schedules_start_on CHECK (start_on BETWEEN '1950-01-01' AND '2200-01-01'),
    start_km double precision CONSTRAINT ck_maintenance_schedules_start_km CHECK (start_km BETWEEN 0 AND 10000000),
    start_engine_hours double precision
        CONSTRAINT ck_maintenance_schedules_start_engine_hours CHECK (start_engine_hours BETWEEN 0 AND 1000000),
    soon_days integer NOT NULL DEFAULT 14
        CONSTRAINT ck_maintenance_schedules_soon_days CHECK (soon_days BETWEEN 0 AND 3660),
    soon_km double precision NOT NULL DEFAULT 1000
        CONSTRAINT ck_maintenance_schedules_soon_km CHECK (soon_km BETWEEN 0 AND 1000000),
    soon_engine_hours double precision NOT NULL DEFAULT 25
        CONSTRAINT ck_maintenance_schedules_soon_engine_hours CHECK (soon_engine_hours BETWEEN 0 AND 100000),
    tolerance_days integer NOT NULL DEFAULT 3
        CONSTRAINT ck_maintenance_schedules_tolerance_days CHECK (tolerance_days BETWEEN 0 AND 3660),
    tolerance_km double precision NOT NULL DEFAULT 250
        CONSTRAINT ck_maintenance_schedules_tolerance_km CHECK (tolerance_km BETWEEN 0 AND 1000000),
    tolerance_engine_hours double precision NOT NULL DEFAULT 10
        CONSTRAINT ck_maintenance_schedules_tolerance_engine_hours CHECK (tolerance_engine_hours BETWEEN 0 AND 100000),
    checklist jsonb NOT NULL DEFAULT '[]' CONSTRAINT ck_maintenance_schedules_checklist CHECK
        (jsonb_typeof(checklist) = 'array' AND jsonb_array_length(checklist) <= 200
         AND NOT jsonb_path_exists(checklist, '$[*] ? (@.type() != "string")')),
    priority text NOT NULL DEFAULT 'medium'
        CONSTRAINT ck_maintenance_schedules_priority CHECK (priority IN ('low', 'medium', 'high', 'critical')),
    vendor_id uuid,
    facility_id uuid,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT uq_maintenance_schedules_tenant UNIQUE (tenant_id, id),
    CONSTRAINT ck_maintenance_schedules_vehicle_id_or_vehicle_type CHECK (num_nonnulls(vehicle_id, vehicle_type) = 1),
    CONSTRAINT ck_maintenance_schedules_interval_missing CHECK
        (num_nonnulls(interval_days, interval_months, interval_distance, interval_engine_hours) >= 1),
    FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id),
    FOREIGN KEY (tenant_id, vendor_id) REFERENCES vendors (tenant_id, id),
    FOREIGN KEY (tenant_id, facility_id) REFERENCES facilities (tenant_id, id)
);
CREATE INDEX ix_maintenance_schedules_vehicle ON maintenance_schedules (tenant_id, vehicle_id) WHERE deleted_at IS NULL;
COMMENT ON COLUMN maintenance_schedules.anchor IS
    'completion: the next one counts from when the last was done; schedule: from its start, never drifting.';
COMMENT ON COLUMN maintenance_schedules.start_on IS
    'When the service was last done, or where the grid of a fixed schedule begins; NULL is when it meets its vehicle.';
COMMENT ON COLUMN maintenance_schedules.tolerance_days IS
    'So much before it is due a completion counts for the cycle, so much later it is overdue.';

-- One row for each vehicle that a schedule is for. What the schedule says is copied, so that the check reads one table.
-- A grid (anchor schedule) keeps its base and counts periods: the 31st stays the 31st after a February.
CREATE TABLE maintenance_triggers (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    schedule_id uuid NOT NULL,
    vehicle_id uuid NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    cycle integer NOT NULL DEFAULT 1,
    anchor text NOT NULL DEFAULT 'completion'
        CONSTRAINT ck_maintenance_triggers_anchor CHECK (anchor IN ('completion', 'schedule')),
    base_on date NOT NULL,
    base_km double precision,
    base_engine_hours double precision,
    start_on date,
    start_km double precision,
    start_engine_hours double precision,
    interval_days integer,
    interval_months integer,
    interval_km double precision,
    interval_engine_hours double precision,
    periods_days integer NOT NULL DEFAULT 1,
    periods_months integer NOT NULL DEFAULT 1,
    periods_km integer NOT NULL DEFAULT 1,
    periods_engine_hours integer NOT NULL DEFAULT 1,
    soon_days integer NOT NULL DEFAULT 0,
    soon_km double precision NOT NULL DEFAULT 0,
    soon_engine_hours double precision NOT NULL DEFAULT 0,
    tolerance_days integer NOT NULL DEFAULT 0,
    tolerance_km double precision NOT NULL DEFAULT 0,
    tolerance_engine_hours double precision NOT NULL DEFAULT 0,
    next_due_date date GENERATED ALWAYS AS (least(
        base_on + periods_days * interval_days,
        (base_on + make_interval(months => periods_months * interval_months))::date)) STORED,
    next_due_km double precision GENERATED ALWAYS AS (base_km + periods_km * interval_km) STORED,
    next_due_engine_hours double precision GENERATED ALWAYS AS
        (base_engine_hours + periods_engine_hours * interval_engine_hours) STORED,
    snoozed_until date CONSTRAINT ck_maintenance_triggers_snoozed_until
        CHECK (snoozed_until BETWEEN '1950-01-01' AND '2199-12-31'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_maintenance_triggers UNIQUE (schedule_id, vehicle_id),
    FOREIGN KEY (tenant_id, schedule_id) REFERENCES maintenance_schedules (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 80);
CREATE INDEX ix_maintenance_triggers_due ON maintenance_triggers (tenant_id, next_due_date) WHERE is_active;
CREATE INDEX ix_maintenance_triggers_vehicle ON maintenance_triggers (tenant_id, vehicle_id);
COMMENT ON COLUMN maintenance_triggers.snoozed_until IS
    'Until this day nothing is told and nothing opened. A cycle whose order was cancelled begins anew with it.';
"""

_METERS = """
-- The newest accepted value of each meter and its use a day; vehicle_positions has what devices say.
CREATE TABLE vehicle_meters (
    vehicle_id uuid NOT NULL,
    meter text NOT NULL CONSTRAINT ck_vehicle_meters_meter CHECK (meter IN ('odometer_km', 'engine_hours')),
    tenant_id uuid NOT NULL,
    value double precision NOT NULL,
    read_at timestamptz NOT NULL,
    per_day double precision,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (vehicle_id, meter),
    FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 50);
CREATE INDEX ix_vehicle_meters_tenant ON vehicle_meters (tenant_id);

CREATE TABLE meter_readings (
    id uuid PRIMARY KEY DEFAULT {new_id},
    tenant_id uuid NOT NULL,
    vehicle_id uuid NOT NULL,
    meter text NOT NULL CONSTRAINT ck_meter_readings_meter CHECK (meter IN ('odometer_km', 'engine_hours')),
    value double precision NOT NULL CONSTRAINT ck_meter_readings_value CHECK (value >= 0 AND value <= 10000000),
    read_at timestamptz NOT NULL
        CONSTRAINT ck_meter_readings_read_at CHECK (read_at BETWEEN '1950-01-01' AND '2200-01-01'),
    source text NOT NULL DEFAULT 'manual' CONSTRAINT ck_meter_readings_source
        CHECK (source IN ('telematics', 'manual', 'work_order', 'inspection')),
    state text NOT NULL DEFAULT 'reported' CONSTRAINT ck_meter_readings_state
        CHECK (state IN ('reported', 'accepted', 'quarantined', 'superseded')),
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_meter_readings UNIQUE (vehicle_id, meter, read_at),
    CONSTRAINT ck_meter_readings_reason CHECK (state <> 'quarantined' OR reason IS NOT NULL),
    FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX ix_meter_readings_waiting ON meter_readings (tenant_id, state, read_at)
    WHERE state IN ('reported', 'quarantined');
COMMENT ON COLUMN meter_readings.state IS
    'reported: to be judged by the next check; quarantined: impossible beside its neighbours, a person decides;
superseded: of an instrument that was replaced, or shown wrong by a later one.';
"""

_WORK_ORDERS = """
CREATE TABLE work_order_counters (
    tenant_id uuid PRIMARY KEY REFERENCES tenants (id),
    last_number integer NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
COMMENT ON TABLE work_order_counters IS
    'Whoever numbers a work order holds this row until commit: a number that is rolled back is given again.';

-- No foreign key to the schedule: each order would lock its row, and a morning of 10,000 orders of 200,000 schedules
-- rewrite half of their pages: 50 MB more of WAL. number_work_order and keep_used_schedule hold what it would.
CREATE TABLE work_orders (
    id uuid PRIMARY KEY DEFAULT {new_id},
    tenant_id uuid NOT NULL,
    number integer NOT NULL,
    reference text GENERATED ALWAYS AS
        ('WO-' || lpad(number::text, greatest(6, length(number::text)), '0')) STORED,
    vehicle_id uuid NOT NULL,
    schedule_id uuid,
    due_cycle integer,
    type text NOT NULL CONSTRAINT ck_work_orders_type CHECK (type IN ('preventive', 'corrective')),
    status text NOT NULL DEFAULT 'open' CONSTRAINT ck_work_orders_status
        CHECK (status IN ('open', 'in_progress', 'on_hold', 'completed', 'cancelled')),
    priority text NOT NULL DEFAULT 'medium' CONSTRAINT ck_work_orders_priority CHECK (priority IN {levels}),
    title text NOT NULL CONSTRAINT ck_work_orders_title CHECK (length(title) BETWEEN 1 AND 200),
    description text CONSTRAINT ck_work_orders_description CHECK (length(description) <= 10000),
    source text CONSTRAINT ck_work_orders_source CHECK (source ~ '^[a-z][a-z0-9_]{0,49}$'),
    source_id text CONSTRAINT ck_work_orders_source_id CHECK (length(source_id) BETWEEN 1 AND 200),
    facility_id uuid,
    vendor_id uuid,
    due_on date,
    odometer_km double precision,
    engine_hours double precision,
    started_at timestamptz,
    completed_at timestamptz,
    cancelled_at timestamptz,
    completion_odometer_km double precision
        CONSTRAINT ck_work_orders_completion_odometer_km CHECK (completion_odometer_km BETWEEN 0 AND 10000000),
    completion_engine_hours double precision
        CONSTRAINT ck_work_orders_completion_engine_hours CHECK (completion_engine_hours BETWEEN 0 AND 1000000),
    labour_cost numeric(10,2) NOT NULL DEFAULT 0 CONSTRAINT ck_work_orders_labour_cost CHECK (labour_cost >= 0),
    parts_cost numeric(10,2) NOT NULL DEFAULT 0 CONSTRAINT ck_work_orders_parts_cost CHECK (parts_cost >= 0),
    total_cost numeric(10,2) GENERATED ALWAYS AS (labour_cost + parts_cost) STORED,
    notes text CONSTRAINT ck_work_orders_notes CHECK (length(notes) <= 10000),
    rolled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_work_orders_tenant UNIQUE (tenant_id, id),
    CONSTRAINT uq_work_orders_number UNIQUE (tenant_id, number),
    CONSTRAINT uq_work_orders_cycle UNIQUE (vehicle_id, schedule_id, due_cycle),
    CONSTRAINT ck_work_orders_cycle CHECK (num_nulls(schedule_id, due_cycle) IN (0, 2)),
    CONSTRAINT ck_work_orders_source_pair CHECK (num_nulls(source, source_id) IN (0, 2)),
    CONSTRAINT ck_work_orders_completed_at CHECK ((status = 'completed') = (completed_at IS NOT NULL)),
    CONSTRAINT ck_work_orders_completed_at_range CHECK (completed_at BETWEEN '1950-01-01' AND '2200-01-01'),
    CONSTRAINT ck_work_orders_cancelled_at CHECK ((status = 'cancelled') = (cancelled_at IS NOT NULL)),
    FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id),
    FOREIGN KEY (tenant_id, facility_id) REFERENCES facilities (tenant_id, id),
    FOREIGN KEY (tenant_id, vendor_id) REFERENCES vendors (tenant_id, id)
) WITH (fillfactor = 90);
CREATE UNIQUE INDEX uq_work_orders_open ON work_orders (vehicle_id, schedule_id)
    WHERE schedule_id IS NOT NULL AND status IN {open};
CREATE UNIQUE INDEX uq_work_orders_source_open ON work_orders (vehicle_id, source, source_id)
    WHERE source IS NOT NULL AND status IN {open};
CREATE INDEX ix_work_orders_unrolled ON work_orders (tenant_id, completed_at)
    WHERE status = 'completed' AND rolled_at IS NULL;
COMMENT ON COLUMN work_orders.notes IS 'personal: null';
COMMENT ON COLUMN work_orders.description IS 'personal: redact text';

CREATE TABLE work_order_lines (
    work_order_id uuid NOT NULL,
    position smallint NOT NULL,
    tenant_id uuid NOT NULL,
    kind text NOT NULL DEFAULT 'task' CONSTRAINT ck_work_order_lines_kind CHECK (kind IN ('task', 'part', 'labour')),
    description text NOT NULL CONSTRAINT ck_work_order_lines_description CHECK (length(description) <= 2000),
    quantity numeric(10,2) CONSTRAINT ck_work_order_lines_quantity CHECK (quantity >= 0),
    unit_cost numeric(10,2) CONSTRAINT ck_work_order_lines_unit_cost CHECK (unit_cost >= 0),
    done_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (work_order_id, position),
    FOREIGN KEY (tenant_id, work_order_id) REFERENCES work_orders (tenant_id, id) ON DELETE CASCADE
);

-- The history of a vehicle: what was done when, at which meters; one row a completed work order.
CREATE TABLE maintenance_records (
    work_order_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    vehicle_id uuid NOT NULL,
    schedule_id uuid,
    due_cycle integer,
    performed_on date NOT NULL,
    odometer_km double precision,
    odometer_source text CONSTRAINT ck_maintenance_records_odometer_source
        CHECK (odometer_source IN ('given', 'reading', 'forecast')),
    engine_hours double precision,
    engine_hours_source text CONSTRAINT ck_maintenance_records_engine_hours_source
        CHECK (engine_hours_source IN ('given', 'reading', 'forecast')),
    total_cost numeric(10,2) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, work_order_id) REFERENCES work_orders (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id)
);
CREATE INDEX ix_maintenance_records_vehicle ON maintenance_records (tenant_id, vehicle_id, performed_on DESC);

CREATE TABLE purchase_orders (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    number text NOT NULL CONSTRAINT ck_purchase_orders_number CHECK (length(number) BETWEEN 1 AND 50),
    vendor_id uuid NOT NULL,
    work_order_id uuid,
    status text NOT NULL DEFAULT 'draft' CONSTRAINT ck_purchase_orders_status
        CHECK (status IN ('draft', 'ordered', 'received', 'cancelled')),
    total_cost numeric(10,2) NOT NULL DEFAULT 0 CONSTRAINT ck_purchase_orders_total_cost CHECK (total_cost >= 0),
    ordered_on date,
    expected_on date,
    received_on date,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_purchase_orders_number UNIQUE (tenant_id, number),
    FOREIGN KEY (tenant_id, vendor_id) REFERENCES vendors (tenant_id, id),
    FOREIGN KEY (tenant_id, work_order_id) REFERENCES work_orders (tenant_id, id)
);
"""

_SIGNALS = """
CREATE TABLE inspections (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    vehicle_id uuid NOT NULL,
    driver_id uuid,
    kind text NOT NULL CONSTRAINT ck_inspections_kind
        CHECK (kind IN ('pre_trip', 'post_trip', 'periodic', 'safety', 'other')),
    result text NOT NULL CONSTRAINT ck_inspections_result CHECK (result IN ('passed', 'failed')),
    severity text NOT NULL DEFAULT 'high' CONSTRAINT ck_inspections_severity CHECK (severity IN {levels}),
    inspected_at timestamptz NOT NULL
        CONSTRAINT ck_inspections_inspected_at CHECK (inspected_at BETWEEN '1950-01-01' AND '2200-01-01'),
    odometer_km double precision CONSTRAINT ck_inspections_odometer_km CHECK (odometer_km BETWEEN 0 AND 10000000),
    engine_hours double precision CONSTRAINT ck_inspections_engine_hours CHECK (engine_hours BETWEEN 0 AND 1000000),
    summary text CONSTRAINT ck_inspections_summary CHECK (length(summary) <= 2000),
    defects jsonb NOT NULL DEFAULT '[]' CONSTRAINT ck_inspections_defects CHECK (jsonb_typeof(defects) = 'array'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id),
    FOREIGN KEY (tenant_id, driver_id) REFERENCES drivers (tenant_id, id)
);
CREATE INDEX ix_inspections_failed ON inspections (tenant_id, inspected_at) WHERE result = 'failed';
CREATE INDEX ix_inspections_vehicle ON inspections (vehicle_id, inspected_at);
COMMENT ON COLUMN inspections.summary IS 'personal: redact text';

CREATE TABLE anomaly_alerts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES tenants (id),
    vehicle_id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT ck_anomaly_alerts_kind CHECK (length(kind) BETWEEN 1 AND 100),
    severity text NOT NULL CONSTRAINT ck_anomaly_alerts_severity CHECK (severity IN {levels}),
    score double precision,
    message text NOT NULL CONSTRAINT ck_anomaly_alerts_message CHECK (length(message) <= 2000),
    details jsonb NOT NULL DEFAULT '{}',
    detected_at timestamptz NOT NULL,
    resolved_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id)
);
CREATE INDEX ix_anomaly_alerts_open ON anomaly_alerts (tenant_id, detected_at) WHERE resolved_at IS NULL;
CREATE INDEX ix_anomaly_alerts_vehicle ON anomaly_alerts (vehicle_id, detected_at);
CREATE INDEX ix_vehicle_faults_grave ON vehicle_faults (tenant_id, first_seen_at)
    WHERE cleared_at IS NULL AND severity IN ('high', 'critical');
"""

_FUNCTIONS = """
-- The next number of the tenant, for who inserts one order; the due check numbers its set itself. Runs as the owner,
-- because nobody else may touch a counter; another tenant's is left alone, and its policy refuses the row. An order
-- that its unique keys will refuse, or ON CONFLICT pass over, spends no number; the other one is locked, so that it
-- stays until then what refuses this one. Who opens an order for a service whose own was cancelled begins a cycle with
-- it.
CREATE FUNCTION number_work_order() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.tenant_id IS DISTINCT FROM app_tenant_id() AND NOT job_caller_sees_all() THEN
        RETURN NEW;
    END IF;
    INSERT INTO work_order_counters AS c (tenant_id) VALUES (NEW.tenant_id)
    ON CONFLICT (tenant_id) DO UPDATE SET last_number = c.last_number;
    IF NEW.schedule_id IS NOT NULL AND NEW.due_cycle IS NULL THEN
        UPDATE maintenance_triggers t SET cycle = t.cycle + 1
        WHERE t.tenant_id = NEW.tenant_id AND t.schedule_id = NEW.schedule_id AND t.vehicle_id = NEW.vehicle_id
          AND EXISTS (SELECT FROM work_orders w WHERE w.schedule_id = t.schedule_id AND w.vehicle_id = t.vehicle_id
                                                  AND w.due_cycle = t.cycle AND w.status = 'cancelled');
        SELECT t.cycle INTO NEW.due_cycle FROM maintenance_triggers t
        WHERE t.tenant_id = NEW.tenant_id AND t.schedule_id = NEW.schedule_id AND t.vehicle_id = NEW.vehicle_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'work order: schedule_id: not a schedule of this vehicle'
                USING ERRCODE = 'foreign_key_violation';
        END IF;
    END IF;
    IF EXISTS (SELECT FROM work_orders w WHERE w.schedule_id = NEW.schedule_id AND w.vehicle_id = NEW.vehicle_id
               AND w.due_cycle = NEW.due_cycle)
       OR EXISTS (SELECT FROM work_orders w WHERE w.id = NEW.id)
       OR NEW.status IN ('open', 'in_progress', 'on_hold') AND (
           EXISTS (SELECT FROM work_orders w WHERE w.schedule_id = NEW.schedule_id AND w.vehicle_id = NEW.vehicle_id
                   AND w.status IN ('open', 'in_progress', 'on_hold') FOR SHARE)
           OR EXISTS (SELECT FROM work_orders w WHERE w.vehicle_id = NEW.vehicle_id AND w.source = NEW.source
                      AND w.source_id = NEW.source_id AND w.status IN ('open', 'in_progress', 'on_hold') FOR SHARE))
    THEN
        NEW.number := 0;
        RETURN NEW;
    END IF;
    UPDATE work_order_counters c SET last_number = c.last_number + 1 WHERE c.tenant_id = NEW.tenant_id
    RETURNING last_number INTO NEW.number;
    RETURN NEW;
END $$;
CREATE TRIGGER number_work_order BEFORE INSERT ON work_orders
    FOR EACH ROW WHEN (NEW.number IS NULL) EXECUTE FUNCTION number_work_order();

-- Which status may follow which, whoever writes it, and when it came to be.
CREATE FUNCTION move_work_order() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.status <> OLD.status
       AND (OLD.status IN ('completed', 'cancelled') OR NEW.status = 'open' AND OLD.status <> 'on_hold') THEN
        RAISE EXCEPTION 'work order %: status: % cannot become %', OLD.reference, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_work_orders_status_move',
                  HINT = 'completed and cancelled are for good; only what is on hold becomes open again';
    END IF;
    IF TG_OP = 'INSERT' OR NEW.status <> OLD.status THEN
        IF NEW.status = 'in_progress' THEN
            NEW.started_at := coalesce(NEW.started_at, now());
        ELSIF NEW.status = 'completed' THEN
            NEW.completed_at := coalesce(NEW.completed_at, now());
        ELSIF NEW.status = 'cancelled' THEN
            NEW.cancelled_at := coalesce(NEW.cancelled_at, now());
        END IF;
    END IF;
    IF NEW.completed_at > now() + INTERVAL '1 hour' THEN
        RAISE EXCEPTION 'work order %: completed_at: in the future', coalesce(OLD.reference, NEW.id::text)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_work_orders_completed_at_future';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER move_work_order BEFORE UPDATE OF status, completed_at ON work_orders
    FOR EACH ROW EXECUTE FUNCTION move_work_order();
CREATE TRIGGER begin_work_order BEFORE INSERT ON work_orders
    FOR EACH ROW WHEN (NEW.status <> 'open' OR NEW.completed_at IS NOT NULL) EXECUTE FUNCTION move_work_order();

-- A cycle has one work order. Where it was cancelled, putting the service off begins a cycle of its own, and with it
-- asks for another order.
CREATE FUNCTION snooze_trigger() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM work_orders w WHERE w.schedule_id = OLD.schedule_id AND w.vehicle_id = OLD.vehicle_id
                                           AND w.due_cycle = OLD.cycle AND w.status = 'cancelled') THEN
        NEW.cycle := OLD.cycle + 1;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER snooze_trigger BEFORE UPDATE OF snoozed_until ON maintenance_triggers
    FOR EACH ROW WHEN (NEW.snoozed_until IS NOT NULL AND NEW.cycle = OLD.cycle) EXECUTE FUNCTION snooze_trigger();

-- What has work orders is part of a vehicle's history.
CREATE FUNCTION keep_used_schedule() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM maintenance_triggers t
               JOIN work_orders w ON w.vehicle_id = t.vehicle_id AND w.schedule_id = t.schedule_id
               WHERE t.schedule_id = OLD.id) THEN
        RAISE EXCEPTION 'maintenance schedule: it has work orders' USING ERRCODE = 'foreign_key_violation',
            HINT = 'UPDATE maintenance_schedules SET deleted_at = now()';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER keep_used_schedule BEFORE DELETE ON maintenance_schedules
    FOR EACH ROW EXECUTE FUNCTION keep_used_schedule();

REVOKE ALL ON FUNCTION number_work_order, move_work_order, snooze_trigger, keep_used_schedule FROM PUBLIC;
"""

_VIEW = """
CREATE VIEW maintenance_overdue WITH (security_invoker = true) AS
SELECT t.id, t.tenant_id, t.schedule_id, s.name AS schedule_name, t.vehicle_id, v.name AS vehicle_name, t.cycle,
       t.next_due_date, t.next_due_km, k.value AS odometer_km, t.next_due_engine_hours, h.value AS engine_hours
FROM maintenance_triggers t
JOIN tenants n ON n.id = t.tenant_id
JOIN maintenance_schedules s ON s.id = t.schedule_id
JOIN vehicles v ON v.id = t.vehicle_id
LEFT JOIN vehicle_meters k ON k.vehicle_id = t.vehicle_id AND k.meter = 'odometer_km'
LEFT JOIN vehicle_meters h ON h.vehicle_id = t.vehicle_id AND h.meter = 'engine_hours'
WHERE t.is_active AND v.deleted_at IS NULL
  AND (t.snoozed_until IS NULL OR t.snoozed_until <= (now() AT TIME ZONE n.time_zone)::date)
  AND (t.next_due_date + t.tolerance_days < (now() AT TIME ZONE n.time_zone)::date
       OR k.value > t.next_due_km + t.tolerance_km
       OR h.value > t.next_due_engine_hours + t.tolerance_engine_hours);
"""
