"""What an operator can mend, in one line: what, and where. Never a password, never a traceback."""

import errno

import psycopg
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.encryption import EncryptionError
from db.migrate import SchemaError
from integrations.errors import IntegrationError
from jobs.embedded.errors import EmbeddedServerError
from jobs.outcomes import InvalidArguments


class OperatorError(Exception):
    """The command cannot do what was asked, and nothing was changed; the message says what and where."""


_LINES = (OperatorError, InvalidArguments, IntegrationError, EmbeddedServerError)

_REFUSED = {
    "28": "the database refuses the login",
    "42501": "the role may not do this",
    "42P01": "a table is missing: run `fleet-jobs migrate`",
    "53100": "the database's disk is full",
    "53": "the database has run out of a resource",
    "55P03": "somebody else holds a lock for too long: try again",
    "57014": "the statement took too long and was ended",
    "57": "the database is shutting down or starting up",
    "25006": "the database takes no writes: is it a replica?",
    "40": "others changed the same rows at the same time: try again",
    "08": "the connection broke",
}
"""By SQLSTATE or its class: what an operator can mend. Any other error is a bug of ours."""


def explain(error: BaseException) -> str | None:
    """Return an error as one line, None where it is a bug of ours."""
    if isinstance(error, _LINES):
        return str(error)
    if isinstance(error, SchemaError):
        return f"schema: {error}"
    if isinstance(error, EncryptionError):
        return f"{error} (FLEET_ENCRYPTION_KEYS)"
    if isinstance(error, DBAPIError | PoolTimeout | psycopg.Error | ResourceClosedError):
        return explain_database(error, None)
    if isinstance(error, OSError):
        return _explain_system(error)
    return None


def explain_database(error: BaseException, url: URL | None, variable: str | None = None) -> str | None:
    """Return what a database refused as one line, None where our statement is wrong.

    Args:
        url: where it is; only host, port and user are said.
        variable: the setting that holds the URL.
    """
    where = "" if url is None else f": {url.host or 'localhost'}:{url.port or 5432}"
    where += f" ({variable})" if variable else ""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(error, PoolTimeout):
        return f"the database has no free connection{where}"
    if not isinstance(cause, psycopg.Error):
        return None
    state = cause.sqlstate
    if state is None and isinstance(cause, psycopg.OperationalError):
        return f"{_connection_problem(str(cause), url)}{where}"
    known = _REFUSED.get(state or "") or _REFUSED.get((state or "")[:2])
    if known is None:
        return None
    said = cause.diag.message_primary
    return f"{known}{f' ({said})' if said and state == '42501' else ''}{where}"


def _connection_problem(said: str, url: URL | None) -> str:
    user = f" for {url.username}" if url is not None and url.username else ""
    if "password authentication failed" in said or "no password supplied" in said:
        return f"the database refuses the login{user}: wrong password"
    if 'role "' in said and "does not exist" in said:
        return f"the database refuses the login{user}: no such role"
    if 'database "' in said and "does not exist" in said:
        return f"there is no database {url.database if url is not None else ''}".rstrip()
    if "permission denied for database" in said:
        return f"the database refuses the login{user}: no CONNECT privilege"
    for sign, problem in _UNREACHABLE.items():
        if sign in said:
            return f"cannot reach the database: {problem}"
    return "cannot reach the database"


_UNREACHABLE = {
    "Connection refused": "connection refused",
    "timeout expired": "no answer",
    "timed out": "no answer",
    "failed to resolve host": "unknown host",
    "could not translate host name": "unknown host",
    "Name or service not known": "unknown host",
    "No route to host": "no route to host",
    "Network is unreachable": "network is unreachable",
    "starting up": "it is starting up",
    "shutting down": "it is shutting down",
    "too many": "too many connections",
    "remaining connection slots": "too many connections",
    "no pg_hba.conf entry": "no pg_hba.conf entry for this machine, role and database",
    "SSL": "TLS does not work with it",
    "server closed the connection": "it closed the connection",
    "consuming input failed": "it closed the connection",
}


def _explain_system(error: OSError) -> str | None:
    where = f": {error.filename}" if error.filename else ""
    if error.errno == errno.EADDRINUSE:
        return f"port in use{where}"
    if error.errno == errno.ENOSPC:
        return f"disk full{where}"
    if error.errno is None or error.strerror is None:
        return None
    return f"{error.strerror[:1].lower()}{error.strerror[1:]}{where}"
