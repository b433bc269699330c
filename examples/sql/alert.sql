-- psql "$DATABASE_URL" -v tenant_id=... -v vehicle_id=... -v email=... -f alert.sql, logged in as fleet_app.
\set ON_ERROR_STOP on

BEGIN;

-- Whose transaction this is; gone at its end, so a pooler may hand the session on.
SELECT set_config('app.tenant_id', :'tenant_id', true);

-- How a user wishes to be told of it. The category of a kind that the platform does not know is 'other'.
INSERT INTO notification_preferences (tenant_id, user_id, category, channel, min_severity)
SELECT app_tenant_id(), id, 'other', 'email', 'medium'
FROM users WHERE lower(email) = lower(:'email') AND deleted_at IS NULL
ON CONFLICT (tenant_id, user_id, category, channel) DO UPDATE SET min_severity = excluded.min_severity, enabled = true;

-- What you have to write yourself goes here: people are told if and only if it commits.

INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, subject, message, details, opened_at)
SELECT app_tenant_id(), 'door_open', 'medium', id, 'vehicle:' || id || ':door:rear',
       name || ': the rear door has been open for 20 minutes', '{"door": "rear"}', now() - interval '20 minutes'
FROM vehicles WHERE id = :'vehicle_id'
ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
RETURNING id AS alert_id;

COMMIT;

-- Who is told of it, and what became of that.
BEGIN;
SELECT set_config('app.tenant_id', :'tenant_id', true);
SELECT n.channel, n.state, n.severity
FROM notifications n JOIN alerts a ON a.id = n.alert_id
WHERE a.kind = 'door_open' AND a.subject = 'vehicle:' || :'vehicle_id' || ':door:rear' AND a.resolved_at IS NULL;

-- The door is shut.
UPDATE alerts SET resolved_at = now()
WHERE kind = 'door_open' AND subject = 'vehicle:' || :'vehicle_id' || ':door:rear' AND resolved_at IS NULL;
COMMIT;
