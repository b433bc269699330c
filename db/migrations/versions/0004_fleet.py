"""The fleet: vehicles, where they are, who drives them, what measures them."""

from db.migrations.rules import execute, grant, isolate_tenants, touch_updated_at

revision = "0004"
down_revision = "0003"

_CRUD = "SELECT, INSERT, UPDATE, DELETE"


def upgrade() -> None:
    execute(
        """
        CREATE TABLE vehicles (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            facility_id uuid,
            connection_id uuid,
            external_id text,
            kind text NOT NULL DEFAULT 'vehicle' CONSTRAINT ck_vehicles_kind CHECK (kind IN ('vehicle', 'robot')),
            name text NOT NULL,
            vin text,
            license_plate text,
            serial_number text,
            make text,
            model text,
            year smallint CONSTRAINT ck_vehicles_year CHECK (year BETWEEN 1900 AND 2200),
            vehicle_type text,
            firmware_version text,
            status text NOT NULL DEFAULT 'active' CONSTRAINT ck_vehicles_status CHECK
                (status IN ('active', 'idle', 'navigating', 'docking', 'charging', 'maintenance', 'error',
                            'retired', 'sold')),
            specs jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            deleted_at timestamptz,
            CONSTRAINT uq_vehicles_tenant UNIQUE (tenant_id, id),
            CONSTRAINT ck_vehicles_external CHECK (external_id IS NULL OR connection_id IS NOT NULL),
            FOREIGN KEY (tenant_id, facility_id) REFERENCES facilities (tenant_id, id),
            FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id)
        );
        -- The sync joins a page by it; INCLUDE makes the join index-only.
        CREATE UNIQUE INDEX uq_vehicles_external ON vehicles (connection_id, external_id) INCLUDE (id, tenant_id)
            WHERE deleted_at IS NULL AND external_id IS NOT NULL;
        CREATE UNIQUE INDEX uq_vehicles_vin ON vehicles (tenant_id, vin) WHERE deleted_at IS NULL;
        CREATE INDEX ix_vehicles_status ON vehicles (tenant_id, status) WHERE deleted_at IS NULL;
        CREATE INDEX ix_vehicles_specs ON vehicles USING gin (specs);

        -- Rewritten by every sync, so narrow and half empty: updates stay on their page (HOT).
        CREATE TABLE vehicle_positions (
            vehicle_id uuid PRIMARY KEY,
            tenant_id uuid NOT NULL,
            time timestamptz,
            latitude double precision CONSTRAINT ck_vehicle_positions_latitude CHECK (latitude BETWEEN -90 AND 90),
            longitude double precision CONSTRAINT ck_vehicle_positions_longitude
                CHECK (longitude BETWEEN -180 AND 180),
            heading_deg real,
            speed_kph real,
            odometer_km double precision,
            odometer_at timestamptz,
            engine_hours double precision,
            engine_hours_at timestamptz,
            fuel_percent real,
            fuel_at timestamptz,
            battery_percent real,
            battery_at timestamptz,
            engine_state text,
            engine_state_at timestamptz,
            CONSTRAINT ck_vehicle_positions_fix CHECK (num_nulls(time, latitude, longitude) IN (0, 3)),
            FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id) ON DELETE CASCADE
        ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
        CREATE INDEX ix_vehicle_positions_tenant ON vehicle_positions (tenant_id);
        COMMENT ON TABLE vehicle_positions IS
            'The newest fix of each vehicle and the newest value of each meter, each with its own time.';

        CREATE TABLE vehicle_assignments (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL,
            vehicle_id uuid NOT NULL,
            driver_id uuid,
            start_time timestamptz NOT NULL,
            end_time timestamptz,
            status text NOT NULL DEFAULT 'active' CONSTRAINT ck_vehicle_assignments_status
                CHECK (status IN ('active', 'completed', 'cancelled')),
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_vehicle_assignments_order CHECK (end_time > start_time),
            FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id),
            FOREIGN KEY (tenant_id, driver_id) REFERENCES drivers (tenant_id, id),
            CONSTRAINT ex_vehicle_assignments_vehicle EXCLUDE USING gist
                (vehicle_id WITH =, tstzrange(start_time, end_time, '[)') WITH &&) WHERE (status = 'active'),
            CONSTRAINT ex_vehicle_assignments_driver EXCLUDE USING gist
                (driver_id WITH =, tstzrange(start_time, end_time, '[)') WITH &&) WHERE (status = 'active')
        );
        CREATE INDEX ix_vehicle_assignments_tenant ON vehicle_assignments (tenant_id, start_time);

        CREATE TABLE sensors (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            vehicle_id uuid,
            name text NOT NULL,
            type text NOT NULL,
            unit text,
            location text,
            status text NOT NULL DEFAULT 'active' CONSTRAINT ck_sensors_status
                CHECK (status IN ('active', 'inactive', 'faulty', 'maintenance')),
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            deleted_at timestamptz,
            CONSTRAINT uq_sensors_tenant UNIQUE (tenant_id, id),
            FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id)
        );
        CREATE UNIQUE INDEX uq_sensors_name ON sensors (tenant_id, name) WHERE deleted_at IS NULL;

        CREATE TABLE unmatched_devices (
            connection_id uuid NOT NULL,
            external_id text NOT NULL,
            tenant_id uuid NOT NULL,
            name text,
            vin text,
            license_plate text,
            make text,
            model text,
            year smallint,
            points bigint NOT NULL DEFAULT 0,
            newest_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (connection_id, external_id),
            FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
        );
        CREATE INDEX ix_unmatched_devices_tenant ON unmatched_devices (tenant_id);
        COMMENT ON COLUMN vehicles.license_plate IS 'personal: keyed hash';
        COMMENT ON COLUMN vehicles.vin IS 'personal: keyed hash';
        COMMENT ON COLUMN unmatched_devices.license_plate IS 'personal: null';
        COMMENT ON COLUMN unmatched_devices.vin IS 'personal: null';
        """
    )
    for table in ("vehicles", "vehicle_assignments", "sensors", "unmatched_devices"):
        touch_updated_at(table)
    for table in ("vehicles", "vehicle_positions", "vehicle_assignments", "sensors", "unmatched_devices"):
        isolate_tenants(table)
    execute(
        """
        CREATE VIEW vehicles_with_position WITH (security_invoker = true) AS
        SELECT v.*, p.time AS position_at, p.latitude, p.longitude, p.heading_deg, p.speed_kph,
               p.odometer_km, p.odometer_at, p.engine_hours, p.engine_hours_at, p.fuel_percent, p.fuel_at,
               p.battery_percent, p.battery_at, p.engine_state, p.engine_state_at
        FROM vehicles v LEFT JOIN vehicle_positions p ON p.vehicle_id = v.id
        WHERE v.deleted_at IS NULL;
        """
    )
    grant("vehicles", worker="SELECT, INSERT, UPDATE", app=_CRUD)
    grant("vehicle_positions", worker="SELECT, INSERT, UPDATE", app="SELECT, INSERT, UPDATE")
    grant("vehicle_assignments", worker="SELECT", app=_CRUD)
    grant("sensors", worker="SELECT", app=_CRUD)
    grant("unmatched_devices", worker=_CRUD, app="SELECT")
    grant("vehicles_with_position", worker="SELECT", app="SELECT", system="SELECT")
