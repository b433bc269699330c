"""The servers that the whole test run shares, and the databases that each test gets of them."""

import importlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from jobs.embedded.placement import place
from jobs.embedded.postgres import SETTINGS, SUPERUSER, EmbeddedPostgres
from jobs.embedded.process import HOST, bound_argv, complaint, end, free_port, server_environment, spawn, write_private
from jobs.embedded.server import START_S
from jobs.embedded.valkey import EmbeddedValkey

ROLES = ("fleet_owner", "fleet_migrator", "fleet_worker", "fleet_system", "fleet_app", "fleet_readonly")
BOOTSTRAP_LOCK = 7_270_001  # roles are rows of the whole cluster: two who alter one fail
MEMORY, ROOMY_BYTES, PREFIX = Path("/dev/shm"), 2 * 1024**3, "fleet-jobs-tests-"
FAST_AND_FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def make_passwords() -> dict[str, str]:
    """Return a password per role: roles belong to the cluster, so every database of a run shares them."""
    return {role: secrets.token_urlsafe(16) for role in ROLES}


@dataclass(frozen=True)
class Database:
    """The URLs of one database, one per role; `admin_url` is the superuser's."""

    admin_url: str
    passwords: dict[str, str] = field(repr=False)

    def _url(self, role: str) -> str:
        url = make_url(self.admin_url).set(username=role, password=self.passwords[role])
        return url.render_as_string(hide_password=False)

    @property
    def name(self) -> str:
        return str(make_url(self.admin_url).database)

    @property
    def migrator_url(self) -> str:
        return self._url("fleet_migrator")

    @property
    def worker_url(self) -> str:
        return self._url("fleet_worker")

    @property
    def system_url(self) -> str:
        return self._url("fleet_system")

    @property
    def app_url(self) -> str:
        return self._url("fleet_app")

    @property
    def readonly_url(self) -> str:
        return self._url("fleet_readonly")

    def bootstrap_and_migrate(self) -> None:
        """Make the roles, grant them their rights here, and bring the schema to its newest version."""
        _project_function("db.roles", "bootstrap")(self.admin_url, self.passwords)
        _project_function("db.migrate", "upgrade")(self.migrator_url)

    def grant(self) -> None:
        """Grant the rights on the database itself, which a copy does not take over from its template."""
        _project_function("db.roles", "bootstrap")(self.admin_url, {})


@dataclass(frozen=True)
class PostgresServer:
    """A cluster that tests share; `run` sets the databases of one test run apart from another's."""

    admin_url: str
    run: str
    passwords: dict[str, str] = field(repr=False)
    extension: str | None = None
    """Installed in every database before it is migrated."""

    def database(self, name: str) -> Database:
        """Return the URLs of a database of this cluster."""
        url = make_url(self.admin_url).set(database=name)
        return Database(url.render_as_string(hide_password=False), self.passwords)

    @contextmanager
    def fresh_database(self) -> Iterator[Database]:
        """Copy the migrated template, and drop the copy afterwards even when somebody is still connected."""
        name = f"fleet_{uuid4().hex[:16]}"
        template = self._template()
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
            admin.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
            admin.execute("SELECT pg_advisory_lock(%s)", (BOOTSTRAP_LOCK,))
            self.database(name).grant()
        database = self.database(name)
        try:
            yield database
        finally:
            self.drop(name)

    def drop(self, name: str) -> None:
        """Drop a database with all its sessions."""
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def drop_template(self) -> None:
        """Forget this run's template, where the cluster outlives the run."""
        self.drop(self._template_name)

    @property
    def _template_name(self) -> str:
        return f"fleet_template_{self.run}"

    def _template(self) -> str:
        """Return the template's name, migrating it once per run: the first worker does, the others wait."""
        name = self._template_name
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            admin.execute("SELECT pg_advisory_lock(%s)", (BOOTSTRAP_LOCK,))
            if admin.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                making = f"{name}_making"
                self.drop(making)
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(making)))
                self._extend(making)
                self.database(making).bootstrap_and_migrate()
                rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                # Nobody may be connected to what is copied, and TimescaleDB's workers connect to every database.
                close = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false")
                admin.execute(close.format(sql.Identifier(making)))
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (making,))
                admin.execute(rename.format(sql.Identifier(making), sql.Identifier(name)))
        return name

    def _extend(self, name: str) -> None:
        if self.extension is not None:
            with psycopg.connect(self.database(name).admin_url, autocommit=True) as admin:
                admin.execute(sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(self.extension)))


def system_postgres_with(extension: str) -> Path | None:
    """Return where the machine's newest PostgreSQL is that has an extension."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_config"), key=lambda path: path.parts[-3].zfill(3))
    for config in reversed(found):
        shared = subprocess.run([str(config), "--sharedir"], check=False, capture_output=True, text=True)
        if (Path(shared.stdout.strip()) / "extension" / f"{extension}.control").exists():
            return config.parents[1]
    return None


class SystemPostgres:
    """A cluster of this run's own, from the machine's own programs; it ends when its owner does."""

    def __init__(self, directory: Path, install: Path) -> None:
        self._directory = directory
        self._install = install
        self._process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_urlsafe(16)
        self.port = free_port()

    @property
    def admin_url(self) -> str:
        return f"postgresql://{SUPERUSER}:{self._password}@{HOST}:{self.port}/postgres"

    def start(self) -> None:
        self._directory.mkdir(mode=0o711)
        placement = place(self._directory, self._install)
        cluster, password_file = self._directory / "cluster", self._directory / "superuser.password"
        cluster.mkdir(mode=0o700)
        write_private(password_file, self._password)
        if placement.account is not None:
            os.chown(cluster, *placement.account)
            os.chown(password_file, *placement.account)
        programs = self._install / "bin"
        options = ["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync"]
        initdb = [str(programs / "initdb"), "-D", str(cluster), "-U", SUPERUSER, *options]
        subprocess.run(
            bound_argv(initdb, death_signal=SIGKILL, account=placement.account, prefix=placement.prefix),
            check=True,
            cwd=self._directory,
            env=server_environment(),
            capture_output=True,
        )
        settings = {**SETTINGS, **FAST_AND_FORGETFUL, "listen_addresses": HOST, "port": str(self.port)}
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = bound_argv(
            [str(programs / "postgres"), "-D", str(cluster), *given],
            death_signal=SIGINT,
            account=placement.account,
            prefix=placement.prefix,
        )
        log = self._directory / "postgres.log"
        self._process = spawn(server, cwd=self._directory, env=server_environment(), log=log)
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.admin_url).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL in {self._directory}: {complaint(log, 0)}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        if self._process is not None:
            end(self._process, EmbeddedPostgres.ending)


@dataclass(frozen=True)
class RedisServer:
    """A Valkey or Redis that tests share; `url` is that of logical database 0."""

    url: str = field(repr=False)

    def database_url(self, number: int) -> str:
        """Return the URL of a logical database."""
        return make_url(self.url).set(database=str(number)).render_as_string(hide_password=False)


@dataclass
class SharedServers:
    """The servers of one run, started when first wanted by the process that owns them."""

    admin_url: str | None
    redis_url: str | None
    timescaledb_url: str | None = None
    postgis_url: str | None = None
    run: str = field(default_factory=lambda: uuid4().hex[:8])
    passwords: dict[str, str] = field(default_factory=make_passwords)
    _started: list[EmbeddedPostgres | EmbeddedValkey | SystemPostgres] = field(default_factory=list)
    _directory: Path | None = None

    def for_worker(self) -> dict[str, Any]:
        """Start what is not running and return what another process needs to use it."""
        self._start_postgis()
        return {
            "postgres": asdict(self.postgres()),
            "redis": asdict(self.redis()),
            "timescaledb_url": self.timescaledb_url,
            "postgis_url": self.postgis_url,
        }

    @classmethod
    def from_controller(cls, given: dict[str, Any]) -> "SharedServers":
        """Return the controller's servers as a worker sees them."""
        postgres = given["postgres"]
        return cls(
            admin_url=postgres["admin_url"],
            redis_url=given["redis"]["url"],
            timescaledb_url=given["timescaledb_url"],
            postgis_url=given["postgis_url"],
            run=postgres["run"],
            passwords=postgres["passwords"],
        )

    def postgres(self) -> PostgresServer:
        """Return the shared cluster."""
        if self.admin_url is None:
            server = EmbeddedPostgres(self._home() / "postgres", settings=FAST_AND_FORGETFUL)
            server.start()
            self._started.append(server)
            self.admin_url = server.admin_url
        return PostgresServer(self.admin_url, self.run, self.passwords)

    def timescaledb(self) -> PostgresServer:
        """Return the cluster with TimescaleDB, or skip the test."""
        if self.timescaledb_url is None:
            pytest.skip("FLEET_TEST_TIMESCALEDB_URL is not set: no cluster with TimescaleDB")
        return PostgresServer(self.timescaledb_url, self.run, self.passwords)

    def postgis(self) -> PostgresServer:
        """Return the cluster with PostGIS, or skip the test."""
        self._start_postgis()
        if self.postgis_url is None:
            pytest.skip("no PostGIS: FLEET_TEST_POSTGIS_URL is not set, and the machine's PostgreSQL has none")
        return PostgresServer(self.postgis_url, self.run, self.passwords, "postgis")

    def _start_postgis(self) -> None:
        if self.postgis_url is None and (install := system_postgres_with("postgis")) is not None:
            server = SystemPostgres(self._home() / "postgis", install)
            server.start()
            self._started.append(server)
            self.postgis_url = server.admin_url

    def redis(self) -> RedisServer:
        """Return the shared Valkey."""
        if self.redis_url is None:
            server = EmbeddedValkey(self._home() / "valkey")
            server.start()
            self._started.append(server)
            self.redis_url = server.url
        return RedisServer(self.redis_url)

    def stop(self) -> None:
        """Stop what this process started; drop the templates where the cluster lives on."""
        owns_postgres = any(isinstance(server, EmbeddedPostgres) for server in self._started)
        if self.admin_url is not None and not owns_postgres:
            PostgresServer(self.admin_url, self.run, self.passwords).drop_template()
        if self.timescaledb_url is not None:
            PostgresServer(self.timescaledb_url, self.run, self.passwords).drop_template()
        owns_postgis = any(isinstance(server, SystemPostgres) for server in self._started)
        if self.postgis_url is not None and not owns_postgis:
            PostgresServer(self.postgis_url, self.run, self.passwords).drop_template()
        for server in self._started:
            server.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory)

    def _home(self) -> Path:
        if self._directory is None:
            self._directory = passable_directory()
        return self._directory


def passable_directory() -> Path:
    """Make a directory outside pytest's own, closed to the user that PostgreSQL becomes under root.

    In memory where there is enough of it: a database is made in 30 ms there, in 500 ms on a common disk. What
    killed test runs left there is removed.
    """
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOMY_BYTES
    root = MEMORY if roomy else Path(tempfile.gettempdir())
    for old in root.glob(f"{PREFIX}*"):
        owner = old.name.removeprefix(PREFIX).partition("-")[0]
        if old.stat().st_uid == os.geteuid() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(old, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root))
    directory.chmod(0o711)
    return directory


@dataclass
class PrivateServers:
    """Servers of one test, to be killed and started again; `database` is in `postgres`."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    database: Database

    @property
    def redis_url(self) -> str:
        return self.valkey.url


@contextmanager
def private_servers() -> Iterator[PrivateServers]:
    """Start, bootstrap and migrate servers that nobody else uses."""
    directory = passable_directory()
    postgres = EmbeddedPostgres(directory / "postgres", settings=FAST_AND_FORGETFUL)
    valkey = EmbeddedValkey(directory / "valkey")
    try:
        postgres.start()
        valkey.start()
        with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
            admin.execute("CREATE DATABASE fleet")
        database = Database(postgres.admin_url_of("fleet"), make_passwords())
        database.bootstrap_and_migrate()
        yield PrivateServers(postgres, valkey, database)
    finally:
        postgres.stop()
        valkey.stop()
        shutil.rmtree(directory)


def _project_function(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{module}.{name} is not there: {error}", pytrace=False)
