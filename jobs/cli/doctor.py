"""`fleet-jobs doctor`: is everything as the platform needs it, and if not, what to do."""

from collections.abc import Callable, Iterator

import typer
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from db.engine import Database
from jobs.cli.arguments import JsonOption
from jobs.cli.checks import Check, fail
from jobs.cli.errors import explain_database
from jobs.cli.output import cell, console, print_json, say
from jobs.settings import Settings, get_settings


def doctor(as_json: JsonOption = False) -> None:
    """Check servers, roles, limits, clocks, schema, keys and workers; say how to mend what is wrong.

    The exit code is 1 if a check fails. A warning is what will hurt later, or may be meant.
    """
    settings = get_settings()
    checks: list[Check] = []
    for check in _checks(settings):
        checks.append(check)
        if as_json:
            print_json(check)
        else:
            _print(check)
    failed = sum(check.status == "fail" for check in checks)
    if not as_json:
        warned = sum(check.status == "warn" for check in checks)
        say(f"{len(checks)} checks: {failed} failed, {warned} warned")
    if failed:
        raise typer.Exit(1)


def _checks(settings: Settings) -> Iterator[Check]:
    from jobs.cli import check_database, check_mail, check_redis, check_work
    from jobs.job import definitions, load_jobs

    jobs = load_jobs()
    yield check_work.check_order(jobs, settings)
    yield check_work.check_timetable(jobs)
    is_reachable = True
    for check in check_database.check_servers(settings):
        is_reachable &= not (check.name == "FLEET_SYSTEM_DATABASE_URL" and check.status == "fail")
        yield check
    if is_reachable:
        yield check_database.check_listen(settings)
        url = settings.system_database_url.get_secret_value()
        database = Database(url, url, pool_size=1, name="fleet-doctor")
        try:
            schema = check_database.check_schema_head(database)
            yield schema
            if schema.status == "ok":
                yield from _each(
                    database,
                    {
                        "extensions": lambda c: [check_database.check_extensions(c)],
                        "retention policies": check_database.check_retention,
                        "job definitions": lambda c: [check_database.check_definitions(c, definitions())],
                        "partitions": lambda c: [check_database.check_partitions(c)],
                        "encryption keys": lambda c: [check_work.check_keys(c, settings)],
                        "beat": lambda c: [check_work.check_beat(c)],
                        "workers": lambda c: [check_work.check_workers(c, settings)],
                        "oldest due run": lambda c: [check_work.check_waiting(c)],
                        "mail": lambda c: check_mail.check_waiting(c, settings),
                        "channels": check_mail.check_outages,
                        "endpoints": lambda c: [check_mail.check_endpoints(c)],
                        "maintenance": check_work.check_maintenance,
                    },
                )
        finally:
            database.close()
    yield from check_mail.check_server(settings)
    yield from check_redis.check_redis(settings)


def _each(
    database: Database, checks: "dict[str, Callable[[Connection], Iterator[Check] | list[Check]]]"
) -> Iterator[Check]:
    """Run each check on a connection of its own: one that fails does not keep the others from being made."""
    for name, check in checks.items():
        try:
            with database.statement() as connection:
                yield from list(check(connection))
        except SQLAlchemyError as error:
            yield fail(name, explain_database(error, None) or type(error).__name__, "see the database's log")


def _print(check: Check) -> None:
    line = cell(check.status)
    line.append(" " * (6 - len(check.status)), style="not bold")
    line.append_text(cell(f"{check.name}: {check.found}"))
    console().print(line, soft_wrap=True)
    if check.fix:
        say(f"      -> {check.fix}")
