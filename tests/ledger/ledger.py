"""The ledger as a test sees it: as another application through the door, as an operator through the table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tests.ledger.processes import Processes, wait_until
from tests.servers import Database

TABLES = """
    SET ROLE fleet_owner;
    CREATE TABLE effects (run_id uuid NOT NULL, kind text NOT NULL, place integer NOT NULL,
                          at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE TABLE keyed_effects (run_id uuid PRIMARY KEY);
    CREATE TABLE people (name text CONSTRAINT uq_people_name UNIQUE);
    GRANT SELECT, INSERT ON effects, keyed_effects, people TO fleet_worker, fleet_system;
    RESET ROLE;
"""
FINAL = ("succeeded", "failed", "cancelled", "skipped")


class Ledger:
    """Reads as the superuser, enqueues as `fleet_app` in the transaction of a tenant."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.admin = psycopg.connect(database.admin_url, autocommit=True, row_factory=dict_row)

    def make_tables(self) -> None:
        """Make the tables that the test's jobs leave their effects in."""
        self.admin.execute(TABLES)

    def keep_promises(self) -> None:
        """Let a crash of the server take back no commit, as in production; the test servers are set to be fast."""
        self.admin.execute(f"ALTER DATABASE {self.database.name} SET synchronous_commit = on".encode())
        self.reconnect()

    def reconnect(self) -> None:
        """Connect anew, after a restart of the server."""
        self.admin.close()
        self.admin = psycopg.connect(self.database.admin_url, autocommit=True, row_factory=dict_row)

    def tenant(self, time_zone: str = "UTC") -> UUID:
        """Make a tenant."""
        tenant_id = uuid4()
        self.admin.execute(
            "INSERT INTO tenants (id, slug, name, time_zone) VALUES (%s, %s, 'A tenant', %s)",
            [tenant_id, f"t-{tenant_id}", time_zone],
        )
        return tenant_id

    @contextmanager
    def application(self, tenant_id: UUID | None) -> Iterator[psycopg.Connection]:
        """Lend another application's connection, in a transaction of its tenant that commits at the end."""
        with psycopg.connect(self.database.app_url) as connection:
            if tenant_id is not None:
                connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant_id)])
            yield connection

    def enqueue(self, job: str, args: dict[str, Any] | None = None, *, tenant_id: UUID | None, **more: Any) -> UUID:
        """Enqueue one run as another application does, and commit."""
        with self.application(tenant_id) as connection:
            return enqueue(connection, job, {} if args is None else args, **more)

    def enqueue_many(self, job: str, args: Sequence[dict[str, Any]], *, tenant_id: UUID) -> int:
        """Enqueue many runs with one statement, and commit."""
        with self.application(tenant_id) as connection:
            return enqueue_many(connection, job, args)

    def run(self, run_id: UUID) -> dict[str, Any]:
        """Return a run's row."""
        return self.one("SELECT * FROM job_runs WHERE id = %s", [run_id])

    def runs(self, tenant_id: UUID | None) -> list[dict[str, Any]]:
        """Return a tenant's runs, oldest first."""
        statement = "SELECT * FROM job_runs WHERE tenant_id IS NOT DISTINCT FROM %s ORDER BY created_at, id"
        return self.admin.execute(statement, [tenant_id]).fetchall()

    def wait(self, run_id: UUID, *states: str, within_s: float = 40) -> dict[str, Any]:
        """Return a run's row once it is in one of the states; by default in any final one."""
        wanted = states or FINAL
        wait_until(lambda: self.run(run_id)["state"] in wanted, within_s, what=f"run {run_id} to be {wanted}")
        return self.run(run_id)

    def wait_for_all(self, tenant_id: UUID | None, within_s: float = 60) -> list[dict[str, Any]]:
        """Return a tenant's runs once all are final."""
        wait_until(
            lambda: all(run["state"] in FINAL for run in self.runs(tenant_id)), within_s, what="every run to end"
        )
        return self.runs(tenant_id)

    def now(self) -> datetime:
        """Return the database's time."""
        at: datetime = self.one("SELECT clock_timestamp() AS at")["at"]
        return at

    def one(self, statement: str, values: Sequence[Any] = ()) -> dict[str, Any]:
        """Return the one row of a statement."""
        (found,) = self.admin.execute(statement, values).fetchall()
        return found

    def effects(self, run_id: UUID) -> int:
        """Count what a run has left."""
        return int(self.one("SELECT count(*) AS n FROM effects WHERE run_id = %s", [run_id])["n"])

    def close(self) -> None:
        """Close the connection."""
        self.admin.close()


class Platform:
    """A ledger and the processes that work on it."""

    def __init__(self, ledger: Ledger, processes: Processes, redis_url: str) -> None:
        self.ledger = ledger
        self.processes = processes
        self.redis_url = redis_url


def enqueue(connection: psycopg.Connection[Any], job: str, args: Any, **more: Any) -> UUID:
    """Call the door in the caller's transaction."""
    named = "".join(f", {name} => %({name})s" for name in more)
    row = connection.execute(f"SELECT enqueue_job(%(job)s, %(args)s{named})", {"job": job, "args": Jsonb(args), **more})
    found = row.fetchone()
    assert found is not None
    run_id: UUID = found[0]
    return run_id


def enqueue_many(connection: psycopg.Connection[Any], job: str, args: Sequence[Any]) -> int:
    """Call the door for many in the caller's transaction."""
    given = [Jsonb(each) for each in args]
    found = connection.execute("SELECT enqueue_jobs(%s, %s)", [job, given]).fetchone()
    assert found is not None
    return int(found[0])
