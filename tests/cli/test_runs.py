"""Runs from the command line: enqueue, follow, list, show, replay, cancel, pause."""

import threading
import time
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.cli.conftest import Cli
from tests.factories import make_tenant

NO_RUN = "00000000-0000-0000-0000-000000000001"


def insert_run(admin: psycopg.Connection, job: str = "platform.ping", state: str = "pending", **columns: Any) -> UUID:
    """Insert a run; one that is over ended now, one that runs has a claim."""
    values = {"id": uuid4(), "job": job, "queue": "lifecycle", "state": state} | columns
    if state in ("succeeded", "failed", "cancelled", "skipped"):
        values.setdefault("finished_at", "now")
    if state == "running":
        values["claim_token"] = uuid4()
    names = ", ".join(values)
    marks = ", ".join(["%s"] * len(values))
    row = admin.execute(
        f"INSERT INTO job_runs ({names}) VALUES ({marks}) RETURNING id",
        [Jsonb(value) if isinstance(value, dict) else value for value in values.values()],
    ).fetchone()
    assert row is not None
    return UUID(str(row[0]))


def read(admin: psycopg.Connection, run_id: UUID, columns: str = "state") -> Any:
    row = admin.execute(f"SELECT {columns} FROM job_runs WHERE id = %s", [run_id]).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


class TestRun:
    def test_prints_the_id_of_the_run_that_it_enqueued(self, cli: Cli, admin: psycopg.Connection) -> None:
        answer = cli("run", "platform.ping")

        assert answer.status == 0
        assert read(admin, UUID(answer.out.strip())) == "pending"
        assert str(read(admin, UUID(answer.out.strip()), "requested_by")).startswith("cli ")

    def test_gives_arguments_the_types_of_the_contract(self, cli: Cli, admin: psycopg.Connection) -> None:
        make_tenant(admin)
        connection_id = str(uuid4())

        answer = cli(
            *("run", "telematics.sync_connection", "--tenant", "acme", "--json"),
            *("--arg", f"connection_id={connection_id}"),
        )

        told = answer.objects[0]
        assert told["is_new"] is True
        assert read(admin, told["id"], "args") == {"connection_id": connection_id}

    def test_finds_the_run_that_has_the_unique_key(self, cli: Cli) -> None:
        first, second = (cli("run", "retention.make_partitions") for _ in range(2))

        assert first.out == second.out
        assert "was already pending or running" in second.line

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["platform.pinh"], "no such job: platform.pinh, did you mean platform.ping"),
            (["platform.ping", "--arg", "x=1"], "platform.ping: x: not an argument of this job"),
            (["platform.ping", "--arg", "x"], "--arg x: expected NAME=VALUE"),
            (["platform.ping", "--tenant", "acme"], "platform.ping: is for the whole platform"),
            (["platform.ping", "--timeout", "1"], "--timeout: only with --wait"),
            (["telematics.sync_connection", "--arg", f"connection_id={NO_RUN}"], "is for one tenant"),
            (["telematics.sync_connection", "--tenant", "acme"], "connection_id: missing"),
            (
                ["telematics.sync_connection", "--tenant", "acme", "--arg", "connection_id=7"],
                "connection_id: Invalid UUID",
            ),
            (
                ["telematics.sync_connection", "--tenant", "acne", "--arg", f"connection_id={NO_RUN}"],
                "no such tenant: acne",
            ),
        ],
    )
    def test_refuses_what_breaks_the_contract_and_enqueues_nothing(
        self, arguments: list[str], said: str, cli: Cli, admin: psycopg.Connection
    ) -> None:
        make_tenant(admin)

        answer = cli("run", *arguments)

        assert answer.status == 1
        assert said in answer.line
        assert admin.execute("SELECT count(*) FROM job_runs").fetchone() == (0,)

    def test_says_that_the_database_does_not_know_the_job_yet(self, cli: Cli, admin: psycopg.Connection) -> None:
        admin.execute("DELETE FROM job_definitions")

        assert "run `fleet-jobs migrate`" in cli("run", "platform.ping").line

    @pytest.mark.parametrize(
        ("state", "status", "said"),
        [
            ("succeeded", 0, "succeeded after"),
            ("failed", 1, "failed after"),
            ("cancelled", 1, "cancelled after"),
        ],
    )
    def test_waits_for_the_end(
        self, state: str, status: int, said: str, cli: Cli, admin: psycopg.Connection, database: Any
    ) -> None:
        def work() -> None:
            with psycopg.connect(database.admin_url, autocommit=True) as worker:
                while worker.execute("SELECT 1 FROM job_runs").fetchone() is None:
                    time.sleep(0.02)
                time.sleep(0.2)
                worker.execute(
                    "UPDATE job_runs SET state = %s, finished_at = now(), counts = %s, error = %s",
                    [state, Jsonb({"rows": 3}), Jsonb({"type": "PermanentError", "message": "no such thing"})],
                )

        thread = threading.Thread(target=work)
        thread.start()
        answer = cli("run", "platform.ping", "--wait", "--timeout", "20")
        thread.join()

        assert answer.status == status
        last = answer.out.splitlines()[-1]
        assert last.startswith(said)
        assert last.endswith("rows=3" if state == "succeeded" else "PermanentError: no such thing")

    def test_stops_waiting_at_its_timeout_and_says_why_nothing_happens(self, cli: Cli) -> None:
        answer = cli("run", "platform.ping", "--wait", "--timeout", "0.3")

        assert answer.status == 1
        assert answer.line.endswith("is pending, no worker is alive")
        cli("pause", "job", "platform.ping")
        assert cli("run", "platform.ping", "--wait", "--timeout", "0.1").line.endswith("its job or queue is paused")


@pytest.mark.parametrize(
    ("word", "given", "value"),
    [
        ("integer", "7", 7),
        ("number", "7.5", 7.5),
        ("boolean", "Yes", True),
        ("boolean", "0", False),
        ("string", "7", "7"),
        ("string", "a=b", "a=b"),
        ("string", "", ""),
        ("date", "2026-02-28", "2026-02-28"),
    ],
)
def test_an_argument_is_read_by_its_type(word: str, given: str, value: object, cli: Cli) -> None:
    assert cli("keygen").status == 0  # the settings that importing a job needs are there
    assert _parse(word, f"x={given}") == {"x": value}


@pytest.mark.parametrize(
    ("word", "given", "said"),
    [
        ("integer", "7.5", "x: expected integer, got '7.5'"),
        ("number", "much", "x: expected number, got 'much'"),
        ("boolean", "perhaps", "x: expected boolean, got 'perhaps'"),
    ],
)
def test_an_argument_of_another_type_is_refused(word: str, given: str, said: str, cli: Cli) -> None:
    from jobs.cli.errors import OperatorError

    with pytest.raises(OperatorError, match=said):
        _parse(word, f"x={given}")


def _parse(word: str, given: str) -> dict[str, Any]:
    from datetime import date

    from jobs.cli.run import parse_args
    from jobs.contracts import Contract
    from jobs.job import load_jobs

    kinds = {"integer": int, "number": float, "boolean": bool, "string": str, "date": date}

    def function(run: object, x: Any) -> None: ...

    function.__annotations__["x"] = kinds[word]
    job = load_jobs()["platform.ping"]
    from dataclasses import replace

    return parse_args(replace(job, contract=Contract("platform.ping", function)), [given])


class TestRuns:
    def test_lists_the_newest_first_and_narrows(self, cli: Cli, admin: psycopg.Connection) -> None:
        tenant_id = make_tenant(admin)
        old = insert_run(admin, created_at="2026-01-01", tenant_id=tenant_id, state="failed", error={"type": "Bug"})
        new = insert_run(admin, "retention.purge_history", "succeeded", counts={"rows": 2}, started_at="now")

        assert [each["id"] for each in cli("runs", "--json").objects] == [str(new), str(old)]
        for narrowing in (
            ("--state", "failed"),
            ("--tenant", "acme"),
            ("--job", "platform.ping"),
        ):
            assert [each["id"] for each in cli("runs", "--json", *narrowing).objects] == [str(old)]
        assert [each["id"] for each in cli("runs", "--json", "--limit", 1).objects] == [str(new)]
        lines = cli("runs").out.splitlines()
        assert str(new) in lines[1] and "rows=2" in lines[1]
        assert str(old) in lines[2] and lines[2].endswith("Bug")

    def test_says_that_there_are_none_and_that_a_job_is_unknown(self, cli: Cli) -> None:
        assert cli("runs").out == "no runs\n"
        assert cli("runs", "--job", "platform.ping").out == "no runs\n"
        assert "no such job: platform.pong" in cli("runs", "--job", "platform.pong").line
        assert "no such tenant: acme" in cli("runs", "--tenant", "acme").line


class TestShow:
    def test_shows_everything_of_a_run_that_failed(self, cli: Cli, admin: psycopg.Connection) -> None:
        worker_id, parent_id = uuid4(), uuid4()
        admin.execute(
            "INSERT INTO worker_heartbeats (id, host, pid, name) VALUES (%s, 'host-1', 42, 'compute@host-1')",
            [worker_id],
        )
        run_id = insert_run(
            admin,
            state="failed",
            args={"day": "2026-01-01"},
            counts={"pages": 3},
            progress={"stage": "gps"},
            attempt=2,
            max_attempts=2,
            rescues=1,
            worker_id=worker_id,
            parent_id=parent_id,
            started_at="now",
            error={"type": "KeyError", "traceback": '  File "x.py", line 1\n    boom()\n'},
        )

        out = cli("show", run_id).out

        for said in (
            str(run_id),
            "KeyError",
            "pages=3",
            "stage=gps",
            "day=2026-01-01",
            "2 of 2, rescued 1 time",
            "compute@host-1, process 42 on host-1",
            str(parent_id),
            '  File "x.py", line 1',
        ):
            assert said in out
        told = cli("show", run_id, "--json").objects[0]
        assert told["error"]["type"] == "KeyError"
        assert told["worker"] == "compute@host-1, process 42 on host-1"

    def test_takes_the_beginning_of_an_id_if_it_is_the_only_one(self, cli: Cli, admin: psycopg.Connection) -> None:
        for end in ("1", "2"):
            insert_run(admin, id=UUID(f"0123456789abcdef000000000000000{end}"))

        assert cli("show", "0123456789abcdef0000000000000001").status == 0
        assert "several runs begin with 01234567:" in cli("show", "01234567").line
        assert "no such run: 0123456789abcdef1" in cli("show", "0123456789abcdef1").line
        for bad in ("0123456", "zzzzzzzz", "0123456789abcdef00000000000000011", "'; DROP"):
            assert f"not a run id: {bad}" in cli("show", bad).line

    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            ({}, "waits for a relay"),
            ({"published_at": "now"}, "waits for a worker"),
            ({"run_at": "tomorrow", "attempt": 1}, "waits for its next try, in"),
            ({"state": "running", "cancel_requested_at": "now"}, "asked to stop"),
        ],
    )
    def test_says_what_a_run_waits_for(
        self, columns: dict[str, Any], said: str, cli: Cli, admin: psycopg.Connection
    ) -> None:
        assert said in cli("show", insert_run(admin, **columns)).out

    def test_no_word_of_others_commands_the_terminal(self, cli: Cli, admin: psycopg.Connection) -> None:
        run_id = insert_run(admin, state="failed", error={"type": "\x1b[2Jred[bold]", "traceback": "\x1b]0;x\x07\n"})

        for out in (cli("show", run_id).out, cli("runs").out):
            assert "\x1b" not in out and "\x07" not in out
            assert "\\x1b[2Jred[bold]" in out


class TestReplay:
    def test_makes_a_run_pending_again_from_its_first_try(self, cli: Cli, admin: psycopg.Connection) -> None:
        run_id = insert_run(admin, state="failed", attempt=5, rescues=2, cancel_requested_at="now", published_at="now")

        answer = cli("replay", run_id)

        assert (answer.status, answer.out) == (0, "1 replayed, 0 left as they are\n")
        columns = "state, attempt, rescues, replays, published_at, finished_at, cancel_requested_at, run_at <= now()"
        assert read(admin, run_id, columns) == ("pending", 0, 0, 1, None, None, None, True)

    def test_twice_leaves_the_second_as_it_is(self, cli: Cli, admin: psycopg.Connection) -> None:
        run_id = insert_run(admin, state="cancelled")
        cli("replay", run_id)

        answer = cli("replay", run_id)

        assert answer.status == 1
        assert "it is pending, only failed and cancelled runs can be replayed" in answer.line
        assert read(admin, run_id, "replays") == 1

    @pytest.mark.parametrize(
        "arguments", ['{"a": "' + "x" * 70_000 + '"}', '{"a": [' + ", ".join(["1e131071"] * 9000) + "]}"]
    )
    def test_arguments_of_an_older_release_that_are_too_large_are_counted_and_the_others_go_on(
        self, arguments: str, cli: Cli, admin: psycopg.Connection
    ) -> None:
        large, free = insert_run(admin, state="failed"), insert_run(admin, state="failed")
        admin.execute("UPDATE job_runs SET args = %s WHERE id = %s", [arguments, large])

        answer = cli("replay", "--job", "platform.ping", "--yes")

        assert (answer.status, answer.out) == (0, "1 replayed, 1 left as they are\n")
        assert f"{large} platform.ping: left as it is: its arguments are more than 65,536 bytes" in answer.err
        assert [read(admin, run_id) for run_id in (large, free)] == ["failed", "pending"]
        assert cli("replay", large).status == 1

    def test_a_taken_unique_key_is_counted_and_the_others_go_on(self, cli: Cli, admin: psycopg.Connection) -> None:
        holder = insert_run(admin, unique_key="a")
        blocked = insert_run(admin, state="failed", unique_key="a")
        older = insert_run(admin, state="failed", unique_key="b", created_at="2026-01-01")
        newer = insert_run(admin, state="failed", unique_key="b")
        free = insert_run(admin, state="failed")

        answer = cli("replay", "--job", "platform.ping", "--state", "failed", "--yes")

        assert answer.status == 0
        assert answer.out == "2 replayed, 2 left as they are\n"
        assert f"{blocked} platform.ping: left as it is: run {holder} has the same unique key" in answer.err
        assert f"{older} platform.ping: left as it is: run {newer} has the same unique key" in answer.err
        states = {run_id: read(admin, run_id) for run_id in (blocked, older, newer, free)}
        assert states == {blocked: "failed", older: "failed", newer: "pending", free: "pending"}

    def test_the_same_key_of_another_tenant_is_another(self, cli: Cli, admin: psycopg.Connection) -> None:
        insert_run(admin, unique_key="a", tenant_id=make_tenant(admin))
        run_id = insert_run(admin, state="failed", unique_key="a")

        assert cli("replay", run_id).status == 0

    def test_a_dry_run_changes_nothing(self, cli: Cli, admin: psycopg.Connection) -> None:
        run_id = insert_run(admin, state="failed", error={"type": "Poison"})

        answer = cli("replay", "--job", "platform.ping", "--dry-run")

        assert "Poison" in answer.out
        assert answer.out.endswith("1 would be replayed, 0 left as they are\n")
        assert read(admin, run_id) == "failed"

    def test_a_job_needs_a_yes_where_nobody_can_be_asked(self, cli: Cli, admin: psycopg.Connection) -> None:
        run_id = insert_run(admin, state="failed")

        assert "replay 1 run of platform.ping?: give --yes" in cli("replay", "--job", "platform.ping").line
        assert read(admin, run_id) == "failed"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "give the ids of runs, or --job"),
            ([NO_RUN, "--job", "x"], "give the ids of runs, or --job"),
            ([NO_RUN], f"no such run: {NO_RUN}"),
            ([NO_RUN, "--state", "failed"], "--state and --tenant only with --job"),
            (["--job", "platform.pong"], "no such job: platform.pong"),
        ],
    )
    def test_what_cannot_be_replayed_is_one_line(self, arguments: list[str], said: str, cli: Cli) -> None:
        assert said in cli("replay", *arguments).line


class TestCancel:
    def test_a_pending_run_at_once_a_running_one_when_it_looks(self, cli: Cli, admin: psycopg.Connection) -> None:
        pending, running, over = (insert_run(admin, state=state) for state in ("pending", "running", "succeeded"))

        answer = cli("cancel", pending, running, over)

        assert answer.status == 1
        assert answer.out == f"{pending} cancelled\n{running} asked to stop\n"
        assert answer.line == f"{over} left as it is: it is succeeded already"
        assert read(admin, pending, "state, finished_at IS NOT NULL") == ("cancelled", True)
        assert read(admin, running, "state, cancel_requested_at IS NOT NULL, finished_at") == ("running", True, None)
        assert read(admin, over, "state, cancel_requested_at") == ("succeeded", None)

    def test_one_unknown_id_cancels_none(self, cli: Cli, admin: psycopg.Connection) -> None:
        run_id = insert_run(admin)

        assert f"no such run: {NO_RUN}" in cli("cancel", run_id, NO_RUN).line
        assert read(admin, run_id) == "pending"


class TestPause:
    @pytest.mark.parametrize(("kind", "name"), [("job", "platform.ping"), ("queue", "lifecycle")])
    def test_a_pause_is_kept_shown_and_taken_back(
        self, kind: str, name: str, cli: Cli, admin: psycopg.Connection
    ) -> None:
        insert_run(admin)

        assert cli("pause", kind, name, "--reason", "a bad release").out == f"{kind} {name} paused\n"
        assert cli("pause", kind, name).out == f"{kind} {name} was paused already\n"
        [told] = cli("paused", "--json").objects
        assert (told["kind"], told["name"], told["reason"], told["waiting"]) == (kind, name, "a bad release", 1)
        assert "a bad release" in cli("paused").out
        assert cli("resume", kind, name).out == f"{kind} {name} resumed\n"
        assert cli("resume", kind, name).out == f"{kind} {name} was not paused\n"
        assert cli("paused").out == "nothing is paused\n"

    def test_resuming_wakes_the_relays(self, cli: Cli, admin: psycopg.Connection) -> None:
        cli("pause", "queue", "lifecycle")
        admin.execute("LISTEN fleet_jobs")

        cli("resume", "queue", "lifecycle")

        assert len(list(admin.notifies(timeout=5, stop_after=1))) == 1

    def test_a_pause_of_what_is_gone_can_be_taken_back(self, cli: Cli, admin: psycopg.Connection) -> None:
        admin.execute("INSERT INTO job_controls (kind, name, paused_by) VALUES ('job', 'old.job', 'somebody')")

        assert cli("resume", "job", "old.job").out == "job old.job resumed\n"

    @pytest.mark.parametrize("verb", ["pause", "resume"])
    def test_what_is_not_there_cannot_be_steered(self, verb: str, cli: Cli) -> None:
        assert "no such job: platform.pong" in cli(verb, "job", "platform.pong").line
        assert "no such queue: nope: expected one of telematics" in cli(verb, "queue", "nope").line
