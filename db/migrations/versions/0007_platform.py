"""The platform: what jobs there are, every run of them, who runs them, and the door for other applications."""

from db.migrations.rules import execute, grant, isolate_tenants, server_version

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_id = "uuidv7()" if server_version() >= 18 else "gen_random_uuid()"
    execute(
        f"""
        -- Written by `fleet-jobs migrate` from the code's registry; read by enqueue_job.
        CREATE TABLE job_definitions (
            job text PRIMARY KEY,
            queue text NOT NULL,
            scope text NOT NULL CONSTRAINT ck_job_definitions_scope CHECK (scope IN ('tenant', 'system')),
            is_public boolean NOT NULL,
            max_attempts smallint NOT NULL,
            priority smallint NOT NULL,
            parameters jsonb NOT NULL,
            unique_by text[],
            description text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        );

        -- No foreign key to tenants: history outlives them, and every enqueue would pay for it.
        CREATE TABLE job_runs (
            id uuid PRIMARY KEY DEFAULT {run_id},
            job text NOT NULL,
            queue text NOT NULL,
            tenant_id uuid,
            args jsonb NOT NULL DEFAULT '{{}}',
            unique_key text,
            tick_key text,
            nominal_at timestamptz,
            priority smallint NOT NULL DEFAULT 100,
            state text NOT NULL DEFAULT 'pending' CONSTRAINT ck_job_runs_state CHECK
                (state IN ('pending', 'running', 'succeeded', 'failed', 'cancelled', 'skipped')),
            run_at timestamptz NOT NULL DEFAULT now(),
            published_at timestamptz,
            publishes integer NOT NULL DEFAULT 0,
            attempt smallint NOT NULL DEFAULT 0,
            max_attempts smallint NOT NULL DEFAULT 5,
            snoozes integer NOT NULL DEFAULT 0,
            rescues smallint NOT NULL DEFAULT 0,
            replays smallint NOT NULL DEFAULT 0,
            claim_token uuid,
            worker_id uuid,
            claimed_at timestamptz,
            cancel_requested_at timestamptz,
            counts jsonb,
            progress jsonb,
            error jsonb,
            requested_by text,
            parent_id uuid,
            trace_context text,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            started_at timestamptz,
            finished_at timestamptz,
            CONSTRAINT ck_job_runs_claim CHECK ((state = 'running') = (claim_token IS NOT NULL)),
            CONSTRAINT ck_job_runs_finished CHECK
                ((state IN ('succeeded', 'failed', 'cancelled', 'skipped')) = (finished_at IS NOT NULL))
        ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
                autovacuum_vacuum_cost_delay = 0);

        -- What the relay takes next: by job and priority, then a few of each tenant in turn, oldest first.
        CREATE INDEX ix_job_runs_due ON job_runs
            (job, priority, coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), run_at)
            WHERE state = 'pending' AND published_at IS NULL;
        CREATE INDEX ix_job_runs_published ON job_runs (job, published_at)
            WHERE state = 'pending' AND published_at IS NOT NULL;
        -- By claim: how its worker finds the runs to record. Who looks for dead workers reads it whole, it is short.
        CREATE INDEX ix_job_runs_running ON job_runs (claim_token) WHERE state = 'running';
        CREATE INDEX ix_job_runs_dead ON job_runs (job, finished_at) WHERE state = 'failed';
        CREATE INDEX ix_job_runs_created ON job_runs (created_at);
        CREATE INDEX ix_job_runs_tenant ON job_runs (tenant_id, created_at) WHERE tenant_id IS NOT NULL;
        CREATE UNIQUE INDEX uq_job_runs_active ON job_runs
            (job, coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), unique_key)
            WHERE unique_key IS NOT NULL AND state IN ('pending', 'running');
        CREATE UNIQUE INDEX uq_job_runs_tick ON job_runs (tick_key) WHERE tick_key IS NOT NULL;

        -- One row a worker process. `active` are the claim tokens that it is working on: a run that its living worker
        -- has lost sight of is rescued too.
        CREATE TABLE worker_heartbeats (
            id uuid PRIMARY KEY,
            host text NOT NULL,
            pid integer NOT NULL,
            name text NOT NULL,
            active uuid[] NOT NULL DEFAULT '{{}}',
            started_at timestamptz NOT NULL DEFAULT now(),
            beat_at timestamptz NOT NULL DEFAULT now(),
            stopped_at timestamptz
        ) WITH (fillfactor = 50);

        CREATE TABLE job_controls (
            kind text NOT NULL CONSTRAINT ck_job_controls_kind CHECK (kind IN ('job', 'queue')),
            name text NOT NULL,
            paused_at timestamptz NOT NULL DEFAULT now(),
            paused_by text NOT NULL,
            reason text,
            PRIMARY KEY (kind, name)
        );

        -- How far each entry of the timetable has come in each zone: what a beat that was down has missed.
        CREATE TABLE schedule_ticks (
            entry text NOT NULL,
            time_zone text NOT NULL,
            last_tick_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (entry, time_zone)
        );
        """
    )
    isolate_tenants("job_runs")
    grant("job_runs", worker="SELECT, UPDATE", app="SELECT")
    grant("job_definitions", worker="SELECT", app="SELECT")
    grant("job_controls", worker="SELECT", app="")
    grant("worker_heartbeats", worker="", app="")
    grant("schedule_ticks", worker="", app="")
    execute(_FUNCTIONS.replace("{run_id}", run_id))


_FUNCTIONS = """
-- Whether a text starts with a day of the calendar and goes on as a pattern says.
CREATE FUNCTION job_has_date(given text, rest text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF given !~ ('^\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])' || rest || '$') OR left(given, 4) = '0000' THEN
        RETURN false;
    END IF;
    RETURN extract(month FROM make_date(left(given, 4)::integer, substr(given, 6, 2)::integer, 1)
                              + substr(given, 9, 2)::integer - 1) = substr(given, 6, 2)::integer;
END $$;

-- What is wrong with the arguments, in words that name the field and the value's shape, never the value.
CREATE FUNCTION job_argument_error(parameters jsonb, args jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    field text;
    rule jsonb;
    given text;
    word text;
BEGIN
    IF jsonb_typeof(args) IS DISTINCT FROM 'object' THEN
        RETURN format('arguments: expected an object, got %s', coalesce(jsonb_typeof(args), 'null'));
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
                    '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'
               OR word = 'date' AND NOT job_has_date(args ->> field, '')
               OR word = 'datetime' AND NOT job_has_date(args ->> field, '[T ]([01]\\d|2[0-3])(:[0-5]\\d){2}'
                    '(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)') THEN
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

-- Whether who logged in sees all tenants: the platform itself. `current_user` is the owner where the doors run.
CREATE FUNCTION job_caller_sees_all() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT rolbypassrls FROM pg_roles WHERE rolname = session_user
$$;

-- The tenant that the caller may act for: the transaction's own, or any for a role that sees them all.
CREATE FUNCTION job_tenant(wanted uuid) RETURNS uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    mine uuid := app_tenant_id();
BEGIN
    IF mine IS NOT NULL THEN
        IF wanted IS NOT NULL AND wanted <> mine THEN
            RAISE EXCEPTION 'tenant_id: not the tenant of this transaction' USING ERRCODE = 'insufficient_privilege';
        END IF;
        RETURN mine;
    END IF;
    IF NOT job_caller_sees_all() THEN
        RAISE EXCEPTION 'tenant_id: set app.tenant_id in this transaction first'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'SELECT set_config(''app.tenant_id'', ''<uuid>'', true)';
    END IF;
    RETURN wanted;
END $$;

CREATE FUNCTION job_definition(name text, tenant uuid) RETURNS job_definitions
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    definition job_definitions;
BEGIN
    SELECT * INTO definition FROM job_definitions d WHERE d.job = name;
    IF definition IS NULL OR definition.job IS NULL
       OR NOT definition.is_public AND session_user <> 'fleet_worker' AND NOT job_caller_sees_all() THEN
        RAISE EXCEPTION 'job: there is no job "%" to enqueue', left(name, 100) USING ERRCODE = 'undefined_object';
    END IF;
    IF (definition.scope = 'tenant') <> (tenant IS NOT NULL) THEN
        RAISE EXCEPTION '%: tenant_id: %', name,
            CASE WHEN tenant IS NULL THEN 'missing, the job is for one tenant'
                 ELSE 'not taken, the job is for the whole platform' END
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF tenant IS NOT NULL AND NOT EXISTS (SELECT FROM tenants t WHERE t.id = tenant AND t.deleted_at IS NULL) THEN
        RAISE EXCEPTION '%: tenant_id: no such tenant', name USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN definition;
END $$;

-- The priority to enqueue with. It goes before the tenants' turns, so a tenant that could go below the job's own would
-- starve the others.
CREATE FUNCTION job_priority(given integer, own smallint) RETURNS smallint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF given IS NULL OR given < own AND NOT job_caller_sees_all() THEN
        RETURN own;
    END IF;
    RETURN greatest(least(given, 32767), -32768);
END $$;

-- When to start. The past is now: an older run goes first among its tenant's.
CREATE FUNCTION job_run_at(job text, given timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT isfinite(given) THEN
        RAISE EXCEPTION '%: run_at: expected an instant', job USING ERRCODE = 'invalid_parameter_value';
    ELSIF given > now() + INTERVAL '10 years' THEN
        RAISE EXCEPTION '%: run_at: more than 10 years ahead', job USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN greatest(given, now());
END $$;

-- One door for every language. Returns the run's id; where a run with the same unique key is pending or running, that
-- run's id. Errors: 42704 unknown job, 22023 arguments, 42501 another tenant or what only the platform may give.
CREATE FUNCTION enqueue_job(
    job text,
    args jsonb DEFAULT '{}',
    unique_key text DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    priority integer DEFAULT NULL,
    tenant_id uuid DEFAULT NULL,
    requested_by text DEFAULT NULL,
    trace_context text DEFAULT NULL,
    run_id uuid DEFAULT NULL,
    parent_id uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    definition job_definitions;
    problem text;
    tenant uuid;
    new_key text;
    new_priority smallint;
    starts_at timestamptz;
    found_id uuid;
BEGIN
    tenant := job_tenant(enqueue_job.tenant_id);
    IF enqueue_job.run_id IS NOT NULL AND NOT job_caller_sees_all() THEN
        -- It is for messages that arrive twice. A taken id is answered, so it would tell of other tenants' runs.
        RAISE EXCEPTION 'run_id: not for this role to choose' USING ERRCODE = 'insufficient_privilege';
    END IF;
    definition := job_definition(enqueue_job.job, tenant);
    problem := job_argument_error(definition.parameters, enqueue_job.args);
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '%: %', enqueue_job.job, problem USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue_job.unique_key IS NOT NULL AND definition.unique_by IS NOT NULL THEN
        RAISE EXCEPTION '%: unique_key: the job has its own', enqueue_job.job
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    new_key := coalesce(enqueue_job.unique_key, job_unique_key(definition.unique_by, enqueue_job.args));
    new_priority := job_priority(enqueue_job.priority, definition.priority);
    starts_at := job_run_at(enqueue_job.job, enqueue_job.run_at);
    LOOP
        INSERT INTO job_runs (id, job, queue, tenant_id, args, unique_key, priority, run_at, max_attempts,
                              requested_by, trace_context, parent_id)
        VALUES (coalesce(run_id, {run_id}), definition.job, definition.queue, tenant, enqueue_job.args, new_key,
                new_priority, starts_at, definition.max_attempts,
                left(coalesce(enqueue_job.requested_by, session_user), 200), left(enqueue_job.trace_context, 200),
                enqueue_job.parent_id)
        ON CONFLICT DO NOTHING RETURNING id INTO found_id;
        EXIT WHEN found_id IS NOT NULL;
        SELECT id INTO found_id FROM job_runs r
        WHERE r.id = enqueue_job.run_id
           OR r.job = definition.job AND r.unique_key = new_key AND r.state IN ('pending', 'running')
              AND coalesce(r.tenant_id, '00000000-0000-0000-0000-000000000000')
                  = coalesce(tenant, '00000000-0000-0000-0000-000000000000')
        LIMIT 1;
        EXIT WHEN found_id IS NOT NULL;
    END LOOP;
    RETURN found_id;
END $$;

-- The values as a JSON array, so that no two lists of values are one key. A UUID in capitals is the same UUID.
CREATE FUNCTION job_unique_key(unique_by text[], args jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN unique_by IS NOT NULL THEN coalesce(
        (SELECT jsonb_agg(CASE WHEN args ->> field ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
                               THEN to_jsonb(lower(args ->> field)) ELSE args -> field END ORDER BY place)::text
         FROM unnest(unique_by) WITH ORDINALITY AS u (field, place)), '[]') END
$$;

-- The same for thousands: one statement, all or nothing. Returns how many runs were added; the rest were there.
CREATE FUNCTION enqueue_jobs(
    job text, args jsonb[], run_at timestamptz DEFAULT NULL, priority integer DEFAULT NULL,
    tenant_id uuid DEFAULT NULL, requested_by text DEFAULT NULL, trace_context text DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    definition job_definitions;
    problem text;
    tenant uuid;
    new_priority smallint;
    starts_at timestamptz;
    added integer;
BEGIN
    tenant := job_tenant(enqueue_jobs.tenant_id);
    definition := job_definition(enqueue_jobs.job, tenant);
    SELECT format('%s[%s]: %s', enqueue_jobs.job, place - 1, job_argument_error(definition.parameters, a)) INTO problem
    FROM unnest(enqueue_jobs.args) WITH ORDINALITY AS given (a, place)
    WHERE (a IS DISTINCT FROM '{}' OR definition.parameters <> '{}')  -- nothing asked and nothing given: nothing wrong
      AND job_argument_error(definition.parameters, a) IS NOT NULL
    LIMIT 1;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '%', problem USING ERRCODE = 'invalid_parameter_value';
    END IF;
    new_priority := job_priority(enqueue_jobs.priority, definition.priority);
    starts_at := job_run_at(enqueue_jobs.job, enqueue_jobs.run_at);
    INSERT INTO job_runs (job, queue, tenant_id, args, unique_key, priority, run_at, max_attempts, requested_by,
                          trace_context)
    SELECT definition.job, definition.queue, tenant, a,
           CASE WHEN definition.unique_by IS NOT NULL THEN job_unique_key(definition.unique_by, a) END,
           new_priority, starts_at, definition.max_attempts,
           left(coalesce(enqueue_jobs.requested_by, session_user), 200), left(enqueue_jobs.trace_context, 200)
    FROM unnest(enqueue_jobs.args) AS a
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    RETURN added;
END $$;

-- Wakes the relays at commit. A transaction that notifies holds a lock of the whole cluster until its commit is on
-- disk, so if all did, enqueuing would be one at a time. One of those in flight does it for all; a run that commits
-- after it, or whose notifier rolls back, is found by the relay's next poll.
CREATE FUNCTION wake_relays() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_try_advisory_xact_lock(7270007) THEN
        PERFORM pg_notify('fleet_jobs', '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER wake_relays AFTER INSERT ON job_runs FOR EACH STATEMENT EXECUTE FUNCTION wake_relays();

-- Nothing is for everybody. A trigger fires for whoever may write the table; the doors run as the owner, and so does
-- what they call; a policy asks for the tenant as whoever reads.
REVOKE ALL ON FUNCTION touch_updated_at, app_tenant_id, check_time_zone, wake_relays, enqueue_job, enqueue_jobs,
    job_argument_error, job_caller_sees_all, job_definition, job_has_date, job_priority, job_run_at, job_tenant,
    job_unique_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app_tenant_id
    TO fleet_migrator, fleet_worker, fleet_system, fleet_app, fleet_readonly;
GRANT EXECUTE ON FUNCTION enqueue_job, enqueue_jobs TO fleet_app, fleet_worker, fleet_system;
GRANT EXECUTE ON FUNCTION job_unique_key TO fleet_system;
"""
