"""Bring a database to this release's schema, or say what it lacks."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

_MIGRATIONS = Path(__file__).parent / "migrations"


class SchemaError(Exception):
    """The database is not at a schema that this release can use; the message says which and what to do."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def head() -> str:
    """Return the revision of this release."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def current(connection: Connection) -> str | None:
    """Return the revision of a database; None where nothing was ever migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def is_known(revision: str) -> bool:
    """Tell whether this release has the revision; a newer release's is unknown."""
    return any(script.revision == revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def check_schema(connection: Connection) -> None:
    """Refuse a database of an older or newer release.

    Raises:
        SchemaError: with the two revisions and the way out.
    """
    revision = current(connection)
    if revision == head():
        return
    if revision is None:
        raise SchemaError("the database has no schema yet: run `fleet-jobs migrate`")
    if is_known(revision):
        raise SchemaError(f"the database is at {revision}, this release needs {head()}: run `fleet-jobs migrate`")
    raise SchemaError(f"the database is at {revision}, newer than this release ({head()}): run a newer release")


def upgrade(migration_url: str) -> tuple[str | None, str]:
    """Migrate to this release's head, as the owner, in one transaction a migration.

    Args:
        migration_url: direct, as fleet_migrator.

    Returns:
        The revision before and after.

    Raises:
        SchemaError: the database is newer than this release.
        sqlalchemy.exc.SQLAlchemyError: the server refuses, or cannot be reached.
    """
    engine = create_engine(migration_url)
    try:
        with engine.connect() as connection:
            connection.execute(text("SET ROLE fleet_owner"))
            connection.commit()
            before = current(connection)
            connection.commit()
            if before is not None and not is_known(before):
                check_schema(connection)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return before, head()
    finally:
        engine.dispose()
