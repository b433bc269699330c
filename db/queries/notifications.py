"""What becomes of notifications before they are sent: dropped, held, folded into one, or ready. Over all tenants."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

CATEGORIES = ("maintenance", "connectivity", "vehicle_health", "geofence", "safety", "other")
SEVERITIES = ("low", "medium", "high", "critical")
RANK = "array_position(ARRAY['low', 'medium', 'high', 'critical'], {})"


@dataclass(frozen=True, slots=True)
class Group:
    """The notifications for one recipient that are looked at together: of one category, critical apart.

    Args:
        is_due_digest: they were held for a digest, and its time has come; of all categories.
        lately: how many of the category were made ready for the recipient within the window, summaries apart.
        has_waited: one of them was held before; of critical ones only.
        summarised_at: when the newest summary of the category was, within the window.
        last_hour: how many of any kind were made ready within an hour.
    """

    ids: list[UUID]
    tenant_id: UUID
    channel: str
    address: str
    user_id: UUID | None
    endpoint_id: UUID | None
    is_named: bool
    category: str
    severity: str
    is_critical: bool
    is_due_digest: bool
    quiet_from: time | None
    quiet_to: time | None
    digest: str
    digest_at: time | None
    user_zone: str | None
    tenant_zone: str
    lately: int
    summarised_at: datetime | None
    last_hour: int
    has_waited: bool = False


def on_clock(column: str) -> str:
    """Return a time that Python knows: a row from before the constraint must not end the run of all."""
    return f"CASE WHEN {column} = '24:00' THEN '00:00' ELSE {column} END"


NEAREST = """
    SELECT p.* FROM notification_preferences p
    WHERE p.tenant_id = g.tenant_id AND p.channel = g.channel AND p.category IN (g.category, 'all')
      AND (p.user_id = g.user_id OR p.user_id IS NULL) AND g.user_id IS NOT NULL
    ORDER BY p.user_id IS NULL, p.category = 'all' LIMIT 1"""
"""The preference that holds for a recipient `g`, as a whole."""
USER_PROBLEM = """
    CASE WHEN {0}.user_id IS NULL THEN NULL
         WHEN u.id IS NULL OR u.status = 'inactive' THEN 'the user has left'
         WHEN u.status = 'pending_verification' AND NOT {0}.is_named THEN 'the user is not verified yet' END"""
"""Why a user is told nothing. Who is locked out is told as ever: a few wrong passwords must make nobody deaf."""
PROBLEM = f"""
    CASE WHEN t.is_active IS NOT TRUE OR t.deleted_at IS NOT NULL THEN 'the tenant is not active'
         WHEN {USER_PROBLEM.format("g")} IS NOT NULL THEN {USER_PROBLEM.format("g")}
         WHEN g.user_id IS NOT NULL AND NOT g.is_named AND p.enabled IS NOT TRUE THEN 'turned off' END"""
SUPPRESSED = """
    SELECT s.reason FROM suppressed_addresses s
    WHERE s.tenant_id = {0}.tenant_id AND s.category IN ('all', {0}.category)
      AND s.address_digest = sha256(convert_to({0}.tenant_id || ':' || lower({0}.address), 'UTF8'))
    LIMIT 1"""
LATELY = """
    SELECT count(*) FILTER (WHERE n.category = g.category AND n.alert_id IS NOT NULL
                              AND n.planned_at > :now - make_interval(secs => :window_s)) AS lately,
           max(n.planned_at) FILTER (WHERE n.category = g.category AND n.alert_id IS NULL AND n.kind = 'summary'
                              AND n.planned_at > :now - make_interval(secs => :window_s)) AS summarised_at,
           count(*) AS last_hour
    FROM notifications n
    WHERE n.tenant_id = g.tenant_id AND n.channel = g.channel AND n.address = g.address
      AND n.state IN ('ready', 'sent') AND n.planned_at > :now - INTERVAL '1 hour'"""
"""How much a recipient `g` was told of late."""

CURRENT = """
    coalesce(CASE WHEN {0}.channel = 'email' AND NOT {0}.is_named THEN left(u.email, 321) END, {0}.address)"""
"""Where a notification goes now: to the address that its user has, and not to one that was given up while it waited."""

# An alert that is told again while it still waits to be told is told once. What holds for a recipient is asked anew: a
# preference may have changed since the alert, a user may have left. Whom the alert names is asked nothing.
_TAKE = text(
    f"""
    WITH due AS MATERIALIZED (
        SELECT d.* FROM generate_series(0, 3) AS p (priority)
        CROSS JOIN LATERAL (
            SELECT n.id, n.tenant_id, n.alert_id, n.channel, n.address, n.user_id, n.endpoint_id, n.is_named,
                   n.category, n.severity, n.while_open, n.expires_at, n.created_at,
                   n.bundle IS NOT NULL AS is_due_digest, n.priority, n.next_attempt_at
            FROM notifications n
            WHERE n.state = 'pending' AND n.priority = p.priority AND n.next_attempt_at <= :now
            ORDER BY n.next_attempt_at LIMIT :batch FOR UPDATE SKIP LOCKED
        ) d
        ORDER BY d.priority, d.next_attempt_at LIMIT :batch
    ),
    taken AS MATERIALIZED (
        SELECT d.id, d.tenant_id, d.alert_id, d.channel, {CURRENT.format("d")} AS address, d.user_id, d.endpoint_id,
               d.is_named, d.category, d.severity, d.while_open, d.expires_at, d.created_at, d.is_due_digest,
               d.priority, d.next_attempt_at
        FROM due d
        LEFT JOIN users u ON u.tenant_id = d.tenant_id AND u.id = d.user_id AND u.deleted_at IS NULL
    ),
    recipients AS MATERIALIZED (
        SELECT g.*, u.time_zone AS user_zone, t.time_zone AS tenant_zone,
               {on_clock("p.quiet_from")} AS quiet_from, {on_clock("p.quiet_to")} AS quiet_to,
               coalesce(p.digest, 'none') AS digest, {on_clock("p.digest_at")} AS digest_at,
               p.min_severity, {PROBLEM} AS problem
        FROM (SELECT DISTINCT tenant_id, channel, user_id, is_named, category FROM taken) g
        LEFT JOIN tenants t ON t.id = g.tenant_id
        LEFT JOIN users u ON u.tenant_id = g.tenant_id AND u.id = g.user_id AND u.deleted_at IS NULL
        LEFT JOIN LATERAL ({NEAREST}) p ON NOT g.is_named
    ),
    judged AS MATERIALIZED (
        SELECT n.*, r.user_zone, r.tenant_zone, r.quiet_from, r.quiet_to, r.digest, r.digest_at,
               CASE WHEN n.expires_at <= :now THEN 'too late'
                    WHEN r.problem IS NOT NULL THEN r.problem
                    WHEN {RANK.format("n.severity")} < {RANK.format("r.min_severity")} THEN 'less than is asked for'
                    WHEN s.reason IS NOT NULL THEN s.reason
                    WHEN n.is_outdone THEN 'told again'
                    WHEN n.while_open AND a.resolved_at IS NOT NULL THEN 'resolved' END AS end_reason
        FROM (
            SELECT *, row_number() OVER (PARTITION BY tenant_id, coalesce(alert_id, id), channel, lower(address)
                                         ORDER BY created_at DESC, priority, id) > 1 AS is_outdone
            FROM taken
        ) n
        JOIN recipients r ON (r.tenant_id, r.channel, r.is_named, r.category)
                           = (n.tenant_id, n.channel, n.is_named, n.category)
         AND r.user_id IS NOT DISTINCT FROM n.user_id
        LEFT JOIN alerts a ON a.id = n.alert_id
        LEFT JOIN LATERAL ({SUPPRESSED.format("n")}) s ON true
    ),
    dropped AS (
        UPDATE notifications n
        SET state = CASE j.end_reason WHEN 'too late' THEN 'expired' ELSE 'suppressed' END, reason = j.end_reason,
            finished_at = :now
        FROM judged j WHERE n.id = j.id AND j.end_reason IS NOT NULL
        RETURNING n.state
    ),
    groups AS (
        SELECT array_agg(id ORDER BY id) AS ids, tenant_id, channel, address,
               CAST(min(user_id::text) AS uuid) AS user_id, CAST(min(endpoint_id::text) AS uuid) AS endpoint_id,
               bool_and(is_named) AS is_named,
               CASE WHEN count(DISTINCT category) = 1 THEN min(category) ELSE 'all' END AS category,
               (ARRAY['low', 'medium', 'high', 'critical'])[max({RANK.format("severity")})] AS severity,
               severity = 'critical' AS is_critical, is_due_digest,
               -- One that somebody is told of later (after_min) is due later from the beginning.
               bool_or(severity = 'critical' AND NOT while_open AND next_attempt_at > created_at) AS has_waited,
               min(quiet_from) AS quiet_from, min(quiet_to) AS quiet_to, min(digest) AS digest,
               min(digest_at) AS digest_at, min(user_zone) AS user_zone, min(tenant_zone) AS tenant_zone
        FROM judged WHERE end_reason IS NULL
        GROUP BY tenant_id, channel, address, severity = 'critical', is_due_digest,
                 CASE WHEN NOT is_due_digest THEN category END,
                 CASE WHEN NOT is_due_digest THEN (quiet_from, quiet_to, digest, digest_at) END
    )
    SELECT g.ids, g.tenant_id, g.channel, g.address, g.user_id, g.endpoint_id, g.is_named, g.category, g.severity,
           g.is_critical, g.is_due_digest, g.quiet_from, g.quiet_to, g.digest, g.digest_at, g.user_zone,
           g.tenant_zone, s.lately, s.summarised_at, s.last_hour, g.has_waited,
           (SELECT count(*) FROM dropped WHERE state = 'expired'), (SELECT count(*) FROM dropped)
    FROM groups g
    CROSS JOIN LATERAL ({LATELY}) s
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
           NULL, NULL, NULL, (SELECT count(*) FROM dropped WHERE state = 'expired'), (SELECT count(*) FROM dropped)
    WHERE NOT EXISTS (SELECT FROM groups)
    """
)


def take_pending(connection: Connection, now: datetime, *, window_s: float, batch: int) -> tuple[list[Group], int, int]:
    """Lock what is pending and due, critical first; end what is too late, turned off or resolved.

    Returns:
        The rest by recipient and category, how many expired, and how many others were dropped.
    """
    rows = connection.execute(_TAKE, {"now": now, "window_s": window_s, "batch": batch}).all()
    expired, dropped = (rows[0][-2], rows[0][-1]) if rows else (0, 0)
    return [Group(*row[:-2]) for row in rows if row[0] is not None], expired, dropped - expired


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of the notifications of a group.

    Args:
        action: `ready` from now on; `hold` until `until`, for a digest where `bundle` says so; `fold` into `folded`.
    """

    action: Literal["ready", "hold", "fold"]
    group: Group
    until: datetime | None = None
    bundle: str | None = None
    folded: UUID | None = None

    @property
    def kind(self) -> str:
        """The kind of what they are folded into."""
        return "digest" if self.group.is_due_digest else "summary"


_SETTLE = text(
    """
    UPDATE notifications n
    SET state = CASE d.action WHEN 'ready' THEN 'ready' WHEN 'fold' THEN 'folded' ELSE 'pending' END,
        planned_at = CASE d.action WHEN 'ready' THEN CAST(:now AS timestamptz) END,
        next_attempt_at = coalesce(d.until, :now), address = d.address,
        bundle = d.bundle, folded_into = d.folded,
        expires_at = CASE WHEN d.bundle IS NOT NULL THEN greatest(n.expires_at, d.until + INTERVAL '1 day')
                          ELSE n.expires_at END,
        finished_at = CASE d.action WHEN 'fold' THEN CAST(:now AS timestamptz) END
    FROM jsonb_to_recordset(:decisions) AS d
        (ids uuid[], action text, until timestamptz, bundle text, folded uuid, address text)
    CROSS JOIN LATERAL unnest(d.ids) AS i (id)
    WHERE n.id = i.id
    """
).bindparams(bindparam("decisions", type_=JSONB))
_FOLD = text(
    """
    INSERT INTO notifications (id, tenant_id, category, kind, severity, priority, channel, user_id, endpoint_id,
                               address, dedupe_key, is_named, state, planned_at, next_attempt_at, expires_at)
    SELECT folded, tenant_id, category, kind, severity,
           4 - array_position(ARRAY['low', 'medium', 'high', 'critical'], severity), channel, user_id, endpoint_id,
           address, kind || ':' || (ids[1])::text, is_named, 'ready', :now, :now,
           greatest((SELECT max(n.expires_at) FROM notifications n WHERE n.id = ANY (d.ids)), :now + INTERVAL '1 day')
    FROM jsonb_to_recordset(:decisions) AS d
        (ids uuid[], folded uuid, tenant_id uuid, category text, kind text, severity text, channel text, user_id uuid,
         endpoint_id uuid, address text, is_named boolean)
    WHERE folded IS NOT NULL
    """
).bindparams(bindparam("decisions", type_=JSONB))


def settle(connection: Connection, decisions: Sequence[Decision], now: datetime) -> None:
    """Write what was decided of what this transaction has taken."""
    rows = [
        {
            "ids": [str(each) for each in decision.group.ids],
            "action": decision.action,
            "until": decision.until.isoformat() if decision.until is not None else None,
            "bundle": decision.bundle,
            "folded": _text(decision.folded),
            "tenant_id": str(decision.group.tenant_id),
            "category": decision.group.category,
            "kind": decision.kind,
            "severity": decision.group.severity,
            "channel": decision.group.channel,
            "user_id": _text(decision.group.user_id),
            "endpoint_id": _text(decision.group.endpoint_id),
            "address": decision.group.address,
            "is_named": decision.group.is_named,
        }
        for decision in decisions
    ]
    if rows:
        connection.execute(_FOLD, {"decisions": rows, "now": now})
        connection.execute(_SETTLE, {"decisions": rows, "now": now})


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
