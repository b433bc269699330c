"""The command as an operator types it: in this process where that is enough, as a process of its own elsewhere."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.factories import ENCRYPTION_KEY
from tests.servers import Database

COMMAND = [sys.executable, "-c", "from jobs.cli.main import main; main()"]


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of an error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What `--json` printed."""
        return [json.loads(line) for line in self.out.splitlines()]


class Cli:
    """Runs `fleet-jobs` in this process: with its errors, its exit code, its settings read anew."""

    def __init__(self, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._patch = patch

    def __call__(self, *arguments: object, stdin: str = "") -> Answer:
        from jobs.cli.main import main
        from jobs.settings import get_settings

        get_settings.cache_clear()
        self._patch.setattr(sys, "stdin", io.StringIO(stdin))
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        printed = self._capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Answer(left.value.code, printed.out, printed.err)


def settings_of(database: Database, redis_url: str) -> dict[str, str]:
    """Return the environment that points at a database and a Redis."""
    return {
        "FLEET_DATABASE_URL": database.worker_url,
        "FLEET_SYSTEM_DATABASE_URL": database.system_url,
        "FLEET_MIGRATION_DATABASE_URL": database.migrator_url,
        "FLEET_READ_DATABASE_URL": database.readonly_url,
        "FLEET_REDIS_URL": redis_url,
        "FLEET_ENCRYPTION_KEYS": ENCRYPTION_KEY,
    }


def run_process(directory: Path, environment: dict[str, str], *arguments: str, stdin: str = "") -> Answer:
    """Run the command as a process of its own, that sees no other FLEET_ settings than these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=directory,
        env={**inherited, "PYTHONPATH": root, "COLUMNS": "200", **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def cli(
    database: Database,
    redis_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Cli]:
    """The command on a migrated database that knows this release's jobs; beside no `.env`."""
    from jobs.settings import get_settings

    for name in [name for name in os.environ if name.startswith("FLEET_") and not name.startswith("FLEET_TEST_")]:
        monkeypatch.delenv(name)
    for name, value in settings_of(database, redis_url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    write_definitions(database)
    yield Cli(capsys, monkeypatch)
    get_settings.cache_clear()


def write_definitions(database: Database) -> None:
    """Tell a database which jobs there are, as `fleet-jobs migrate` does."""
    from sqlalchemy import create_engine

    from db.queries.definitions import write_definitions as write
    from jobs.job import definitions

    engine = create_engine(database.system_url)
    with engine.begin() as connection:
        write(connection, definitions())
    engine.dispose()


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection]:
    """A superuser's connection that sees every row."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        yield connection
