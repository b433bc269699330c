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
_IS_SEVERE = f"coalesce({_RANK.format('f.severity')} >= {_RANK.format(_THRESHOLD)}, false)"
_IS_GONE = "(v.deleted_at IS NOT NULL OR v.status IN ('retired', 'sold'))"
_THRESHOLDS = "LEFT JOIN alert_thresholds t ON t.tenant_id = v.tenant_id AND t.vehicle_kind = v.kind"

# `details` are written by others too: an id in them is a text that may name nothing.
_ALERTED = f"""
    SELECT FROM alerts k
    WHERE k.tenant_id = f.tenant_id AND k.kind = 'fault_code' AND k.subject = {_SUBJECT}
      AND k.resolved_at IS NOT NULL AND k.details ->> 'fault_id' = CAST(f.id AS text)
"""
_DUE = f"""
    FROM vehicle_faults f JOIN vehicles v ON v.id = f.vehicle_id {_THRESHOLDS}
    WHERE f.cleared_at IS NULL AND NOT {_IS_GONE} AND {_IS_SEVERE} AND NOT EXISTS ({_ALERTED})
"""
_ALERT = text(
    f"""
    INSERT INTO alerts AS a (tenant_id, kind, severity, vehicle_id, subject, message, details, opened_at)
    SELECT f.tenant_id, 'fault_code', f.severity, f.vehicle_id, {_SUBJECT},
           format('%s reports fault code %s%s', v.name, f.code, coalesce(': ' || f.description, '')),
           jsonb_build_object('fault_id', f.id, 'protocol', f.protocol, 'code', f.code, 'source', f.source),
           f.first_seen_at
    {_DUE} AND f.vehicle_id = ANY(:vehicles)
    ORDER BY f.id
    ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL
    DO UPDATE SET severity = excluded.severity, message = excluded.message
    WHERE (a.severity, a.message) IS DISTINCT FROM (excluded.severity, excluded.message)
    RETURNING (xmax = 0)
    """
).bindparams(_VEHICLES)
# The fault of an alert is the one that it names, or the newest of its subject where others have changed what it names.
_OVER = f"""
    FROM alerts a JOIN vehicles v ON v.id = a.vehicle_id {_THRESHOLDS}
    LEFT JOIN LATERAL (
        SELECT f.* FROM vehicle_faults f WHERE f.vehicle_id = a.vehicle_id AND a.subject = {_SUBJECT}
        ORDER BY CAST(f.id AS text) IS NOT DISTINCT FROM a.details ->> 'fault_id' DESC, f.first_seen_at DESC LIMIT 1
    ) f ON true
    WHERE a.resolved_at IS NULL AND a.kind = 'fault_code'
      AND (f.cleared_at IS NOT NULL OR {_IS_GONE} OR (f.id IS NOT NULL AND NOT {_IS_SEVERE}))
"""
_RESOLVE = text(
    f"""
    WITH over AS MATERIALIZED (
        SELECT a.id, coalesce(f.cleared_at, greatest(a.opened_at, now())) AS at
        {_OVER} AND a.vehicle_id = ANY(:vehicles)
    )
    UPDATE alerts a SET resolved_at = o.at FROM over o WHERE a.id = o.id AND a.resolved_at IS NULL
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
    SELECT id FROM vehicles WHERE id = ANY(ARRAY(
        SELECT a.vehicle_id {_OVER}
        UNION
        SELECT f.vehicle_id {_DUE}
          AND NOT EXISTS (SELECT FROM alerts o WHERE o.tenant_id = f.tenant_id AND o.kind = 'fault_code'
                          AND o.subject = {_SUBJECT} AND o.resolved_at IS NULL)
    ))
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    """
)


def settle_changed(connection: Connection) -> Settled:
    """Settle what no report has: a threshold was changed, or a vehicle left the fleet."""
    vehicles = connection.execute(_LOCK_UNSETTLED, {"default": DEFAULT_FAULT_SEVERITY}).scalars().all()
    return settle_fault_alerts(connection, vehicles) if vehicles else Settled(0, 0)
