"""The platform's own processes on one machine: started, started again when they die, stopped in order."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from jobs.embedded.process import bound_argv, spawn

_log = structlog.get_logger()

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
HEALTHY_AFTER_S = 60.0
"""A process that lived as long as this starts again without the pauses of its earlier deaths."""


@dataclass(frozen=True)
class Program:
    """What to run. Its environment may hold passwords, its arguments never."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    started_at: float
    log_from: int
    deaths_in_a_row: int = 0
    start_again_at: float | None = None


class Supervisor:
    """Runs programs as children that the kernel ends when the calling thread ends; for one thread only.

    `watch()` must be called every second or so: deaths are found there. `directory` is where the children
    work, `logs` where each writes `<name>.log`.
    """

    def __init__(self, directory: Path, logs: Path) -> None:
        self._directory = directory
        self._logs = logs
        self._children: dict[str, _Child] = {}
        self.deaths: dict[str, int] = {}

    def start(self, program: Program) -> None:
        """Start a program; its death is `watch`'s affair."""
        log = self._log(program.name)
        log_from = log.stat().st_size if log.exists() else 0
        self._children[program.name] = _Child(program, self._spawn(program), time.monotonic(), log_from)

    @property
    def names(self) -> list[str]:
        """The programs that were started and not stopped, dead ones included."""
        return list(self._children)

    def pid(self, name: str) -> int | None:
        """Return the pid of a program, or None while it is dead."""
        child = self._children.get(name)
        return None if child is None or child.process.poll() is not None else child.process.pid

    def has_said(self, name: str, text: str) -> bool:
        """Say whether a program has written `text` to its log since it was started."""
        child = self._children.get(name)
        if child is None:
            return False
        with self._log(name).open("rb") as log:
            log.seek(child.log_from)
            return text.encode() in log.read()

    def watch(self) -> list[str]:
        """Start again what died and has waited long enough; return the names of those found dead just now."""
        found, now = [], time.monotonic()
        for name, child in self._children.items():
            if child.start_again_at is not None:
                if now >= child.start_again_at:
                    child.process, child.started_at = self._spawn(child.program), now
                    child.start_again_at = None
                continue
            status = child.process.poll()
            if status is None:
                continue
            _end_group(child.process.pid)
            if now - child.started_at >= HEALTHY_AFTER_S:
                child.deaths_in_a_row = 0
            pause_s = min(FIRST_PAUSE_S * 2**child.deaths_in_a_row, LONGEST_PAUSE_S)
            child.deaths_in_a_row += 1
            child.start_again_at = now + pause_s
            self.deaths[name] = self.deaths.get(name, 0) + 1
            found.append(name)
            _log.warning("process_died", process=name, status=status, starts_again_in_s=pause_s)
        return found

    def stop(self, names: Iterable[str] | None = None, *, drain_s: float = 20.0) -> list[str]:
        """Ask the programs to end (SIGTERM), wait, then kill them with their process groups.

        Returns the names of those that had to be killed. Names that never started are ignored.
        """
        wanted = list(self._children) if names is None else [name for name in names if name in self._children]
        leaving = [self._children.pop(name) for name in wanted]
        for child in leaving:
            if child.process.poll() is None:
                child.process.terminate()
        killed, deadline = [], time.monotonic() + drain_s
        for child in leaving:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                killed.append(child.program.name)
            _end_group(child.process.pid)
            child.process.wait()
        return killed

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        command = bound_argv(program.argv, death_signal=signal.SIGKILL)
        return spawn(command, cwd=self._directory, env=program.environment, log=self._log(program.name))

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def _end_group(leader: int) -> None:
    """Kill what is left of the process group that one of our children led, itself included.

    The group outlives its leader only while a member of it lives, so its number is not reused under us.
    """
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
