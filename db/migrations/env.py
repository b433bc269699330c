"""Alembic's entry: one transaction a migration, short waits for locks, one migrator at a time."""

from alembic import context
from sqlalchemy import Connection, text

_MIGRATION_LOCK = 0x666C656574  # "fleet": any number, the same for every migrator

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=True)
connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _MIGRATION_LOCK})
connection.execute(text("SET lock_timeout = '10s'"))
connection.commit()
try:
    with context.begin_transaction():
        context.run_migrations()
finally:
    connection.rollback()
    connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _MIGRATION_LOCK})
    connection.commit()
