"""Time series: hypertables behind barrier views where TimescaleDB is installed, native partitions elsewhere.

TimescaleDB's chunks carry grants but no policies, and its columnstore refuses row-level security: there, roles get
no grant on a hypertable, only on a view of the same name and columns.
"""

from datetime import UTC, datetime

from db.migrations.rules import execute, grant, has_extension, isolate_tenants
from db.timeseries.partitions import SERIES, create_statements

revision = "0005"
down_revision = "0004"

_COLUMNS = {
    "telemetry": """
        tenant_id uuid NOT NULL,
        vehicle_id uuid NOT NULL,
        time timestamptz NOT NULL,
        latitude double precision CONSTRAINT ck_telemetry_latitude CHECK (latitude BETWEEN -90 AND 90),
        longitude double precision CONSTRAINT ck_telemetry_longitude CHECK (longitude BETWEEN -180 AND 180),
        heading_deg real,
        speed_kph real,
        odometer_km double precision,
        engine_hours double precision,
        fuel_percent real,
        battery_percent real,
        battery_voltage_v real,
        battery_current_a real,
        acceleration_mps2 real,
        cpu_percent real,
        memory_mb integer,
        disk_percent real,
        engine_state text,
        error_codes text[],
        raw jsonb,
        CONSTRAINT pk_telemetry PRIMARY KEY (vehicle_id, time)
    """,
    "ev_metrics": """
        tenant_id uuid NOT NULL,
        vehicle_id uuid NOT NULL,
        time timestamptz NOT NULL,
        battery_percent real,
        charging_state text,
        range_km real,
        energy_kwh double precision,
        raw jsonb,
        CONSTRAINT pk_ev_metrics PRIMARY KEY (vehicle_id, time)
    """,
    "vehicle_logs": """
        tenant_id uuid NOT NULL,
        vehicle_id uuid NOT NULL,
        time timestamptz NOT NULL,
        sequence integer NOT NULL DEFAULT 0,
        level text NOT NULL,
        source text,
        message text NOT NULL,
        details jsonb,
        CONSTRAINT pk_vehicle_logs PRIMARY KEY (vehicle_id, time, sequence)
    """,
    "sensor_readings": """
        tenant_id uuid NOT NULL,
        sensor_id uuid NOT NULL,
        time timestamptz NOT NULL,
        value double precision NOT NULL,
        quality real CONSTRAINT ck_sensor_readings_quality CHECK (quality BETWEEN 0 AND 1),
        CONSTRAINT pk_sensor_readings PRIMARY KEY (sensor_id, time)
    """,
}

# Row-level security checks the tenant of a row, not whose vehicle it names; without this a tenant could occupy the
# keys of another's vehicle, and the other's own points would be taken for duplicates. One look per statement.
_OWNERSHIP = """
CREATE FUNCTION check_{table}_owner() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT DISTINCT tenant_id, {key} FROM written) w
        WHERE NOT EXISTS (SELECT FROM {owners} o WHERE o.id = w.{key} AND o.tenant_id = w.tenant_id)
    ) THEN
        RAISE EXCEPTION '{table}: {key} is not one of the tenant''s' USING ERCODE;
    END IF;
    RETURN NULL;
END $$;
-- Who may execute it may hang it on a temporary table whose types bring code: that would run as the owner.
REVOKE ALL ON FUNCTION check_{table}_owner FROM PUBLIC;
CREATE TRIGGER check_owner_insert AFTER INSERT ON {relation} REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION check_{table}_owner();
CREATE TRIGGER check_owner_update AFTER UPDATE ON {relation} REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION check_{table}_owner();
""".replace("USING ERCODE", "USING ERRCODE = 'with_check_option_violation'")

_VIEW = """
CREATE VIEW {table} WITH (security_barrier = true) AS
    SELECT * FROM hyper.{table}
    WHERE tenant_id = (SELECT app_tenant_id())
       OR (SELECT rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user)
    WITH CASCADED CHECK OPTION;
"""


def upgrade() -> None:
    timescale = has_extension("timescaledb")
    if timescale:
        execute("CREATE SCHEMA hyper; GRANT USAGE ON SCHEMA hyper TO fleet_system")
    for series in SERIES:
        columns = _COLUMNS[series.table]
        if timescale:
            relation = f"hyper.{series.table}"
            execute(f"CREATE TABLE {relation} ({columns})")
            execute(
                f"SELECT create_hypertable('{relation}', by_range('time', INTERVAL '7 days'), "
                "create_default_indexes => false)"
            )
            execute(_VIEW.format(table=series.table))
        else:
            relation = series.table
            execute(f"CREATE TABLE {relation} ({columns}) PARTITION BY RANGE (time)")
            isolate_tenants(relation)
            for statement in create_statements(series, datetime.now(UTC), existing=set()):
                execute(statement)
        key, owners = ("sensor_id", "sensors") if series.table == "sensor_readings" else ("vehicle_id", "vehicles")
        execute(_OWNERSHIP.format(table=series.table, relation=relation, key=key, owners=owners))
        grant(series.table, worker="SELECT, INSERT, UPDATE", app="SELECT, INSERT")
