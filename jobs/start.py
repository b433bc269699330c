"""What every process makes sure of before its first run: limits in order, a schema that it knows."""

import sys

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db.migrate import SchemaError, check_schema
from jobs import process
from jobs.job import load_jobs
from jobs.limits import check_limits
from jobs.settings import get_settings

_log = structlog.get_logger()


def refuse_bad_start() -> None:
    """Leave with status 2 and one line where this process could only do harm; a database that is away is waited for."""
    problems = check_limits(load_jobs(), get_settings())
    if not problems:
        try:
            with process.get_database().statement() as connection:
                check_schema(connection)
        except SchemaError as error:
            problems = [str(error)]
        except SQLAlchemyError as error:
            _log.warning("database_away_at_start", error=type(error).__name__)
    if problems:
        sys.stderr.write(f"fleet-jobs: not started: {'; '.join(problems)}\n")
        raise SystemExit(2)
