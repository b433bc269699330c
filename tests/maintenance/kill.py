"""Ends a worker's session at any boundary of its statements, as a crash or a failover does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, event

from jobs import process


@contextmanager
def killed_before(admin: psycopg.Connection, number: int) -> Iterator[list[str]]:
    """End the session right before its statement `number` (a commit counts as one); yields what came until then."""
    seen: list[str] = []

    def strike(connection: Connection, statement: str) -> None:
        if len(seen) == number:
            session = connection.connection.dbapi_connection
            assert session is not None
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [session.info.backend_pid])
        seen.append(statement)

    def before_statement(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        strike(connection, statement)

    def before_commit(connection: Connection) -> None:
        strike(connection, "COMMIT")

    engine = process.get_database()._worker
    event.listen(engine, "before_cursor_execute", before_statement)
    event.listen(engine, "commit", before_commit)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", before_statement)
        event.remove(engine, "commit", before_commit)
