"""Enqueue a job in your own transaction: `python enqueue.py TENANT_ID CONNECTION_ID`. Needs psycopg.

DATABASE_URL is yours, as role fleet_app; it may lead through PgBouncer.
"""

import os
import sys

import psycopg
from psycopg.types.json import Jsonb


def main(tenant_id: str, connection_id: str) -> None:
    """Ask for a sync, and print the run's id."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection, connection.transaction():
        # Whose transaction this is; gone at its end.
        connection.execute("SELECT set_config('app.tenant_id', %s, true)", [tenant_id])
        # What you have to write yourself goes here: the run exists if and only if it commits.
        row = connection.execute(
            "SELECT enqueue_job('telematics.sync_connection', %s, requested_by => 'a Python application')",
            [Jsonb({"connection_id": connection_id})],
        ).fetchone()
    sys.stdout.write(f"{row[0] if row else None}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
