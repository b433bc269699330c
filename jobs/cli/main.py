"""The `fleet-jobs` command: what an operator types."""

import typer

from jobs.settings import SettingsError, exit_on_bad_settings, get_settings

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@cli.command()
def relay() -> None:
    """Publish due runs and rescue lost ones, until stopped. Any number may run."""
    import signal

    from jobs import process
    from jobs.app import app
    from jobs.job import load_jobs
    from jobs.logging import configure_logging
    from jobs.relay import Relay

    settings = get_settings()
    configure_logging(settings)
    running = Relay(process.get_database(), app, load_jobs(), settings)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: running.stop())
    running.run()


@cli.command()
def migrate() -> None:
    """Bring the database to this release's schema and tell it which jobs there are."""
    from db.engine import Database
    from db.migrate import upgrade
    from db.queries.definitions import write_definitions
    from jobs.job import definitions

    settings = get_settings()
    if settings.migration_database_url is None:
        raise SettingsError("FLEET_MIGRATION_DATABASE_URL: missing, `migrate` connects as fleet_migrator")
    before, after = upgrade(settings.migration_database_url.get_secret_value())
    system = settings.system_database_url.get_secret_value()
    database = Database(system, system)
    with database.system_transaction() as connection:
        changed = write_definitions(connection, definitions())
    typer.echo(f"schema {before or 'empty'} -> {after}, {changed} job definitions changed")


def main() -> None:
    """Run the command; what an operator can mend is one line on standard error."""
    try:
        cli()
    except SettingsError as error:
        exit_on_bad_settings(error)
