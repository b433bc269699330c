"""The ways in: SQL, Python, and a plain Celery message; what each lets through and what it refuses."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from kombu.connection import Connection as Broker
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.ledger.ledger import Ledger, Platform, enqueue, enqueue_many
from tests.ledger.processes import ROOT, wait_until
from tests.servers import Database

TYPES: dict[str, Any] = {
    "a_uuid": "0b6f2f7e-6f0a-4f0e-9a53-0d1c9a3f7e11",
    "a_string": "Straße",
    "an_integer": 1,
    "a_number": 0.5,
    "a_boolean": True,
    "a_date": "2026-03-29",
    "a_datetime": "2026-03-29T02:30:00Z",
}


@pytest.fixture
def ledger(platform: Platform) -> Ledger:
    return platform.ledger


@pytest.fixture
def tenant_id(ledger: Ledger) -> UUID:
    return ledger.tenant()


def test_a_run_exists_if_and_only_if_the_application_commits(ledger: Ledger, tenant_id: UUID) -> None:
    with ledger.application(tenant_id) as connection:
        undone = enqueue(connection, "test.effect", {})
        connection.rollback()
    kept = ledger.enqueue("test.effect", tenant_id=tenant_id)
    ledger.wait(kept)
    assert [run["id"] for run in ledger.runs(tenant_id)] == [kept]
    assert ledger.effects(undone) == 0


def test_a_run_is_not_started_before_its_transaction_commits_nor_before_its_time(
    ledger: Ledger, tenant_id: UUID
) -> None:
    with ledger.application(tenant_id) as connection:
        soon = connection.execute("SELECT enqueue_job('test.effect', run_at => now() + INTERVAL '1 s')").fetchone()
        held = enqueue(connection, "test.effect", {})
        other = ledger.enqueue("test.effect", tenant_id=ledger.tenant())
        ledger.wait(other)
        assert ledger.effects(held) == 0
        committed_after = ledger.now()
    assert soon is not None
    assert ledger.wait(held)["started_at"] > committed_after
    run = ledger.wait(soon[0])
    assert run["started_at"] >= run["run_at"]


def test_of_transactions_in_flight_one_wakes_the_relays_and_none_waits_for_another(database: Database) -> None:
    alone = Ledger(database)
    alone.admin.execute(
        "INSERT INTO job_definitions (job, queue, scope, is_public, max_attempts, priority, parameters, description)"
        " VALUES ('test.effect', 'lifecycle', 'tenant', true, 1, 100, '{}', '')"
    )
    tenant_id = alone.tenant()

    def woken() -> int:
        return len(list(alone.admin.notifies(timeout=0.2)))

    alone.admin.execute("LISTEN fleet_jobs")
    with alone.application(tenant_id) as first:
        enqueue(first, "test.effect", {})
        enqueue(first, "test.effect", {})
        for _ in range(3):
            with alone.application(tenant_id) as other:
                other.execute("SET LOCAL lock_timeout = '100ms'")
                enqueue(other, "test.effect", {})
        assert woken() == 0
    assert woken() == 1
    with pytest.raises(RuntimeError), alone.application(tenant_id) as undone:
        enqueue(undone, "test.effect", {})
        raise RuntimeError
    assert woken() == 0
    alone.enqueue("test.effect", tenant_id=tenant_id)
    assert woken() == 1
    assert len(alone.runs(tenant_id)) == 6
    alone.close()


def test_the_row_says_who_asked(ledger: Ledger, tenant_id: UUID) -> None:
    parent = ledger.enqueue("test.effect", tenant_id=tenant_id)
    run_id = ledger.enqueue(
        "test.effect",
        tenant_id=tenant_id,
        requested_by="billing",
        parent_id=parent,
        trace_context="00-ab-cd-01",
        priority=105,
    )
    run = ledger.wait(run_id)
    asked = {name: run[name] for name in ("requested_by", "parent_id", "trace_context", "priority", "tenant_id")}
    assert asked == {
        "requested_by": "billing",
        "parent_id": parent,
        "trace_context": "00-ab-cd-01",
        "priority": 105,
        "tenant_id": tenant_id,
    }
    assert ledger.run(parent)["requested_by"] == "fleet_app"


REFUSED: list[tuple[str, str, Any, type[psycopg.Error], str]] = [
    ("no such job", "test.absent", {}, errors.UndefinedObject, 'job: there is no job "test.absent" to enqueue'),
    ("not public", "test.private", {}, errors.UndefinedObject, 'job: there is no job "test.private" to enqueue'),
    (
        "not for a tenant",
        "test.platform_wide",
        {},
        errors.InvalidParameterValue,
        "test.platform_wide: tenant_id: not taken, the job is for the whole platform",
    ),
    (
        "not an object",
        "test.effect",
        [1],
        errors.InvalidParameterValue,
        "test.effect: arguments: expected an object, got array",
    ),
    (
        "null",
        "test.effect",
        None,
        errors.InvalidParameterValue,
        "test.effect: arguments: expected an object, got null",
    ),
]


@pytest.mark.parametrize(
    ("job", "args", "error", "message"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_the_door_refuses_a_job_that_is_not_to_be_had(
    ledger: Ledger, tenant_id: UUID, job: str, args: Any, error: type[psycopg.Error], message: str
) -> None:
    with pytest.raises(error) as refused, ledger.application(tenant_id) as connection:
        enqueue(connection, job, args)
    assert refused.value.diag.message_primary == message
    assert ledger.runs(tenant_id) == []


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("missing", {"a_uuid": ...}, "a_uuid: missing"),
    ("null", {"an_integer": None}, "an_integer: missing"),
    ("unknown", {"a_surprise": 1}, "a_surprise: not an argument of this job"),
    ("number for uuid", {"a_uuid": 7}, "a_uuid: expected uuid, got number"),
    ("short uuid", {"a_uuid": "0b6f2f7e"}, "a_uuid: expected uuid, got a string of 8 characters"),
    ("uuid in braces", {"a_uuid": f"{{{uuid4()}}}"}, "a_uuid: expected uuid, got a string of 38 characters"),
    ("uuid and a line", {"a_uuid": f"{uuid4()}\n"}, "a_uuid: expected uuid, got a string of 37 characters"),
    ("number for string", {"a_string": 7}, "a_string: expected string, got number"),
    ("string for integer", {"an_integer": "7"}, "an_integer: expected integer, got string"),
    ("fraction for integer", {"an_integer": 7.5}, "an_integer: expected integer, got number"),
    ("boolean for integer", {"an_integer": True}, "an_integer: expected integer, got boolean"),
    ("string for number", {"a_number": "7"}, "a_number: expected number, got string"),
    ("number for boolean", {"a_boolean": 1}, "a_boolean: expected boolean, got number"),
    ("string for boolean", {"a_boolean": "true"}, "a_boolean: expected boolean, got string"),
    ("instant for date", {"a_date": "2026-03-29T00:00:00Z"}, "a_date: expected date, got a string of 20 characters"),
    ("no such date", {"a_date": "2026-02-30"}, "a_date: expected date, got a string of 10 characters"),
    ("date for instant", {"a_datetime": "2026-03-29"}, "a_datetime: expected datetime, got a string of 10 characters"),
    (
        "instant without zone",
        {"a_datetime": "2026-03-29T02:30:00"},
        "a_datetime: expected datetime, got a string of 19 characters",
    ),
    (
        "no such instant",
        {"a_datetime": "2026-13-29T02:30:00Z"},
        "a_datetime: expected datetime, got a string of 20 characters",
    ),
    (
        "instant without seconds",
        {"a_datetime": "2026-03-29T02:30Z"},
        "a_datetime: expected datetime, got a string of 17 characters",
    ),
    ("whole fraction for integer", {"an_integer": 7.0}, "an_integer: expected integer, got number"),
    ("day 0", {"a_date": "2026-03-00"}, "a_date: expected date, got a string of 10 characters"),
    ("year 0", {"a_date": "0000-03-01"}, "a_date: expected date, got a string of 10 characters"),
    ("no leap year", {"a_date": "2100-02-29"}, "a_date: expected date, got a string of 10 characters"),
    ("hour 24", {"a_datetime": "2026-03-29T24:00:00Z"}, "a_datetime: expected datetime, got a string of 20 characters"),
    (
        "offset 24",
        {"a_datetime": "2026-03-29T02:30:00+24:00"},
        "a_datetime: expected datetime, got a string of 25 characters",
    ),
    ("wrong option", {"an_option": "x"}, "an_option: expected integer, got string"),
    ("object for string", {"a_string": {}}, "a_string: expected string, got object"),
]


@pytest.mark.parametrize(("change", "problem"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_the_door_refuses_arguments_that_break_the_contract_and_names_the_field(
    ledger: Ledger, tenant_id: UUID, change: dict[str, Any], problem: str
) -> None:
    args = {name: value for name, value in {**TYPES, **change}.items() if value is not ...}
    with pytest.raises(errors.InvalidParameterValue) as one, ledger.application(tenant_id) as connection:
        enqueue(connection, "test.types", args)
    assert one.value.diag.message_primary == f"test.types: {problem}"
    with pytest.raises(errors.InvalidParameterValue) as many, ledger.application(tenant_id) as connection:
        enqueue_many(connection, "test.types", [TYPES, TYPES, args])
    assert many.value.diag.message_primary == f"test.types[2]: {problem}"
    assert ledger.runs(tenant_id) == []


TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("as they are", {}),
    ("option given", {"an_option": 9}),
    ("uuid in capitals", {"a_uuid": TYPES["a_uuid"].upper()}),
    ("whole number", {"a_number": 7}),
    ("huge integer", {"an_integer": 10**30}),
    ("null for an option", {"an_option": None}),
    ("leap day", {"a_date": "2024-02-29"}),
    ("first and last day", {"a_date": "0001-01-01", "a_datetime": "9999-12-31T23:59:59+23:59"}),
    ("instant with an offset", {"a_datetime": "2026-03-29T02:30:00.123456+05:45"}),
    ("instant with a space", {"a_datetime": "2026-03-29 02:30:00Z"}),
    ("empty string", {"a_string": ""}),
    ("quotes", {"a_string": "'; DROP TABLE job_runs; --"}),
]


@pytest.mark.parametrize("change", [case[1] for case in TAKEN], ids=[case[0] for case in TAKEN])
def test_what_the_door_lets_in_the_job_takes(ledger: Ledger, tenant_id: UUID, change: dict[str, Any]) -> None:
    run = ledger.wait(ledger.enqueue("test.types", {**TYPES, **change}, tenant_id=tenant_id))
    assert (run["state"], run["error"]) == ("succeeded", None)
    assert run["counts"] == {"option": change.get("an_option") or 7}


def test_another_tenant_is_refused(ledger: Ledger, tenant_id: UUID) -> None:
    other = ledger.tenant()
    for statement in (
        "enqueue_job('test.effect', tenant_id => %s)",
        "enqueue_jobs('test.effect', '{}', tenant_id => %s)",
    ):
        with pytest.raises(errors.InsufficientPrivilege) as refused, ledger.application(tenant_id) as connection:
            connection.execute(f"SELECT {statement}", [other])
        assert refused.value.sqlstate == "42501"
    assert ledger.runs(other) == []


def test_an_application_without_a_tenant_is_told_how_to_name_one(ledger: Ledger) -> None:
    with pytest.raises(errors.InsufficientPrivilege) as refused, ledger.application(None) as connection:
        enqueue(connection, "test.effect", {})
    assert "app.tenant_id" in str(refused.value.diag.message_hint)


def test_a_tenant_that_does_not_exist_is_refused(ledger: Ledger) -> None:
    with pytest.raises(errors.InvalidParameterValue), ledger.application(uuid4()) as connection:
        enqueue(connection, "test.effect", {})


def test_a_tenant_cannot_write_the_ledger_itself(ledger: Ledger, tenant_id: UUID) -> None:
    for statement in (
        "INSERT INTO job_runs (job, queue, tenant_id) VALUES ('test.private', 'lifecycle', app_tenant_id())",
        "UPDATE job_runs SET state = 'pending'",
        "DELETE FROM job_runs",
    ):
        with pytest.raises(errors.InsufficientPrivilege), ledger.application(tenant_id) as connection:
            connection.execute(statement)


def test_enqueuing_many_is_all_or_nothing(ledger: Ledger, tenant_id: UUID) -> None:
    with pytest.raises(errors.InvalidParameterValue), ledger.application(tenant_id) as connection:
        enqueue_many(connection, "test.effect", [{}] * 500 + [{"work_ms": "long"}])
    assert ledger.runs(tenant_id) == []
    assert ledger.enqueue_many("test.effect", [{}] * 200, tenant_id=tenant_id) == 200
    runs = ledger.wait_for_all(tenant_id)
    assert [run["state"] for run in runs] == ["succeeded"] * 200
    assert {ledger.effects(run["id"]) for run in runs} == {1}


def test_a_taken_unique_key_returns_the_run_that_has_it(ledger: Ledger, tenant_id: UUID, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    args = {"vehicle_id": str(uuid4()), "path": str(gate)}
    first = ledger.enqueue("test.one_at_a_time", args, tenant_id=tenant_id)
    wait_until(lambda: list(tmp_path.glob("gate.*")))
    assert ledger.run(first)["state"] == "running"
    assert ledger.enqueue("test.one_at_a_time", args, tenant_id=tenant_id) == first
    capitals = {**args, "vehicle_id": args["vehicle_id"].upper()}
    assert ledger.enqueue_many("test.one_at_a_time", [args, capitals, args], tenant_id=tenant_id) == 0
    other = ledger.enqueue("test.one_at_a_time", args, tenant_id=ledger.tenant())
    assert other != first, "another tenant's keys are its own"
    gate.unlink()
    ledger.wait(first)
    again = ledger.enqueue("test.one_at_a_time", args, tenant_id=tenant_id)
    assert again != first
    ledger.wait(again)


def test_a_caller_cannot_key_a_run_past_the_jobs_own_key(ledger: Ledger, tenant_id: UUID) -> None:
    args = {"vehicle_id": str(uuid4()), "path": "none"}
    for url in (ledger.database.app_url, ledger.database.system_url):
        with pytest.raises(errors.InvalidParameterValue) as refused, psycopg.connect(url) as connection:
            connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant_id)])
            enqueue(connection, "test.one_at_a_time", args, unique_key="mine")
        assert refused.value.diag.message_primary == "test.one_at_a_time: unique_key: the job has its own"
    assert ledger.runs(tenant_id) == []


def test_two_lists_of_arguments_are_one_key_only_if_they_are_equal(ledger: Ledger) -> None:
    def key(*values: Any) -> str:
        names = [f"argument_{place}" for place in range(len(values))]
        args = {name: value for name, value in zip(names, values, strict=True) if value is not ...}
        return str(ledger.one("SELECT job_unique_key(%s::text[], %s) AS key", [names, Jsonb(args)])["key"])

    an_id = str(uuid4())
    different = [
        key(),
        key("a/b", "c"),
        key("a", "b/c"),
        key("a", "b", "c"),
        key("A", "b/c"),
        key('a", "b', "c"),
        key("7"),
        key(7),
        key(""),
        key(None),
        key(an_id),
    ]
    assert len(set(different)) == len(different)
    assert key(an_id.upper()) == key(an_id)
    assert key(...) == key(None)
    assert ledger.one("SELECT job_unique_key(NULL, '{}') AS key")["key"] is None


def test_only_the_platform_goes_before_a_jobs_own_priority(ledger: Ledger, tenant_id: UUID) -> None:
    for url in (ledger.database.app_url, ledger.database.worker_url, ledger.database.system_url):
        with psycopg.connect(url) as connection:
            connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant_id)])
            for priority in (-(10**6), 5, 100, 130, 10**6):
                for door, args in (("enqueue_job", "{}"), ("enqueue_jobs", '{"{}"}')):
                    connection.execute(
                        f"SELECT {door}('test.effect', %s, priority => %s, requested_by => %s,"
                        " run_at => now() + INTERVAL '1 day')".encode(),
                        [args, priority, f"{connection.info.user} {priority}"],
                    )
    given = {(run["requested_by"], run["priority"]) for run in ledger.runs(tenant_id)}
    bounded = [(-(10**6), 100), (5, 100), (100, 100), (130, 130), (10**6, 32767)]
    exact = [(-(10**6), -32768), (5, 5), (100, 100), (130, 130), (10**6, 32767)]
    expected = {"fleet_app": bounded, "fleet_worker": bounded, "fleet_system": exact}
    assert given == {(f"{role} {asked}", got) for role, pairs in expected.items() for asked, got in pairs}
    ledger.admin.execute("DELETE FROM job_runs WHERE tenant_id = %s", [tenant_id])


@pytest.mark.parametrize("door", ["enqueue_job('test.effect', '{}'", "enqueue_jobs('test.effect', ARRAY[jsonb '{}']"])
def test_a_run_starts_at_an_instant_that_can_come(ledger: Ledger, tenant_id: UUID, door: str) -> None:
    for run_at, problem in (
        ("'infinity'", "expected an instant"),
        ("'-infinity'", "expected an instant"),
        ("now() + INTERVAL '11 years'", "more than 10 years ahead"),
    ):
        with pytest.raises(errors.InvalidParameterValue) as refused, ledger.application(tenant_id) as connection:
            connection.execute(f"SELECT {door}, run_at => {run_at})".encode())
        assert refused.value.diag.message_primary == f"test.effect: run_at: {problem}"
    with ledger.application(tenant_id) as connection:
        connection.execute(f"SELECT {door}, run_at => '0044-03-15 BC')".encode())
    (run,) = ledger.runs(tenant_id)
    assert run["run_at"] == run["created_at"]


def test_only_the_platform_chooses_the_id_of_a_run(ledger: Ledger, tenant_id: UUID) -> None:
    theirs = ledger.enqueue("test.effect", tenant_id=ledger.tenant())
    for url in (ledger.database.app_url, ledger.database.worker_url):
        for run_id in (theirs, uuid4()):
            with pytest.raises(errors.InsufficientPrivilege) as refused, psycopg.connect(url) as connection:
                connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant_id)])
                enqueue(connection, "test.effect", {}, run_id=run_id)
            assert refused.value.diag.message_primary == "run_id: not for this role to choose"
    assert ledger.runs(tenant_id) == []


def test_many_sessions_that_race_for_a_unique_key_make_one_run(ledger: Ledger, tenant_id: UUID) -> None:
    with ledger.application(tenant_id) as first, ledger.application(tenant_id) as second:
        held = enqueue(first, "test.effect", {}, unique_key="night", run_at=ledger.now() + timedelta(days=900))
        second.execute("SET LOCAL lock_timeout = '100ms'")
        with pytest.raises(errors.LockNotAvailable):
            enqueue(second, "test.effect", {}, unique_key="night")
        second.rollback()
    assert ledger.enqueue("test.effect", tenant_id=tenant_id, unique_key="night") == held
    assert len(ledger.runs(tenant_id)) == 1


def test_the_python_client_enqueues_in_its_callers_transaction(
    ledger: Ledger, tenant_id: UUID, platform: Platform
) -> None:
    command = [sys.executable, "-m", "tests.ledger.enqueue_from_python", ledger.database.app_url, str(tenant_id)]
    told = subprocess.run(
        command, cwd=ROOT, env=platform.processes.environment, check=True, capture_output=True, text=True, timeout=60
    )
    kept, added, undone, refused = told.stdout.splitlines()
    runs = ledger.wait_for_all(tenant_id)
    assert added == "5"
    assert len(runs) == 6
    assert UUID(undone) not in {run["id"] for run in runs}
    assert {run["state"] for run in runs} == {"succeeded"}
    assert ledger.run(UUID(kept))["requested_by"] == "a Python application"
    assert refused == "test.slices: of: Expected `int`, got `str`"


def _send(
    platform: Platform, job: str, kwargs: dict[str, Any], *, args: Any = (), task_id: str, times: int = 1
) -> None:
    """Publish as celery-node does: three headers, a body of three parts, nothing else."""
    body = json.dumps([args, kwargs, {}])
    prefix = {"global_keyprefix": "fleet:"}
    with Broker(platform.redis_url, transport_options=prefix) as connection:
        producer = connection.Producer()
        for _ in range(times):
            producer.publish(
                body,
                routing_key="lifecycle",
                content_type="application/json",
                content_encoding="utf-8",
                headers={"lang": "js", "task": job, "id": task_id},
            )


def _row(ledger: Ledger, run_id: UUID) -> dict[str, Any]:
    wait_until(lambda: ledger.one("SELECT count(*) AS n FROM job_runs WHERE id = %s", [run_id])["n"])
    return ledger.wait(run_id)


def test_a_plain_celery_message_runs_once_however_often_it_is_delivered(
    platform: Platform, ledger: Ledger, tenant_id: UUID
) -> None:
    run_id = uuid4()
    _send(platform, "test.effect", {"tenant_id": str(tenant_id), "work_ms": 5}, task_id=str(run_id), times=3)
    run = _row(ledger, run_id)
    assert (run["state"], run["requested_by"], run["tenant_id"]) == ("succeeded", "celery message", tenant_id)
    _send(platform, "test.effect", {"tenant_id": str(tenant_id), "work_ms": 5}, task_id=str(run_id), times=2)
    after = ledger.enqueue("test.effect", tenant_id=tenant_id)
    ledger.wait(after)
    assert {one["id"] for one in ledger.runs(tenant_id)} == {run_id, after}
    assert ledger.effects(run_id) == 1


def test_a_message_id_that_is_no_uuid_is_as_good(platform: Platform, ledger: Ledger, tenant_id: UUID) -> None:
    for _ in range(2):
        _send(platform, "test.effect", {"tenant_id": str(tenant_id)}, task_id=f"order 66 of {tenant_id}")
    wait_until(lambda: ledger.runs(tenant_id))
    runs = ledger.wait_for_all(tenant_id)
    assert [ledger.effects(run["id"]) for run in runs] == [1]


MESSAGES: list[tuple[str, str, Any, dict[str, Any], str]] = [
    ("by position", "test.effect", [5], {}, "test.effect: arguments: expected by name, got 1 by position"),
    ("wrong type", "test.effect", [], {"work_ms": "x"}, "test.effect: work_ms: expected integer, got string"),
    ("unknown", "test.effect", [], {"colour": "x"}, "test.effect: colour: not an argument of this job"),
    (
        "not public",
        "test.private",
        [],
        {},
        "test.private: not a job that other applications may enqueue",
    ),
    (
        "nul",
        "test.effect",
        [],
        {"colour": "\0"},
        "test.effect: arguments: a value that cannot be stored",
    ),
    (
        "half a character",
        "test.effect",
        [],
        {"colour": "\ud800"},
        "test.effect: arguments: a value that cannot be stored",
    ),
    (
        "not a number",
        "test.effect",
        [],
        {"work_ms": float("nan")},
        "test.effect: arguments: a value that cannot be stored",
    ),
    ("too large", "test.effect", [], {"colour": "x" * 100_000}, "test.effect: arguments: more than 65536 bytes"),
    ("no tenant", "test.effect", [], {"tenant_id": ...}, "test.effect: tenant_id: missing, the job is for one tenant"),
    ("no uuid", "test.effect", [], {"tenant_id": 7}, "test.effect: tenant_id: expected uuid, got int"),
    ("nobody", "test.effect", [], {"tenant_id": str(uuid4())}, "test.effect: tenant_id: no such tenant"),
    ("runs that are no ids", "test.effect", [], {"run_ids": ["x"]}, "test.effect: run_ids: expected a list of uuids"),
    ("runs that are no list", "test.effect", [], {"run_ids": 7}, "test.effect: run_ids: expected a list of uuids"),
]


@pytest.mark.parametrize(
    ("job", "args", "kwargs", "reason"), [case[1:] for case in MESSAGES], ids=[c[0] for c in MESSAGES]
)
def test_a_message_that_can_never_run_is_a_dead_letter_with_its_reason(
    platform: Platform, ledger: Ledger, tenant_id: UUID, job: str, args: Any, kwargs: dict[str, Any], reason: str
) -> None:
    run_id = uuid4()
    given = {name: value for name, value in {"tenant_id": str(tenant_id), **kwargs}.items() if value is not ...}
    _send(platform, job, given, args=args, task_id=str(run_id), times=2)
    run = _row(ledger, run_id)
    assert run["error"] == {"type": "InvalidArguments", "message": reason}
    assert (run["state"], run["job"], run["attempt"]) == ("failed", job, 0)
    assert len(json.dumps(run["args"])) < 70_000


def test_a_message_cannot_run_one_job_as_another(platform: Platform, ledger: Ledger, tenant_id: UUID) -> None:
    later = ledger.now() + timedelta(days=900)
    ledger.admin.execute("INSERT INTO job_controls (kind, name, paused_by) VALUES ('job', 'test.keyed', 'a test')")
    try:
        run_id = ledger.enqueue("test.keyed", tenant_id=tenant_id)
        future = ledger.enqueue("test.keyed", tenant_id=tenant_id, run_at=later)
        ledger.admin.execute("DELETE FROM job_controls WHERE name = 'test.keyed'")
        _send(platform, "test.effect", {"run_ids": [str(run_id), str(future)]}, task_id=str(uuid4()))
        run = ledger.wait(run_id)
    finally:
        ledger.admin.execute("DELETE FROM job_controls WHERE name = 'test.keyed'")
    assert (run["state"], ledger.effects(run_id)) == ("succeeded", 0)
    assert ledger.run(future)["state"] == "pending"
