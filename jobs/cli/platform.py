"""`fleet-jobs up`, `bootstrap`, `migrate`, `relay`, `keygen`: what runs the platform."""

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.engine import make_url

from jobs.settings import SettingsError, get_settings


def up(
    demo: Annotated[bool, typer.Option("--demo", help="With simulated fleets, so that there is work to see.")] = False,
    seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=1, help="Stop after that long.")
    ] = None,
    data_dir: Annotated[Path, typer.Option(envvar="FLEET_DATA_DIR", help="The only place that is written to.")] = Path(
        ".fleet"
    ),
) -> None:
    """Run the whole platform on this machine, with servers of its own, until Ctrl-C. It needs no settings."""
    from jobs.embedded.up import run_up

    raise typer.Exit(run_up(demo, seconds, data_dir))


def bootstrap() -> None:
    """Create the platform's roles and the owner's rights in its database: once, before the first `migrate`.

    Connects as FLEET_ADMIN_DATABASE_URL, a superuser, and gives each role the password that its own URL names. The
    roles of the other applications, fleet_app and fleet_readonly, get a password from you: ALTER ROLE ... PASSWORD.
    Running it again changes nothing.
    """
    from db.roles import LOGIN_ROLES
    from db.roles import bootstrap as create_roles
    from jobs.cli.database import reaching

    settings = get_settings()
    if settings.admin_database_url is None:
        raise SettingsError("FLEET_ADMIN_DATABASE_URL: missing, `bootstrap` connects as a superuser")
    passwords = {}
    for given in (
        settings.database_url,
        settings.system_database_url,
        settings.migration_database_url,
        settings.read_database_url,
    ):
        url = make_url(given.get_secret_value()) if given is not None else None
        if url is not None and url.username in LOGIN_ROLES and url.password:
            passwords[url.username] = url.password
    with reaching(settings.admin_database_url, "FLEET_ADMIN_DATABASE_URL"):
        create_roles(settings.admin_database_url.get_secret_value(), passwords)
    typer.echo(f"roles are there; passwords set for {', '.join(sorted(passwords)) or 'none'}")


def migrate() -> None:
    """Bring the database to this release's schema, and tell it which jobs there are."""
    from db.engine import Database
    from db.migrate import upgrade
    from db.queries.definitions import write_definitions
    from jobs.cli.database import reaching
    from jobs.job import definitions

    settings = get_settings()
    if settings.migration_database_url is None:
        raise SettingsError("FLEET_MIGRATION_DATABASE_URL: missing, `migrate` connects as fleet_migrator")
    jobs = definitions()
    with reaching(settings.migration_database_url, "FLEET_MIGRATION_DATABASE_URL"):
        before, after = upgrade(settings.migration_database_url.get_secret_value())
    system = settings.system_database_url.get_secret_value()
    database = Database(system, system)
    with reaching(settings.system_database_url, "FLEET_SYSTEM_DATABASE_URL"):
        try:
            with database.system_transaction() as connection:
                changed = write_definitions(connection, jobs)
        finally:
            database.close()
    typer.echo(f"schema {before or 'empty'} -> {after}, {changed} job definitions changed")


def relay() -> None:
    """Publish due runs and rescue lost ones, until stopped. Any number may run."""
    import signal

    from jobs import process
    from jobs.app import app
    from jobs.job import load_jobs
    from jobs.logging import configure_logging
    from jobs.relay import Relay
    from jobs.start import refuse_bad_start

    settings = get_settings()
    configure_logging(settings)
    refuse_bad_start()
    running = Relay(process.get_database(), app, load_jobs(), settings)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: running.stop())
    running.run()


def keygen() -> None:
    """Print a new key for FLEET_ENCRYPTION_KEYS: 32 random bytes, base64."""
    from db.encryption import new_key

    typer.echo(new_key())
