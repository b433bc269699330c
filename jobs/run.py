"""A run in its worker's hands: what it is, and the transactions in which it takes effect."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from db.engine import Database
from db.queries import ledger
from db.queries.ledger import ClaimedRun
from jobs.outcomes import CancelRequested, ClaimLost, Counts


class Claim:
    """The runs of one tenant that one worker took with one token; alone, or a batch that shares a transaction."""

    def __init__(self, database: Database, tenant_id: UUID | None, token: UUID, ids: list[UUID]) -> None:
        self.database = database
        self.tenant_id = tenant_id
        self.token = token
        self.ids = ids
        self._shared: Connection | None = None
        self._cancelled: dict[UUID, bool] = {}

    @contextmanager
    def begin(self, *, unhurried: bool = False) -> Iterator[Connection]:
        """Open a transaction of the tenant (or of the whole platform) that commits only while the claim holds."""
        opening = (
            self.database.system_transaction()
            if self.tenant_id is None
            else self.database.tenant_transaction(self.tenant_id, unhurried=unhurried)
        )
        with opening as connection:
            held = ledger.fence(connection, self.ids, self.token)
            if len(held) != len(self.ids):
                raise ClaimLost(f"{len(self.ids) - len(held)} of {len(self.ids)} runs were rescued meanwhile")
            self._cancelled = held
            yield connection

    @contextmanager
    def savepoint(self, stack: ExitStack) -> Iterator[Connection]:
        """Enter the transaction that the batch shares, opened at first use, under a savepoint of this run's own."""
        if self._shared is None:
            self._shared = stack.enter_context(self.begin())
        with self._shared.begin_nested():
            yield self._shared

    @property
    def shared(self) -> Connection | None:
        """The batch's transaction, where one of its runs opened it."""
        return self._shared

    def is_cancelled(self, run_id: UUID) -> bool:
        """Tell whether somebody had asked to cancel the run when its transaction began."""
        return self._cancelled.get(run_id, False)


class Run:
    """What a job's function gets first.

    `now` is the database's time at the claim, and what the job takes for the present; `nominal_at` is the tick that
    it stands for, None where no timetable asked; `attempt` counts from 1; `progress` is what the slice before left.
    """

    def __init__(self, row: ClaimedRun, claim: Claim, batch: ExitStack | None = None) -> None:
        self.id: UUID = row.id
        self.job: str = row.job
        self.tenant_id: UUID | None = row.tenant_id
        self.nominal_at: datetime | None = row.nominal_at
        self.attempt: int = row.attempt
        self.max_attempts: int = row.max_attempts
        self.now: datetime = row.now
        self.counts: Counts = dict(row.counts or {})
        self.progress: dict[str, Any] = dict(row.progress or {})
        self.is_recorded = False
        self._claim = claim
        self._batch = batch

    @property
    def database(self) -> Database:
        """The process's database, for reads that need no claim."""
        return self._claim.database

    @contextmanager
    def transaction(self, *, unhurried: bool = False) -> Iterator[Connection]:
        """Open a transaction in which the run takes effect: it commits only if the run is still this worker's.

        Rows of the run's tenant only; of all tenants for a job of the whole platform. In a batch it is a savepoint of
        the batch's one transaction.

        Args:
            unhurried: do not wait for the disk at the commit, where a tenant's effects carry their own cursor.

        Raises:
            ClaimLost: the run was rescued meanwhile; nothing of this transaction remains.
            CancelRequested: somebody asked to cancel the run.
        """
        entering = self._claim.begin(unhurried=unhurried) if self._batch is None else self._claim.savepoint(self._batch)
        with entering as connection:
            if self._claim.is_cancelled(self.id):
                raise CancelRequested
            yield connection

    def add(self, counts: Counts) -> None:
        """Add to what the run has counted so far, slices before included.

        Raises:
            TypeError: a count is not a whole number.
        """
        for word, number in counts.items():
            if not isinstance(number, int):
                raise TypeError(f"{self.job}: {word}: a count is a whole number")
            self.counts[word] = self.counts.get(word, 0) + number

    def report(self, connection: Connection, counts: Counts, **progress: Any) -> None:
        """Add to the run's counts and write how far it is, in the transaction of the effects that this tells of."""
        told = {word: self.counts.get(word, 0) + counts.get(word, 0) for word in self.counts | counts}
        if not ledger.report(connection, self.id, self._claim.token, told, self.progress | progress):
            raise ClaimLost
        self.counts = told
        self.progress |= progress

    def succeed(self, connection: Connection) -> None:
        """Finish the run in the transaction of its effects, so that both happen or neither."""
        if ledger.succeed(connection, {self.id: self.counts}, self._claim.token) != 1:
            raise ClaimLost
        self.is_recorded = True
