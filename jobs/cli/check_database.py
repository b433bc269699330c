"""The doctor's look at PostgreSQL: who we are there, what it can do, and whether the schema is ours."""

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from db.engine import CONNECT_TIMEOUT_S, Database
from db.migrate import SchemaError, check_schema, head
from db.queries import health
from db.queries.health import Session
from db.timeseries.partitions import days_ahead
from jobs.cli.checks import Check, fail, ok, warn
from jobs.cli.errors import explain_database
from jobs.settings import Settings

VERSIONS = range(15, 19)
SKEW_WARN_S, SKEW_FAIL_S = 1.0, 30.0
DAYS_WARN = 3.0
_NOTIFY_WITHIN_S = 3.0

_ROLES = {
    "FLEET_DATABASE_URL": "fleet_worker",
    "FLEET_SYSTEM_DATABASE_URL": "fleet_system",
    "FLEET_MIGRATION_DATABASE_URL": "fleet_migrator",
    "FLEET_READ_DATABASE_URL": "fleet_readonly",
}


def check_servers(settings: Settings) -> Iterator[Check]:
    """Log in with every URL that is set: reachable, a version that we know, the role that it should be."""
    for variable, role in _ROLES.items():
        url: SecretStr | None = getattr(settings, variable.removeprefix("FLEET_").lower())
        if url is None:
            if variable == "FLEET_MIGRATION_DATABASE_URL":
                yield ok(variable, "not set: `fleet-jobs migrate` is run elsewhere")
            continue
        started = time.time()
        try:
            session = _read_session(url)
        except (SQLAlchemyError, psycopg.Error) as error:
            said = explain_database(error, make_url(url.get_secret_value()))
            yield fail(variable, said or type(error).__name__, "start the server, or correct the URL")
            continue
        yield _judge_role(variable, role, session)
        if variable == "FLEET_SYSTEM_DATABASE_URL":
            yield _judge_version(session)
            yield judge_skew("clock of PostgreSQL", session.now, started, time.time())


def _read_session(url: SecretStr) -> Session:
    engine = create_engine(
        url.get_secret_value(),
        poolclass=NullPool,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "fleet-doctor"},
    )
    with engine.connect() as connection:
        return health.read_session(connection)


def _judge_role(variable: str, role: str, session: Session) -> Check:
    if session.user != role:
        return fail(variable, f"logs in as {session.user}", f"log in as {role}")
    if session.is_superuser:
        return fail(variable, f"{role} is a superuser: no policy holds it", f"ALTER ROLE {role} NOSUPERUSER")
    if session.is_replica and role != "fleet_readonly":
        return fail(variable, "is a replica: it takes no writes", "name the primary")
    if role != "fleet_system" and session.bypasses_rls:
        return fail(variable, f"{role} has BYPASSRLS: it sees every tenant", f"ALTER ROLE {role} NOBYPASSRLS")
    if role == "fleet_system" and not (session.bypasses_rls and session.row_security == "off"):
        found = f"BYPASSRLS {session.bypasses_rls}, row_security {session.row_security}: a missing right goes unseen"
        return fail(variable, found, "run db.roles.bootstrap as an administrator")
    return ok(variable, f"logs in as {role}")


def _judge_version(session: Session) -> Check:
    found = f"PostgreSQL {session.server}"
    if session.version < VERSIONS.start:
        return fail("PostgreSQL", found, f"upgrade it: {VERSIONS.start} to {VERSIONS.stop - 1} are supported")
    if session.version not in VERSIONS:
        return warn("PostgreSQL", found, f"newer than what was tested, {VERSIONS.start} to {VERSIONS.stop - 1}")
    return ok("PostgreSQL", found)


def judge_skew(name: str, told: datetime, before: float, after: float) -> Check:
    """Compare another machine's clock with ours, which was read before and after asking; the way costs nothing."""
    theirs = told.timestamp()
    skew_s = before - theirs if theirs < before else max(theirs - after, 0.0)
    found = f"differs from this machine's by {skew_s:.1f} s"
    if skew_s > SKEW_FAIL_S:
        return fail(name, found, "run NTP on both machines")
    return warn(name, found, "run NTP on both machines") if skew_s > SKEW_WARN_S else ok(name, found)


def check_listen(settings: Settings) -> Check:
    """LISTEN on one session and NOTIFY from another, as the relay does: a transaction pooler loses it."""
    url = make_url(settings.system_database_url.get_secret_value()).set(drivername="postgresql")
    conninfo = url.render_as_string(hide_password=False)
    channel = f"fleet_doctor_{secrets.token_hex(4)}"
    try:
        with (
            psycopg.connect(conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as listener,
            psycopg.connect(conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as notifier,
        ):
            listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            notifier.execute("SELECT pg_notify(%s, '')", [channel])
            heard = list(listener.notifies(timeout=_NOTIFY_WITHIN_S, stop_after=1))
    except psycopg.Error as error:
        return fail("LISTEN", type(error).__name__, "FLEET_SYSTEM_DATABASE_URL must lead to the server itself")
    if not heard:
        fix = "FLEET_SYSTEM_DATABASE_URL must lead to the server itself, not to a pooler in transaction mode"
        return fail("LISTEN", "a notification did not arrive", fix)
    return ok("LISTEN", "a notification arrives")


def check_schema_head(database: Database) -> Check:
    """The schema is this release's."""
    try:
        with database.owner_transaction() as connection:
            check_schema(connection)
    except SchemaError as error:
        said, _, fix = str(error).partition(": ")
        return fail("schema", said, fix or "run `fleet-jobs migrate`")
    return ok("schema", f"at {head()}, this release's")


def check_extensions(connection: Connection) -> Check:
    """TimescaleDB and PostGIS, which may be there or not."""
    found = health.read_extensions(connection)
    told = [f"{name} {found[name]}" if name in found else f"no {name}" for name in ("timescaledb", "postgis")]
    return ok("extensions", ", ".join(told))


def check_retention(connection: Connection) -> Iterator[Check]:
    """Nothing but our own jobs deletes points: TimescaleDB's policy would not ask whether they were summed up."""
    if "timescaledb" not in health.read_extensions(connection):
        return
    if tables := health.list_retention_policies(connection):
        fix = "; ".join(f"SELECT remove_retention_policy('{table}')" for table in tables)
        yield fail("retention policies", f"TimescaleDB deletes from {', '.join(tables)} by itself", fix)
    else:
        yield ok("retention policies", "none of TimescaleDB's: our jobs delete")


def check_definitions(connection: Connection, definitions: list[dict[str, Any]]) -> Check:
    """The database's own door knows the same jobs as the code."""
    stored, wanted = health.read_definitions(connection), {each["job"]: each for each in definitions}
    missing, extra = sorted(wanted.keys() - stored.keys()), sorted(stored.keys() - wanted.keys())
    changed = sorted(job for job in wanted.keys() & stored.keys() if wanted[job] != stored[job])
    told = [
        f"{words}: {', '.join(jobs)}"
        for words, jobs in (("missing", missing), ("changed", changed), ("of another release", extra))
        if jobs
    ]
    if told:
        return fail("job definitions", "; ".join(told), "run `fleet-jobs migrate`")
    return ok("job definitions", f"the {len(wanted)} jobs of this release")


def check_partitions(connection: Connection) -> Check:
    """There is a partition for every point of the coming days."""
    ahead = days_ahead(connection, datetime.now(UTC))
    if not ahead:
        return ok("partitions", "TimescaleDB makes its own")
    table, days = min(ahead.items(), key=lambda item: item[1])
    found, fix = f"{table} has them for {days:.1f} days", "fleet-jobs run retention.make_partitions --wait"
    if days <= 0:
        return fail("partitions", f"{table} has none for now: points are refused", fix)
    return warn("partitions", found, fix) if days < DAYS_WARN else ok("partitions", found)
