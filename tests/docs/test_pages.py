"""What the documentation says exists: links, files, commands, targets, settings, jobs, tables, functions."""

import re
import shlex
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from celery.bin.celery import celery as celery_command
from typer.main import get_command

from jobs.cli.main import cli
from jobs.job import load_jobs
from jobs.queues import ROUTES
from jobs.settings import Settings
from tests.docs.pages import NAMES, PAGES, ROOT, blocks, commands, links, spans
from tests.servers import Database

SETTINGS = {f"FLEET_{name}".upper() for name in Settings.model_fields} | {"FLEET_SECRETS_DIR"}
VARIABLE = re.compile(r"\bFLEET_[A-Z][A-Z_]*[A-Z]\b")
FOLDERS = ("jobs", "db", "integrations", "tests", "benchmarks", "docs", "ops", "examples")


def _text(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    for link in links(_text(name)):
        if not link.startswith("https://"):
            assert ((ROOT / name).parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("name", NAMES)
def test_every_path_exists(name: str) -> None:
    for span in spans(_text(name)):
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]+", span) and not span.startswith("ops/secrets/"):
            assert (ROOT / span).exists(), span


def _check(command: Any, words: list[str]) -> None:
    """Follow words down a tree of commands; an option must be one of the command's."""
    while hasattr(command, "commands") and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        assert words[0] in command.commands, f"no command {words[0]}"
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            assert word in known | {"--help"}, f"{command.name} has no {word}"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_exists_with_its_options(name: str) -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for line in commands(_text(name)):
        words = shlex.split(line)
        if not words:
            continue
        if Path(words[0]).name == "fleet-jobs":
            _check(get_command(cli), words[1:])
        elif words[:3] == ["celery", "-A", "jobs.app"]:
            _check(celery_command, words[3:])
        elif words[:4] == ["docker", "compose", "run", "--rm"]:
            service, *arguments = [word for word in words[4:] if word != "-T"]  # no terminal, for a pipe
            assert service in services
            _check(get_command(cli), arguments)


@pytest.mark.parametrize("name", NAMES)
def test_every_target_of_make_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", _text("Makefile"), re.MULTILINE))
    for line in commands(_text(name)):
        if found := re.match(r"(?:run `)?make ([a-z-]+)", line):
            assert found[1] in targets, line


@pytest.mark.parametrize("name", [*NAMES, "compose.yaml", "ops/health.py", "ops/make_secrets.py", "ops/entrypoint.sh"])
def test_every_setting_exists(name: str) -> None:
    named = {variable for variable in VARIABLE.findall(_text(name)) if not variable.startswith("FLEET_TEST_")}
    assert named <= SETTINGS


def test_the_variables_of_the_tests_are_those_that_the_tests_read() -> None:
    sources = [path.read_text() for path in ROOT.glob("tests/**/*.py") if path.parent.name != "docs"]
    read_by_tests = {found for text in sources for found in re.findall(r"\bFLEET_TEST_[A-Z_]*[A-Z]\b", text)}
    assert set(re.findall(r"\bFLEET_TEST_[A-Z_]*[A-Z]\b", _text("docs/testing.md"))) == read_by_tests


def test_every_command_is_in_the_readme() -> None:
    text = _text("README.md")
    assert [name for name in get_command(cli).commands if f"`fleet-jobs {name}" not in text] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "docs/writing-a-job.md"])
def test_every_job_exists(name: str) -> None:
    jobs = load_jobs()
    for area, rest in re.findall(rf"\b({'|'.join(ROUTES)})\.([a-z]+_?[a-z_]*)\b", _text(name)):
        if rest not in ("py", "md"):
            assert f"{area}.{rest}" in jobs


def test_every_line_worth_an_alert_is_one_that_is_logged() -> None:
    told = re.search(r"Worth an alert: (.*?)\.\n\n", _text("docs/operations.md"), re.DOTALL)
    assert told
    sources = "".join(path.read_text() for path in ROOT.glob("jobs/**/*.py"))
    assert [event for event in re.findall(r"`(\w+)`", told[1]) if f'"{event}"' not in sources] == []


def test_the_tables_are_those_of_the_database(database: Database) -> None:
    with psycopg.connect(database.admin_url) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
            " AND NOT relispartition AND relname <> 'alembic_version'"
        ).fetchall()
    told = _text("docs/schema.md").partition("## Areas")[2].partition("## Roles")[0].partition("Keys are")[0]
    assert set(re.findall(r"`(\w+)`", told)) == {name for (name,) in rows}


RIGHTS = {
    "read and write": {"SELECT", "INSERT", "UPDATE", "DELETE"},
    "read, insert and update": {"SELECT", "INSERT", "UPDATE"},
    "read and insert": {"SELECT", "INSERT"},
    "read and update": {"SELECT", "UPDATE"},
    "read": {"SELECT"},
}


# Of a table or of some of its columns; to delete is of a table only.
MAY = """
    WITH tables AS (
        SELECT oid, relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
    )
    SELECT relname, name FROM tables, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS r (name)
    WHERE has_any_column_privilege('fleet_app', oid, name)
    UNION ALL
    SELECT relname, 'DELETE' FROM tables WHERE has_table_privilege('fleet_app', oid, 'DELETE')
"""


def test_other_applications_may_what_the_page_says_and_no_more(database: Database) -> None:
    told: dict[str, set[str]] = {}
    for words, tables in re.findall(r"^\| ([a-z, ]+) \| (`.*) \|$", _text("docs/schema.md"), re.MULTILINE):
        if words in RIGHTS:
            told |= dict.fromkeys(re.findall(r"`(\w+)`", tables), RIGHTS[words])
    with psycopg.connect(database.admin_url) as connection:
        rows = connection.execute(MAY).fetchall()
    may: dict[str, set[str]] = {}
    for table, right in rows:
        may.setdefault(table, set()).add(right)
    assert may == told


def test_the_function_takes_what_the_page_says(database: Database) -> None:
    page = next(block for block in blocks(_text("docs/ledger.md"), "sql") if block.startswith("enqueue_job("))
    told = re.findall(r"^    (\w+) +(\w+)", page, re.MULTILINE)
    with psycopg.connect(database.admin_url) as connection:
        row = connection.execute("SELECT pg_get_function_arguments('enqueue_job'::regproc)").fetchone()
    assert row
    plain = row[0].replace("timestamp with time zone", "timestamptz")
    assert told == re.findall(r"(?:^|, )(\w+) (\w+)", plain)


def test_the_code_of_the_pages_is_code() -> None:
    for page in PAGES:
        for block in blocks(page.read_text(), "python"):
            compile(block, str(page), "exec")
