"""What other applications write and our jobs read has a length; schedules and orders that go at once stay together."""

from db.migrations.rules import execute

revision = "0016"
down_revision = "0015"

_MOST_BYTES = 65536
_MOST_LEVELS = 64
_DROPPED = f'{{"dropped": "more than {_MOST_BYTES} bytes"}}'
# What a document becomes that was written before its bound; an alert loses its checklist first.
_DOCUMENTS = {
    ("alerts", "details"): ("object", _DROPPED),
    ("anomaly_alerts", "details"): ("object", _DROPPED),
    ("inspections", "defects"): ("array", "[]"),
    ("maintenance_schedules", "checklist"): ("array", "[]"),
}
# Unindexed: what is in an index has its bound from that.
_TEXTS = {
    ("alerts", "message"): 262_144,
    ("maintenance_schedules", "description"): 10_000,
    ("maintenance_schedules", "vehicle_type"): 10_000,
    ("vehicles", "name"): _MOST_BYTES,
    ("vehicles", "vehicle_type"): 10_000,
    ("users", "first_name"): 10_000,
    ("users", "last_name"): 10_000,
    ("users", "locale"): 10_000,
}
_LISTS = (("alerts", "recipients"), ("geofences", "alert_recipients"))


def _is_deep(document: str) -> str:
    """Whether it is nested deeper than a program that reads it can follow."""
    return f"jsonb_path_exists({document}, 'strict $.**{{{_MOST_LEVELS}}}')"


def _has_bomb(document: str) -> str:
    """Whether a number is 12 bytes as it is stored and 131,072 digits as text, such as 1e131071."""
    return f"jsonb_path_exists({document}, 'strict $.** ? (@ > 1e300 || @ < -1e300)')"


def _fits(document: str, kind: str) -> str:
    """Whether it is of its kind and short. Of what has a bomb no text is made: a row of 2 KB would be one of 1 GB."""
    return f"""CASE WHEN jsonb_typeof({document}) <> {kind} OR pg_column_size({document}) > {_MOST_BYTES}
                          OR {_is_deep(document)} OR {_has_bomb(document)} THEN false
                     ELSE octet_length({document}::text) <= {_MOST_BYTES} END"""


def upgrade() -> None:
    _bound_documents()
    _bound_texts()
    _bound_arguments()
    execute(_ORDERS)


def _bound_documents() -> None:
    # Not even a document that is nested deeper than the stack stops the migration.
    execute(
        f"""
        CREATE FUNCTION fits(document jsonb, wanted text) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            RETURN {_fits("document", "wanted")};
        EXCEPTION WHEN OTHERS THEN
            RETURN false;
        END $$;
        CREATE FUNCTION mended(document jsonb, wanted text, instead jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
        BEGIN
            IF fits(document - 'checklist', wanted) THEN
                RETURN document - 'checklist';
            END IF;
            RETURN instead;
        EXCEPTION WHEN OTHERS THEN
            RETURN instead;
        END $$;
        """
    )
    for (table, column), (kind, instead) in _DOCUMENTS.items():
        execute(
            f"""
            UPDATE {table} SET {column} = mended({column}, '{kind}', '{instead}') WHERE NOT fits({column}, '{kind}');
            ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{column}_size CHECK ({_fits(column, repr(kind))});
            """
        )


def _bound_texts() -> None:
    for (table, column), most in _TEXTS.items():
        # A character is at most 4 bytes.
        execute(
            f"""
            UPDATE {table} SET {column} = left({column}, {most // 4}) WHERE octet_length({column}) > {most};
            ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{column}_size CHECK (octet_length({column}) <= {most});
            """
        )
    for table, column in _LISTS:
        execute(
            f"""
            UPDATE {table} SET {column} = '{{}}' WHERE pg_column_size({column}) > {_MOST_BYTES};
            ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{column}_size
                CHECK (pg_column_size({column}) <= {_MOST_BYTES});
            """
        )


def _bound_arguments() -> None:
    too_large = f"pg_column_size(args) > {_MOST_BYTES} OR NOT fits(args, 'object')"
    execute(
        f"""
        UPDATE job_runs SET state = 'failed', finished_at = now(), unique_key = NULL, args = '{_DROPPED}',
               error = '{{"type": "InvalidArguments", "message": "arguments: more than {_MOST_BYTES} bytes"}}'
        WHERE state = 'pending' AND ({too_large});
        UPDATE job_runs SET args = '{_DROPPED}' WHERE state = 'running' AND ({too_large});
        DROP FUNCTION fits, mended;
        -- What is over is history, and may be what was refused.
        ALTER TABLE job_runs ADD CONSTRAINT ck_job_runs_args_size
            CHECK (state NOT IN ('pending', 'running') OR pg_column_size(args) <= {_MOST_BYTES});
        """
    )
    execute(_ARGUMENT_ERROR)


# As before, but for the three refusals at its beginning.
_ARGUMENT_ERROR = f"""
CREATE OR REPLACE FUNCTION job_argument_error(parameters jsonb, args jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    field text;
    rule jsonb;
    given text;
    word text;
BEGIN
    IF jsonb_typeof(args) IS DISTINCT FROM 'object' THEN
        RETURN format('arguments: expected an object, got %s', coalesce(jsonb_typeof(args), 'null'));
    ELSIF pg_column_size(args) > {_MOST_BYTES} THEN
        RETURN format('arguments: %s bytes, more than {_MOST_BYTES}', pg_column_size(args));
    ELSIF {_is_deep("args")} THEN
        RETURN 'arguments: nested deeper than {_MOST_LEVELS} levels';
    ELSIF {_has_bomb("args")} THEN
        RETURN 'arguments: a number beyond 1e300';
    END IF;
    FOR field IN SELECT jsonb_object_keys(args) LOOP
        IF NOT parameters ? field THEN
            RETURN format('%s: not an argument of this job', left(field, 64));
        END IF;
    END LOOP;
    FOR field, rule IN SELECT * FROM jsonb_each(parameters) LOOP
        given := jsonb_typeof(args -> field);
        IF given IS NULL OR given = 'null' THEN
            IF (rule ->> 'required')::boolean THEN
                RETURN format('%s: missing', field);
            END IF;
            CONTINUE;
        END IF;
        word := rule ->> 'type';
        IF word IN ('uuid', 'date', 'datetime', 'string') THEN
            IF given <> 'string' THEN
                RETURN format('%s: expected %s, got %s', field, word, given);
            END IF;
            IF word = 'uuid' AND (args ->> field) !~
                    '^[0-9a-fA-F]{{8}}-[0-9a-fA-F]{{4}}-[0-9a-fA-F]{{4}}-[0-9a-fA-F]{{4}}-[0-9a-fA-F]{{12}}$'
               OR word = 'date' AND NOT job_has_date(args ->> field, '')
               OR word = 'datetime' AND NOT job_has_date(args ->> field, '[T ]([01]\\d|2[0-3])(:[0-5]\\d){{2}}'
                    '(\\.\\d{{1,6}})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)') THEN
                RETURN format('%s: expected %s, got a string of %s characters', field, word, length(args ->> field));
            END IF;
        ELSIF word = 'integer' THEN
            IF given <> 'number' OR (args ->> field) !~ '^-?\\d+$' THEN
                RETURN format('%s: expected integer, got %s', field, given);
            END IF;
        ELSIF given <> word AND word <> 'any' THEN
            RETURN format('%s: expected %s, got %s', field, word, given);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
"""

_ORDERS = """
COMMENT ON COLUMN work_orders.title IS 'personal: redact text';

-- As before, but for the trigger that it locks, so that its schedule stays until this order is there; and for what it
-- says of a schedule that no check has seen yet.
CREATE OR REPLACE FUNCTION number_work_order() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.tenant_id IS DISTINCT FROM app_tenant_id() AND NOT job_caller_sees_all() THEN
        RETURN NEW;
    END IF;
    INSERT INTO work_order_counters AS c (tenant_id) VALUES (NEW.tenant_id)
    ON CONFLICT (tenant_id) DO UPDATE SET last_number = c.last_number;
    IF NEW.schedule_id IS NOT NULL AND NEW.due_cycle IS NULL THEN
        PERFORM FROM maintenance_triggers t
        WHERE t.tenant_id = NEW.tenant_id AND t.schedule_id = NEW.schedule_id AND t.vehicle_id = NEW.vehicle_id
        FOR SHARE;
        UPDATE maintenance_triggers t SET cycle = t.cycle + 1
        WHERE t.tenant_id = NEW.tenant_id AND t.schedule_id = NEW.schedule_id AND t.vehicle_id = NEW.vehicle_id
          AND EXISTS (SELECT FROM work_orders w WHERE w.schedule_id = t.schedule_id AND w.vehicle_id = t.vehicle_id
                                                  AND w.due_cycle = t.cycle AND w.status = 'cancelled');
        SELECT t.cycle INTO NEW.due_cycle FROM maintenance_triggers t
        WHERE t.tenant_id = NEW.tenant_id AND t.schedule_id = NEW.schedule_id AND t.vehicle_id = NEW.vehicle_id;
        IF NOT FOUND THEN
            IF EXISTS (SELECT FROM maintenance_schedules s
                       JOIN vehicles v ON v.id = s.vehicle_id OR v.vehicle_type = s.vehicle_type
                       WHERE s.tenant_id = NEW.tenant_id AND s.id = NEW.schedule_id AND s.is_active
                         AND s.deleted_at IS NULL AND v.tenant_id = NEW.tenant_id AND v.id = NEW.vehicle_id
                         AND v.deleted_at IS NULL AND v.status NOT IN ('retired', 'sold')) THEN
                RAISE EXCEPTION 'work order: schedule_id: no check has met this schedule yet'
                    USING ERRCODE = 'foreign_key_violation',
                          HINT = 'enqueue maintenance.check_due, or run `fleet-jobs maintenance check`, and try again';
            END IF;
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

-- Of who deletes a schedule and who inserts an order of it, one waits for the other.
CREATE OR REPLACE FUNCTION keep_used_schedule() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM FROM maintenance_triggers t WHERE t.schedule_id = OLD.id FOR UPDATE;
    IF EXISTS (SELECT FROM maintenance_triggers t
               JOIN work_orders w ON w.vehicle_id = t.vehicle_id AND w.schedule_id = t.schedule_id
               WHERE t.schedule_id = OLD.id) THEN
        RAISE EXCEPTION 'maintenance schedule: it has work orders' USING ERRCODE = 'foreign_key_violation',
            HINT = 'UPDATE maintenance_schedules SET deleted_at = now()';
    END IF;
    RETURN OLD;
END $$;
"""
