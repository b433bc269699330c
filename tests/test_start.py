"""A process that could only do harm does not start: one line that says what and where, and status 2."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.ledger.processes import FAST, processes
from tests.servers import Database

BIN = Path(sys.executable).parent
COMMANDS = {
    "worker": [str(BIN / "celery"), "-A", "jobs.app", "worker", "-Q", "lifecycle"],
    "beat": [str(BIN / "celery"), "-A", "jobs.app", "beat"],
    "relay": [str(BIN / "fleet-jobs"), "relay"],
}
WRONG = {
    "limits": ({"FLEET_VISIBILITY_TIMEOUT_S": "100"}, "must be less than FLEET_VISIBILITY_TIMEOUT_S 100 s"),
    "heartbeat": ({"FLEET_RESCUE_AFTER_S": "1"}, "rescue_after_s must be at least three times heartbeat_s"),
    "schema": ({}, "newer than this release"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_process_that_could_only_do_harm_does_not_start(
    database: Database, redis_url: str, tmp_path: Path, command: str, wrong: str
) -> None:
    settings, line = WRONG[wrong]
    with processes(database, redis_url, tmp_path, FAST | settings) as started:
        if wrong == "schema":
            with psycopg.connect(database.admin_url, autocommit=True) as admin:
                admin.execute("UPDATE alembic_version SET version_num = '9999'")
        done = subprocess.run(
            COMMANDS[command], cwd=tmp_path, env=started.environment, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2, done.stderr
    assert line in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
