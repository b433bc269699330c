"""Places: fences that tenants draw, which vehicles are inside, and when they came and went."""

from alembic import op

from db.migrations.rules import execute, grant, has_extension, isolate_tenants, touch_updated_at

revision = "0008"
down_revision = "0007"

_CRUD = "SELECT, INSERT, UPDATE, DELETE"
# What tenants draw; the box is computed, and what is wrong with a shape is for the workers to say.
_DRAWN = (
    "tenant_id, name, kind, boundary, center_latitude, center_longitude, radius_m, alert_on_entry, alert_on_exit,"
    " alert_recipients, confirm_fixes, exit_distance_m, dwell_s, is_active, updated_at, deleted_at"
)

# What a statement can tell cheaply. That a ring does not cross itself is for the workers: see geofences.problem. Of a
# boundary stays what we read: two numbers a position, so that no member of it is for us to survive.
_SHAPE = """
CREATE FUNCTION check_geofence_shape() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    polygons jsonb;
    rebuilt jsonb;
    bad text;
    angle double precision;
    reach double precision;
    west double precision;
    east double precision;
    east_half_west double precision;
    west_half_east double precision;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (NEW.kind, NEW.boundary, NEW.center_latitude, NEW.center_longitude, NEW.radius_m)
            IS NOT DISTINCT FROM (OLD.kind, OLD.boundary, OLD.center_latitude, OLD.center_longitude, OLD.radius_m)
        THEN
            RETURN NEW;
        END IF;
    END IF;
    IF NEW.kind IS DISTINCT FROM 'polygon' THEN
        -- Before anything is computed of them: NaN, or a circle beyond bounds, is more than PostGIS survives.
        IF NOT coalesce(NEW.radius_m BETWEEN 1 AND 1000000, true) THEN
            RAISE EXCEPTION 'radius_m: expected 1 to 1,000,000 metres'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_geofences_radius';
        ELSIF NOT coalesce(NEW.center_latitude BETWEEN -90 AND 90 AND NEW.center_longitude BETWEEN -180 AND 180, true)
        THEN
            RAISE EXCEPTION 'center_latitude, center_longitude: expected -90 to 90 and -180 to 180 degrees'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_geofences_center';
        END IF;
        angle := degrees(NEW.radius_m / 6371008.8);
        NEW.min_latitude := greatest(NEW.center_latitude - angle, -90);
        NEW.max_latitude := least(NEW.center_latitude + angle, 90);
        IF NEW.min_latitude <= -90 OR NEW.max_latitude >= 90 THEN
            NEW.min_longitude := -180;
            NEW.max_longitude := 180;
        ELSE
            reach := asind(least(sind(angle) / cosd(NEW.center_latitude), 1));
            west := NEW.center_longitude - reach;
            east := NEW.center_longitude + reach;
            NEW.min_longitude := CASE WHEN west < -180 THEN west + 360 ELSE west END;
            NEW.max_longitude := CASE WHEN east > 180 THEN east - 360 ELSE east END;
        END IF;
        IF TG_OP = 'UPDATE' THEN
            NEW.problem := NULL;
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.boundary IS NULL THEN
        RETURN NEW;  -- ck_geofences_shape says what is missing
    END IF;
    IF coalesce(NEW.boundary ->> 'type', '') NOT IN ('Polygon', 'MultiPolygon') THEN
        RAISE EXCEPTION 'boundary.type: expected Polygon or MultiPolygon' USING ERRCODE = 'check_violation';
    END IF;
    IF jsonb_typeof(NEW.boundary -> 'coordinates') IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'boundary.coordinates: expected an array' USING ERRCODE = 'check_violation';
    END IF;
    polygons := CASE NEW.boundary ->> 'type' WHEN 'Polygon' THEN jsonb_build_array(NEW.boundary -> 'coordinates')
                ELSE NEW.boundary -> 'coordinates' END;
    WITH polygon AS (
        SELECT CASE jsonb_typeof(p) WHEN 'array' THEN p ELSE '[]' END AS rings, at AS polygon_at
        FROM jsonb_array_elements(polygons) WITH ORDINALITY AS p (p, at)
    ),
    ring AS (
        SELECT CASE jsonb_typeof(r) WHEN 'array' THEN r ELSE '[]' END AS positions, polygon_at, at AS ring_at
        FROM polygon, jsonb_array_elements(rings) WITH ORDINALITY AS r (r, at)
    ),
    position AS (  -- a number of JSON may be too large for a float
        SELECT polygon_at, ring_at, at, jsonb_build_array(xy -> 0, xy -> 1) AS pair,
               CASE WHEN jsonb_typeof(xy -> 0) = 'number'
               THEN greatest(-1000, least(CAST(xy -> 0 AS numeric), 1000)) END AS longitude,
               CASE WHEN jsonb_typeof(xy -> 1) = 'number'
               THEN greatest(-1000, least(CAST(xy -> 1 AS numeric), 1000)) END AS latitude
        FROM ring, jsonb_array_elements(positions) WITH ORDINALITY AS xy (xy, at)
    ),
    closed AS (
        SELECT polygon_at, ring_at, jsonb_agg(pair ORDER BY at) AS pairs FROM position GROUP BY polygon_at, ring_at
    ),
    whole AS (SELECT polygon_at, jsonb_agg(pairs ORDER BY ring_at) AS rings FROM closed GROUP BY polygon_at),
    box AS (
        SELECT count(*) AS positions, count(longitude) AS longitudes, count(latitude) AS latitudes,
               min(latitude) AS south, max(latitude) AS north, min(longitude) AS west, max(longitude) AS east,
               min(longitude) FILTER (WHERE longitude >= 0) AS east_half_west,
               max(longitude) FILTER (WHERE longitude < 0) AS west_half_east
        FROM position
    )
    SELECT CASE
        WHEN NOT EXISTS (SELECT FROM polygon) THEN 'boundary.coordinates: is empty'
        WHEN EXISTS (SELECT FROM polygon WHERE rings = '[]')
            THEN 'boundary.coordinates: a polygon is no array of rings, or is empty'
        WHEN EXISTS (SELECT FROM ring WHERE positions = '[]')
            THEN 'boundary.coordinates: a ring is no array of positions, or is empty'
        WHEN positions > 20000 THEN 'boundary.coordinates: more than 20,000 positions'
        WHEN positions > longitudes OR positions > latitudes
            THEN 'boundary.coordinates: a position is not [longitude, latitude], two numbers'
        WHEN south < -90 OR north > 90 THEN 'boundary.coordinates: a latitude is not between -90 and 90'
            || CASE WHEN south >= -180 AND north <= 180 THEN
               ': is this latitude, longitude? GeoJSON has longitude first' ELSE '' END
        WHEN west < -180 OR east > 180 THEN 'boundary.coordinates: a longitude is not between -180 and 180'
        WHEN EXISTS (SELECT FROM ring WHERE jsonb_array_length(positions) < 4)
            THEN 'boundary.coordinates: a ring has at least 4 positions'
        WHEN EXISTS (SELECT FROM ring WHERE (positions -> 0 -> 0, positions -> 0 -> 1)
                                            IS DISTINCT FROM (positions -> -1 -> 0, positions -> -1 -> 1))
            THEN 'boundary.coordinates: a ring is open: its last position is not its first'
        WHEN north - south > 90 THEN 'boundary: is taller than 90 degrees of latitude'
        WHEN east - west > 180 AND 360 - (b.east_half_west - b.west_half_east) > 180
            THEN 'boundary: is wider than 180 degrees of longitude'
        END, (SELECT jsonb_agg(w.rings ORDER BY polygon_at) FROM whole w), south, north, b.west, b.east,
        b.east_half_west, b.west_half_east
    INTO bad, rebuilt, NEW.min_latitude, NEW.max_latitude, west, east, east_half_west, west_half_east
    FROM box b;
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION '%', bad USING ERRCODE = 'check_violation';
    END IF;
    NEW.boundary := jsonb_build_object('type', NEW.boundary -> 'type', 'coordinates',
        CASE NEW.boundary ->> 'type' WHEN 'Polygon' THEN rebuilt -> 0 ELSE rebuilt END);
    IF pg_column_size(NEW.boundary) > 4000000 THEN  -- numbers of thousands of digits
        RAISE EXCEPTION 'boundary: is larger than 4 MB' USING ERRCODE = 'check_violation';
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.boundary IS DISTINCT FROM OLD.boundary THEN
        NEW.problem := NULL;
    END IF;
    -- A fence that is at most half the world wide and has both signs far apart lies across the antimeridian.
    NEW.min_longitude := CASE WHEN east - west > 180 THEN east_half_west ELSE west END;
    NEW.max_longitude := CASE WHEN east - west > 180 THEN west_half_east ELSE east END;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION check_geofence_shape FROM PUBLIC;
CREATE TRIGGER check_shape BEFORE INSERT OR UPDATE ON geofences
    FOR EACH ROW EXECUTE FUNCTION check_geofence_shape();
"""

# Whoever changes a fence, by whatever statement: workers see another version. A fence that is no longer evaluated
# holds nobody inside, and nothing open.
# The version's row is what pages and changes meet at, before either touches a presence or an alert: see hold_version.
_VERSIONS = """
CREATE FUNCTION note_geofence_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    changed uuid[];
    owners uuid[] := '{}';
    ended uuid[] := '{}';
BEGIN
    IF TG_OP = 'INSERT' THEN
        changed := ARRAY(SELECT DISTINCT tenant_id FROM written);
    ELSIF TG_OP = 'DELETE' THEN
        changed := ARRAY(SELECT DISTINCT tenant_id FROM erased);
        owners := changed;
        ended := ARRAY(SELECT id FROM erased);
    ELSE
        changed := ARRAY(
            SELECT DISTINCT t FROM written w JOIN erased e USING (id), unnest(ARRAY[w.tenant_id, e.tenant_id]) AS t
            WHERE (w.tenant_id, w.name, w.kind, w.boundary, w.center_latitude, w.center_longitude, w.radius_m,
                   w.alert_on_entry, w.alert_on_exit, w.alert_recipients, w.confirm_fixes, w.exit_distance_m,
                   w.dwell_s, w.is_active, w.deleted_at)
               IS DISTINCT FROM
                  (e.tenant_id, e.name, e.kind, e.boundary, e.center_latitude, e.center_longitude, e.radius_m,
                   e.alert_on_entry, e.alert_on_exit, e.alert_recipients, e.confirm_fixes, e.exit_distance_m,
                   e.dwell_s, e.is_active, e.deleted_at)
        );
        SELECT array_agg(DISTINCT tenant_id), array_agg(id) INTO owners, ended
        FROM written WHERE NOT is_active OR deleted_at IS NOT NULL OR problem IS NOT NULL;
    END IF;
    INSERT INTO geofence_versions AS v (tenant_id) SELECT t FROM unnest(changed) AS t ORDER BY t
    ON CONFLICT (tenant_id) DO UPDATE SET version = gen_random_uuid();
    IF ended <> '{}' THEN
        PERFORM FROM geofence_versions WHERE tenant_id = ANY(owners) ORDER BY tenant_id FOR NO KEY UPDATE;
        DELETE FROM geofence_presence WHERE tenant_id = ANY(owners) AND geofence_id = ANY(ended);
        UPDATE alerts SET resolved_at = greatest(opened_at, now())
        WHERE resolved_at IS NULL AND kind IN ('geofence_entry', 'geofence_exit')
          AND details ->> 'geofence_id' = ANY(CAST(ended AS text[]))
          AND tenant_id = ANY(owners);
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION note_geofence_change FROM PUBLIC;
-- A deletion takes presences with it before its trigger runs: it waits for pages first.
CREATE FUNCTION wait_for_geofence_pages() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM FROM geofence_versions WHERE app_tenant_id() IS NULL OR tenant_id = app_tenant_id()
    ORDER BY tenant_id FOR NO KEY UPDATE;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION wait_for_geofence_pages FROM PUBLIC;
CREATE TRIGGER wait_for_pages BEFORE DELETE ON geofences
    FOR EACH STATEMENT EXECUTE FUNCTION wait_for_geofence_pages();
CREATE TRIGGER note_insert AFTER INSERT ON geofences REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION note_geofence_change();
CREATE TRIGGER note_update AFTER UPDATE ON geofences REFERENCING NEW TABLE AS written OLD TABLE AS erased
    FOR EACH STATEMENT EXECUTE FUNCTION note_geofence_change();
CREATE TRIGGER note_delete AFTER DELETE ON geofences REFERENCING OLD TABLE AS erased
    FOR EACH STATEMENT EXECUTE FUNCTION note_geofence_change();
"""


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
        COMMENT ON COLUMN geofences.min_longitude IS
            'Of the bounding box, computed; greater than max_longitude where the fence crosses the antimeridian.';
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
            pending_latitude double precision,
            pending_longitude double precision,
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
        UPDATE vehicle_positions SET fences_at = time WHERE time IS NOT NULL;
        COMMENT ON COLUMN vehicle_positions.fences_at IS
            'Up to which fix fences were evaluated: earlier ones came late and tell of no crossing.';
        """
    )
    touch_updated_at("geofences")
    for table in ("geofences", "geofence_versions", "geofence_presence", "geofence_events"):
        isolate_tenants(table)
    grant(
        "geofences",
        worker="SELECT, INSERT, UPDATE",
        app=f"SELECT, INSERT (id, created_at, {_DRAWN}), UPDATE ({_DRAWN}), DELETE",
    )
    grant("geofence_versions", worker="SELECT, INSERT, UPDATE", app="SELECT")
    grant("geofence_presence", worker=_CRUD, app="SELECT")
    grant("geofence_events", worker="SELECT, INSERT", app="SELECT")
    execute(_SHAPE)
    execute(_VERSIONS)
    if has_extension("postgis"):
        _add_geography()


def _add_geography() -> None:
    """Let other applications search places with PostGIS; jobs do without, and give the same answers."""
    schema = op.get_bind().exec_driver_sql(
        "SELECT quote_ident(nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE extname = 'postgis'"
    )
    gis = schema.scalar_one()
    # The server computes these before it checks the row: what no check lets in must not reach PostGIS either, which a
    # circle of NaN metres brings down with all its sessions.
    point = f"""
        CASE WHEN latitude BETWEEN -90 AND 90 AND longitude BETWEEN -180 AND 180
        THEN CAST({gis}.ST_SetSRID({gis}.ST_MakePoint(longitude, latitude), 4326) AS {gis}.geography) END
    """
    center = f"{gis}.ST_SetSRID({gis}.ST_MakePoint(center_longitude, center_latitude), 4326)"
    columns = {
        ("vehicle_positions", "location"): point,
        ("facilities", "location"): point,
        ("geofence_events", "location"): point,
        ("geofences", "area"): f"""
            CASE kind WHEN 'polygon' THEN CAST({gis}.ST_GeomFromGeoJSON(boundary) AS {gis}.geography)
            ELSE CASE WHEN radius_m BETWEEN 1 AND 1000000 AND center_latitude BETWEEN -90 AND 90
                       AND center_longitude BETWEEN -180 AND 180
                 THEN {gis}.ST_Buffer(CAST({center} AS {gis}.geography), radius_m) END END
        """,
    }
    for (table, column), expression in columns.items():
        execute(
            f"""
            ALTER TABLE {table} ADD COLUMN {column} {gis}.geography GENERATED ALWAYS AS ({expression}) STORED;
            CREATE INDEX ix_{table}_{column} ON {table} USING gist ({column});
            """
        )
