"""What one user would be told of an alert, if it were raised now: the same questions as before a real one is sent."""

from dataclasses import dataclass
from datetime import datetime, time
from uuid import UUID

from sqlalchemy import Connection, text

from db.queries.notifications import LATELY, NEAREST, PROBLEM, SUPPRESSED, on_clock

_BEGINNINGS = {
    "maintenance": "maintenance",
    "work_order": "maintenance",
    "geofence": "geofence",
    "connection_": "connectivity",
    "safety": "safety",
}
_KINDS = {"offline": "connectivity"} | dict.fromkeys(("fault_code", "low_fuel", "low_battery"), "vehicle_health")


def category_of(kind: str) -> str:
    """Return the category of a kind of alert; `alert_category` of the schema agrees."""
    begun = (category for beginning, category in _BEGINNINGS.items() if kind.startswith(beginning))
    return _KINDS.get(kind) or next(begun, "other")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a user, mail or a chat of theirs, and what holds for it.

    Args:
        name: the chat's; None of mail.
        preference: the category of the preference that holds; None where there is none.
        is_own: it is the user's own preference, and not the tenant's for all users.
        problem: why nobody is told, whatever the alert.
        suppressed: why the address is sent nothing.
        away_since: since when the way is closed for all.
    """

    tenant_id: UUID
    user_id: UUID
    channel: str
    address: str
    name: str | None
    category: str
    preference: str | None
    is_own: bool
    min_severity: str | None
    after_min: int
    quiet_from: time | None
    quiet_to: time | None
    digest: str
    digest_at: time | None
    user_zone: str | None
    tenant_zone: str
    problem: str | None
    suppressed: str | None
    lately: int
    summarised_at: datetime | None
    last_hour: int
    away_since: datetime | None


_WAYS = text(
    f"""
    WITH ways AS (
        SELECT u.tenant_id, u.id AS user_id, 'email' AS channel, left(u.email, 321) AS address,
               CAST(NULL AS text) AS name, false AS is_off
        FROM users u WHERE u.tenant_id = :tenant_id AND u.id = :user_id
        UNION ALL
        SELECT e.tenant_id, e.user_id, e.channel, e.id::text, e.name, e.disabled_at IS NOT NULL
        FROM webhook_endpoints e WHERE e.tenant_id = :tenant_id AND e.user_id = :user_id AND e.deleted_at IS NULL
    )
    SELECT g.tenant_id, g.user_id, g.channel, g.address, g.name, g.category, p.category,
           p.user_id IS NOT NULL, p.min_severity, coalesce(p.after_min, 0), {on_clock("p.quiet_from")},
           {on_clock("p.quiet_to")}, coalesce(p.digest, 'none'), {on_clock("p.digest_at")}, u.time_zone, t.time_zone,
           CASE WHEN g.is_off THEN 'the endpoint is disabled' ELSE {PROBLEM} END, s.reason,
           l.lately, l.summarised_at, l.last_hour, o.began_at
    FROM (SELECT *, CAST(:category AS text) AS category, false AS is_named FROM ways) g
    JOIN tenants t ON t.id = g.tenant_id
    LEFT JOIN users u ON u.tenant_id = g.tenant_id AND u.id = g.user_id AND u.deleted_at IS NULL
    LEFT JOIN LATERAL ({NEAREST}) p ON true
    LEFT JOIN LATERAL ({SUPPRESSED.format("g")}) s ON true
    CROSS JOIN LATERAL ({LATELY}) l
    LEFT JOIN channel_outages o ON o.channel = g.channel
    ORDER BY g.channel <> 'email', g.name
    """
)


def read_ways(
    connection: Connection, tenant_id: UUID, user_id: UUID, kind: str, now: datetime, *, window_s: float
) -> list[Way]:
    """Return every way to a user, and what holds for an alert of a kind: mail first."""
    values = {
        "tenant_id": tenant_id,
        "user_id": user_id,
        "category": category_of(kind),
        "now": now,
        "window_s": window_s,
    }
    return [Way(*row) for row in connection.execute(_WAYS, values)]
