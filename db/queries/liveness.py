"""Who is silent, and who runs low: alerts that open once and resolve by themselves. Transactions of one tenant."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from db.queries.alerts import Thresholds

SILENT_SHARE = 0.8
"""A connection is silent when so many of its vehicles are: not all, for one may have been heard by other ways."""
FEWEST_VEHICLES = 2
"""Of fewer vehicles nobody can tell a silent connection from a silent vehicle."""
FRESH_HOURS = 24
"""An older level says nothing of now; a vehicle that fell silent so long before the others is no part of the outage."""
HYSTERESIS_PERCENT = 5
"""So far above its threshold, of 95 at most, a level is low no more: a tank on a slope opens no alert at every turn."""
MISSED_TICKS = 3
"""After so many ticks without a finished sync it is we who do not read, not the provider who has nothing."""

_REPORTED_AT = "greatest(p.time, p.odometer_at, p.engine_hours_at, p.fuel_at, p.battery_at, p.engine_state_at)"
_MINUTE = """'YYYY-MM-DD HH24:MI "UTC"'"""
_FRESH = f"CAST(:now AS timestamptz) - interval '{FRESH_HOURS} hours'"

# `silent_at` is when a vehicle's silence passes its threshold; NULL where it never reported, or the alert is off.
_WATCHED = f"""
    thresholds AS MATERIALIZED (
        SELECT d.vehicle_kind,
               CASE WHEN t.tenant_id IS NULL THEN d.offline_after_s ELSE t.offline_after_s END AS offline_after_s,
               CASE WHEN t.tenant_id IS NULL THEN d.low_fuel_percent ELSE t.low_fuel_percent END AS low_fuel_percent,
               CASE WHEN t.tenant_id IS NULL THEN d.low_battery_percent ELSE t.low_battery_percent END
                   AS low_battery_percent
        FROM jsonb_to_recordset(:defaults) AS d
            (vehicle_kind text, offline_after_s integer, low_fuel_percent real, low_battery_percent real)
        LEFT JOIN alert_thresholds t ON t.vehicle_kind = d.vehicle_kind
    ),
    accounts AS MATERIALIZED (
        SELECT c.id, c.provider, c.name, c.status, coalesce(c.last_synced_at, c.created_at) AS read_at,
               make_interval(secs => coalesce(CAST(CAST(:poll_every_s AS jsonb) ->> CAST(c.id AS text) AS integer),
                                              CAST(:tick_s AS integer))) AS poll_every
        FROM connections c WHERE c.deleted_at IS NULL
    ),
    fleet AS MATERIALIZED (
        SELECT v.id, left(v.name, 200) AS name, a.id AS connection_id, a.status, s.reported_at, s.silent_after,
               s.reported_at + s.silent_after AS silent_at, t.low_fuel_percent, t.low_battery_percent,
               p.fuel_percent, p.fuel_at, p.battery_percent, p.battery_at
        FROM vehicles v
        JOIN thresholds t ON t.vehicle_kind = v.kind
        LEFT JOIN accounts a ON a.id = v.connection_id
        LEFT JOIN vehicle_positions p ON p.vehicle_id = v.id
        CROSS JOIN LATERAL (
            SELECT least({_REPORTED_AT}, :now) AS reported_at,  -- others may write a time that is yet to come
                   CASE WHEN t.offline_after_s IS NOT NULL
                        THEN greatest(make_interval(secs => t.offline_after_s), 2 * a.poll_every) END AS silent_after
        ) s
        WHERE v.deleted_at IS NULL AND v.status NOT IN ('retired', 'sold')
          AND (v.connection_id IS NULL OR a.id IS NOT NULL)
    ),
    levels AS (
        SELECT f.id, f.name, f.status, l.*
        FROM fleet f CROSS JOIN LATERAL (
            VALUES ('low_fuel', 'fuel', f.fuel_percent, f.fuel_at, f.low_fuel_percent),
                   ('low_battery', 'battery', f.battery_percent, f.battery_at, f.low_battery_percent)
        ) AS l (kind, what, percent, measured_at, threshold)
    ),
    -- Of a level or a connection also what somebody resolved by hand, until it is over: meanwhile none opens again.
    told AS MATERIALIZED (
        SELECT id, kind, subject FROM alerts WHERE resolved_at IS NULL AND kind = 'offline'
        UNION ALL
        SELECT id, kind, subject FROM alerts
        WHERE over_at IS NULL AND kind IN ('low_fuel', 'low_battery', 'connection_silent')
    ),
    told_outages AS MATERIALIZED (
        SELECT DISTINCT ON (connection_id) id, connection_id, opened_at, updated_at, details ->> 'state' AS state
        FROM alerts
        WHERE over_at IS NULL AND kind IN ('low_fuel', 'low_battery', 'connection_silent')
          AND kind = 'connection_silent'
        ORDER BY connection_id, resolved_at DESC NULLS FIRST
    )
"""


def _most(count: str) -> str:
    """Return whether so many of a connection's vehicles are that it is the connection's doing."""
    return f"coalesce(n.vehicles >= {FEWEST_VEHICLES} AND n.{count} >= {SILENT_SHARE} * n.vehicles, false)"


# The vehicles that count are those that reported within a day before the newest report; while the alert is open, before
# the silence that it tells of, so that the first to come back are not the whole fleet.
_OUTAGES = f"""
    newest AS (
        SELECT f.connection_id, coalesce(min(o.opened_at), max(f.silent_at)) AS silent_at
        FROM fleet f LEFT JOIN told_outages o ON o.connection_id = f.connection_id
        WHERE f.status = 'active' GROUP BY f.connection_id
    ),
    counted AS (
        SELECT f.connection_id, count(*) AS vehicles,
               count(*) FILTER (WHERE f.silent_at <= :now) AS silent,
               count(*) FILTER (WHERE f.silent_at - f.silent_after / 2 <= :now) AS quiet,
               max(f.reported_at) FILTER (WHERE f.silent_at <= :now) AS last_reported_at,
               max(f.silent_at) FILTER (WHERE f.silent_at <= :now) AS silent_at
        FROM fleet f JOIN newest n ON n.connection_id = f.connection_id
        WHERE f.silent_at > n.silent_at - interval '{FRESH_HOURS} hours' GROUP BY f.connection_id
    ),
    judged AS (
        SELECT a.*, o.id AS alert_id, o.state AS state_before, o.updated_at, coalesce(n.vehicles, 0) AS vehicles,
               coalesce(n.silent, 0) AS silent, n.last_reported_at, n.silent_at,
               {_most("silent")} AS is_silent,
               {_most("quiet")} AS is_quiet
        FROM accounts a
        LEFT JOIN counted n ON n.connection_id = a.id
        LEFT JOIN told_outages o ON o.connection_id = a.id
        WHERE a.status = 'active'
    ),
    outages AS MATERIALIZED (
        SELECT j.*, j.is_silent OR (j.alert_id IS NOT NULL AND NOT s.is_over) AS is_held, s.is_over, s.state,
               CASE s.state WHEN 'not_read' THEN 'high' ELSE 'medium' END AS severity,
               format('%s connection "%s": %s of %s vehicles are silent', j.provider, left(j.name, 200), j.silent,
                      j.vehicles)
               || CASE s.state
                  WHEN 'not_read' THEN format('; no sync has finished since %s',
                                              to_char(j.read_at AT TIME ZONE 'UTC', {_MINUTE}))
                  WHEN 'not_reporting' THEN '; the provider answers, but has nothing new of them'
                  ELSE '; the others report again' END AS message,
               jsonb_build_object('state', s.state, 'vehicles', j.vehicles, 'silent', j.silent,
                                  'last_reported_at', j.last_reported_at, 'last_synced_at', j.read_at) AS details
        FROM judged j CROSS JOIN LATERAL (
            SELECT CASE WHEN NOT j.is_silent THEN 'recovering'
                        WHEN j.read_at <= :now - make_interval(secs => {MISSED_TICKS} * CAST(:tick_s AS integer))
                            THEN 'not_read'
                        ELSE 'not_reporting' END AS state,
                   NOT j.is_silent AND (j.silent = 0 OR coalesce(
                       j.state_before = 'recovering' AND j.updated_at <= :now - 2 * j.poll_every, false)) AS is_over
        ) s
    )
"""

# Rows that somebody else is changing are left to the next minute: nobody waits for them, so nobody deadlocks.
_HELD = "SELECT a.id, a.resolved_at IS NULL AS is_open FROM alerts a WHERE a.id = {} FOR NO KEY UPDATE SKIP LOCKED"

# What lasts, of which what is due is told. A vehicle of a connection of which most are quiet waits half as long again:
# if it is an outage, it shows until then.
_LASTING = f"""
    lasting AS MATERIALIZED (
        SELECT 'offline' AS kind, 'medium' AS severity, f.id AS vehicle_id, CAST(NULL AS uuid) AS connection_id,
               'vehicle:' || f.id AS subject,
               format('%s has not reported since %s', f.name,
                      to_char(f.reported_at AT TIME ZONE 'UTC', {_MINUTE})) AS message,
               jsonb_build_object('last_reported_at', f.reported_at,
                                  'threshold_s', CAST(extract(epoch FROM f.silent_after) AS integer)) AS details,
               f.silent_at AS opened_at,
               f.connection_id IS NULL OR coalesce(NOT c.is_held AND (
                   NOT c.is_quiet OR f.silent_at + f.silent_after / 2 <= :now), false) AS is_due
        FROM fleet f LEFT JOIN outages c ON c.id = f.connection_id
        WHERE f.silent_at <= :now
        UNION ALL
        SELECT l.kind, 'medium', l.id, NULL, 'vehicle:' || l.id,
               format('%s: %s at %s %%, below %s %%', l.name, l.what, l.percent, l.threshold),
               jsonb_build_object('percent', l.percent, 'threshold_percent', l.threshold, 'measured_at', l.measured_at),
               l.measured_at,
               l.percent < l.threshold AND l.measured_at > {_FRESH} AND l.status IS DISTINCT FROM 'paused'
        FROM levels l
        WHERE l.percent < l.threshold + {HYSTERESIS_PERCENT} OR (l.threshold IS NOT NULL AND l.measured_at <= {_FRESH})
        UNION ALL
        SELECT 'connection_silent', c.severity, NULL, c.id, 'connection:' || c.id, c.message, c.details, c.silent_at,
               c.is_silent
        FROM outages c WHERE c.is_held
    )
"""

# A full join is a hash or a merge, never row by row: when thousands of alerts have just opened, the planner believes in
# none of them yet. For the same reason rows to change are looked up by their key, one at a time.
_CHANGED = f"""
    compared AS MATERIALIZED (
        SELECT l.*, l.subject IS NULL AS is_over, o.id AS alert_id
        FROM lasting l FULL JOIN told o ON o.kind = l.kind AND o.subject = l.subject
    ),
    opened AS (
        INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, connection_id, subject, message, details, opened_at)
        SELECT app_tenant_id(), u.kind, u.severity, u.vehicle_id, u.connection_id, u.subject, u.message, u.details,
               u.opened_at
        FROM compared u
        WHERE u.is_due AND u.alert_id IS NULL
          AND NOT EXISTS (SELECT FROM alerts k WHERE k.tenant_id = (SELECT app_tenant_id())
                          AND k.opened_at = u.opened_at AND k.kind = u.kind AND k.subject = u.subject)
        ORDER BY u.kind, u.subject
        ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL DO NOTHING
        RETURNING kind
    ),
    ended AS MATERIALIZED (
        SELECT h.* FROM compared c CROSS JOIN LATERAL ({_HELD.format("c.alert_id")}) h WHERE c.is_over
    ),
    resolved AS (
        UPDATE alerts a SET resolved_at = coalesce(a.resolved_at, :now), over_at = :now
        FROM ended e WHERE a.id = e.id RETURNING e.is_open
    ),
    altered AS MATERIALIZED (
        SELECT h.id, c.severity, c.message, c.details
        FROM told_outages o JOIN outages c ON c.id = o.connection_id
        CROSS JOIN LATERAL ({_HELD.format("o.id")}) h
        WHERE c.is_held AND c.state IS DISTINCT FROM o.state
    ),
    updated AS (
        UPDATE alerts a
        SET severity = c.severity, message = c.message, details = a.details || jsonb_strip_nulls(c.details)
        FROM altered c WHERE a.id = c.id
    )
"""
_CHECK = text(
    f"""
    WITH {_WATCHED}, {_OUTAGES}, {_LASTING}, {_CHANGED}
    SELECT kind, count(*) FROM opened GROUP BY kind
    UNION ALL SELECT 'resolved', count(*) FROM resolved WHERE is_open
    """
).bindparams(bindparam("defaults", type_=JSONB), bindparam("poll_every_s", type_=JSONB))


_POLLED = text("SELECT id, provider, settings FROM connections WHERE deleted_at IS NULL")


def list_polled(connection: Connection) -> list[tuple[UUID, str, dict[str, Any]]]:
    """Return the id, provider and settings of the tenant's connections."""
    return [(row[0], row[1], row[2]) for row in connection.execute(_POLLED)]


def check(
    connection: Connection,
    now: datetime,
    *,
    defaults: Mapping[str, Thresholds],
    poll_every_s: Mapping[UUID, int],
    tick_s: int,
) -> dict[str, int]:
    """Open what has become due by `now` and resolve what is over, for every vehicle and connection of the tenant.

    Args:
        defaults: by kind of vehicle, where the tenant has said nothing.
        poll_every_s: by connection, how often its provider has something new of a vehicle; `tick_s` of any other.
        tick_s: how often connections are read.

    Returns:
        How many alerts of each kind opened, and how many were resolved.
    """
    told = [{"vehicle_kind": kind} | asdict(each) for kind, each in defaults.items()]
    polled = {str(connection_id): seconds for connection_id, seconds in poll_every_s.items()}
    values = {"now": now, "defaults": told, "poll_every_s": polled, "tick_s": tick_s}
    return {row[0]: row[1] for row in connection.execute(_CHECK, values)}


_RESOLVE_GONE = text(
    """
    UPDATE alerts SET resolved_at = greatest(opened_at, :now) WHERE id = ANY(ARRAY(
        SELECT a.id FROM alerts a JOIN vehicles v ON v.id = a.vehicle_id
        WHERE a.resolved_at IS NULL AND a.kind IN ('geofence_entry', 'geofence_exit')
          AND (v.deleted_at IS NOT NULL OR v.status IN ('retired', 'sold'))
        ORDER BY a.id FOR NO KEY UPDATE OF a SKIP LOCKED
    ))
    """
)
# Not of one that was sold: while it still reports, its next fix would be another entry.
_FORGET_GONE = text(
    """
    DELETE FROM geofence_presence WHERE (vehicle_id, geofence_id) IN (
        SELECT p.vehicle_id, p.geofence_id FROM geofence_presence p JOIN vehicles v ON v.id = p.vehicle_id
        WHERE v.deleted_at IS NOT NULL FOR UPDATE OF p SKIP LOCKED
    )
    """
)


def resolve_gone(connection: Connection, now: datetime) -> int:
    """Resolve the entries and exits of vehicles that left the fleet; forget where deleted ones were.

    Returns how many were resolved.
    """
    connection.execute(_FORGET_GONE)
    return connection.execute(_RESOLVE_GONE, {"now": now}).rowcount


# By what is staged, not by a list: to send five thousand ids takes longer than to find that none is silent.
_RESOLVE_REPORTED = text(
    f"""
    WITH heard AS MATERIALIZED (
        SELECT a.id FROM alerts a JOIN vehicle_positions p ON p.vehicle_id = a.vehicle_id
        WHERE a.vehicle_id = ANY(ARRAY(SELECT vehicle_id FROM staged_positions_1))
          AND a.kind = 'offline' AND a.resolved_at IS NULL
          AND {_REPORTED_AT} > :now - make_interval(secs =>
              CASE WHEN a.details ->> 'threshold_s' ~ '^[0-9]{{1,9}}$'
                   THEN CAST(a.details ->> 'threshold_s' AS double precision) END)
        ORDER BY a.id FOR UPDATE OF a SKIP LOCKED
    )
    UPDATE alerts a SET resolved_at = :now FROM heard h WHERE a.id = h.id
    """
)


def resolve_reported(connection: Connection, now: datetime) -> int:
    """Resolve the silence of the vehicles whose positions this transaction has just stored, by `store_positions`.

    It is over where the newest report is within the threshold that had passed: a point that comes late resolves
    nothing. Returns how many were resolved.
    """
    return connection.execute(_RESOLVE_REPORTED, {"now": now}).rowcount
