"""Every statement about vehicles' fault codes. Transactions of one tenant."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.sql.expression import bindparam

from integrations.telematics import FaultCode

ALL = "all"
"""The scope of a report that speaks for the codes of every protocol."""


class Key(NamedTuple):
    """What makes a code of a vehicle the same code."""

    protocol: str
    code: str
    source: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of `vehicle_faults`: one time that a code was there, still is where `cleared_at` is None."""

    id: UUID
    vehicle_id: UUID
    protocol: str
    code: str
    source: str
    spn: int | None
    fmi: int | None
    description: str | None
    severity: str
    occurrences: int | None
    reports: int
    first_seen_at: datetime
    last_seen_at: datetime
    cleared_at: datetime | None

    @classmethod
    def first(cls, vehicle_id: UUID, code: FaultCode, time: datetime) -> "Fault":
        """Return the row of a code that was not there before."""
        return cls(
            uuid4(),
            vehicle_id,
            code.protocol,
            code.code,
            code.source,
            code.spn,
            code.fmi,
            code.description,
            code.severity,
            code.occurrences,
            1,
            time,
            time,
            None,
        )

    @property
    def key(self) -> Key:
        """What the code is known by."""
        return Key(self.protocol, self.code, self.source)


Complete = dict[tuple[UUID, str], datetime]
"""When a vehicle's newest complete report of a scope was: a protocol, or `ALL`. It may have named no code."""


class Known(NamedTuple):
    """What is known of some vehicles: their open faults, the newest closed one of each protocol, complete reports."""

    faults: list[Fault]
    complete: Complete


_TYPED = {
    "id": "uuid",
    "vehicle_id": "uuid",
    "protocol": "text",
    "code": "text",
    "source": "text",
    "spn": "integer",
    "fmi": "smallint",
    "description": "text",
    "severity": "text",
    "occurrences": "integer",
    "reports": "bigint",
    "first_seen_at": "timestamptz",
    "last_seen_at": "timestamptz",
    "cleared_at": "timestamptz",
}
_COLUMNS = tuple(_TYPED)
_TYPES = ", ".join(f"{name} {kind}" for name, kind in _TYPED.items())
_VEHICLES = bindparam("vehicles", type_=ARRAY(PG_UUID))

# Two pages of one vehicle, of a sync and of a webhook, take their turns: each sees what the other has written.
_LOCK = text("SELECT FROM vehicles WHERE id = ANY(:vehicles) ORDER BY id FOR NO KEY UPDATE").bindparams(_VEHICLES)
_KNOWN = text(
    f"""
    SELECT {", ".join(_COLUMNS)} FROM vehicle_faults WHERE vehicle_id = ANY(:vehicles) AND cleared_at IS NULL
    UNION ALL
    (SELECT DISTINCT ON (vehicle_id, protocol) {", ".join(_COLUMNS)} FROM vehicle_faults
     WHERE vehicle_id = ANY(:vehicles) AND cleared_at IS NOT NULL ORDER BY vehicle_id, protocol, cleared_at DESC)
    """
).bindparams(_VEHICLES)
_COMPLETE = text(
    "SELECT vehicle_id, scope, reported_at FROM vehicle_fault_reports WHERE vehicle_id = ANY(:vehicles)"
).bindparams(_VEHICLES)


def lock_known(connection: Connection, vehicle_ids: Collection[UUID]) -> Known:
    """Return what is known of vehicles; others wait until the commit."""
    vehicles = {"vehicles": list(vehicle_ids)}
    connection.execute(_LOCK, vehicles)
    faults = [Fault(*row) for row in connection.execute(_KNOWN, vehicles)]
    return Known(faults, {(row[0], row[1]): row[2] for row in connection.execute(_COMPLETE, vehicles)})


_ADD = text(
    f"""
    INSERT INTO vehicle_faults (tenant_id, {", ".join(_COLUMNS)})
    SELECT app_tenant_id(), {", ".join(_COLUMNS)} FROM jsonb_to_recordset(:faults) AS f ({_TYPES})
    ON CONFLICT DO NOTHING
    """
).bindparams(bindparam("faults", type_=JSONB))
_CHANGE = text(
    f"""
    UPDATE vehicle_faults v
    SET severity = f.severity, description = f.description, occurrences = f.occurrences, reports = f.reports,
        last_seen_at = f.last_seen_at, cleared_at = f.cleared_at
    FROM jsonb_to_recordset(:faults) AS f ({_TYPES}) WHERE v.id = f.id
    """
).bindparams(bindparam("faults", type_=JSONB))


def write_faults(connection: Connection, added: Sequence[Fault], changed: Sequence[Fault]) -> None:
    """Write what became of faults: closed ones first, so that a code that came again is not there twice."""
    if changed:
        connection.execute(_CHANGE, {"faults": [_row(each) for each in changed]})
    if added:
        connection.execute(_ADD, {"faults": [_row(each) for each in added]})


_WRITE_COMPLETE = text(
    """
    INSERT INTO vehicle_fault_reports AS r (tenant_id, vehicle_id, scope, reported_at)
    SELECT app_tenant_id(), n.vehicle_id, n.scope, n.reported_at
    FROM jsonb_to_recordset(:complete) AS n (vehicle_id uuid, scope text, reported_at timestamptz)
    ON CONFLICT (vehicle_id, scope) DO UPDATE SET reported_at = excluded.reported_at
    WHERE r.reported_at < excluded.reported_at
    """
).bindparams(bindparam("complete", type_=JSONB))


def write_complete(connection: Connection, complete: Complete) -> None:
    """Keep when complete reports were; what is newer already stays."""
    rows = [
        {"vehicle_id": str(vehicle_id), "scope": scope, "reported_at": str(time)}
        for (vehicle_id, scope), time in complete.items()
    ]
    if rows:
        connection.execute(_WRITE_COMPLETE, {"complete": rows})


def _row(fault: Fault) -> dict[str, object]:
    return {
        name: value if value is None or isinstance(value, int) else str(value) for name, value in asdict(fault).items()
    }


DEFAULT_FAULT_SEVERITY = "medium"
"""From which severity on a fault code raises an alert, where the tenant has said nothing else."""

_SUBJECT = "'vehicle:' || f.vehicle_id || ':fault:' || f.protocol || ':' || f.code || ':' || f.source"
_RANK = "array_position(ARRAY['low', 'medium', 'high', 'critical'], {})"
_THRESHOLD = "CASE WHEN t.tenant_id IS NULL THEN CAST(:default AS text) ELSE t.fault_severity END"


def _compared(vehicle: str) -> str:
    """Return CTEs that hold each code that is worth an alert against each alert that is open.

    A full join is a hash or a merge, never row by row: when thousands have just come, the planner believes in none of
    them yet. `details` are written by others too: an id in them is a text that may name nothing.
    """
    return f"""
    WITH present AS MATERIALIZED (
        SELECT f.* FROM vehicle_faults f WHERE f.cleared_at IS NULL AND {vehicle.format("f")}
    ),
    severe AS MATERIALIZED (
        SELECT f.*, left(v.name, 200) AS name, CAST(f.id AS text) AS fault_id, {_SUBJECT} AS subject
        FROM present f
        CROSS JOIN LATERAL (SELECT * FROM vehicles WHERE id = f.vehicle_id OFFSET 0) v  -- each by its key
        LEFT JOIN alert_thresholds t ON t.tenant_id = v.tenant_id AND t.vehicle_kind = v.kind
        WHERE v.deleted_at IS NULL AND v.status NOT IN ('retired', 'sold')
          AND {_RANK.format("f.severity")} >= {_RANK.format(_THRESHOLD)}
    ),
    told AS MATERIALIZED (
        SELECT a.id, a.vehicle_id, a.subject, a.details ->> 'fault_id' AS fault_id FROM alerts a
        WHERE a.kind = 'fault_code' AND a.resolved_at IS NULL AND a.vehicle_id IS NOT NULL AND {vehicle.format("a")}
    ),
    compared AS MATERIALIZED (
        SELECT s.*, s.id IS NULL AS is_over, t.id AS alert_id, t.vehicle_id AS told_vehicle_id,
               t.fault_id AS told_fault_id
        FROM severe s FULL JOIN told t ON t.subject = s.subject AND t.fault_id = s.fault_id
    ),
    due AS MATERIALIZED (
        SELECT c.* FROM compared c
        WHERE NOT c.is_over AND (c.alert_id IS NOT NULL OR coalesce((
            SELECT false FROM alerts k
            WHERE k.tenant_id = c.tenant_id AND k.kind = 'fault_code' AND k.subject = c.subject
              AND k.resolved_at IS NOT NULL AND k.details ->> 'fault_id' = c.fault_id LIMIT 1), true))
    )"""


_OF_VEHICLES = _compared("{}.vehicle_id = ANY(:vehicles)")
_OF_ALL = _compared("true")
_UUID = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
_RESOLVE = text(
    f"""
    {_OF_VEHICLES},
    ended AS MATERIALIZED (
        SELECT c.alert_id, f.cleared_at
        FROM compared c LEFT JOIN vehicle_faults f
          ON f.id = CASE WHEN c.told_fault_id ~ {_UUID} THEN CAST(c.told_fault_id AS uuid) END
        WHERE c.is_over
    )
    UPDATE alerts a SET resolved_at = coalesce(a.resolved_at, e.cleared_at, greatest(a.opened_at, now()))
    FROM ended e WHERE a.id = e.alert_id
    """
).bindparams(_VEHICLES)
_ALERT = text(
    f"""
    {_OF_VEHICLES}
    INSERT INTO alerts AS a (tenant_id, kind, severity, vehicle_id, subject, message, details, opened_at)
    SELECT d.tenant_id, 'fault_code', d.severity, d.vehicle_id, d.subject,
           format('%s reports fault code %s%s', d.name, d.code, coalesce(': ' || d.description, '')),
           jsonb_build_object('fault_id', d.id, 'protocol', d.protocol, 'code', d.code, 'source', d.source),
           d.first_seen_at
    FROM due d ORDER BY d.id
    ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL
    DO UPDATE SET severity = excluded.severity, message = excluded.message
    WHERE (a.severity, a.message) IS DISTINCT FROM (excluded.severity, excluded.message)
    RETURNING (xmax = 0)
    """
).bindparams(_VEHICLES)


class Settled(NamedTuple):
    """How many alerts opened, and how many were resolved."""

    opened: int
    resolved: int


def settle_fault_alerts(connection: Connection, vehicle_ids: Collection[UUID]) -> Settled:
    """Resolve the alerts of codes that are gone, or are no longer worth one; then open those of codes that are there.

    An alert that somebody resolved by hand stays so while the code stays.
    """
    values = {"vehicles": list(vehicle_ids), "default": DEFAULT_FAULT_SEVERITY}
    resolved = connection.execute(_RESOLVE, values).rowcount
    return Settled(sum(connection.execute(_ALERT, values).scalars()), resolved)


# Whoever holds a vehicle settles it, or leaves it to the next minute: nobody waits, so nobody deadlocks.
_LOCK_UNSETTLED = text(
    f"""
    {_OF_ALL}
    SELECT v.id
    FROM (SELECT told_vehicle_id AS id FROM compared WHERE is_over
          UNION SELECT vehicle_id FROM due WHERE alert_id IS NULL) u
    CROSS JOIN LATERAL (SELECT id FROM vehicles WHERE id = u.id FOR NO KEY UPDATE SKIP LOCKED) v
    """
)


def settle_changed(connection: Connection) -> Settled:
    """Settle what no report has: a threshold was changed, or a vehicle left the fleet."""
    vehicles = connection.execute(_LOCK_UNSETTLED, {"default": DEFAULT_FAULT_SEVERITY}).scalars().all()
    return settle_fault_alerts(connection, vehicles) if vehicles else Settled(0, 0)
