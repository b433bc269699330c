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


def lock_known(connection: Connection, vehicle_ids: Collection[UUID]) -> list[Fault]:
    """Return the open faults of vehicles and the newest closed one of each protocol; others wait until the commit."""
    vehicles = {"vehicles": list(vehicle_ids)}
    connection.execute(_LOCK, vehicles)
    return [Fault(*row) for row in connection.execute(_KNOWN, vehicles)]


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


def _row(fault: Fault) -> dict[str, object]:
    return {
        name: value if value is None or isinstance(value, int) else str(value) for name, value in asdict(fault).items()
    }


DEFAULT_FAULT_SEVERITY = "medium"
"""From which severity on a fault code raises an alert, where the tenant has said nothing else."""

_SUBJECT = "'vehicle:' || f.vehicle_id || ':fault:' || f.protocol || ':' || f.code || ':' || f.source"
_RANK = "array_position(ARRAY['low', 'medium', 'high', 'critical'], {})"
_THRESHOLD = "CASE WHEN t.tenant_id IS NULL THEN CAST(:default AS text) ELSE t.fault_severity END"
_ALERT = text(
    f"""
    INSERT INTO alerts AS a (tenant_id, kind, severity, vehicle_id, subject, message, details, opened_at)
    SELECT f.tenant_id, 'fault_code', f.severity, f.vehicle_id, {_SUBJECT},
           format('%s reports fault code %s%s', v.name, f.code, coalesce(': ' || f.description, '')),
           jsonb_build_object('fault_id', f.id, 'protocol', f.protocol, 'code', f.code, 'source', f.source),
           f.first_seen_at
    FROM vehicle_faults f
    JOIN vehicles v ON v.id = f.vehicle_id AND v.deleted_at IS NULL AND v.status NOT IN ('retired', 'sold')
    LEFT JOIN alert_thresholds t ON t.tenant_id = v.tenant_id AND t.vehicle_kind = v.kind
    WHERE f.vehicle_id = ANY(:vehicles) AND f.cleared_at IS NULL
      AND {_RANK.format("f.severity")} >= {_RANK.format(_THRESHOLD)}
      AND NOT EXISTS (SELECT FROM alerts k WHERE k.tenant_id = f.tenant_id AND k.kind = 'fault_code'
                      AND k.subject = {_SUBJECT} AND k.resolved_at IS NOT NULL
                      AND CAST(k.details ->> 'fault_id' AS uuid) = f.id)
    ORDER BY f.id
    ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL
    DO UPDATE SET severity = excluded.severity, message = excluded.message
    WHERE (a.severity, a.message) IS DISTINCT FROM (excluded.severity, excluded.message)
    RETURNING (xmax = 0)
    """
).bindparams(_VEHICLES)
_RESOLVE = text(
    """
    UPDATE alerts a SET resolved_at = f.cleared_at
    FROM vehicle_faults f
    WHERE a.resolved_at IS NULL AND a.kind = 'fault_code' AND a.vehicle_id = ANY(:vehicles)
      AND f.vehicle_id = a.vehicle_id AND f.id = CAST(a.details ->> 'fault_id' AS uuid) AND f.cleared_at IS NOT NULL
    """
).bindparams(_VEHICLES)


def settle_fault_alerts(connection: Connection, vehicle_ids: Collection[UUID]) -> int:
    """Resolve the alerts of codes that are gone, then open those of codes that are there.

    An alert that somebody resolved by hand stays so while the code stays. Returns how many opened.
    """
    vehicles = {"vehicles": list(vehicle_ids)}
    connection.execute(_RESOLVE, vehicles)
    return sum(connection.execute(_ALERT, vehicles | {"default": DEFAULT_FAULT_SEVERITY}).scalars())
