"""A server of our own on the loopback: started, ended with its owner, on one port as long as its object lives."""

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from signal import SIGKILL, Signals
from types import TracebackType
from typing import ClassVar, Self

from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.process import DirectoryLock, check_port, complaint, end, free_port, server_environment, spawn

START_S = 60.0


class EmbeddedServer(ABC):
    """What PostgreSQL and Valkey have in common. The data stays in `data_dir`.

    `port` None takes a free one, kept for restarts of this object.
    """

    name: ClassVar[str]
    log_name: ClassVar[str]
    ending: ClassVar[Sequence[tuple[Signals, float]]]
    """Which signals end it, and how long each is waited for."""
    worth_another_try: ClassVar[Sequence[str]]
    """What its log says where it did not start, and may with another port or a moment later."""

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self._data_dir = data_dir.absolute()
        self._wanted_port = port
        self._lock = DirectoryLock(self._data_dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._password = ""
        self._has_served = False
        self.port = port or 0

    @property
    def pid(self) -> int | None:
        """The server's process, or None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the server and return once it answers; creates its files the first time.

        A server that a killed owner left in the directory is ended first.

        Raises:
            EmbeddedServerError: port taken, directory unwritable or in use, or what the server's log says.
        """
        if self.pid is not None:
            return
        self._lock.acquire()
        try:
            self._prepare()
            self._launch()
        except OSError as error:
            self._lock.release()
            raise EmbeddedServerError(f"{self.name} in {self._data_dir}: {error}") from error
        except BaseException:
            self._lock.release()
            raise

    def stop(self) -> None:
        """End every session and stop; the data stays."""
        if self._process is not None:
            end(self._process, self.ending)
            self._process = None
        self._lock.release()

    def kill(self) -> None:
        """End the server as a power failure would; for tests of what follows."""
        if self._process is not None:
            end(self._process, ((SIGKILL, 10.0),))
            self._process = None

    def restart(self) -> None:
        """Stop and start on the same port with the same data."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """End what a killed owner left, and see to the files."""

    @abstractmethod
    def _command(self) -> tuple[list[str], Path]:
        """Return what to run on `port`, and where."""

    @abstractmethod
    def _answers(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        """Wait until it serves; False where it has ended, or the time is up."""

    def _launch(self) -> None:
        if self._wanted_port is not None:
            check_port(self._wanted_port, f"{self.name} in {self._data_dir}")
        log, deadline = self._data_dir / self.log_name, time.monotonic() + START_S
        while True:
            self.port = self.port or free_port()
            since = log.stat().st_size if log.exists() else 0
            command, cwd = self._command()
            process = self._process = spawn(command, cwd=cwd, env=server_environment(), log=log)
            if self._answers(process, deadline):
                self._has_served = True  # from now on others know the port
                return
            end(process, self.ending)
            self._process = None
            reason = complaint(log, since)
            if time.monotonic() > deadline or not self._may_start_later(log, since):
                raise EmbeddedServerError(f"{self.name} in {self._data_dir} does not start: {reason}")
            if not self._has_served and self._wanted_port is None:
                self.port = 0
            time.sleep(0.2)

    def _may_start_later(self, log: Path, since: int) -> bool:
        with log.open("rb") as file:
            file.seek(since)
            said = file.read().decode(errors="replace")
        return any(text in said for text in self.worth_another_try)
