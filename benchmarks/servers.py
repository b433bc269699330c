"""The servers that a benchmark starts for itself, safe as shipped (fsync on), and the processes beside them."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from db import roles
from jobs.embedded.postgres import EmbeddedPostgres
from jobs.embedded.process import bound_argv, end, spawn
from jobs.embedded.valkey import EmbeddedValkey

DATABASES = ("fleet", "peer", "peer_thousand")
_STOP = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))


@dataclass
class Servers:
    """PostgreSQL with the platform's database and empty ones, Valkey, and processes that end before them."""

    directory: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    passwords: dict[str, str] = field(repr=False)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def url(self, role: str) -> str:
        """Return the URL of the platform's database as one of its roles."""
        return self.postgres.url(role, self.passwords[role], "fleet")

    def settings(self) -> dict[str, str]:
        """Return the platform's settings, to be the environment of its processes."""
        return {
            "FLEET_DATABASE_URL": self.url("fleet_worker"),
            "FLEET_SYSTEM_DATABASE_URL": self.url("fleet_system"),
            "FLEET_MIGRATION_DATABASE_URL": self.url("fleet_migrator"),
            "FLEET_REDIS_URL": self.valkey.url,
        }

    def run(self, name: str, *argv: str, **environment: str) -> None:
        """Run Python to its end.

        Raises:
            RuntimeError: it failed; its output is in the message.
        """
        process = self.start(name, *argv, **environment)
        status = process.wait()
        del self._processes[name]
        if status != 0:
            raise RuntimeError(f"{name} ended with {status}: {self._log(name).read_text(errors='replace')[-2000:]}")

    def start(self, name: str, *argv: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start Python beside the servers; what it says goes to `<name>.log`."""
        command = bound_argv([sys.executable, *argv], death_signal=signal.SIGKILL)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("FLEET_")}
        process = spawn(command, cwd=self.directory, env={**kept, **environment}, log=self._log(name))
        self._processes[name] = process
        return process

    def check(self) -> None:
        """Raise where a process has died: what it said is worth more than a timeout."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                said = self._log(name).read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{name} ended with {process.returncode}: {said}")

    def stop_processes(self) -> None:
        """Stop what was started, the newest first."""
        for process in reversed(self._processes.values()):
            end(process, _STOP)
        self._processes.clear()

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"


def _passwords() -> dict[str, str]:
    return {role: secrets.token_urlsafe(16) for role in roles.LOGIN_ROLES}


@contextmanager
def serve() -> Iterator[Servers]:
    """Start servers in a directory of their own, with the platform's roles; everything is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="fleet-jobs-bench-"))
    directory.chmod(0o711)  # PostgreSQL passes through as another user where we are root
    postgres, valkey = EmbeddedPostgres(directory / "postgres"), EmbeddedValkey(directory / "valkey")
    servers = Servers(directory, postgres, valkey, _passwords())
    try:
        postgres.start()
        valkey.start()
        with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
            for name in DATABASES:
                admin.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        roles.bootstrap(postgres.admin_url_of("fleet"), servers.passwords)
        yield servers
    finally:
        servers.stop_processes()
        valkey.stop()
        postgres.stop()
        shutil.rmtree(directory)
