-- psql "$DATABASE_URL" -v tenant_id=... -v connection_id=... -f enqueue.sql, logged in as fleet_app.
\set ON_ERROR_STOP on

BEGIN;

-- Whose transaction this is; gone at its end, so a pooler may hand the session on.
SELECT set_config('app.tenant_id', :'tenant_id', true);

-- What you have to write yourself goes here: the run exists if and only if it commits.

SELECT enqueue_job(
    'telematics.sync_connection',
    jsonb_build_object('connection_id', :'connection_id'),
    requested_by => 'a SQL script'
) AS run_id;

COMMIT;

-- How it stands: pending, running, succeeded, failed, cancelled or skipped.
BEGIN;
SELECT set_config('app.tenant_id', :'tenant_id', true);
SELECT id, state, counts, error ->> 'message' AS problem
FROM job_runs
WHERE job = 'telematics.sync_connection'
ORDER BY created_at DESC
LIMIT 5;
COMMIT;
