"""What `fleet-jobs relay` and `fleet-jobs migrate` do, with the test's jobs in the registry."""

import signal
import sys

from db.engine import Database
from db.queries.definitions import write_definitions
from jobs import process
from jobs.job import definitions, load_jobs
from jobs.logging import configure_logging
from jobs.relay import Relay
from jobs.settings import get_settings
from tests.ledger.app import app


def relay() -> None:
    """Relay until asked to stop."""
    configure_logging(get_settings())
    running = Relay(process.get_database(), app, load_jobs(), get_settings())
    signal.signal(signal.SIGTERM, lambda *_: running.stop())
    running.run()


def define() -> None:
    """Tell the database which jobs there are."""
    system_url = get_settings().system_database_url.get_secret_value()
    database = Database(system_url, system_url)
    with database.system_transaction() as connection:
        write_definitions(connection, definitions())
    database.close()


if __name__ == "__main__":
    {"relay": relay, "define": define}[sys.argv[1]]()
