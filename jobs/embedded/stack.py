"""The whole platform below one directory: servers, roles, schema, processes, and what each needs to know."""

import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from db import roles
from jobs.embedded import keys, programs
from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.postgres import EmbeddedPostgres
from jobs.embedded.process import HOST, DirectoryLock, bound_argv, check_port, free_port, write_private
from jobs.embedded.supervisor import Program, Supervisor
from jobs.embedded.valkey import EmbeddedValkey

DATABASE = "fleet"
FLOWER_USER, FLOWER_PORT, RECEIVER_PORT = "fleet", 5555, 8600
MIGRATE_S = 300.0
STAGE_WAITS_S = 15.0
DRAIN_S = 25.0
"""A slice takes 20 s at most; what a worker has not finished by then is rescued at the next start."""


class Stack:
    """Starts everything and stops it in order; started again, it goes on with the same data.

    Args:
        data_dir: the only place that is written to.
        accounts: names of simulated provider accounts that need a token.
        extra: settings of the children besides the stack's own, such as FLEET_SCHEDULE_EVERY.
        receiver_port: where webhooks come in, and where links to unsubscribe lead.
        say: told in one line what is going on.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        accounts: Sequence[str] = (),
        extra: Mapping[str, str] | None = None,
        receiver_port: int = RECEIVER_PORT,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.logs = self.data_dir / "logs"
        self._accounts = tuple(accounts)
        self._extra = dict(extra or {})
        self.receiver_port = receiver_port
        self._say = say
        self._lock = DirectoryLock(self.data_dir)
        self.postgres = EmbeddedPostgres(self.data_dir / "postgres")
        self.valkey = EmbeddedValkey(self.data_dir / "valkey")
        self.supervisor = Supervisor(self.data_dir, self.logs)
        self.keys = keys.Keys()
        self.flower_port = 0
        self._stages: list[list[Program]] = []
        self._next_stage_at = 0.0
        self._deaths: dict[str, int] = {}

    @property
    def system_url(self) -> str:
        """The URL that sees every tenant."""
        return self._url("fleet_system")

    @property
    def flower_url(self) -> str:
        """Where Flower listens; its password is in `flower_password_file`."""
        return f"http://{HOST}:{self.flower_port}"

    @property
    def flower_password_file(self) -> Path:
        """The file that holds Flower's password."""
        return self.data_dir / "flower.password"

    @property
    def environment_file(self) -> Path:
        """The settings of this stack, for `fleet-jobs` in another terminal."""
        return self.data_dir / "environment"

    @property
    def deaths(self) -> dict[str, int]:
        """How often each process ended by itself since the start."""
        return {**self.supervisor.deaths, **self._deaths}

    def acquire(self) -> None:
        """Take the data directory, for this process alone.

        Raises:
            EmbeddedServerError: it cannot be written, or another process holds it.
        """
        self._lock.acquire()
        self.logs.mkdir(exist_ok=True)

    def start_servers(self) -> None:
        """Start the servers, make roles and database, bring the schema to this release.

        Raises:
            EmbeddedServerError: one line that names what and where.
        """
        self.acquire()
        self.keys = keys.keep(self.data_dir / "keys.json", self._accounts)
        self._say("starting PostgreSQL")
        self.postgres.start()
        if self.postgres.directory.parent != self.data_dir:
            self._say(f"PostgreSQL's user cannot reach {self.data_dir}: its data is in {self.postgres.directory}")
        self._say("starting Valkey")
        self.valkey.start()
        self._say("migrating")
        self._create_database()
        roles.bootstrap(self.postgres.admin_url_of(DATABASE), self.keys.roles)
        self.flower_port = usual_or_free(FLOWER_PORT)
        write_private(self.flower_password_file, self.keys.flower + "\n")
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in self._settings().items()]
        write_private(self.environment_file, "".join(lines))
        self._migrate()

    def start_processes(self) -> None:
        """Start the processes in stages, so that work begins before the last of them is up; `watch` goes on with it.

        Flower is last: it asks the workers once who they are.
        """
        self._say("starting relay, workers, beat, receiver of webhooks and Flower")
        environment = self.environment()
        first, *others = programs.workers(environment)
        flower = programs.flower(environment, self.flower_port, FLOWER_USER, self.keys.flower)
        receiver = programs.webhooks(environment, self.receiver_port)
        self._stages = [[programs.relay(environment), first], [programs.beat(environment), *others], [receiver, flower]]
        self._start_stage()

    def environment(self) -> dict[str, str]:
        """Return the environment of a child; passwords travel here and nowhere else."""
        return programs.child_environment(self._settings())

    def watch(self) -> list[str]:
        """Start again what died; return what was found dead. To be called every second or so."""
        found = self.supervisor.watch()
        self._start_stage()
        for name, server in (("postgres", self.postgres), ("valkey", self.valkey)):
            if server.pid is None:
                self._deaths[name] = self._deaths.get(name, 0) + 1
                found.append(name)
                server.start()
        return found

    def stop_processes(self) -> list[str]:
        """Stop what makes work, let the workers finish, then stop the rest. Returns what had to be killed."""
        self._stages = []
        killed = self.supervisor.stop([programs.BEAT, programs.RELAY, programs.FLOWER], drain_s=10.0)
        workers = [name for name in self.supervisor.names if name.startswith(programs.WORKER)]
        killed += self.supervisor.stop(workers, drain_s=DRAIN_S)
        return killed + self.supervisor.stop(drain_s=5.0)

    def stop_servers(self) -> None:
        """Stop the servers, after the processes, and give the data directory back."""
        self.valkey.stop()
        self.postgres.stop()
        self._lock.release()

    def _start_stage(self) -> None:
        """Start the next stage once the workers of the last one are ready, or have had time enough."""
        names = [name for name in self.supervisor.names if name.startswith(programs.WORKER)]
        is_ready = all(self.supervisor.has_said(name, " ready.") for name in names)
        if self._stages and (is_ready or time.monotonic() >= self._next_stage_at):
            for program in self._stages.pop(0):
                self.supervisor.start(program)
            self._next_stage_at = time.monotonic() + STAGE_WAITS_S

    def _url(self, role: str) -> str:
        return self.postgres.url(role, self.keys.roles[role], DATABASE)

    def _settings(self) -> dict[str, str]:
        return {
            "FLEET_DATABASE_URL": self._url("fleet_worker"),
            "FLEET_SYSTEM_DATABASE_URL": self.system_url,
            "FLEET_MIGRATION_DATABASE_URL": self._url("fleet_migrator"),
            "FLEET_READ_DATABASE_URL": self._url("fleet_readonly"),
            "FLEET_REDIS_URL": self.valkey.url,
            "FLEET_ENCRYPTION_KEYS": self.keys.encryption,
            "FLEET_DATA_DIR": str(self.data_dir),
            **self._extra,
        }

    def _create_database(self) -> None:
        with psycopg.connect(self.postgres.admin_url, autocommit=True) as admin:
            found = admin.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if found is None:
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _migrate(self) -> None:
        """Run `fleet-jobs migrate`, which also records the jobs that other applications may enqueue."""
        command = bound_argv(programs.command_line("migrate"), death_signal=signal.SIGKILL)
        log = self.logs / "migrate.log"
        with log.open("wb") as output:
            status = subprocess.run(
                command,
                check=False,
                cwd=self.data_dir,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=MIGRATE_S,
            ).returncode
        if status != 0:
            lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise EmbeddedServerError(f"fleet-jobs migrate failed ({log}): {lines[-1]}")


def usual_or_free(port: int) -> int:
    """Return a server's usual port where it is free, else another: what is printed says which it is."""
    try:
        check_port(port, "a server")
    except EmbeddedServerError:
        return free_port()
    return port
