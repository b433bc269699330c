"""Readings that people and applications reported, judged beside their neighbours. Transactions of one tenant."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from db.queries.meters import IN_FUTURE, PROBLEM, note_believed
from db.queries.work_order_numbers import hold

MOST_JUDGED = 10_000
"""In one transaction: the counter of work orders is held for so long."""

_TENANT = "tenant_id = (SELECT app_tenant_id())"

# Each meter that something waits of: found one by one, whatever waits behind it.
_ALL = f"""
    meters AS (
        (SELECT vehicle_id, meter FROM meter_readings WHERE {_TENANT} AND state = 'reported'
         ORDER BY vehicle_id, meter LIMIT 1)
        UNION ALL
        SELECT n.vehicle_id, n.meter FROM meters m CROSS JOIN LATERAL (
            SELECT vehicle_id, meter FROM meter_readings
            WHERE {_TENANT} AND state = 'reported' AND (vehicle_id, meter) > (m.vehicle_id, m.meter)
            ORDER BY vehicle_id, meter LIMIT 1
        ) n
    )
"""
_READ_OFF = """
    meters AS (
        SELECT v.vehicle_id, k.meter FROM unnest(CAST(:vehicle_ids AS uuid[])) AS v (vehicle_id)
        CROSS JOIN (VALUES ('odometer_km'), ('engine_hours')) AS k (meter)
    )
"""


def _judging(meters: str, only: str = "true") -> TextClause:
    """Judge what waits of `meters`, the oldest of each first, since whether the next one can be depends on it.

    What another transaction is changing is left to the next check, and so is what comes after it.
    """
    return text(
        f"""
        WITH RECURSIVE {meters},
        walked AS (
            SELECT vehicle_id, meter, CAST(NULL AS uuid) AS id, CAST(NULL AS double precision) AS value,
                   CAST('-infinity' AS timestamptz) AS read_at, 0 AS place, CAST(NULL AS text) AS problem,
                   CAST(NULL AS double precision) AS believed, CAST(NULL AS timestamptz) AS believed_at
            FROM (SELECT * FROM meters LIMIT CAST(:most AS integer)) m
            UNION ALL
            SELECT r.vehicle_id, r.meter, r.id, r.value, r.read_at, w.place + 1, j.problem,
                   CASE WHEN j.problem IS NULL THEN r.value ELSE b.value END,
                   CASE WHEN j.problem IS NULL THEN r.read_at ELSE b.read_at END
            FROM walked w
            CROSS JOIN LATERAL (
                SELECT id, vehicle_id, meter, value, read_at FROM meter_readings
                WHERE {_TENANT} AND vehicle_id = w.vehicle_id AND meter = w.meter AND state = 'reported'
                  AND read_at > w.read_at AND {only}
                ORDER BY read_at LIMIT 1
            ) r
            LEFT JOIN LATERAL (
                SELECT value, read_at FROM (
                    (SELECT value, read_at FROM meter_readings
                     WHERE vehicle_id = r.vehicle_id AND meter = r.meter AND read_at <= r.read_at AND state = 'accepted'
                     ORDER BY read_at DESC LIMIT 1)
                    UNION ALL SELECT w.believed, w.believed_at WHERE w.believed_at IS NOT NULL
                ) e ORDER BY read_at DESC LIMIT 1
            ) b ON true
            LEFT JOIN LATERAL (
                SELECT value, read_at FROM meter_readings
                WHERE vehicle_id = r.vehicle_id AND meter = r.meter AND read_at > r.read_at AND state = 'accepted'
                ORDER BY read_at LIMIT 1
            ) a ON true
            CROSS JOIN LATERAL (
                SELECT CASE WHEN {IN_FUTURE} THEN 'read in the future' ELSE {PROBLEM} END AS problem
            ) j
        ),
        chosen AS MATERIALIZED (SELECT * FROM walked WHERE place > 0 LIMIT CAST(:most AS integer)),
        held AS MATERIALIZED (
            SELECT c.*, bool_and(coalesce(l.state = 'reported' AND l.value = c.value, false))
                            OVER (PARTITION BY c.vehicle_id, c.meter ORDER BY c.place) AS is_next
            FROM chosen c
            LEFT JOIN LATERAL (
                SELECT state, value FROM meter_readings
                WHERE id = c.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
            ) l ON true
        ),
        judged AS (
            UPDATE meter_readings w
            SET state = CASE WHEN h.problem IS NULL THEN 'accepted' ELSE 'quarantined' END, reason = h.problem
            FROM held h
            WHERE w.id = h.id AND h.is_next AND w.id = ANY(ARRAY(SELECT id FROM held WHERE is_next))
            RETURNING w.vehicle_id, w.state
        )
        SELECT count(*) FILTER (WHERE state = 'accepted'), count(*) FILTER (WHERE state = 'quarantined'),
               array_agg(DISTINCT vehicle_id) FILTER (WHERE state = 'accepted'), (SELECT count(*) FROM chosen)
        FROM judged
        """
    )


_JUDGE = _judging(_ALL)
_JUDGE_READ_OFF = _judging(_READ_OFF, "source = 'work_order'")


@dataclass(frozen=True, slots=True)
class Judged:
    """How many readings were believed and set aside; and whether more wait than were looked at."""

    accepted: int
    quarantined: int
    is_more: bool


def judge_reported(connection: Connection, now: datetime, *, most: int = MOST_JUDGED) -> Judged:
    """Judge up to `most` readings that people and applications reported, each beside its neighbours in time.

    Twice is harmless: what is judged waits no more.
    """
    hold(connection, now)
    return _judge(connection, _JUDGE, {"now": now, "most": most})


def judge_read_off(connection: Connection, vehicle_ids: Collection[UUID], now: datetime) -> None:
    """Judge what was read off vehicles as their work orders were completed. Who calls holds the counter."""
    _judge(connection, _JUDGE_READ_OFF, {"now": now, "most": None, "vehicle_ids": list(vehicle_ids)})


def _judge(connection: Connection, statement: TextClause, values: dict[str, object]) -> Judged:
    accepted, quarantined, vehicle_ids, chosen = connection.execute(statement, values).one()
    if accepted:
        note_believed(connection, vehicle_ids)
    return Judged(accepted, quarantined, is_more=chosen == values["most"] and accepted + quarantined > 0)
