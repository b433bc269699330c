"""Real relays, workers and beats, started and ended by a test; they end with the test's process even so."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from jobs.embedded.process import bound_argv, spawn
from tests.servers import Database

Seen = TypeVar("Seen")

ROOT = Path(__file__).parents[2]
CELERY = (sys.executable, "-m", "celery", "-A", "tests.ledger.app")
QUIET = ("--without-mingle", "--without-gossip", "-E")
FAST = {
    "FLEET_HEARTBEAT_S": "0.5",
    "FLEET_RESCUE_AFTER_S": "2",
    "FLEET_REPUBLISH_AFTER_S": "4",
    "FLEET_POLL_S": "0.1",
}
"""Recovery in seconds, not tens of them."""


def wait_until(look: Callable[[], Seen], within_s: float = 40, *, what: str = "what the test waits for") -> Seen:
    """Look until there is something true to see, and return it; the deadline is generous, the machine may be busy."""
    deadline = time.monotonic() + within_s
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_s} s")
        time.sleep(0.02)
    return seen


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started, such as the pool of a worker."""
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


class Processes:
    """The processes of one platform, each with its own log below `directory`."""

    def __init__(self, database: Database, redis_url: str, directory: Path, settings: Mapping[str, str] = FAST) -> None:
        self.directory = directory
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, list[str]] = {}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FLEET_")},
            "PYTHONUNBUFFERED": "1",
            "FLEET_DATABASE_URL": database.worker_url,
            "FLEET_SYSTEM_DATABASE_URL": database.system_url,
            "FLEET_REDIS_URL": redis_url,
            "FLEET_DATA_DIR": str(directory),
            **settings,
        }

    def relay(self, name: str = "relay") -> None:
        """Start a relay."""
        self.start(name, [sys.executable, "-m", "tests.ledger.main", "relay"])

    def worker(self, name: str = "worker", *, pool: str = "prefork", size: int = 2) -> None:
        """Start a worker of the queue that the test's jobs go to."""
        options = ("-Q", "lifecycle", "--pool", pool, "-c", str(size), "-n", f"{name}@%h")
        self.start(name, [*CELERY, "worker", *options, *QUIET])

    def beat(self, name: str = "beat") -> None:
        """Start a beat."""
        self.start(name, [*CELERY, "beat"])

    def define(self) -> None:
        """Tell the database which jobs there are, the test's included."""
        command = [sys.executable, "-m", "tests.ledger.main", "define"]
        subprocess.run(command, check=True, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL, timeout=60)

    def start(self, name: str, command: list[str]) -> None:
        """Start a process in a group of its own."""
        self._commands[name] = command
        bound = bound_argv(command, death_signal=signal.SIGKILL)
        self.running[name] = spawn(bound, cwd=ROOT, env=self.environment, log=self.directory / f"{name}.log")

    def restart(self, name: str) -> None:
        """Start again what has ended."""
        self.running[name].wait(10)
        self.start(name, self._commands[name])

    def kill(self, name: str) -> None:
        """SIGKILL a process and all that it started."""
        process = self.running[name]
        self.signal(name, signal.SIGKILL)
        process.wait(10)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.running[name].pid, number)

    def stop(self, name: str, within_s: float = 30) -> int:
        """Ask a process to leave in order, and return its status."""
        process = self.running.pop(name)
        process.terminate()
        return process.wait(within_s)

    def pool(self, name: str) -> list[int]:
        """Return the pool children of a prefork worker."""
        return children_of(self.running[name].pid)

    def log(self, name: str) -> str:
        """Return what a process has said."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def end(self) -> None:
        """End everything at once."""
        for name in self.running:
            self.signal(name, signal.SIGCONT)
            self.signal(name, signal.SIGKILL)
        for process in self.running.values():
            process.wait(10)


@contextmanager
def processes(
    database: Database, redis_url: str, directory: Path, settings: Mapping[str, str] = FAST
) -> Iterator[Processes]:
    """Lend processes and end them."""
    started = Processes(database, redis_url, directory, settings)
    try:
        yield started
    finally:
        started.end()
