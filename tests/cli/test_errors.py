"""What an operator can mend is one line on standard error, without a secret, and nothing is changed."""

import base64
import os
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.cli.conftest import Cli, run_process, settings_of
from tests.servers import Database


def with_password(url: str, password: str) -> str:
    return make_url(url).set(password=password).render_as_string(hide_password=False)


def test_a_broken_env_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FLEET_DATABASE_URL=mysql://fleet:hunter2@db/fleet\nFLEET_WINDOW=many\n")

    answer = run_process(tmp_path, {}, "runs")

    assert answer.status == 2
    assert answer.line == (
        "fleet-jobs: bad settings: FLEET_DATABASE_URL: must look like postgresql://USER:PASSWORD@HOST:PORT/DATABASE;"
        " FLEET_SYSTEM_DATABASE_URL: Field required; FLEET_REDIS_URL: Field required;"
        " FLEET_WINDOW: Input should be a valid integer, unable to parse string as an integer (environment or .env)"
    )


def test_bad_settings_are_one_line_where_celery_reads_them_too(tmp_path: Path) -> None:
    answer = run_process(tmp_path, {}, "run", "platform.ping")

    assert answer.status == 2
    assert "bad settings" in answer.line


@pytest.mark.parametrize(
    "arguments", [(), ("keygen",), ("--help",), ("--version",), ("connections", "add", "-h"), ("run", "--help")]
)
def test_what_needs_no_settings_works_without_any(
    arguments: tuple[str, ...], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("FLEET_")]:
        monkeypatch.delenv(name)

    answer = cli(*arguments)

    assert (answer.status, answer.err) == (0, "")
    assert answer.out


def test_a_key_is_32_bytes_and_never_the_same(cli: Cli) -> None:
    first, second = (cli("keygen").out.strip() for _ in range(2))

    assert first != second
    assert len(base64.b64decode(first, validate=True)) == len(base64.b64decode(second, validate=True)) == 32


@pytest.mark.parametrize("command", [("runs",), ("migrate",)])
def test_a_wrong_password_is_told_from_a_server_that_is_away(
    command: tuple[str, ...], cli: Cli, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, url in (
        ("FLEET_SYSTEM_DATABASE_URL", database.system_url),
        ("FLEET_MIGRATION_DATABASE_URL", database.migrator_url),
    ):
        monkeypatch.setenv(variable, with_password(url, "hunter2"))

    answer = cli(*command)

    assert answer.status == 1
    assert "the database refuses the login for fleet_" in answer.line
    assert f"wrong password: 127.0.0.1:{make_url(database.system_url).port} (FLEET_" in answer.line
    assert "hunter2" not in answer.line


def test_a_wrong_password_is_no_traceback_in_a_process_of_its_own(
    database: Database, redis_url: str, tmp_path: Path
) -> None:
    environment = settings_of(database, redis_url)
    environment["FLEET_SYSTEM_DATABASE_URL"] = with_password(database.system_url, "hunter2")

    answer = run_process(tmp_path, environment, "tenants", "add", "acme", "Acme")

    assert answer.status == 1
    assert "wrong password" in answer.line
    assert "hunter2" not in answer.line


def test_a_server_that_is_away_is_named_by_host_and_port(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("FLEET_SYSTEM_DATABASE_URL", f"postgresql://fleet_system:hunter2@127.0.0.1:{port}/fleet")

    answer = cli("runs")

    assert answer.status == 1
    assert answer.line == (
        f"fleet-jobs: cannot reach the database: connection refused: 127.0.0.1:{port} (FLEET_SYSTEM_DATABASE_URL)"
    )


def test_a_database_that_is_not_there_is_named(cli: Cli, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_url(database.system_url).set(database="nowhere").render_as_string(hide_password=False)
    monkeypatch.setenv("FLEET_SYSTEM_DATABASE_URL", url)

    assert "there is no database nowhere: 127.0.0.1:" in cli("runs").line


def test_another_role_than_the_systems_is_refused(
    cli: Cli, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_SYSTEM_DATABASE_URL", database.worker_url)

    assert "the role may not do this (permission denied to set role" in cli("runs").line


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("9999", "newer than this release"),
        ("0001", "this release needs"),
    ],
)
def test_a_database_of_another_release_is_refused(
    revision: str, said: str, cli: Cli, admin: psycopg.Connection
) -> None:
    admin.execute("UPDATE alembic_version SET version_num = %s", [revision])

    for command in (["runs"], ["run", "platform.ping"], ["tenants", "add", "acme", "Acme"]):
        answer = cli(*command)
        assert answer.status == 1
        assert answer.line.startswith(f"fleet-jobs: schema: the database is at {revision}")
        assert said in answer.line
    assert admin.execute("SELECT count(*) FROM tenants").fetchone() == (0,)


def test_migrate_refuses_a_newer_database(cli: Cli, admin: psycopg.Connection) -> None:
    admin.execute("UPDATE alembic_version SET version_num = '9999'")

    assert "newer than this release" in cli("migrate").line


def test_migrate_says_what_it_did_and_twice_is_harmless(cli: Cli, admin: psycopg.Connection) -> None:
    admin.execute("DELETE FROM job_definitions WHERE job = 'platform.ping'")

    assert cli("migrate").out.endswith("1 job definitions changed\n")
    assert cli("migrate").out.endswith("0 job definitions changed\n")


def test_migrate_without_its_url_says_which(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEET_MIGRATION_DATABASE_URL")

    answer = cli("migrate")

    assert answer.status == 2
    assert "FLEET_MIGRATION_DATABASE_URL: missing" in answer.line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bogus"], "no such command 'bogus': see `fleet-jobs --help`"),
        (["runs", "--state", "lost"], "'lost' is not one of 'pending'"),
        (["runs", "--limit", "0"], "see `fleet-jobs runs --help`"),
        (["runs", "--bogus"], "--bogus"),
        (["run"], "missing argument 'JOB': see `fleet-jobs run --help`"),
        (["pause", "worker", "x"], "'worker' is not one of 'job', 'queue'"),
        (["connections", "add", "--name", "x"], "missing option '--tenant': see `fleet-jobs connections add --help`"),
    ],
)
def test_a_command_that_is_typed_wrongly_is_one_line(arguments: list[str], said: str, cli: Cli) -> None:
    answer = cli(*arguments)

    assert answer.status == 2
    assert said in answer.line


def test_a_port_in_use_is_named(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = cli("simulate", "--port", port)

    assert answer.status == 1
    assert answer.line == f"fleet-jobs: cannot listen: address already in use: 127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("server_error", "--fault server_error: expected NAME=CHANCE"),
        ("sever_error=1", "no such fault: sever_error"),
        ("script=1", "no such fault: script"),
        ("html=often", "--fault html: expected a number, got 'often'"),
        ("html=1.5", "--fault html: expected 0 to 1, got 1.5"),
        ("latency_s=-1", "--fault latency_s: expected 0 or more, got -1"),
        ("html=nan", "--fault html: expected 0 to 1, got nan"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(given: str, said: str, cli: Cli) -> None:
    assert said in cli("simulate", "--fault", given).line


def test_a_full_disk_is_one_line() -> None:
    from jobs.cli.errors import explain

    assert explain(OSError(28, os.strerror(28), "/data/keys.json")) == "disk full: /data/keys.json"
    assert explain(FileNotFoundError(2, os.strerror(2), "token")) == "no such file or directory: token"
    assert explain(ZeroDivisionError()) is None


@pytest.mark.parametrize(
    ("sqlstate", "said"),
    [
        ("53100", "the database's disk is full"),
        ("57P01", "the database is shutting down or starting up"),
        ("25006", "the database takes no writes: is it a replica?"),
        ("42601", None),
    ],
)
def test_what_the_server_has_run_out_of_is_one_line_and_a_bug_is_not(sqlstate: str, said: str | None) -> None:
    from jobs.cli.errors import explain

    assert explain(psycopg.errors.lookup(sqlstate)("secret of a row")) == said


def test_a_reader_that_goes_away_is_no_error(cli: Cli, database: Database, redis_url: str, tmp_path: Path) -> None:
    environment = {**os.environ, **settings_of(database, redis_url), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = f"{sys.executable} -c 'from jobs.cli.main import main; main()' jobs --json | true"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stderr == ""
