"""Who is told of an alert, by which way, and what became of it. The rows are written with the alert, by a trigger."""

from db.migrations.rules import execute, grant, isolate_tenants, server_version, touch_updated_at

revision = "0012"
down_revision = "0011"

_SEVERITIES = "('low', 'medium', 'high', 'critical')"
_CATEGORIES = "('all', 'maintenance', 'connectivity', 'vehicle_health', 'geofence', 'safety', 'other')"
_RANK = "array_position(ARRAY['low', 'medium', 'high', 'critical'], {})"


def upgrade() -> None:
    notification_id = "uuidv7()" if server_version() >= 18 else "gen_random_uuid()"
    execute(
        f"""
        -- What holds for a user's category is the user's row for it, else the user's for 'all', else the tenant's
        -- (no user) for it, else the tenant's for 'all': the first of them, whole. Without any, nobody is told.
        CREATE TABLE notification_preferences (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            user_id uuid,
            category text NOT NULL DEFAULT 'all' CONSTRAINT ck_notification_preferences_category
                CHECK (category IN {_CATEGORIES}),
            channel text NOT NULL DEFAULT 'email'
                CONSTRAINT ck_notification_preferences_channel CHECK (channel IN ('email', 'apprise')),
            enabled boolean NOT NULL DEFAULT true,
            min_severity text NOT NULL DEFAULT 'low'
                CONSTRAINT ck_notification_preferences_severity CHECK (min_severity IN {_SEVERITIES}),
            quiet_from time,
            quiet_to time,
            digest text NOT NULL DEFAULT 'none'
                CONSTRAINT ck_notification_preferences_digest CHECK (digest IN ('none', 'hourly', 'daily')),
            digest_at time NOT NULL DEFAULT '07:00',
            after_min integer NOT NULL DEFAULT 0
                CONSTRAINT ck_notification_preferences_after CHECK (after_min BETWEEN 0 AND 10080),
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_notification_preferences_quiet
                CHECK (num_nulls(quiet_from, quiet_to) IN (0, 2) AND quiet_from <> quiet_to),
            -- PostgreSQL has a time 24:00, and most other clocks have none.
            CONSTRAINT ck_notification_preferences_clock
                CHECK (digest_at < '24:00' AND coalesce(greatest(quiet_from, quiet_to), '00:00') < '24:00'),
            CONSTRAINT uq_notification_preferences UNIQUE NULLS NOT DISTINCT (tenant_id, user_id, category, channel),
            FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
        );
        COMMENT ON COLUMN notification_preferences.after_min IS
            'Told only of what is still open after so many minutes: whom an alert escalates to.';

        -- What is told without being a person; or a person's chat. `events` names kinds or categories, none is all.
        -- The secret is what signs a webhook; of any other channel it is the whole address.
        CREATE TABLE webhook_endpoints (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            user_id uuid,
            channel text NOT NULL DEFAULT 'webhook'
                CONSTRAINT ck_webhook_endpoints_channel CHECK (channel IN ('webhook', 'apprise')),
            name text NOT NULL,
            url text,
            secret_encrypted bytea NOT NULL,
            previous_secret_encrypted bytea,
            previous_until timestamptz,
            events text[] NOT NULL DEFAULT '{{}}',
            min_severity text NOT NULL DEFAULT 'low'
                CONSTRAINT ck_webhook_endpoints_severity CHECK (min_severity IN {_SEVERITIES}),
            failing_since timestamptz,
            disabled_at timestamptz,
            disabled_reason text,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            deleted_at timestamptz,
            CONSTRAINT ck_webhook_endpoints_previous
                CHECK (num_nulls(previous_secret_encrypted, previous_until) IN (0, 2)),
            FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id) ON DELETE CASCADE
        );
        CREATE UNIQUE INDEX uq_webhook_endpoints_name ON webhook_endpoints (tenant_id, name)
            WHERE deleted_at IS NULL;
        COMMENT ON COLUMN webhook_endpoints.secret_encrypted IS 'personal: drop key';
        COMMENT ON COLUMN webhook_endpoints.previous_secret_encrypted IS 'personal: drop key';

        -- No foreign keys: only the trigger and the platform write here, and an alert's insert would pay for each.
        -- pending: not yet looked at, or held until `next_attempt_at`. ready: may be sent from then on.
        CREATE TABLE notifications (
            id uuid PRIMARY KEY DEFAULT {notification_id},
            tenant_id uuid NOT NULL,
            alert_id uuid,
            category text NOT NULL CONSTRAINT ck_notifications_category CHECK (category IN {_CATEGORIES}),
            kind text NOT NULL,
            severity text NOT NULL CONSTRAINT ck_notifications_severity CHECK (severity IN {_SEVERITIES}),
            priority smallint NOT NULL,
            channel text NOT NULL
                CONSTRAINT ck_notifications_channel CHECK (channel IN ('email', 'webhook', 'apprise')),
            user_id uuid,
            endpoint_id uuid,
            address text NOT NULL,
            dedupe_key text NOT NULL,
            is_named boolean NOT NULL DEFAULT false,
            while_open boolean NOT NULL DEFAULT false,
            state text NOT NULL DEFAULT 'pending' CONSTRAINT ck_notifications_state CHECK
                (state IN ('pending', 'ready', 'sent', 'failed', 'suppressed', 'expired', 'folded')),
            reason text,
            bundle text CONSTRAINT ck_notifications_bundle CHECK (bundle = 'digest'),
            folded_into uuid,
            planned_at timestamptz,
            next_attempt_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            attempts smallint NOT NULL DEFAULT 0,
            claim_token uuid,
            claimed_until timestamptz,
            provider_id text,
            finished_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_notifications_claim CHECK (num_nulls(claim_token, claimed_until) IN (0, 2)),
            CONSTRAINT uq_notifications_dedupe UNIQUE (tenant_id, dedupe_key)
        ) WITH (fillfactor = 70);
        CREATE INDEX ix_notifications_pending ON notifications (priority, next_attempt_at) WHERE state = 'pending';
        CREATE INDEX ix_notifications_ready ON notifications (channel, priority, next_attempt_at)
            WHERE state = 'ready';
        CREATE INDEX ix_notifications_endpoint ON notifications (channel, endpoint_id, priority, next_attempt_at)
            WHERE state = 'ready' AND endpoint_id IS NOT NULL;
        CREATE INDEX ix_notifications_recipient ON notifications (tenant_id, channel, address, planned_at)
            WHERE state IN ('ready', 'sent');
        CREATE INDEX ix_notifications_folded ON notifications (folded_into) WHERE folded_into IS NOT NULL;
        CREATE INDEX ix_notifications_tenant ON notifications (tenant_id, created_at);
        COMMENT ON COLUMN notifications.address IS 'personal: keyed hash';
        COMMENT ON COLUMN notifications.is_named IS 'The alert names the address: preferences are not asked.';
        COMMENT ON COLUMN notifications.while_open IS 'Not sent any more once its alert is resolved.';

        CREATE TABLE notification_attempts (
            notification_id uuid NOT NULL REFERENCES notifications (id) ON DELETE CASCADE,
            at timestamptz NOT NULL,
            tenant_id uuid NOT NULL,
            outcome text NOT NULL CONSTRAINT ck_notification_attempts_outcome
                CHECK (outcome IN ('accepted', 'deferred', 'refused', 'unreadable')),
            code integer,
            reason text,
            PRIMARY KEY (notification_id, at)
        );
        CREATE INDEX ix_notification_attempts_tenant ON notification_attempts (tenant_id, at);

        -- The digest is of tenant and address: who was erased stays unsubscribed, and nobody reads who it was.
        CREATE TABLE suppressed_addresses (
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            address_digest bytea NOT NULL,
            category text NOT NULL DEFAULT 'all' CONSTRAINT ck_suppressed_addresses_category
                CHECK (category IN {_CATEGORIES}),
            reason text NOT NULL CONSTRAINT ck_suppressed_addresses_reason
                CHECK (reason IN ('hard_bounce', 'complaint', 'unsubscribed')),
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, address_digest, category)
        );

        -- A way out that is closed for all: its rows wait untouched, and nobody logs it more than twice.
        CREATE TABLE channel_outages (
            channel text PRIMARY KEY,
            began_at timestamptz NOT NULL DEFAULT now(),
            tries integer NOT NULL DEFAULT 1,
            reason text NOT NULL
        );

        -- Set-based: what a tenant's users and endpoints want is asked once for each kind and severity of a statement.
        CREATE FUNCTION write_notifications() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            IF NOT EXISTS (SELECT FROM written) THEN
                RETURN NULL;
            END IF;
            INSERT INTO notifications (tenant_id, alert_id, category, kind, severity, priority, channel, user_id,
                                       endpoint_id, address, dedupe_key, is_named, while_open, state, next_attempt_at,
                                       expires_at)
            WITH told AS MATERIALIZED (
                SELECT a.id, a.tenant_id, left(a.kind, 200) AS kind, a.severity, a.recipients, k.category,
                       k.category NOT IN ('geofence', 'safety', 'other') AS is_condition,
                       CASE k.category WHEN 'geofence' THEN a.opened_at + INTERVAL '15 minutes'
                                       WHEN 'safety' THEN a.opened_at + INTERVAL '1 hour'
                                       WHEN 'maintenance' THEN now() + INTERVAL '7 days'
                                       ELSE now() + INTERVAL '1 day' END AS expires_at
                FROM written a
                JOIN tenants t ON t.id = a.tenant_id AND t.is_active AND t.deleted_at IS NULL
                CROSS JOIN LATERAL (SELECT CASE
                    WHEN a.kind LIKE 'maintenance%' OR a.kind LIKE 'work\\_order%' THEN 'maintenance'
                    WHEN a.kind LIKE 'geofence%' THEN 'geofence'
                    WHEN a.kind = 'offline' OR a.kind LIKE 'connection\\_%' THEN 'connectivity'
                    WHEN a.kind IN ('fault_code', 'low_fuel', 'low_battery') THEN 'vehicle_health'
                    WHEN a.kind LIKE 'safety%' THEN 'safety'
                    ELSE 'other' END AS category) k
            ),
            wanted AS MATERIALIZED (SELECT DISTINCT tenant_id, kind, category, severity FROM told),
            asked AS (
                SELECT w.*, u.id AS user_id, 'email' AS channel, CAST(NULL AS uuid) AS endpoint_id,
                       left(u.email, 321) AS address
                FROM wanted w
                JOIN users u ON u.tenant_id = w.tenant_id AND u.status = 'active' AND u.deleted_at IS NULL
                WHERE EXISTS (SELECT FROM notification_preferences p
                              WHERE p.tenant_id = w.tenant_id AND p.channel = 'email')
                UNION ALL
                SELECT w.*, u.id, 'apprise', e.id, e.id::text
                FROM wanted w
                JOIN webhook_endpoints e ON e.tenant_id = w.tenant_id AND e.user_id IS NOT NULL
                 AND e.disabled_at IS NULL AND e.deleted_at IS NULL
                JOIN users u ON u.id = e.user_id AND u.status = 'active' AND u.deleted_at IS NULL
            ),
            reached AS (
                SELECT a.*, p.after_min
                FROM asked a
                CROSS JOIN LATERAL (
                    SELECT p.* FROM notification_preferences p
                    WHERE p.tenant_id = a.tenant_id AND p.channel = a.channel AND p.category IN (a.category, 'all')
                      AND (p.user_id = a.user_id OR p.user_id IS NULL)
                    ORDER BY p.user_id IS NULL, p.category = 'all' LIMIT 1
                ) p
                WHERE p.enabled AND {_RANK.format("a.severity")} >= {_RANK.format("p.min_severity")}
                UNION ALL
                SELECT w.*, NULL, e.channel, e.id, e.id::text, 0
                FROM wanted w
                JOIN webhook_endpoints e ON e.tenant_id = w.tenant_id AND e.user_id IS NULL
                 AND e.disabled_at IS NULL AND e.deleted_at IS NULL
                 AND (e.events = '{{}}' OR w.kind = ANY (e.events) OR w.category = ANY (e.events))
                 AND {_RANK.format("w.severity")} >= {_RANK.format("e.min_severity")}
            ),
            addressed AS (
                SELECT t.*, r.channel, r.user_id, r.endpoint_id, r.address, r.after_min, false AS is_named
                FROM told t JOIN reached r USING (tenant_id, kind, category, severity)
                UNION ALL
                SELECT t.*, 'email', u.id, NULL, n.address, 0, true
                FROM told t
                CROSS JOIN LATERAL (SELECT DISTINCT left(trim(given), 321) AS address
                                    FROM unnest(t.recipients) AS given) n
                LEFT JOIN users u ON u.tenant_id = t.tenant_id AND lower(u.email) = lower(n.address)
                 AND u.deleted_at IS NULL
                WHERE n.address <> ''
            )
            SELECT tenant_id, id, category, kind, severity, 4 - {_RANK.format("severity")}, channel, user_id,
                   endpoint_id, address,
                   id || ':' || channel || ':' || coalesce(endpoint_id::text, user_id::text, md5(lower(address))),
                   is_named, after_min > 0 OR (is_condition AND severity <> 'critical'),
                   CASE channel WHEN 'webhook' THEN 'ready' ELSE 'pending' END,
                   now() + make_interval(mins => after_min),
                   CASE channel WHEN 'webhook' THEN now() + INTERVAL '4 days'
                                ELSE expires_at + make_interval(mins => after_min) END
            FROM addressed
            ORDER BY is_named DESC
            ON CONFLICT (tenant_id, dedupe_key) DO NOTHING;
            RETURN NULL;
        END $$;
        REVOKE ALL ON FUNCTION write_notifications FROM PUBLIC;
        CREATE TRIGGER write_notifications AFTER INSERT ON alerts REFERENCING NEW TABLE AS written
            FOR EACH STATEMENT EXECUTE FUNCTION write_notifications();
        """
    )
    for table in ("notification_preferences", "webhook_endpoints", "notifications"):
        touch_updated_at(table)
    for table in (
        *("notification_preferences", "webhook_endpoints", "notifications"),
        *("notification_attempts", "suppressed_addresses"),
    ):
        isolate_tenants(table)
    grant("notification_preferences", worker="", app="SELECT, INSERT, UPDATE, DELETE")
    grant("webhook_endpoints", worker="", app="")
    execute(
        """
        GRANT SELECT (id, tenant_id, user_id, channel, name, url, events, min_severity, failing_since, disabled_at,
                      disabled_reason, created_at, updated_at, deleted_at)
            ON webhook_endpoints TO fleet_app, fleet_readonly
        """
    )
    grant("notifications", worker="", app="SELECT")
    grant("notification_attempts", worker="", app="SELECT")
    grant("suppressed_addresses", worker="SELECT, INSERT", app="SELECT, INSERT, UPDATE, DELETE")
    grant("channel_outages", worker="", app="")
