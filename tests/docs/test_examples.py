"""The examples of other applications: those of SQL and Python run, those of other languages are at least in order."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from psycopg.rows import dict_row

from tests.docs.pages import ROOT
from tests.factories import ENCRYPTION_KEY, make_connection, make_tenant
from tests.ledger.processes import QUIET, Processes, processes, wait_until
from tests.servers import Database

EXAMPLES = ROOT / "examples"
FLEET_JOBS = str(Path(sys.executable).with_name("fleet-jobs"))
CELERY = (sys.executable, "-m", "celery", "-A", "jobs.app")
WORKER = ("worker", "-Q", "telematics", "--pool", "threads", "-c", "2", "-n", "telematics@%h", *QUIET)
JOB = "telematics.sync_connection"


def _run(command: list[str], **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")} | variables
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def platform(database: Database, redis_url: str, tmp_path: Path) -> Iterator[Processes]:
    """Processes with a database that knows the jobs."""
    settings = {"FLEET_MIGRATION_DATABASE_URL": database.migrator_url, "FLEET_ENCRYPTION_KEYS": ENCRYPTION_KEY}
    with processes(database, redis_url, tmp_path, settings) as started:
        subprocess.run([FLEET_JOBS, "migrate"], env=started.environment, check=True, capture_output=True, timeout=60)
        yield started


@pytest.fixture
def ids(platform: Processes, database: Database) -> tuple[str, str]:
    """A tenant and a connection of its own, which nobody syncs."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        tenant_id = make_tenant(admin)
        return str(tenant_id), str(make_connection(admin, tenant_id, "http://127.0.0.1:1"))


def _rows(database: Database) -> dict[UUID, Mapping[str, object]]:
    with psycopg.connect(database.admin_url, row_factory=dict_row) as admin:
        return {row["id"]: row for row in admin.execute("SELECT * FROM job_runs")}


def _check_row(database: Database, run_id: str, ids: tuple[str, str], asked_by: str) -> None:
    row = _rows(database)[UUID(run_id)]
    asked = {name: row[name] for name in ("job", "tenant_id", "args", "requested_by")}
    tenant_id, connection_id = ids
    assert asked == {
        "job": JOB,
        "tenant_id": UUID(tenant_id),
        "args": {"connection_id": connection_id},
        "requested_by": asked_by,
    }


def test_python_enqueues_by_sql(database: Database, ids: tuple[str, str]) -> None:
    script = str(EXAMPLES / "python" / "enqueue.py")
    run_id = _run([sys.executable, script, *ids], DATABASE_URL=database.app_url).strip()
    _check_row(database, run_id, ids, "a Python application")


@pytest.mark.skipif(shutil.which("psql") is None, reason="there is no psql here")
def test_a_sql_script_enqueues(database: Database, ids: tuple[str, str]) -> None:
    variables = ["-v", f"tenant_id={ids[0]}", "-v", f"connection_id={ids[1]}"]
    command = ["psql", database.app_url, "-qAt", *variables, "-f", str(EXAMPLES / "sql" / "enqueue.sql")]
    told = _run(command).splitlines()
    _check_row(database, told[1], ids, "a SQL script")
    assert told[3].startswith(f"{told[1]}|pending|")


def test_celery_messages_of_python_and_of_node_become_runs(
    platform: Processes, database: Database, redis_url: str, ids: tuple[str, str]
) -> None:
    script = str(EXAMPLES / "python" / "send_message.py")
    of_python = _run([sys.executable, script, *ids], REDIS_URL=redis_url).strip()
    of_node = str(uuid4())
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("fleet:telematics", _as_node_sends(of_node, {"tenant_id": ids[0], "connection_id": ids[1]}))
    platform.start("worker", [*CELERY, *WORKER])
    # The second finds the first pending, by its unique key: one of the two is the run.
    wait_until(lambda: _rows(database), what="a message to become a run")
    (run_id,) = _rows(database)
    assert str(run_id) in (of_python, of_node)
    _check_row(database, str(run_id), ids, "celery message")


def _as_node_sends(run_id: str, kwargs: dict[str, str]) -> str:
    """Return what `celery-node` hands to Redis for `examples/node/send-message.js`; the key's prefix is ioredis's."""
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps([[], kwargs, {}]).encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"lang": "js", "task": JOB, "id": run_id},
            "properties": {
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": "telematics"},
                "delivery_mode": 2,
                "delivery_tag": str(uuid4()),
                "correlationId": run_id,
                "replyTo": "",
            },
        }
    )


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node here")
@pytest.mark.parametrize("script", sorted((EXAMPLES / "node").glob("*.js")), ids=lambda path: path.name)
def test_node_can_read_its_examples(script: Path) -> None:
    _run(["node", "--check", str(script)])


def test_every_example_names_its_tenant_first_and_the_job_of_the_others() -> None:
    for name in ("sql/enqueue.sql", "python/enqueue.py", "node/enqueue.js", "rust/src/main.rs"):
        text = (EXAMPLES / name).read_text()
        assert 0 < text.index("set_config('app.tenant_id', ") < text.index("enqueue_job("), name
        assert JOB in text
