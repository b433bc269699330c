"""What the containers run beside the platform: secrets made once, an entrypoint, a look at whether a process lives."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url

from db.encryption import Keyring
from jobs.settings import Settings
from ops.make_secrets import main as make_secrets
from tests.docs.pages import ROOT
from tests.ledger.processes import Processes, processes, wait_until
from tests.servers import Database, PrivateServers

OPS = ROOT / "ops"
FLEET_JOBS = str(Path(sys.executable).with_name("fleet-jobs"))


def test_the_secrets_are_settings_that_fit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FLEET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    secrets = tmp_path / "secrets"

    assert make_secrets(secrets) == 0

    settings: Any = Settings(_secrets_dir=str(secrets))  # type: ignore[call-arg]
    roles = {"database": "fleet_worker", "system_database": "fleet_system", "migration_database": "fleet_migrator"}
    passwords = set()
    for name, role in roles.items():
        url = make_url(getattr(settings, f"{name}_url").get_secret_value())
        assert url.username == role
        passwords.add(url.password)
    assert len(passwords) == 3
    assert Keyring.from_settings([key.get_secret_value() for key in settings.encryption_keys]) is not None
    told = {path.name: path.read_text().strip() for path in secrets.iterdir()}
    assert told["fleet_redis_url"] == f"redis://:{told['valkey_auth'].removeprefix('requirepass ')}@valkey:6379/0"
    assert make_url(told["fleet_admin_database_url"]).password == told["postgres_password"]
    assert make_url(told["fleet_app_database_url"]).password == told["fleet_app_password"]
    pooled = [make_url(told[name]) for name in ("fleet_database_url", "fleet_app_database_url")]
    assert told["pgbouncer_userlist"].splitlines() == [f'"{url.username}" "{url.password}"' for url in pooled]
    assert secrets.stat().st_mode & 0o777 == 0o700


def test_secrets_are_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_secrets(tmp_path / "secrets")
    before = {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}

    assert make_secrets(tmp_path / "secrets") == 1

    assert "nothing was written" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()} == before


def test_secrets_are_not_to_be_committed() -> None:
    assert "/secrets/" in (OPS / ".gitignore").read_text().splitlines()
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "check-ignore", "-q", "ops/secrets/postgres_password"]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_the_entrypoint_hands_on_what_workers_and_flower_read(tmp_path: Path) -> None:
    (tmp_path / "flower_basic_auth").write_text("fleet:secret\n")
    command = ["sh", str(OPS / "entrypoint.sh"), "sh", "-c", 'echo "$REMAP_SIGTERM $FLOWER_BASIC_AUTH $$"']
    with subprocess.Popen(
        command, env={"FLEET_SECRETS_DIR": str(tmp_path), "PATH": os.environ["PATH"]}, stdout=subprocess.PIPE, text=True
    ) as process:
        told, _ = process.communicate(timeout=20)
    assert told == f"SIGQUIT fleet:secret {process.pid}\n"


@pytest.mark.skipif(shutil.which("psql") is None, reason="there is no psql here")
def test_the_first_start_gives_the_role_of_the_applications_its_password(
    private_servers: PrivateServers, tmp_path: Path
) -> None:
    (tmp_path / "fleet_app_password").write_text("from-a-file\n")
    script = (OPS / "initdb" / "fleet_app.sql").read_text().replace("/run/secrets", str(tmp_path))
    database = private_servers.database
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("DROP OWNED BY fleet_app")
        admin.execute("DROP ROLE fleet_app")
    command = ["psql", database.admin_url, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    subprocess.run(command, input=script, check=True, capture_output=True, text=True, timeout=60)
    database.grant()
    url = make_url(database.app_url).set(password="from-a-file").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("fleet_app",)


@pytest.fixture
def relay(private_servers: PrivateServers, tmp_path: Path) -> Iterator[Processes]:
    """A relay, which is all that speaks to its database."""
    with processes(private_servers.database, private_servers.redis_url, tmp_path, {}) as started:
        started.start("relay", [FLEET_JOBS, "relay"])
        yield started


def _health(database: Database, within_s: str) -> int:
    command = [sys.executable, str(OPS / "health.py"), within_s]
    environment = {"FLEET_SYSTEM_DATABASE_URL": database.system_url}
    return subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60).returncode


def test_a_relay_is_healthy_while_it_works_and_not_when_it_is_frozen(
    relay: Processes, private_servers: PrivateServers
) -> None:
    wait_until(lambda: _health(private_servers.database, "30") == 0, what="the relay to be heard of")
    relay.signal("relay", signal.SIGSTOP)
    wait_until(lambda: _health(private_servers.database, "3") == 1, what="the frozen relay to be missed")
    relay.signal("relay", signal.SIGCONT)
    wait_until(lambda: _health(private_servers.database, "3") == 0, what="the relay to be heard of again")
    private_servers.postgres.stop()
    assert _health(private_servers.database, "30") == 1
