"""The sign of life of one worker process: a row that it touches every few seconds, with the claims that it holds."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db.engine import Database
from db.queries import ledger

_log = structlog.get_logger()


class Heartbeat:
    """Beats in a thread of its own from `start()` to `stop()`."""

    def __init__(self, database: Database, every_s: float) -> None:
        self.worker_id = uuid4()
        self._database = database
        self._every_s = every_s
        self._active: set[UUID] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._is_failing = False

    def start(self) -> None:
        """Beat once, so that no claim is older than its worker's row, then go on in the background."""
        self._beat()
        threading.Thread(target=self._loop, name="heartbeat", daemon=True).start()

    @contextmanager
    def working_on(self, token: UUID) -> Iterator[None]:
        """Hold a claim: as long as this process lives and says so, nobody takes it."""
        with self._lock:
            self._active.add(token)
        try:
            yield
        finally:
            with self._lock:
                self._active.discard(token)

    def stop(self) -> None:
        """Stop beating and say so."""
        self._stopped.set()
        try:
            with self._database.statement() as connection:
                ledger.stop_worker(connection, self.worker_id)
        except SQLAlchemyError:
            _log.warning("worker_left_unannounced")  # its silence says the same, some seconds later

    def _loop(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self._beat()
            except SQLAlchemyError as error:
                if not self._is_failing:
                    _log.warning("heartbeat_failing", error=type(error).__name__)
                self._is_failing = True
            else:
                if self._is_failing:
                    _log.info("heartbeat_recovered")
                self._is_failing = False

    def _beat(self) -> None:
        with self._lock:
            active = list(self._active)
        with self._database.statement() as connection:
            ledger.beat(connection, self.worker_id, socket.gethostname(), os.getpid(), _name(), active)


def _name() -> str:
    from celery import current_task

    request = getattr(current_task, "request", None)
    return str(getattr(request, "hostname", None) or "worker")
