"""Processes that do not outlive their owner, directories that have one owner at a time, and ports."""

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.embedded import bound
from jobs.embedded.errors import EmbeddedServerError

HOST = "127.0.0.1"
COMPLAINTS = ("FATAL", "PANIC", "could not", "invalid", "rror")
TIMESTAMP = re.compile(r"^\d{4}-\S+ \S+ \S+ \[\d+\] ")
LOG_LIMIT_BYTES = 16 * 1024 * 1024


def bound_argv(
    argv: Sequence[str],
    *,
    death_signal: signal.Signals,
    account: tuple[int, int] | None = None,
    prefix: Sequence[str] = (),
) -> list[str]:
    """Return the command that runs `argv` so that it gets `death_signal` when the calling thread ends."""
    who = "-" if account is None else f"{account[0]}:{account[1]}"
    start = [
        *prefix,
        sys.executable,
        "-I",
        "-S",
        bound.__file__,
        str(int(death_signal)),
        str(os.getpid()),
        who,
    ]
    return [*start, *argv]


def spawn(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own (Ctrl-C reaches the owner only), output appended to `log`.

    Call it from a thread that lives as long as the process is wanted: the kernel sends the death signal when
    the thread ends.
    """
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".old"))
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def server_environment() -> dict[str, str]:
    """Return what a server needs of our environment, which is full of secrets that it does not need."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def end(process: subprocess.Popen[bytes], steps: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Send each signal and wait its seconds until the process is gone; return whether the first sufficed."""
    for number, (step, seconds) in enumerate(steps):
        if process.poll() is None:
            process.send_signal(step)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return number == 0
    return False


def end_leftover(pid_file: Path, cwd: Path, steps: Sequence[tuple[signal.Signals, float]]) -> None:
    """End the server that an earlier, killed owner left in `cwd`; call it only while holding the directory.

    Raises:
        EmbeddedServerError: it outlives every signal.
    """
    pid = leftover(pid_file, cwd)
    if pid is None:
        return
    for step, seconds in steps:
        os.kill(pid, step)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if leftover(pid_file, cwd) != pid:
                return
            time.sleep(0.05)
    raise EmbeddedServerError(f"process {pid} still serves {cwd} and does not end")


def leftover(pid_file: Path, cwd: Path) -> int | None:
    """Return the pid in `pid_file` if that process is alive and works in `cwd`, else None."""
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        working_in = Path(f"/proc/{pid}/cwd").readlink()
    except (OSError, ValueError):
        return None
    return pid if working_in == cwd else None


class DirectoryLock:
    """Holds a data directory: made if absent, refused while somebody holds it, free when its owner dies."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the directory; harmless when it is held already.

        Raises:
            EmbeddedServerError: it cannot be written, or another process holds it.
        """
        if self._fd is not None:
            return
        try:
            if not self._directory.exists():
                self._directory.mkdir(parents=True, exist_ok=True)
                self._directory.chmod(0o711)  # whatever the umask: PostgreSQL passes through as another user
            fd = os.open(self._directory / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmbeddedServerError(f"cannot write to {self._directory}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise EmbeddedServerError(f"{self._directory} is in use by process {owner}") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give the directory back, also for forked children that inherited the lock."""
        if self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            os.close(self._fd)
            self._fd = None


def free_port() -> int:
    """Return a port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def check_port(port: int, wanted_by: str) -> None:
    """Refuse a port that somebody listens on.

    Raises:
        EmbeddedServerError: one line with the port and who wanted it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise EmbeddedServerError(f"port {port} on {HOST}, wanted for {wanted_by}, {reason}") from error


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, replacing it whole."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def complaint(log: Path, since: int) -> str:
    """Return the line of `log`, written after byte `since`, that says best why a server gave up."""
    try:
        with log.open("rb") as file:
            file.seek(since)
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "no log"
    marked = [line for line in lines if any(word in line for word in COMPLAINTS)]
    return TIMESTAMP.sub("", (marked or lines or ["it said nothing"])[0])
