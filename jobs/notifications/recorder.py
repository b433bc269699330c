"""How attempts ended, written while the next mails are sent: a few together, none left for long, and through a blip."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self
from uuid import UUID

from db.engine import Database
from db.queries import attempts
from db.queries.attempts import Outcome
from db.queries.deliveries import LEASE_S
from jobs.notifications.retries import until_taken
from jobs.outcomes import Counts

RECORD_AFTER = 10
RECORD_S = 0.25
_WORDS = {"ready": "put_off", "sent": "sent", "failed": "failed"}


def count(counts: Counts, word: str, number: int) -> None:
    """Add to a count; of nothing there is no word."""
    if number:
        counts[word] = counts.get(word, 0) + number


class Recorder:
    """Writes the outcomes of one claim in a thread of its own, whatever the mail server keeps us waiting for.

    While RECORD_AFTER of them are written as many come together, and no more: then `keep` waits.
    """

    is_lost = False
    """The claim is another's by now, and so is what is left of it."""

    def __init__(self, database: Database, token: UUID, counts: Counts) -> None:
        self._database = database
        self._token = token
        self._counts = counts
        self._until = time.monotonic() + LEASE_S
        self._changed = threading.Condition()
        self._waiting: list[Outcome] = []
        self._is_over = self._has_failed = False

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, "mails-record")
        self._running: Future[None] = self._thread.submit(self._run)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._thread.shutdown()
        self._running.result()

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Have outcomes written soon.

        Raises:
            SQLAlchemyError: the database did not take the ones before, as long as the claim was ours.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < RECORD_AFTER or self._has_failed)
            was_empty = not self._waiting
            self._waiting += outcomes
            if was_empty or len(self._waiting) >= RECORD_AFTER:
                self._changed.notify_all()
            has_failed = self._has_failed
        if has_failed:
            self._running.result()

    def _run(self) -> None:
        try:
            while outcomes := self._next():
                self._record(outcomes)
        except BaseException:
            with self._changed:
                self._has_failed = True
                self._changed.notify_all()
            raise

    def _next(self) -> list[Outcome]:
        """Return what has come together; nothing once it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_over)
            self._changed.wait_for(lambda: len(self._waiting) >= RECORD_AFTER or self._is_over, RECORD_S)
            taken, self._waiting = self._waiting, []
            self._changed.notify_all()
            return taken

    def _record(self, outcomes: list[Outcome]) -> None:
        recorded = until_taken(lambda: self._write(outcomes), self._until)
        for outcome in outcomes:
            if outcome.attempt is not None:
                count(self._counts, _WORDS[outcome.state], 1)
        tried = sum(outcome.attempt is not None for outcome in outcomes)
        count(self._counts, "lost", min(tried, len(outcomes) - recorded))
        self.is_lost = self.is_lost or recorded < len(outcomes)

    def _write(self, outcomes: list[Outcome]) -> int:
        with self._database.statement() as connection:
            return attempts.record(connection, self._token, outcomes)
