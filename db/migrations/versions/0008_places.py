"""Places: fences that tenants draw, which vehicles are inside, and when they came and went."""

from db.migrations.rules import execute, grant, isolate_tenants, touch_updated_at

revision = "0008"
down_revision = "0007"

_CRUD = "SELECT, INSERT, UPDATE, DELETE"


def upgrade() -> None:
    execute(
        """
        CREATE TABLE geofences (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            name text NOT NULL CONSTRAINT ck_geofences_name CHECK (length(name) BETWEEN 1 AND 200),
            kind text NOT NULL DEFAULT 'polygon' CONSTRAINT ck_geofences_kind CHECK (kind IN ('polygon', 'circle')),
            boundary jsonb,
            center_latitude double precision
                CONSTRAINT ck_geofences_center_latitude CHECK (center_latitude BETWEEN -90 AND 90),
            center_longitude double precision
                CONSTRAINT ck_geofences_center_longitude CHECK (center_longitude BETWEEN -180 AND 180),
            radius_m double precision CONSTRAINT ck_geofences_radius CHECK (radius_m BETWEEN 1 AND 1000000),
            min_latitude double precision,
            min_longitude double precision,
            max_latitude double precision,
            max_longitude double precision,
            alert_on_entry boolean NOT NULL DEFAULT false,
            alert_on_exit boolean NOT NULL DEFAULT false,
            alert_recipients text[] NOT NULL DEFAULT '{}',
            confirm_fixes smallint NOT NULL DEFAULT 1
                CONSTRAINT ck_geofences_confirm_fixes CHECK (confirm_fixes BETWEEN 1 AND 10),
            exit_distance_m double precision NOT NULL DEFAULT 0
                CONSTRAINT ck_geofences_exit_distance CHECK (exit_distance_m BETWEEN 0 AND 10000),
            dwell_s integer CONSTRAINT ck_geofences_dwell CHECK (dwell_s BETWEEN 1 AND 2592000),
            is_active boolean NOT NULL DEFAULT true,
            problem text,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            deleted_at timestamptz,
            CONSTRAINT uq_geofences_tenant UNIQUE (tenant_id, id),
            CONSTRAINT ck_geofences_shape CHECK (
                CASE kind WHEN 'circle'
                THEN boundary IS NULL AND num_nulls(center_latitude, center_longitude, radius_m) = 0
                ELSE boundary IS NOT NULL AND num_nonnulls(center_latitude, center_longitude, radius_m) = 0 END)
        );
        CREATE UNIQUE INDEX uq_geofences_name ON geofences (tenant_id, name) WHERE deleted_at IS NULL;
        COMMENT ON COLUMN geofences.boundary IS 'A GeoJSON geometry, Polygon or MultiPolygon: longitude, latitude.';
        COMMENT ON COLUMN geofences.problem IS 'Why the fence is not evaluated; NULL where it is.';
        COMMENT ON COLUMN geofences.alert_recipients IS 'personal: drop key';

        -- Changes with every change of a tenant's fences: workers keep them in memory until it does.
        CREATE TABLE geofence_versions (
            tenant_id uuid PRIMARY KEY REFERENCES tenants (id),
            version uuid NOT NULL DEFAULT gen_random_uuid()
        );

        -- Pairs that are inside, or not surely outside yet; a vehicle that is outside for certain has no row.
        CREATE TABLE geofence_presence (
            vehicle_id uuid NOT NULL,
            geofence_id uuid NOT NULL,
            tenant_id uuid NOT NULL,
            entered_at timestamptz,
            dwelled_at timestamptz,
            pending_at timestamptz,
            pending_fixes smallint NOT NULL DEFAULT 0,
            PRIMARY KEY (vehicle_id, geofence_id),
            FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id) ON DELETE CASCADE,
            FOREIGN KEY (tenant_id, geofence_id) REFERENCES geofences (tenant_id, id) ON DELETE CASCADE
        );
        CREATE INDEX ix_geofence_presence_tenant ON geofence_presence (tenant_id, geofence_id);

        CREATE TABLE geofence_events (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL,
            vehicle_id uuid NOT NULL,
            geofence_id uuid NOT NULL,
            time timestamptz NOT NULL,
            kind text NOT NULL CONSTRAINT ck_geofence_events_kind CHECK (kind IN ('entry', 'exit', 'dwell')),
            latitude double precision NOT NULL,
            longitude double precision NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_geofence_events UNIQUE (vehicle_id, geofence_id, time, kind),
            FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id) ON DELETE CASCADE,
            FOREIGN KEY (tenant_id, geofence_id) REFERENCES geofences (tenant_id, id) ON DELETE CASCADE
        );
        CREATE INDEX ix_geofence_events_tenant ON geofence_events (tenant_id, time DESC);
        CREATE INDEX ix_geofence_events_geofence ON geofence_events (geofence_id, time DESC);

        ALTER TABLE vehicle_positions ADD COLUMN fences_at timestamptz;
        COMMENT ON COLUMN vehicle_positions.fences_at IS
            'Up to which fix fences were evaluated: earlier ones came late and tell of no crossing.';
        """
    )
    touch_updated_at("geofences")
    for table in ("geofences", "geofence_versions", "geofence_presence", "geofence_events"):
        isolate_tenants(table)
    grant("geofences", worker="SELECT, INSERT, UPDATE", app=_CRUD)
    grant("geofence_versions", worker="SELECT, INSERT, UPDATE", app="SELECT")
    grant("geofence_presence", worker=_CRUD, app="SELECT")
    grant("geofence_events", worker="SELECT, INSERT", app="SELECT")
