"""Engines, transactions, and the tenant of a transaction."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, text

CONNECT_TIMEOUT_S = 5
# A server that is gone without a word (a failover, a lost network) is noticed within seconds; the kernel's own default
# holds a thread, and the run in its hands, for a quarter of an hour or two hours.
LIVENESS = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000}


class Database:
    """The database as one process sees it: one pool for tenant work, one for the whole platform, one to read.

    Thread-safe. After a fork the child calls `forget()` before its first use.

    Args:
        worker_url: tenant work, as fleet_worker; may lead through PgBouncer in transaction mode.
        system_url: cross-tenant work, as fleet_system; direct.
        read_url: a replica, as fleet_readonly; None reads from the primary.
        pool_size: connections per pool.
    """

    def __init__(
        self, worker_url: str, system_url: str, read_url: str | None = None, *, pool_size: int = 10, name: str = "fleet"
    ) -> None:
        # Server-side prepared statements do not survive PgBouncer's transaction mode before 1.21.
        self._worker = _engine(worker_url, pool_size, name, prepare_threshold=None)
        self.system = _engine(system_url, pool_size, name)
        self._read = _engine(read_url, pool_size, name, prepare_threshold=None) if read_url else self._worker
        self._autocommit = self.system.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def tenant_transaction(self, tenant_id: UUID, *, unhurried: bool = False) -> Iterator[Connection]:
        """Open a transaction that sees and writes one tenant's rows only.

        Args:
            unhurried: do not wait for the disk at its commit. For effects that carry their own cursor: a crash of the
                server takes both back, and they happen again.
        """
        with self._worker.begin() as connection:
            set_tenant(connection, tenant_id, unhurried=unhurried)
            yield connection

    @contextmanager
    def read_transaction(self, tenant_id: UUID) -> Iterator[Connection]:
        """Open a transaction for reports: one tenant's rows, on the replica where there is one."""
        with self._read.begin() as connection:
            set_tenant(connection, tenant_id)
            yield connection

    @contextmanager
    def system_transaction(self) -> Iterator[Connection]:
        """Open a transaction over all tenants."""
        with self.system.begin() as connection:
            yield connection

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        """Lend a connection over all tenants on which each statement is its own transaction: one round trip each."""
        with self._autocommit.connect() as connection:
            yield connection

    @contextmanager
    def owner_transaction(self) -> Iterator[Connection]:
        """Open a transaction as the owner of the schema: to make and to drop partitions."""
        with self.system.begin() as connection:
            connection.execute(text("SET LOCAL ROLE fleet_owner"))
            yield connection

    def forget(self) -> None:
        """Leave the parent's connections to the parent, after a fork."""
        for engine in {self._worker, self.system, self._read}:
            engine.dispose(close=False)

    def close(self) -> None:
        """Close every pooled connection."""
        for engine in {self._worker, self.system, self._read}:
            engine.dispose()


def set_tenant(connection: Connection, tenant_id: UUID, *, unhurried: bool = False) -> None:
    """Name the tenant of the transaction: gone at its end, so that a pooler may hand the session on."""
    connection.execute(_SET_TENANT_UNHURRIED if unhurried else _SET_TENANT, {"tenant_id": str(tenant_id)})


_SET_TENANT = text("SELECT set_config('app.tenant_id', :tenant_id, true)")
_SET_TENANT_UNHURRIED = text(
    "SELECT set_config('app.tenant_id', :tenant_id, true), set_config('synchronous_commit', 'off', true)"
)


_LONGEST_WHOLE = 40


def decode_json(text: str | bytes) -> Any:
    """Return what json or jsonb says. Other applications write such columns, so no value of theirs may raise.

    jsonb writes 1e5000 as a number of 5,001 digits, which Python refuses: a whole number of more than forty becomes
    a float, infinite if need be. What is nested deeper than Python goes becomes an empty object.
    """
    try:
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < _LONGEST_WHOLE else float(digits))
    except RecursionError:
        return {}


def _engine(url: str, pool_size: int, name: str, **connect_args: object) -> Engine:
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=10,
        pool_use_lifo=True,  # one warm session rather than two in turn
        pool_recycle=1800,
        json_deserializer=decode_json,
        hide_parameters=True,  # an error that nobody foresaw is logged, and shown by Flower
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": name, **LIVENESS, **connect_args},
    )
