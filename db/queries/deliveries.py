"""Notifications on their way out: claimed for a while, to be sent by somebody else. Over all tenants."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.sql.expression import bindparam

from db.queries.folded import TEXT, details_of, told_at, vehicle_of
from db.queries.notifications import CURRENT, USER_PROBLEM

LEASE_S = 180
"""A claim that nobody has ended by then is another's: its worker is gone. By the database's clock, which all share."""

DIGEST_OF = "sha256(convert_to(n.tenant_id || ':' || lower({}), 'UTF8'))"
DIGEST = DIGEST_OF.format("n.address")
"""Of the tenant and the address, as `suppressed_addresses` knows it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A claimed notification, with all that its text needs. What was folded into it is read apart.

    Args:
        address_digest: as `suppressed_addresses` knows the address: what its small letters are is for the database to
            say, and for nobody else.
    """

    id: UUID
    tenant_id: UUID
    tenant: str
    channel: str
    address: str
    endpoint_id: UUID | None
    is_named: bool
    category: str
    kind: str
    severity: str
    attempts: int
    created_at: datetime
    expires_at: datetime
    locale: str | None
    tenant_locale: str
    time_zone: str | None
    tenant_zone: str
    units: str | None
    alert_id: UUID | None
    subject: str | None
    message: str | None
    details: dict[str, Any]
    opened_at: datetime | None
    resolved_at: datetime | None
    vehicle: str | None
    connection: str | None
    provider: str | None
    is_resolution: bool = False
    address_digest: bytes = b""
    vehicle_id: UUID | None = None


_IS_FREE = "n.next_attempt_at <= :now AND (n.claimed_until IS NULL OR n.claimed_until < clock_timestamp())"
_OF_TENANT = f"""
    SELECT n.tenant_id, n.next_attempt_at, n.id FROM notifications n
    WHERE n.state = 'ready' AND n.channel = :channel AND n.priority = p.priority AND n.tenant_id = {{tenant}}
      AND {_IS_FREE}"""
# Within a priority the first of every tenant that has something due, by jumps through the index: from a tenant by
# chance to the last one, and from the first one to it, so that none is always before the others.
_FIRST = f"""
    tenants (tenant_id, last_id) AS (
        VALUES (CAST(:token AS uuid), CAST('ffffffff-ffff-ffff-ffff-ffffffffffff' AS uuid)),
               (CAST('00000000-0000-0000-0000-000000000000' AS uuid), CAST(:token AS uuid))
        UNION ALL
        SELECT j.tenant_id, t.last_id
        FROM tenants t CROSS JOIN LATERAL (
            SELECT n.tenant_id FROM notifications n
            WHERE n.state = 'ready' AND n.channel = :channel AND n.priority = p.priority
              AND n.tenant_id > t.tenant_id AND n.tenant_id <= t.last_id
            ORDER BY n.tenant_id, n.next_attempt_at, n.id LIMIT 1  -- as no other index is ordered
        ) j
    ),
    first AS (
        SELECT h.* FROM tenants t CROSS JOIN LATERAL ({_OF_TENANT.format(tenant="t.tenant_id")}
            ORDER BY n.next_attempt_at, n.id LIMIT 1
        ) h
    )
"""
_IS_DUE = text(
    f"""
    SELECT EXISTS (SELECT FROM generate_series(0, 3) AS p (priority) CROSS JOIN LATERAL (
        WITH RECURSIVE {_FIRST} SELECT FROM first LIMIT 1) f)
    """
)
_NOBODY = UUID(int=0)


def is_due(connection: Connection, channel: str, now: datetime) -> bool:
    """Tell whether anything waits to be sent by a channel."""
    return bool(connection.execute(_IS_DUE, {"channel": channel, "now": now, "token": _NOBODY}).scalar_one())


# One priority after the other, and within it one of each tenant after the other, until there are enough: a row is read
# when it is its turn, so that neither a long queue nor many tenants are read to the end. Hence no ORDER BY around it.
# It is locked by its id alone: statistics from before there were any `ready` ones would find it through all of those.
_FOUND_IN_TURN = f"""
    found AS MATERIALIZED (
        SELECT d.id FROM generate_series(0, 3) AS p (priority)
        CROSS JOIN LATERAL (
            WITH RECURSIVE {_FIRST},
            turns AS (
                SELECT * FROM first
                UNION ALL
                SELECT h.* FROM turns t CROSS JOIN LATERAL ({_OF_TENANT.format(tenant="t.tenant_id")}
                      AND (n.next_attempt_at, n.id) > (t.next_attempt_at, t.id)
                    ORDER BY n.next_attempt_at, n.id LIMIT 1
                ) h
            )
            SELECT id FROM turns
        ) t
        CROSS JOIN LATERAL (
            SELECT n.id FROM notifications n WHERE n.id = t.id AND n.state || '' = 'ready' AND {_IS_FREE}
            FOR UPDATE SKIP LOCKED
        ) d
        LIMIT :batch
    )
"""
_OF_ENDPOINT = f"""
    SELECT n.id, n.tenant_id, n.priority, n.next_attempt_at
    FROM generate_series(0, 3) AS p (priority)
    CROSS JOIN LATERAL (
        SELECT n.id, n.tenant_id, n.priority, n.next_attempt_at FROM notifications n
        WHERE n.state = 'ready' AND n.channel = :channel AND n.endpoint_id = w.endpoint_id
          AND n.priority = p.priority AND {_IS_FREE}
          AND NOT (n.is_resolution AND EXISTS (
              SELECT FROM notifications o
              WHERE o.state = 'ready' AND o.endpoint_id = n.endpoint_id AND o.alert_id = n.alert_id
                AND NOT o.is_resolution))
        ORDER BY n.next_attempt_at LIMIT {{each}}
    ) n
    ORDER BY n.priority, n.next_attempt_at LIMIT {{each}}"""
# The endpoints that anything waits for, from one to the next by the index, and the first of each; then a few of those
# whose turn it is: tenants take turns, and who works comes before who does not. That an alert is over is told once all
# is told that came before.
_FOUND_BY_ENDPOINT = f"""
    waiting (endpoint_id) AS (
        (SELECT n.endpoint_id FROM notifications n
         WHERE n.state = 'ready' AND n.channel = :channel AND n.endpoint_id IS NOT NULL
         ORDER BY n.endpoint_id LIMIT 1)
        UNION ALL
        SELECT (SELECT n.endpoint_id FROM notifications n
                WHERE n.state = 'ready' AND n.channel = :channel AND n.endpoint_id > w.endpoint_id
                ORDER BY n.endpoint_id LIMIT 1)
        FROM waiting w WHERE w.endpoint_id IS NOT NULL
    ),
    turns AS (
        SELECT w.endpoint_id, n.priority, n.next_attempt_at, e.failing_since IS NOT NULL AS is_failing,
               coalesce(b.number, 0) + row_number() OVER (
                   PARTITION BY n.tenant_id ORDER BY n.priority, e.failing_since IS NOT NULL, n.next_attempt_at) AS turn
        FROM waiting w
        CROSS JOIN LATERAL ({_OF_ENDPOINT.format(each=1)}) n
        LEFT JOIN webhook_endpoints e ON e.id = w.endpoint_id
        LEFT JOIN (SELECT tenant_id, count(*) AS number FROM webhook_endpoints WHERE id = ANY (:busy) GROUP BY 1) b
          ON b.tenant_id = n.tenant_id
        WHERE w.endpoint_id <> ALL (:busy)
    ),
    found AS MATERIALIZED (
        SELECT d.id
        FROM (SELECT endpoint_id FROM turns WHERE turn <= :of_tenant
              ORDER BY priority, is_failing, turn, next_attempt_at LIMIT :endpoints) w
        CROSS JOIN LATERAL ({_OF_ENDPOINT.format(each=":each")}) o
        CROSS JOIN LATERAL (
            SELECT n.id FROM notifications n WHERE n.id = o.id AND n.state = 'ready' AND {_IS_FREE}
            FOR UPDATE SKIP LOCKED
        ) d
    )
"""
_CLAIM = f"""
    WITH RECURSIVE {{found}},
    due AS MATERIALIZED (
        SELECT d.* FROM found f
        CROSS JOIN LATERAL (
            SELECT n.id, w.address,
                   CASE WHEN n.expires_at <= :now THEN 'too late'
                        WHEN t.is_active IS NOT TRUE OR t.deleted_at IS NOT NULL THEN 'the tenant is not active'
                        WHEN {USER_PROBLEM.format("n")} IS NOT NULL THEN {USER_PROBLEM.format("n")}
                        WHEN n.endpoint_id IS NOT NULL AND e.id IS NULL THEN 'the endpoint is disabled'
                        WHEN n.while_open AND EXISTS (SELECT FROM alerts a WHERE a.id = n.alert_id
                                                      AND a.resolved_at IS NOT NULL) THEN 'resolved'
                        WHEN EXISTS (SELECT FROM suppressed_addresses s
                                     WHERE s.tenant_id = n.tenant_id AND s.category IN ('all', n.category)
                                       AND s.address_digest = {DIGEST_OF.format("w.address")})
                        THEN 'unsubscribed, or the address does not exist' END AS end_reason
            FROM notifications n
            LEFT JOIN tenants t ON t.id = n.tenant_id
            LEFT JOIN users u ON u.tenant_id = n.tenant_id AND u.id = n.user_id AND u.deleted_at IS NULL
            LEFT JOIN webhook_endpoints e ON e.id = n.endpoint_id AND e.disabled_at IS NULL AND e.deleted_at IS NULL
            CROSS JOIN LATERAL (SELECT {CURRENT.format("n")} AS address) w
            WHERE n.id = f.id
        ) d
    ),
    dropped AS (
        UPDATE notifications n
        SET state = CASE d.end_reason WHEN 'too late' THEN 'expired' ELSE 'suppressed' END, reason = d.end_reason,
            finished_at = :now, claim_token = NULL, claimed_until = NULL
        FROM due d WHERE n.id = d.id AND d.end_reason IS NOT NULL
        RETURNING n.id
    ),
    claimed AS (
        UPDATE notifications n
        SET claim_token = :token, claimed_until = clock_timestamp() + make_interval(secs => {LEASE_S}),
            attempts = n.attempts + 1, address = d.address
        FROM due d WHERE n.id = d.id AND d.end_reason IS NULL
        RETURNING n.*
    )
    SELECT n.id, n.tenant_id, t.name, n.channel, n.address, n.endpoint_id, n.is_named, n.category, n.kind,
           n.severity, n.attempts, n.created_at, least(n.expires_at, '9998-12-31'), u.locale, t.locale,
           u.time_zone, t.time_zone, t.settings ->> 'units', n.alert_id, left(a.subject, 2000), {TEXT},
           {told_at("a.opened_at")}, {told_at("a.resolved_at")},
           left(v.name, 500), left(c.name, 500), c.provider, n.is_resolution, {DIGEST}, a.vehicle_id, k.dropped
    FROM (SELECT count(*) AS dropped FROM dropped) k
    LEFT JOIN claimed n ON true
    LEFT JOIN tenants t ON t.id = n.tenant_id
    LEFT JOIN users u ON u.tenant_id = n.tenant_id AND u.id = n.user_id
    LEFT JOIN alerts a ON a.id = n.alert_id
    LEFT JOIN vehicles v ON v.id = a.vehicle_id
    LEFT JOIN connections c ON c.id = a.connection_id
    ORDER BY n.priority, n.next_attempt_at, n.id
    """
_CLAIM_IN_TURN = text(_CLAIM.replace("{found}", _FOUND_IN_TURN))
_CLAIM_BY_ENDPOINT = text(_CLAIM.replace("{found}", _FOUND_BY_ENDPOINT)).bindparams(
    bindparam("busy", type_=ARRAY(PG_UUID))
)


def claim(connection: Connection, channel: str, token: UUID, now: datetime, *, batch: int) -> tuple[list[Notice], int]:
    """Take what is due for a while; end what is too late or resolved, and what nobody is there for any more.

    Critical first; within a priority tenants take turns.

    Returns:
        What was taken, and how many were ended.
    """
    values = {"channel": channel, "token": token, "now": now, "batch": batch}
    return _taken(connection.execute(_CLAIM_IN_TURN, values).all())


def claim_of_endpoints(
    connection: Connection,
    channel: str,
    token: UUID,
    now: datetime,
    *,
    endpoints: int,
    each: int,
    of_tenant: int,
    busy: Collection[UUID],
) -> tuple[list[Notice], int]:
    """Take what is due for so many endpoints, as `claim` does.

    Args:
        each: at most so many of one endpoint.
        of_tenant: at most so many endpoints of one tenant, those that are busy included.
        busy: endpoints that are being called: theirs waits.
    """
    values = {"channel": channel, "token": token, "now": now, "endpoints": endpoints, "each": each}
    rows = connection.execute(_CLAIM_BY_ENDPOINT, values | {"of_tenant": of_tenant, "busy": list(busy)})
    return _taken(rows.all())


def _taken(rows: Sequence[Sequence[Any]]) -> tuple[list[Notice], int]:
    return [_notice(row) for row in rows if row[0] is not None], rows[0][-1]


def _notice(row: Sequence[Any]) -> Notice:
    details = details_of(row[21])
    return Notice(*(*row[:21], details, *row[22:24], vehicle_of(row[24], details), *row[25:-1]))
