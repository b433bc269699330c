"""The doctor: well when all is well, and each illness found, named and given its cure."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from sqlalchemy.engine import make_url

from db.encryption import new_key
from tests.cli.conftest import Answer, Cli, run_process, settings_of
from tests.factories import make_connection, make_tenant
from tests.notifications.conftest import Inbox, inbox
from tests.servers import Database

__all__ = ["inbox"]


def named(answer: Answer) -> dict[str, Any]:
    return {each["name"]: each for each in answer.objects}


@pytest.fixture
def ill(cli: Cli) -> Callable[[str], tuple[str, str, str]]:
    """Return what the doctor says of one thing, in a body that is otherwise well."""

    def look(name: str) -> tuple[str, str, str]:
        answer = cli("doctor", "--json")
        found = named(answer)
        assert answer.status == (1 if any(each["status"] == "fail" for each in found.values()) else 0)
        failed = {other for other, each in found.items() if each["status"] == "fail"}
        assert failed <= {name}
        return found[name]["status"], found[name]["found"], found[name]["fix"] or ""

    return look


def test_a_healthy_platform_has_no_failure_and_no_secret_is_printed(
    database: Database, redis_url: str, cli: Cli, tmp_path: Path
) -> None:
    answer = run_process(tmp_path, settings_of(database, redis_url), "doctor")

    assert (answer.status, answer.err) == (0, "")
    assert " 0 failed, 3 warned" in answer.out  # nobody works here, no beat ticks, no mail server
    assert "fail  " not in answer.out
    for secret in database.passwords.values():
        assert secret not in answer.out


def test_a_platform_at_work_is_all_ok(
    cli: Cli, admin: psycopg.Connection, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_SMTP_URL", inbox.url)
    monkeypatch.setenv("FLEET_MAIL_FROM", "Fleet <fleet@acme.example>")
    admin.execute("INSERT INTO worker_heartbeats (id, host, pid, name) VALUES (%s, 'h', 1, 'compute@h')", [uuid4()])
    admin.execute("INSERT INTO schedule_ticks VALUES ('retention.make_partitions', 'UTC', now())")

    found = named(cli("doctor", "--json"))

    assert {each["status"] for each in found.values()} == {"ok"}
    assert found["workers"]["found"] == "compute@h (1)"
    assert {"mail", "channels", "endpoints", "meter readings", "completed work orders"} <= set(found)
    assert {"limits", "LISTEN", "schema", "eviction", "persistence", "clock of Redis"} <= set(found)


def test_servers_that_are_away_are_named_and_the_rest_is_not_asked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE", "SYSTEM_DATABASE", "MIGRATION_DATABASE", "READ_DATABASE"):
        monkeypatch.setenv(f"FLEET_{name}_URL", "postgresql://fleet:hunter2@127.0.0.1:1/fleet")
    monkeypatch.setenv("FLEET_REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")

    answer = cli("doctor", "--json")

    assert answer.status == 1
    assert "hunter2" not in answer.out
    found = named(answer)
    for name in ("FLEET_DATABASE_URL", "FLEET_SYSTEM_DATABASE_URL"):
        assert found[name]["found"] == "cannot reach the database: connection refused: 127.0.0.1:1"
    assert found["FLEET_REDIS_URL"]["found"].endswith(": 127.0.0.1:1")
    assert "schema" not in found


def test_a_wrong_password_of_redis_is_told(cli: Cli, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = make_url(redis_url).set(password="hunter2").render_as_string(hide_password=False)
    monkeypatch.setenv("FLEET_REDIS_URL", wrong)

    answer = cli("doctor", "--json")

    assert "password" in named(answer)["FLEET_REDIS_URL"]["found"]
    assert "hunter2" not in answer.out


@pytest.mark.parametrize(
    ("variable", "role", "said"),
    [
        ("FLEET_DATABASE_URL", "system_url", "logs in as fleet_system"),
        ("FLEET_READ_DATABASE_URL", "worker_url", "logs in as fleet_worker"),
        ("FLEET_MIGRATION_DATABASE_URL", "admin_url", "logs in as"),
    ],
)
def test_another_role_than_expected_fails(
    variable: str,
    role: str,
    said: str,
    ill: Callable[[str], tuple[str, str, str]],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, getattr(database, role))

    status, found, _ = ill(variable)

    assert status == "fail"
    assert said in found


def test_a_role_that_sees_too_much_or_too_little_fails() -> None:
    from db.queries.health import Session
    from jobs.cli.check_database import _judge_role

    def judge(role: str, **changed: Any) -> str:
        system = role == "fleet_system"
        healthy = {
            "user": role,
            "is_superuser": False,
            "bypasses_rls": system,
            "row_security": "off" if system else "on",
            "version": 18,
            "server": "18.1",
            "is_replica": False,
            "now": datetime.now(UTC),
        }
        return _judge_role("X", role, Session(**{**healthy, **changed})).status

    for role in ("fleet_worker", "fleet_system", "fleet_migrator", "fleet_readonly"):
        assert judge(role) == "ok"
        assert judge(role, is_superuser=True) == "fail"
        assert judge(role, bypasses_rls=role != "fleet_system") == "fail"
    assert judge("fleet_system", row_security="on") == "fail"
    assert judge("fleet_worker", is_replica=True) == "fail"
    assert judge("fleet_readonly", is_replica=True) == "ok"


@pytest.mark.parametrize(("version", "status"), [(14, "fail"), (15, "ok"), (18, "ok"), (19, "warn")])
def test_the_versions_of_postgresql_that_we_know(version: int, status: str) -> None:
    from db.queries.health import Session
    from jobs.cli.check_database import _judge_version

    session = Session("x", False, False, "on", version, f"{version}.1", False, datetime.now(UTC))
    assert _judge_version(session).status == status


@pytest.mark.parametrize(
    ("ahead_s", "status"),
    [(0, "ok"), (0.9, "ok"), (-0.9, "ok"), (5, "warn"), (-5, "warn"), (31, "fail"), (-31, "fail")],
)
def test_the_skew_of_a_clock(ahead_s: float, status: str) -> None:
    from jobs.cli.check_database import judge_skew

    now = datetime.now(UTC)
    check = judge_skew("clock", now + timedelta(seconds=ahead_s), now.timestamp(), now.timestamp() + 0.01)

    assert check.status == status


@pytest.mark.parametrize(
    ("info", "eviction", "persistence"),
    [
        ({"maxmemory_policy": "noeviction", "maxmemory": 10, "aof_enabled": 1}, "ok", "ok"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 10, "aof_enabled": 0}, "fail", "warn"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 0, "rdb_last_bgsave_status": "err"}, "warn", "warn"),
        ({"maxmemory_policy": "noeviction", "aof_enabled": 1, "aof_last_write_status": "err"}, "ok", "fail"),
    ],
)
def test_a_redis_that_forgets(info: dict[str, Any], eviction: str, persistence: str) -> None:
    from jobs.cli.check_redis import _judge_eviction, _judge_persistence

    assert (_judge_eviction(info).status, _judge_persistence(info).status) == (eviction, persistence)


def test_a_real_redis_that_evicts_is_found(private_servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.cli.check_redis import check_redis
    from jobs.settings import load_settings

    for name, value in settings_of(private_servers.database, private_servers.redis_url).items():
        monkeypatch.setenv(name, value)
    with redis.Redis.from_url(private_servers.redis_url) as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")

    found = {check.name: check.status for check in check_redis(load_settings())}

    assert found == {"FLEET_REDIS_URL": "ok", "eviction": "fail", "persistence": "ok", "clock of Redis": "ok"}


def test_another_schema_fails_and_what_needs_it_is_not_asked(cli: Cli, admin: psycopg.Connection) -> None:
    admin.execute("UPDATE alembic_version SET version_num = '0001'")

    found = named(cli("doctor", "--json"))

    assert found["schema"]["status"] == "fail"
    assert found["schema"]["fix"] == "run `fleet-jobs migrate`"
    assert "job definitions" not in found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM job_definitions WHERE job = 'platform.ping'", "missing: platform.ping"),
        ("UPDATE job_definitions SET priority = 7 WHERE job = 'platform.ping'", "changed: platform.ping"),
        ("UPDATE job_definitions SET job = 'old.job' WHERE job = 'platform.ping'", "of another release: old.job"),
    ],
)
def test_a_door_that_knows_other_jobs_fails(
    change: str, said: str, ill: Callable[[str], tuple[str, str, str]], admin: psycopg.Connection
) -> None:
    admin.execute(change)

    status, found, fix = ill("job definitions")

    assert (status, fix) == ("fail", "run `fleet-jobs migrate`")
    assert said in found


def test_missing_partitions_warn_before_they_fail(
    ill: Callable[[str], tuple[str, str, str]], admin: psycopg.Connection
) -> None:
    now = datetime.now(UTC)
    admin.execute(f"DROP TABLE telemetry_p{now + timedelta(days=2):%Y%m%d}")
    assert ill("partitions")[0] == "warn"
    admin.execute(f"DROP TABLE telemetry_p{now:%Y%m%d}")
    assert ill("partitions") == (
        "fail",
        "telemetry has none for now: points are refused",
        "fleet-jobs run retention.make_partitions --wait",
    )


@pytest.mark.parametrize(("age", "status"), [("30 s", "ok"), ("5 min", "warn"), ("1 h", "fail")])
def test_what_waits_for_long_is_found(
    age: str, status: str, ill: Callable[[str], tuple[str, str, str]], admin: psycopg.Connection
) -> None:
    admin.execute(
        "INSERT INTO job_runs (job, queue, run_at) VALUES ('platform.ping', 'lifecycle', now() - %s::interval)", [age]
    )

    assert ill("oldest due run")[0] == status
    admin.execute("INSERT INTO job_controls (kind, name, paused_by) VALUES ('queue', 'lifecycle', 'x')")
    assert ill("oldest due run") == ("ok", "nothing waits", "")


def test_that_nobody_works_is_told_with_whether_anybody_should(
    ill: Callable[[str], tuple[str, str, str]], admin: psycopg.Connection
) -> None:
    admin.execute(
        "INSERT INTO worker_heartbeats (id, host, pid, name, beat_at, stopped_at) VALUES"
        " (gen_random_uuid(), 'h', 1, 'silent@h', now() - interval '9 s', NULL),"
        " (gen_random_uuid(), 'h', 2, 'stopped@h', now(), now())"
    )
    assert ill("workers")[:2] == ("warn", "none is alive, none is needed")
    admin.execute("INSERT INTO job_runs (job, queue) VALUES ('platform.ping', 'lifecycle')")
    assert ill("workers")[:2] == ("warn", "none has given a sign of life")


def test_a_beat_that_has_stopped_is_found(
    ill: Callable[[str], tuple[str, str, str]], admin: psycopg.Connection
) -> None:
    admin.execute(
        "INSERT INTO schedule_ticks VALUES ('retention.make_partitions', 'UTC', now() - interval '3 h'),"
        " ('old.job', 'UTC', now() - interval '1 year')"
    )

    status, found, _ = ill("beat")

    assert status == "warn"
    assert found.startswith("retention.make_partitions should have ticked ")


class TestKeys:
    @pytest.fixture
    def connection_id(self, admin: psycopg.Connection, cli: Cli) -> UUID:
        return make_connection(admin, make_tenant(admin), "http://127.0.0.1:1")

    def test_an_old_key_warns(
        self, connection_id: UUID, ill: Callable[[str], tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import os

        assert ill("encryption keys")[0] == "ok"
        monkeypatch.setenv("FLEET_ENCRYPTION_KEYS", f"{new_key()},{os.environ['FLEET_ENCRYPTION_KEYS']}")
        assert ill("encryption keys") == (
            "warn",
            "1 of 1 connections are under an old key",
            "fleet-jobs connections rekey",
        )

    @pytest.mark.parametrize(
        ("keys", "said"),
        [
            ("", "none, and 1 connections need one"),
            ("hunter2", "key 1: expected base64 of 32 bytes"),
            (new_key(), "1 of 1 connections cannot be decrypted: "),
        ],
        ids=["none", "not-a-key", "another-key"],  # a random key would be another test in every process
    )
    def test_a_key_that_is_missing_fails(
        self,
        keys: str,
        said: str,
        connection_id: UUID,
        ill: Callable[[str], tuple[str, str, str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("FLEET_ENCRYPTION_KEYS", keys)

        status, found, _ = ill("encryption keys")

        assert status == "fail"
        assert said in found


def test_limits_out_of_order_fail(ill: Callable[[str], tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_VISIBILITY_TIMEOUT_S", "200")

    status, found, _ = ill("limits")

    assert status == "fail"
    assert "platform.ping: time_limit 270 s must be less than FLEET_VISIBILITY_TIMEOUT_S 200 s" in found


def test_a_timescaledb_that_deletes_by_itself_fails(
    timescale_database: Database, redis_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(timescale_database.admin_url, autocommit=True) as admin:
        # Nobody logs in as our owner, so TimescaleDB refuses him policies: it takes an administrator to make one.
        admin.execute("ALTER TABLE hyper.telemetry OWNER TO CURRENT_USER")
        admin.execute("SELECT add_retention_policy('hyper.telemetry', INTERVAL '90 days')")

    answer = run_process(tmp_path, settings_of(timescale_database, redis_url), "doctor", "--json")

    found = named(answer)
    assert found["retention policies"]["status"] == "fail"
    assert "hyper.telemetry" in found["retention policies"]["fix"]
