"""Databases of releases before this one."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from db.roles import bootstrap
from tests.servers import BOOTSTRAP_LOCK, Database, PostgresServer


@contextmanager
def database_at(server: PostgresServer, revision: str) -> Iterator[Database]:
    """Make a database as a release left it whose last migration was that one."""
    database = server.database(f"fleet_{uuid4().hex[:16]}")
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {database.name}".encode())
        admin.execute("SELECT pg_advisory_lock(%s)", [BOOTSTRAP_LOCK])
        bootstrap(database.admin_url, database.passwords)
    engine = create_engine(database.migrator_url)
    with engine.connect() as connection:
        connection.execute(text("SET ROLE fleet_owner"))
        connection.commit()
        config = Config()
        config.set_main_option("script_location", "db/migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    yield database
    server.drop(database.name)
