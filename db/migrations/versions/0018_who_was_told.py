"""The end of an alert is told to whoever was told of it, and who is locked out of an account is still told.

Both functions are written out as they are from now on.
"""

from db.migrations.rules import execute

revision = "0018"
down_revision = "0017"

_RANK = "array_position(ARRAY['low', 'medium', 'high', 'critical'], {})"
_IS_OVER = "a.resolved_at IS NOT NULL AND b.resolved_at IS NULL"
_IS_AGAIN = f"""a.resolved_at IS NULL
                 AND ({_RANK.format("a.severity")} > {_RANK.format("b.severity")} OR a.reminders > b.reminders)"""
# A full join is a hash or a merge, never row by row: the plan is kept for the session, and the first update of one row
# must not decide on how ten thousand are compared. The coalesce keeps it from becoming an inner one, and OFFSET 0 keeps
# what it is joined to from making it a left one.
_COMPARED = "FROM altered a FULL JOIN before b ON b.id = a.id WHERE coalesce({}, false)"
# `before` and `altered` hold the same rows: an alert keeps its id.
_ALTERED = f"""SELECT a.*, {_IS_OVER} AS is_resolution,
                            CASE WHEN {_IS_OVER} THEN ':resolved'
                                 ELSE ':' || a.severity || ':' || a.reminders END AS again
                     {_COMPARED.format(f"{_IS_OVER} OR {_IS_AGAIN}")} OFFSET 0"""
# Who was told: what an endpoint asks for, and what an alert is, may both have changed since.
_TOLD_OF_THE_END = """
                UNION ALL
                SELECT t.*, 'webhook', NULL, e.id, e.id::text, 0, false
                FROM told t
                CROSS JOIN LATERAL (
                    SELECT DISTINCT n.endpoint_id FROM notifications n
                    WHERE n.alert_id = t.id AND n.channel = 'webhook' AND NOT n.is_resolution
                      AND n.state IN ('ready', 'sent', 'failed')  -- the others never went out
                ) n
                JOIN webhook_endpoints e ON e.id = n.endpoint_id AND e.disabled_at IS NULL AND e.deleted_at IS NULL
                WHERE t.is_resolution"""


def upgrade() -> None:
    execute(
        """
        CREATE INDEX ix_notifications_told ON notifications (alert_id, endpoint_id)
            WHERE channel = 'webhook' AND NOT is_resolution
        """
    )
    execute(
        f"""
        CREATE OR REPLACE FUNCTION write_notifications() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            IF EXISTS (SELECT FROM written) THEN
                {_tell("SELECT *, false AS is_resolution, '' AS again FROM written", "a.opened_at", "")}
            END IF;
            RETURN NULL;
        END $$;

        -- Most updates only resolve, and most tenants have no webhook: both are found out without a join.
        CREATE OR REPLACE FUNCTION write_notifications_again() RETURNS trigger
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
                {_tell(_ALTERED, "now()", _TOLD_OF_THE_END)}
            END IF;
            RETURN NULL;
        END $$;
        """
    )


def _tell(happened: str, since: str, of_the_end: str) -> str:
    """Return the statement that writes whom to tell of the alerts that `happened` selects.

    Set-based: what a tenant's users and endpoints want is asked once for each kind and severity of a statement.

    Args:
        since: from when on what soon is no news grows old.
        of_the_end: who else is told, of what is over.
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
            wanted AS MATERIALIZED (
                SELECT DISTINCT tenant_id, kind, category, severity FROM told WHERE NOT is_resolution
            ),
            asked AS (
                SELECT w.*, u.id AS user_id, 'email' AS channel, CAST(NULL AS uuid) AS endpoint_id,
                       left(u.email, 321) AS address
                FROM wanted w
                JOIN users u ON u.tenant_id = w.tenant_id AND u.status IN ('active', 'locked') AND u.deleted_at IS NULL
                WHERE EXISTS (SELECT FROM notification_preferences p
                              WHERE p.tenant_id = w.tenant_id AND p.channel = 'email')
                UNION ALL
                SELECT w.*, u.id, 'apprise', e.id, e.id::text
                FROM wanted w
                JOIN webhook_endpoints e ON e.tenant_id = w.tenant_id AND e.user_id IS NOT NULL
                 AND e.disabled_at IS NULL AND e.deleted_at IS NULL
                JOIN users u ON u.id = e.user_id AND u.status IN ('active', 'locked') AND u.deleted_at IS NULL
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
                WHERE NOT t.is_resolution
                UNION ALL
                SELECT t.*, 'email', u.id, NULL, n.address, 0, true
                FROM told t
                CROSS JOIN LATERAL (SELECT DISTINCT left(trim(given), 321) AS address
                                    FROM unnest(t.recipients) AS given) n
                LEFT JOIN LATERAL (
                    SELECT u.id FROM users u
                    WHERE u.tenant_id = t.tenant_id AND lower(u.email) = lower(n.address)
                    ORDER BY u.deleted_at IS NOT NULL, u.deleted_at DESC LIMIT 1  -- who is there before who has left
                ) u ON true
                WHERE n.address <> '' AND NOT t.is_resolution{of_the_end}
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
