"""The database as the command uses it: as fleet_system, over all tenants, at this release's schema."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.engine import Database
from db.migrate import check_schema
from jobs.cli.errors import OperatorError, explain_database
from jobs.settings import get_settings


@contextmanager
def reaching(url: SecretStr, variable: str) -> Iterator[None]:
    """Turn what the server at `url` refuses into one line that names host, port and setting.

    Raises:
        OperatorError: it cannot be reached, refuses the login, or has run out of something.
    """
    try:
        yield
    except (DBAPIError, PoolTimeout, psycopg.Error) as error:
        if line := explain_database(error, make_url(url.get_secret_value()), variable):
            raise OperatorError(line) from error
        raise


@contextmanager
def system_database() -> Iterator[Database]:
    """Open the database over all tenants, for one command.

    Raises:
        SettingsError: the environment is not usable.
        OperatorError: the server cannot be reached or refuses.
        SchemaError: it is at another release's schema.
    """
    url = get_settings().system_database_url
    # The worker's pool opens no connection as long as nobody asks for a tenant's transaction.
    database = Database(url.get_secret_value(), url.get_secret_value(), pool_size=1, name="fleet-jobs")
    with reaching(url, "FLEET_SYSTEM_DATABASE_URL"):
        try:
            with database.owner_transaction() as connection:
                check_schema(connection)
            yield database
        finally:
            database.close()
