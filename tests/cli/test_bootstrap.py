"""From an empty cluster to a schema with two commands."""

from pathlib import Path

import psycopg
import pytest

from jobs.embedded.postgres import EmbeddedPostgres
from tests.cli.conftest import Cli

ROLES = {
    "FLEET_DATABASE_URL": "fleet_worker",
    "FLEET_SYSTEM_DATABASE_URL": "fleet_system",
    "FLEET_MIGRATION_DATABASE_URL": "fleet_migrator",
    "FLEET_READ_DATABASE_URL": "fleet_readonly",
}


def test_an_empty_cluster_is_ready_after_two_commands(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEET_REDIS_URL", "redis://127.0.0.1:1/0")
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
            admin.execute("CREATE DATABASE fleet")
        for name, role in ROLES.items():
            monkeypatch.setenv(name, postgres.url(role, f"{role}'s % pass", "fleet"))
        missing = cli("bootstrap")
        monkeypatch.setenv("FLEET_ADMIN_DATABASE_URL", postgres.admin_url_of("fleet"))
        first, second, migrated = cli("bootstrap"), cli("bootstrap"), cli("migrate")
        monkeypatch.setenv("FLEET_ADMIN_DATABASE_URL", postgres.url("fleet_worker", "hunter2", "fleet"))
        refused = cli("bootstrap")
    assert (missing.status, missing.line[:40]) == (2, "fleet-jobs: bad settings: FLEET_ADMIN_DA")
    assert (first.status, second.status, migrated.status) == (0, 0, 0), (first.err, migrated.err)
    assert "fleet_migrator, fleet_readonly, fleet_system, fleet_worker" in first.out
    assert "schema empty -> 0" in migrated.out
    assert refused.status == 1
    assert "hunter2" not in refused.line
