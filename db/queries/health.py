"""What the doctor asks of a database: who we are there, what it is, and how the work goes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Session:
    """Who a connection is, and where; `version` is the server's major version."""

    user: str
    is_superuser: bool
    bypasses_rls: bool
    row_security: str
    version: int
    server: str
    is_replica: bool
    now: datetime


_SESSION = text(
    """
    SELECT current_user, r.rolsuper, r.rolbypassrls, current_setting('row_security'),
           current_setting('server_version_num')::int / 10000, current_setting('server_version'),
           pg_is_in_recovery(), clock_timestamp()
    FROM pg_roles r WHERE r.rolname = current_user
    """
)


def read_session(connection: Connection) -> Session:
    """Return who we are, and what the server is."""
    return Session(*connection.execute(_SESSION).one())


_EXTENSIONS = text("SELECT extname, extversion FROM pg_extension WHERE extname IN ('timescaledb', 'postgis')")


def read_extensions(connection: Connection) -> dict[str, str]:
    """Return the versions of TimescaleDB and PostGIS, where they are installed."""
    return {row[0]: row[1] for row in connection.execute(_EXTENSIONS)}


_DEFINITIONS = text(
    """
    SELECT job, queue, scope, is_public, max_attempts, priority, parameters, unique_by, description
    FROM job_definitions ORDER BY job
    """
)


def read_definitions(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return the jobs that the database's own door knows, in the form in which they were written."""
    return {row["job"]: dict(row) for row in connection.execute(_DEFINITIONS).mappings()}


_WORKERS = text(
    """
    SELECT format('%s (%s)', name, count(*)) FROM worker_heartbeats
    WHERE stopped_at IS NULL AND beat_at > clock_timestamp() - make_interval(secs => :within_s)
    GROUP BY name ORDER BY name
    """
)


def list_live_workers(connection: Connection, within_s: float) -> list[str]:
    """Return the workers that gave a sign of life within that many seconds, each with its number of processes."""
    return list(connection.execute(_WORKERS, {"within_s": within_s}).scalars())


@dataclass(frozen=True, slots=True)
class Overdue:
    """The oldest run that is due and waits."""

    job: str
    age_s: float


_OVERDUE = text(
    """
    SELECT r.job, extract(epoch FROM clock_timestamp() - r.run_at)::float8 FROM job_runs r
    WHERE r.state = 'pending' AND r.run_at <= clock_timestamp()
      AND NOT EXISTS (SELECT FROM job_controls c
                      WHERE c.kind = 'job' AND c.name = r.job OR c.kind = 'queue' AND c.name = r.queue)
    ORDER BY r.run_at LIMIT 1
    """
)


def find_oldest_due(connection: Connection) -> Overdue | None:
    """Return the oldest due run that no pause holds back."""
    row = connection.execute(_OVERDUE).one_or_none()
    return None if row is None else Overdue(*row)


_WAITING_MAILS = text("SELECT count(*) FROM notifications WHERE channel = 'email' AND state IN ('pending', 'ready')")


def count_waiting_mails(connection: Connection) -> int:
    """Return how many mails are still to be sent."""
    found: int = connection.execute(_WAITING_MAILS).scalar_one()
    return found


@dataclass(frozen=True, slots=True)
class Outage:
    """A channel that is closed for all."""

    channel: str
    tries: int
    reason: str
    age_s: float


_OUTAGES = text(
    """
    SELECT channel, tries, reason, extract(epoch FROM clock_timestamp() - began_at)::float8
    FROM channel_outages ORDER BY channel
    """
)


def list_outages(connection: Connection) -> list[Outage]:
    """Return the channels that are closed for all."""
    return [Outage(*row) for row in connection.execute(_OUTAGES)]


_ENDPOINTS = text("SELECT count(*), count(disabled_at) FROM webhook_endpoints WHERE deleted_at IS NULL")


def count_endpoints(connection: Connection) -> tuple[int, int]:
    """Return how many webhooks and chats there are, and how many of them were turned off."""
    there, disabled = connection.execute(_ENDPOINTS).one()
    return there, disabled


_FOR_PEOPLE = text(
    """
    SELECT (SELECT count(*) FROM meter_readings WHERE state = 'quarantined'),
           (SELECT count(*) FROM alerts WHERE kind = 'work_order_flagged' AND resolved_at IS NULL)
    """
)


def count_for_people(connection: Connection) -> tuple[int, int]:
    """Return how many meter readings and completed work orders wait for a person to decide."""
    readings, orders = connection.execute(_FOR_PEOPLE).one()
    return readings, orders


_RETENTION = text(
    """
    SELECT format('%I.%I', hypertable_schema, hypertable_name) FROM timescaledb_information.jobs
    WHERE proc_name = 'policy_retention' ORDER BY 1
    """
)


def list_retention_policies(connection: Connection) -> list[str]:
    """Return the hypertables that TimescaleDB itself deletes from; only where it is installed."""
    return list(connection.execute(_RETENTION).scalars())
