"""What the sync notices beside points: fault codes, safety events, levels; and whom an alert is for."""

from db.migrations.rules import execute, grant, isolate_tenants, touch_updated_at

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    execute(
        """
        ALTER TABLE alerts
            ADD COLUMN recipients text[] NOT NULL DEFAULT '{}',
            ADD COLUMN over_at timestamptz;
        COMMENT ON COLUMN alerts.recipients IS 'personal: drop key';
        COMMENT ON COLUMN alerts.over_at IS
            'Of low levels and silent connections: when it was over, whenever somebody resolved it.';
        CREATE INDEX ix_alerts_open_vehicle ON alerts (tenant_id, vehicle_id, kind)
            WHERE resolved_at IS NULL AND vehicle_id IS NOT NULL;
        CREATE INDEX ix_alerts_subject ON alerts (tenant_id, subject, kind);
        CREATE INDEX ix_alerts_lasting ON alerts (tenant_id, kind)
            WHERE over_at IS NULL AND kind IN ('low_fuel', 'low_battery', 'connection_silent');
        -- What the foreign keys ask when a vehicle or a connection is erased, and whoever shows a vehicle's history.
        CREATE INDEX ix_alerts_vehicle ON alerts (tenant_id, vehicle_id, opened_at) WHERE vehicle_id IS NOT NULL;
        CREATE INDEX ix_alerts_connection ON alerts (tenant_id, connection_id) WHERE connection_id IS NOT NULL;

        -- One row for each time that a code was there: from the first report that named it to the first without it.
        CREATE TABLE vehicle_faults (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL,
            vehicle_id uuid NOT NULL,
            protocol text NOT NULL
                CONSTRAINT ck_vehicle_faults_protocol CHECK (protocol IN ('j1939', 'obdii', 'other')),
            code text NOT NULL,
            source text NOT NULL DEFAULT '',
            spn integer,
            fmi smallint,
            description text,
            severity text NOT NULL CONSTRAINT ck_vehicle_faults_severity
                CHECK (severity IN ('low', 'medium', 'high', 'critical')),
            occurrences integer,
            reports bigint NOT NULL DEFAULT 1,
            first_seen_at timestamptz NOT NULL,
            last_seen_at timestamptz NOT NULL,
            cleared_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_vehicle_faults_order CHECK (first_seen_at <= last_seen_at AND last_seen_at < cleared_at),
            FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id) ON DELETE CASCADE
        );
        CREATE UNIQUE INDEX uq_vehicle_faults_open ON vehicle_faults (tenant_id, vehicle_id, protocol, code, source)
            WHERE cleared_at IS NULL;
        CREATE UNIQUE INDEX uq_vehicle_faults_time ON vehicle_faults
            (vehicle_id, protocol, code, source, first_seen_at);
        CREATE INDEX ix_vehicle_faults_cleared ON vehicle_faults (vehicle_id, protocol, cleared_at);
        CREATE INDEX ix_vehicle_faults_tenant ON vehicle_faults (tenant_id, last_seen_at DESC);

        -- The newest complete report of a vehicle: one without a code leaves no other trace, and what is older is late.
        CREATE TABLE vehicle_fault_reports (
            tenant_id uuid NOT NULL,
            vehicle_id uuid NOT NULL,
            scope text NOT NULL
                CONSTRAINT ck_vehicle_fault_reports_scope CHECK (scope IN ('all', 'j1939', 'obdii', 'other')),
            reported_at timestamptz NOT NULL,
            PRIMARY KEY (vehicle_id, scope),
            FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id) ON DELETE CASCADE
        ) WITH (fillfactor = 70);

        -- Not partitioned: an event is known by its provider's id, whatever time it is corrected to.
        CREATE TABLE video_events (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL,
            vehicle_id uuid NOT NULL,
            connection_id uuid NOT NULL,
            external_id text NOT NULL,
            time timestamptz NOT NULL,
            kind text NOT NULL,
            labels text[] NOT NULL DEFAULT '{}',
            severity text NOT NULL CONSTRAINT ck_video_events_severity
                CHECK (severity IN ('low', 'medium', 'high', 'critical')),
            latitude double precision CONSTRAINT ck_video_events_latitude CHECK (latitude BETWEEN -90 AND 90),
            longitude double precision CONSTRAINT ck_video_events_longitude CHECK (longitude BETWEEN -180 AND 180),
            speed_kph real,
            max_g real,
            external_driver_id text,
            state text,
            video_url text,
            is_evidence boolean NOT NULL DEFAULT false,
            raw jsonb,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_video_events UNIQUE (connection_id, external_id),
            FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id),
            FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id)
        );
        CREATE INDEX ix_video_events_tenant ON video_events (tenant_id, time DESC);
        CREATE INDEX ix_video_events_vehicle ON video_events (vehicle_id, time DESC);
        COMMENT ON COLUMN video_events.external_driver_id IS 'personal: keyed hash';
        COMMENT ON COLUMN video_events.video_url IS 'personal: null';
        COMMENT ON COLUMN video_events.raw IS 'personal: null';

        -- A tenant without a row for a kind has the defaults; NULL turns an alert off.
        CREATE TABLE alert_thresholds (
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            vehicle_kind text NOT NULL
                CONSTRAINT ck_alert_thresholds_kind CHECK (vehicle_kind IN ('vehicle', 'robot')),
            offline_after_s integer
                CONSTRAINT ck_alert_thresholds_offline CHECK (offline_after_s BETWEEN 30 AND 31536000),
            low_fuel_percent real CONSTRAINT ck_alert_thresholds_fuel CHECK (low_fuel_percent BETWEEN 1 AND 95),
            low_battery_percent real
                CONSTRAINT ck_alert_thresholds_battery CHECK (low_battery_percent BETWEEN 1 AND 95),
            fault_severity text DEFAULT 'medium' CONSTRAINT ck_alert_thresholds_fault
                CHECK (fault_severity IN ('low', 'medium', 'high', 'critical')),
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, vehicle_kind)
        );
        """
    )
    for table in ("vehicle_faults", "video_events", "alert_thresholds"):
        touch_updated_at(table)
        isolate_tenants(table)
    isolate_tenants("vehicle_fault_reports")
    grant("vehicle_fault_reports", worker="SELECT, INSERT, UPDATE", app="")
    grant("vehicle_faults", worker="SELECT, INSERT, UPDATE", app="SELECT")
    grant("video_events", worker="SELECT, INSERT, UPDATE", app="SELECT, UPDATE")
    grant("alert_thresholds", worker="SELECT", app="SELECT, INSERT, UPDATE, DELETE")
