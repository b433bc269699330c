"""The platform in the test's own process: a job is enqueued and executed as a worker would, without a broker."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.factories import ENCRYPTION_KEY
from tests.servers import Database


class Platform:
    """What a test asks of the platform, and `admin`, a superuser's connection that sees every row."""

    def __init__(self, database: Database, admin: psycopg.Connection) -> None:
        self.urls = database
        self.admin = admin

    def allow(self, origin: str) -> None:
        """Let connections name a provider's origin, as FLEET_PROVIDER_ORIGINS does."""
        from jobs import settings

        os.environ["FLEET_PROVIDER_ORIGINS"] = origin
        settings.get_settings.cache_clear()

    def enqueue(self, job: str, tenant_id: UUID | None = None, **args: Any) -> UUID:
        """Enqueue one run."""
        from jobs import process
        from jobs.client import enqueue
        from jobs.job import load_jobs

        with process.get_database().system_transaction() as connection:
            return enqueue(connection, load_jobs()[job], args, tenant_id=tenant_id)

    def work(self, run_id: UUID, *, slices: int = 50) -> dict[str, Any]:
        """Execute a run, slice after slice, until it no longer waits for now; return its row."""
        from jobs import execution
        from jobs.job import load_jobs

        for _ in range(slices):
            row = self.row(run_id)
            if row["state"] != "pending" or row["run_at"] > row["now"]:
                break
            execution.execute(load_jobs()[row["job"]], [run_id])
        return self.row(run_id)

    def run(self, job: str, tenant_id: UUID | None = None, **args: Any) -> dict[str, Any]:
        """Enqueue and execute."""
        return self.work(self.enqueue(job, tenant_id, **args))

    def row(self, run_id: UUID) -> dict[str, Any]:
        """Return a run's row, and the database's time as `now`."""
        with self.admin.cursor(row_factory=dict_row) as cursor:
            cursor.execute("SELECT *, clock_timestamp() AS now FROM job_runs WHERE id = %s", [run_id])
            found = cursor.fetchone()
        assert found is not None
        return found

    def value(self, statement: str, *values: Any) -> Any:
        """Return the only value of a query, over all tenants."""
        row = self.admin.execute(statement, values).fetchone()
        return None if row is None else row[0]


@contextmanager
def platform_of(database: Database, redis_url: str, patch: pytest.MonkeyPatch, **settings: str) -> Iterator[Platform]:
    """Point this process at a database and a Redis, as settings would, and take it back afterwards."""
    given = {
        "FLEET_DATABASE_URL": database.worker_url,
        "FLEET_SYSTEM_DATABASE_URL": database.system_url,
        "FLEET_REDIS_URL": redis_url,
        "FLEET_ENCRYPTION_KEYS": ENCRYPTION_KEY,
        **settings,
    }
    for name, value in ({"FLEET_PROVIDER_ORIGINS": ""} | given).items():
        patch.setenv(name, value)
    from jobs import process, watchers
    from jobs import settings as settings_module
    from jobs.telematics import pace

    settings_module.get_settings.cache_clear()
    watchers.forget()
    pace.forget()
    from db.queries.definitions import write_definitions
    from jobs.job import definitions

    with process.get_database().system_transaction() as connection:
        write_definitions(connection, definitions())
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        yield Platform(database, admin)
    process.close()
    watchers.forget()
    pace.forget()
    settings_module.get_settings.cache_clear()
