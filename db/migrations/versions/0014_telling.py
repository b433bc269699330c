"""Alerts told again when they are worse, and to programs when they are over; tenants take turns on the way out."""

from db.migrations.rules import execute

revision = "0014"
down_revision = "0013"

_MOST_RECIPIENTS = 200
"""Far more than `fleet-jobs geofences import` takes (50): for what other applications write."""
_RANK = "array_position(ARRAY['low', 'medium', 'high', 'critical'], {})"
_IS_OVER = "a.resolved_at IS NOT NULL AND b.resolved_at IS NULL"
_IS_AGAIN = f"""a.resolved_at IS NULL
                 AND ({_RANK.format("a.severity")} > {_RANK.format("b.severity")} OR a.reminders > b.reminders)"""
# A full join is a hash or a merge, never row by row: the plan is kept for the session, and the first update of one row
# must not decide on how ten thousand are compared. The coalesce keeps it from becoming an inner one.
_COMPARED = "FROM altered a FULL JOIN before b ON b.id = a.id WHERE coalesce({}, false)"


def upgrade() -> None:
    for table, column in (("alerts", "recipients"), ("geofences", "alert_recipients")):
        execute(
            f"""
            UPDATE {table} SET {column} = ARRAY(SELECT unnest({column}) LIMIT {_MOST_RECIPIENTS})
            WHERE cardinality({column}) > {_MOST_RECIPIENTS};
            ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{column}
                CHECK (cardinality({column}) <= {_MOST_RECIPIENTS});
            """
        )
    execute(
        """
        ALTER TABLE notifications ADD COLUMN is_resolution boolean NOT NULL DEFAULT false;
        COMMENT ON COLUMN notifications.is_resolution IS 'Tells a program that the alert is over; people are not told.';
        -- Whoever is told that it is over has been told that it began, however late.
        UPDATE notifications SET while_open = false
        WHERE channel = 'webhook' AND while_open AND state IN ('pending', 'ready');

        CREATE INDEX ix_notifications_turn
            ON notifications (channel, priority, tenant_id, next_attempt_at, id) WHERE state = 'ready';
        DROP INDEX ix_notifications_ready;
        -- What a resolution waits for.
        CREATE INDEX ix_notifications_opening ON notifications (endpoint_id, alert_id)
            WHERE state = 'ready' AND endpoint_id IS NOT NULL AND NOT is_resolution;

        CREATE FUNCTION alert_category(kind text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
            SELECT CASE WHEN kind LIKE 'maintenance%' OR kind LIKE 'work\\_order%' THEN 'maintenance'
                        WHEN kind LIKE 'geofence%' THEN 'geofence'
                        WHEN kind = 'offline' OR kind LIKE 'connection\\_%' THEN 'connectivity'
                        WHEN kind IN ('fault_code', 'low_fuel', 'low_battery') THEN 'vehicle_health'
                        WHEN kind LIKE 'safety%' THEN 'safety'
                        ELSE 'other' END
        $$;
        REVOKE ALL ON FUNCTION alert_category FROM PUBLIC;
        """
    )
    execute(
        f"""
        CREATE OR REPLACE FUNCTION write_notifications() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            IF EXISTS (SELECT FROM written) THEN
                {_tell("SELECT *, false AS is_resolution, '' AS again FROM written", "a.opened_at")}
            END IF;
            RETURN NULL;
        END $$;

        -- Most updates only resolve, and most tenants have no webhook: both are found out without a join.
        CREATE FUNCTION write_notifications_again() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            are_open boolean;
            are_over boolean;
        BEGIN
            SELECT bool_or(resolved_at IS NULL), bool_or(resolved_at IS NOT NULL) INTO are_open, are_over FROM altered;
            are_open := are_open AND (SELECT count(*) > 0 {_COMPARED.format(_IS_AGAIN)});
            are_over := are_over AND EXISTS (
                SELECT FROM (SELECT DISTINCT tenant_id FROM altered) t
                JOIN webhook_endpoints e ON e.tenant_id = t.tenant_id AND e.channel = 'webhook'
                 AND e.disabled_at IS NULL AND e.deleted_at IS NULL);
            IF are_open OR are_over THEN
                {_tell(_ALTERED, "now()")}
            END IF;
            RETURN NULL;
        END $$;
        REVOKE ALL ON FUNCTION write_notifications_again FROM PUBLIC;
        CREATE TRIGGER write_notifications_again AFTER UPDATE ON alerts
            REFERENCING OLD TABLE AS before NEW TABLE AS altered
            FOR EACH STATEMENT EXECUTE FUNCTION write_notifications_again();
        """
    )


# `before` and `altered` hold the same rows: an alert keeps its id.
_ALTERED = f"""SELECT a.*, {_IS_OVER} AS is_resolution,
                            CASE WHEN {_IS_OVER} THEN ':resolved'
                                 ELSE ':' || a.severity || ':' || a.reminders END AS again
                     {_COMPARED.format(f"{_IS_OVER} OR {_IS_AGAIN}")}"""


def _tell(happened: str, since: str) -> str:
    """Return the statement that writes whom to tell of the alerts that `happened` selects.

    Set-based: what a tenant's users and endpoints want is asked once for each kind and severity of a statement.

    Args:
        since: from when on what soon is no news grows old.
    """
    return f"""
            INSERT INTO notifications (tenant_id, alert_id, category, kind, severity, priority, channel, user_id,
                                       endpoint_id, address, dedupe_key, is_named, while_open, is_resolution, state,
                                       next_attempt_at, expires_at)
            WITH told AS MATERIALIZED (
                SELECT a.id, a.tenant_id, left(a.kind, 200) AS kind, a.severity, a.recipients, a.is_resolution,
                       a.again, k.category, k.category NOT IN ('geofence', 'safety', 'other') AS is_condition,
                       CASE k.category WHEN 'geofence' THEN {since} + INTERVAL '15 minutes'
                                       WHEN 'safety' THEN {since} + INTERVAL '1 hour'
                                       WHEN 'maintenance' THEN now() + INTERVAL '7 days'
                                       ELSE now() + INTERVAL '1 day' END AS expires_at
                FROM ({happened}) a
                JOIN tenants t ON t.id = a.tenant_id AND t.is_active AND t.deleted_at IS NULL
                CROSS JOIN LATERAL (SELECT alert_category(a.kind) AS category) k
            ),
            wanted AS MATERIALIZED (SELECT DISTINCT tenant_id, kind, category, severity, is_resolution FROM told),
            asked AS (
                SELECT w.*, u.id AS user_id, 'email' AS channel, CAST(NULL AS uuid) AS endpoint_id,
                       left(u.email, 321) AS address
                FROM wanted w
                JOIN users u ON u.tenant_id = w.tenant_id AND u.status = 'active' AND u.deleted_at IS NULL
                WHERE NOT w.is_resolution
                  AND EXISTS (SELECT FROM notification_preferences p
                              WHERE p.tenant_id = w.tenant_id AND p.channel = 'email')
                UNION ALL
                SELECT w.*, u.id, 'apprise', e.id, e.id::text
                FROM wanted w
                JOIN webhook_endpoints e ON e.tenant_id = w.tenant_id AND e.user_id IS NOT NULL
                 AND e.disabled_at IS NULL AND e.deleted_at IS NULL
                JOIN users u ON u.id = e.user_id AND u.status = 'active' AND u.deleted_at IS NULL
                WHERE NOT w.is_resolution
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
                WHERE NOT w.is_resolution OR e.channel = 'webhook'
            ),
            addressed AS (
                SELECT t.*, r.channel, r.user_id, r.endpoint_id, r.address, r.after_min, false AS is_named
                FROM told t JOIN reached r USING (tenant_id, kind, category, severity, is_resolution)
                UNION ALL
                SELECT t.*, 'email', u.id, NULL, n.address, 0, true
                FROM told t
                CROSS JOIN LATERAL (SELECT DISTINCT left(trim(given), 321) AS address
                                    FROM unnest(t.recipients) AS given) n
                LEFT JOIN users u ON u.tenant_id = t.tenant_id AND lower(u.email) = lower(n.address)
                 AND u.deleted_at IS NULL
                WHERE n.address <> '' AND NOT t.is_resolution
            )
            SELECT tenant_id, id, category, kind, severity, 4 - {_RANK.format("severity")}, channel, user_id,
                   endpoint_id, address,
                   id || ':' || channel || ':' || coalesce(endpoint_id::text, user_id::text, md5(lower(address)))
                      || again,
                   is_named, channel <> 'webhook' AND (after_min > 0 OR (is_condition AND severity <> 'critical')),
                   is_resolution, CASE channel WHEN 'webhook' THEN 'ready' ELSE 'pending' END,
                   now() + make_interval(mins => after_min),
                   CASE channel WHEN 'webhook' THEN now() + INTERVAL '4 days'
                                ELSE expires_at + make_interval(mins => after_min) END
            FROM addressed
            ORDER BY is_named DESC
            ON CONFLICT (tenant_id, dedupe_key) DO NOTHING;"""
