"""Documents are bounded by their text, as it is stored, updated and restored; readings are asked about once."""

from alembic import op

from db.migrations.rules import execute

revision = "0019"
down_revision = "0018"

_MOST_BYTES = 65536
# What is stored may be compressed, so that its size says nothing of what it is when it is written again. Below this
# one no text is made: the smallest numbers of a list have four times their text.
_MOST_STORED_BYTES = 5 * _MOST_BYTES
_MOST_LEVELS = 64
_HAS_BOMB = "jsonb_path_exists({}, 'strict $.** ? (@ > 1e300 || @ < -1e300)')"
_DROPPED = f'{{"dropped": "more than {_MOST_BYTES} bytes"}}'
_DOCUMENTS = {
    ("alerts", "details"): "object",
    ("anomaly_alerts", "details"): "object",
    ("inspections", "defects"): "array",
    ("maintenance_schedules", "checklist"): "array",
}
_LISTS = (("alerts", "recipients"), ("geofences", "alert_recipients"))


def upgrade() -> None:
    _bound_documents()
    _bound_lists()
    _bound_arguments()
    _ask_once()
    _keep_cycles()
    _wait_less()


def _bound_documents() -> None:
    # What the constraints of before have let pass passes these too: nothing is to be mended.
    for (table, column), kind in _DOCUMENTS.items():
        execute(
            f"""
            ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{column}_size;
            ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{column}_size CHECK (
                CASE WHEN jsonb_typeof({column}) <> '{kind}' OR pg_column_size({column}) > {_MOST_STORED_BYTES}
                          OR jsonb_path_exists({column}, 'strict $.**{{{_MOST_LEVELS}}}')
                          OR {_HAS_BOMB.format(column)} THEN false
                     ELSE octet_length({column}::text) <= {_MOST_BYTES} END);
            """
        )


def _bound_lists() -> None:
    for table, column in _LISTS:
        size = f"octet_length(array_to_string({column}, ',', ''))"
        execute(
            f"""
            ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{column}_size;
            UPDATE {table} SET {column} = '{{}}' WHERE {size} > {_MOST_BYTES};
            ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{column}_size CHECK ({size} <= {_MOST_BYTES});
            """
        )


def _bound_arguments() -> None:
    # Looked at with every step of a run, so no more than its size: the doors refuse depth and bombs.
    size = f"""CASE WHEN pg_column_size(args) > {_MOST_STORED_BYTES} THEN false
                    ELSE octet_length(args::text) <= {_MOST_BYTES} END"""
    fits = f"CASE WHEN {_HAS_BOMB.format('args')} THEN false ELSE {size} END"
    execute(
        f"""
        ALTER TABLE job_runs DROP CONSTRAINT ck_job_runs_args_size;
        UPDATE job_runs SET state = 'failed', finished_at = now(), unique_key = NULL, args = '{_DROPPED}',
               error = '{{"type": "InvalidArguments", "message": "arguments: more than {_MOST_BYTES} bytes"}}'
        WHERE state = 'pending' AND NOT {fits};
        UPDATE job_runs SET args = '{_DROPPED}' WHERE state = 'running' AND NOT {fits};
        ALTER TABLE job_runs ADD CONSTRAINT ck_job_runs_args_size
            CHECK (CASE WHEN state NOT IN ('pending', 'running') THEN true ELSE {size} END);
        """
    )
    _change(
        "job_argument_error",
        f"""pg_column_size(args) > {_MOST_BYTES} THEN
        RETURN format('arguments: %s bytes, more than {_MOST_BYTES}', pg_column_size(args));""",
        f"""pg_column_size(args) > {_MOST_STORED_BYTES} THEN
        RETURN 'arguments: more than {_MOST_BYTES} bytes';""",
    )
    _change(
        "job_argument_error",
        "RETURN 'arguments: a number beyond 1e300';",
        f"""RETURN 'arguments: a number beyond 1e300';
    ELSIF octet_length(args::text) > {_MOST_BYTES} THEN
        RETURN format('arguments: %s bytes, more than {_MOST_BYTES}', octet_length(args::text));""",
    )


def _ask_once() -> None:
    """Of a corrected inspection report the meters that were corrected: a person may have judged the other."""
    before = "(OLD.vehicle_id, OLD.inspected_at, m.before)"
    is_corrected = f"(NEW.vehicle_id, NEW.inspected_at, m.value) IS DISTINCT FROM {before}"
    execute(
        f"""
        CREATE OR REPLACE FUNCTION report_inspection_meters() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                UPDATE meter_readings r SET state = 'superseded', reason = NULL
                FROM (VALUES ('odometer_km', OLD.odometer_km, NEW.odometer_km),
                             ('engine_hours', OLD.engine_hours, NEW.engine_hours)) AS m (meter, before, value)
                WHERE r.vehicle_id = OLD.vehicle_id AND r.read_at = OLD.inspected_at AND r.source = 'inspection'
                  AND r.meter = m.meter AND r.state IN ('reported', 'quarantined') AND {is_corrected};
            END IF;
            INSERT INTO meter_readings AS r (tenant_id, vehicle_id, meter, value, read_at, source)
            SELECT NEW.tenant_id, NEW.vehicle_id, m.meter, m.value, NEW.inspected_at, 'inspection'
            FROM (VALUES ('odometer_km', OLD.odometer_km, NEW.odometer_km),
                         ('engine_hours', OLD.engine_hours, NEW.engine_hours)) AS m (meter, before, value)
            WHERE m.value IS NOT NULL AND (TG_OP = 'INSERT' OR {is_corrected})
            ON CONFLICT (vehicle_id, meter, read_at)
            DO UPDATE SET value = excluded.value, state = 'reported', reason = NULL
            WHERE r.source = 'inspection' AND r.tenant_id = excluded.tenant_id AND r.state <> 'accepted';
            RETURN NULL;
        END $$;
        """
    )


def _keep_cycles() -> None:
    """Where an instrument is another one, limits move to its numbers: nobody put a service off."""
    execute(
        """
        DROP TRIGGER snooze_trigger ON maintenance_triggers;
        CREATE TRIGGER snooze_trigger
            BEFORE UPDATE OF snoozed_until, snoozed_until_km, snoozed_until_engine_hours ON maintenance_triggers
            FOR EACH ROW WHEN (
                NEW.cycle = OLD.cycle
                AND num_nonnulls(NEW.snoozed_until, NEW.snoozed_until_km, NEW.snoozed_until_engine_hours) > 0
                AND current_setting('app.instrument_replaced', true) IS DISTINCT FROM 'yes')
            EXECUTE FUNCTION snooze_trigger();
        """
    )


def _wait_less() -> None:
    """Who inserts an order holds the counter: the service is kept from being deleted, and may be put off meanwhile."""
    _change(
        "number_work_order",
        """AND t.vehicle_id = NEW.vehicle_id
        FOR SHARE;""",
        """AND t.vehicle_id = NEW.vehicle_id
        FOR KEY SHARE;""",
    )


def _change(function: str, before: str, after: str) -> None:
    """Change a function and keep all else of it as it is."""
    found = op.get_bind().exec_driver_sql("SELECT pg_get_functiondef(%s::regproc)", (function,)).scalar_one()
    if found.count(before) != 1:
        raise RuntimeError(f"{function} is not what this migration changes")
    execute(found.replace(before, after))
