"""Every statement about what cameras and sensors saw. Transactions of one tenant."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from integrations.telematics import SafetyEvent

ANNOUNCED_FOR = timedelta(hours=24)
"""How old a critical event may be to raise an alert: its film is uploaded late, but nobody is called for last week."""

# The provider corrects an event for days (its labels, whether a coach has seen it): the newest word holds, but what was
# once known and is no longer said stays, as the address of a film that has expired.
_KEEP = text(
    """
    WITH kept AS (
        INSERT INTO video_events AS e
            (tenant_id, vehicle_id, connection_id, external_id, time, kind, labels, severity, latitude, longitude,
             speed_kph, max_g, external_driver_id, state, video_url, raw)
        SELECT app_tenant_id(), n.vehicle_id, :id, n.event_id, n.time, n.kind,
               ARRAY(SELECT jsonb_array_elements_text(n.labels)), n.severity, n.latitude, n.longitude,
               n.speed_kph, n.max_g, n.driver_id, n.state, n.video_url, CAST(n.raw AS jsonb)
        FROM jsonb_to_recordset(:events) AS n
            (vehicle_id uuid, event_id text, time timestamptz, kind text, labels jsonb, severity text,
             latitude float8, longitude float8, speed_kph float4, max_g float4, driver_id text, state text,
             video_url text, raw text)
        ORDER BY n.event_id
        ON CONFLICT (connection_id, external_id) DO UPDATE SET
            vehicle_id = excluded.vehicle_id, time = excluded.time, kind = excluded.kind, labels = excluded.labels,
            severity = excluded.severity, latitude = coalesce(excluded.latitude, e.latitude),
            longitude = coalesce(excluded.longitude, e.longitude),
            speed_kph = coalesce(excluded.speed_kph, e.speed_kph), max_g = coalesce(excluded.max_g, e.max_g),
            external_driver_id = coalesce(excluded.external_driver_id, e.external_driver_id),
            state = coalesce(excluded.state, e.state), video_url = coalesce(excluded.video_url, e.video_url),
            raw = coalesce(excluded.raw, e.raw)
        RETURNING id, tenant_id, vehicle_id, time, kind, severity, xmax = 0 AS is_new
    ),
    announced AS (
        INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, connection_id, subject, message, details, opened_at)
        SELECT k.tenant_id, 'safety_event', k.severity, k.vehicle_id, :id, 'safety_event:' || k.id,
               format('%s: %s', left(v.name, 200), replace(k.kind, '_', ' ')),
               jsonb_build_object('video_event_id', k.id, 'kind', k.kind), k.time
        FROM kept k JOIN vehicles v ON v.id = k.vehicle_id
        WHERE k.severity = 'critical' AND k.time > :announced_since
          AND NOT EXISTS (SELECT FROM alerts a WHERE a.tenant_id = k.tenant_id AND a.kind = 'safety_event'
                          AND a.subject = 'safety_event:' || k.id)
        ON CONFLICT DO NOTHING RETURNING 1
    )
    SELECT (SELECT count(*) FROM kept WHERE is_new), (SELECT count(*) FROM kept WHERE NOT is_new),
           (SELECT count(*) FROM announced)
    """
).bindparams(bindparam("events", type_=JSONB))


def keep_events(
    connection: Connection, connection_id: UUID, events: Sequence[tuple[UUID, SafetyEvent]], now: datetime
) -> dict[str, int]:
    """Keep events with their vehicles; one that is known is corrected. A critical one raises an alert, once.

    Returns:
        `safety_events` that are new, `safety_events_updated`, and `alerts` opened.
    """
    rows = {
        event.event_id: {
            "vehicle_id": str(vehicle_id),
            "event_id": event.event_id,
            "time": event.time.isoformat(),
            "kind": event.kind,
            "labels": list(event.labels),
            "severity": event.severity,
            "latitude": event.latitude,
            "longitude": event.longitude,
            "speed_kph": event.speed_kph,
            "max_g": event.max_g,
            "driver_id": event.driver_id,
            "state": event.state,
            "video_url": event.video_url,
            "raw": event.raw,
        }
        for vehicle_id, event in events
    }
    values = {"id": connection_id, "events": list(rows.values()), "announced_since": now - ANNOUNCED_FOR}
    row = connection.execute(_KEEP, values).one()
    return {"safety_events": row[0], "safety_events_updated": row[1], "alerts": row[2]}
