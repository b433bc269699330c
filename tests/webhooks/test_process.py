"""The receiver as a process of its own: what it is told, what it reaches, what it says, how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any
from uuid import uuid4

import pytest
import requests

from jobs.embedded import programs
from jobs.embedded.process import bound_argv, free_port, spawn
from jobs.notifications.unsubscribe import Unsubscriber
from tests.factories import ENCRYPTION_KEY, make_tenant
from tests.inprocess import Platform, platform_of
from tests.ledger.processes import wait_until
from tests.servers import PrivateServers
from tests.webhooks.conftest import Hook
from tests.webhooks.schemes import Samsara, Smartcar
from tests.webhooks.test_bounds import dial, head

FLEET_JOBS = str(Path(sys.executable).with_name("fleet-jobs"))


class Receiving:
    """A receiver started as a command, and what it has said."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self._log = log

    @property
    def said(self) -> str:
        """Return its log."""
        return self._log.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of its log."""
        return [json.loads(line) for line in self.said.splitlines()]

    def health(self) -> int:
        """Return what it says of itself, 0 while it does not listen."""
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(f"{self.url}/health", timeout=20).status_code
            except requests.ConnectionError:
                return 0


@contextmanager
def started(directory: Path, environment: Mapping[str, str], *options: str) -> Iterator[Receiving]:
    """Start `fleet-jobs webhooks` with no other settings than these, and end it."""
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    command = bound_argv([FLEET_JOBS, "webhooks", "--port", str(port), *options], death_signal=SIGKILL)
    log = directory / "receiver.log"
    process = spawn(command, cwd=directory, env={**inherited, **environment}, log=log)
    try:
        yield Receiving(process, f"http://127.0.0.1:{port}", log)
    finally:
        process.kill()
        process.wait(20)


def least(platform: Platform) -> dict[str, str]:
    """Return all that a receiver is told."""
    return {"FLEET_DATABASE_URL": platform.urls.worker_url, "FLEET_ENCRYPTION_KEYS": ENCRYPTION_KEY}


@pytest.fixture
def receiver(platform: Platform, tmp_path: Path) -> Iterator[Receiving]:
    """A receiver that listens."""
    with started(tmp_path, least(platform)) as running:
        wait_until(lambda: running.health() == 200, what="the receiver to listen")
        yield running


def test_it_needs_no_role_but_the_workers_and_opens_no_session_of_another(
    platform: Platform, receiver: Receiving
) -> None:
    hook = Hook(platform.admin, receiver.url, Samsara())
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: hook.post(hook.scheme.event(str(number))).status_code, range(60)))

    sessions = platform.admin.execute(
        "SELECT usename, application_name, count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'fleet-webhooks%'"
        " GROUP BY 1, 2"
    ).fetchall()
    assert [(each[0], each[1]) for each in sessions] == [("fleet_worker", "fleet-webhooks")]
    assert sessions[0][2] <= 8
    assert set(answers) <= {200, 429}
    assert len(hook.rows()) == answers.count(200) >= 50
    environment = Path(f"/proc/{receiver.process.pid}/environ").read_bytes()
    assert b"fleet_system" not in environment
    assert b"FLEET_REDIS" not in environment


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_it_answers_what_it_has_begun_and_leaves_in_order(platform: Platform, receiver: Receiving, number: int) -> None:
    hook = Hook(platform.admin, receiver.url, Samsara())
    body = hook.scheme.event("begun")
    signed = [f"{name}: {value}" for name, value in hook.scheme.sign(body).items()]
    with closing(dial(hook)) as line, closing(dial(hook)):
        line.sendall(head(hook, f"Content-Length: {len(body)}", *signed) + body[:-1])
        receiver.health()  # by now the head was read
        receiver.process.send_signal(number)
        wait_until(lambda: receiver.health() == 0, what="the receiver to stop listening")
        line.sendall(body[-1:])
        assert line.recv(1000).startswith(b"HTTP/1.1 200 ")

    assert receiver.process.wait(20) == 0
    assert hook.rows() == [("begun", 0)]
    assert [line["event"] for line in receiver.lines] == ["webhooks_started", "webhooks_stopped"]


def test_no_secret_no_person_and_no_made_up_id_is_in_its_log(platform: Platform, receiver: Receiving) -> None:
    hook, car = Hook(platform.admin, receiver.url, Samsara()), Hook(platform.admin, receiver.url, Smartcar())
    strange = uuid4()
    body = hook.scheme.event("an-event", data={"driver": {"name": "Ada Lovelace"}})
    headers = hook.scheme.sign(body)
    hook.post(body)
    for _ in range(5):
        hook.post(body + b" ", headers)
    hook.post(body, address=f"{receiver.url}/webhooks/{strange}/{strange}")
    hook.post(body, address=f"{receiver.url}/{strange}")
    hook.post(b"\xff" * 300_000)
    car.post(car.scheme.event())
    car.post(car.scheme.event(), {"SC-Signature": "é".encode()})  # type: ignore[dict-item]
    receiver.process.terminate()
    receiver.process.wait(20)

    refused = [line for line in receiver.lines if line["event"] == "webhooks_refused"]
    assert {(line["reason"], line.get("connection"), line["times"]) for line in refused} >= {
        ("connection_unknown", None, 1),
        ("too_large", None, 1),
        ("signature_wrong", str(car.id), 1),
    }
    wrong = [line["times"] for line in refused if line.get("connection") == str(hook.id)]
    assert sum(wrong) == 5
    assert len(refused) <= 6
    unsayable = (hook.scheme.secret, car.scheme.secret, platform.urls.worker_url, ENCRYPTION_KEY, "Ada", "an-event")
    for word in (*unsayable, str(strange), headers["X-Samsara-Signature"][3:], "Traceback"):
        assert word not in receiver.said


def test_without_a_database_the_provider_is_told_to_come_again(
    private_servers: PrivateServers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with platform_of(private_servers.database, private_servers.redis_url, monkeypatch) as platform:
        settings = least(platform)
        hook = Hook(platform.admin, "", Samsara())
    private_servers.postgres.stop()
    with started(tmp_path, settings) as receiver:
        hook.url = receiver.url
        wait_until(lambda: receiver.health() == 503, what="the receiver to listen")
        body = hook.scheme.event("patient")
        for _ in range(3):
            answer = hook.post(body)
            assert (answer.status_code, answer.content, answer.headers["retry-after"]) == (503, b"", "5")

        private_servers.postgres.start()
        wait_until(lambda: hook.post(body).status_code == 200, what="the delivery to be kept")
        assert receiver.health() == 200
        private_servers.postgres.stop()
        assert hook.post(hook.scheme.event("another")).status_code == 503
        private_servers.postgres.start()
        wait_until(lambda: hook.post(body).status_code == 200, what="the repeat to be known")

        with platform_of(private_servers.database, private_servers.redis_url, monkeypatch) as platform:
            hook.admin = platform.admin
            assert hook.rows() == [("patient", 1)]
            assert len(hook.runs()) == 1
        said = [line["event"] for line in receiver.lines if line["event"].startswith("webhooks_")]
        assert said == [
            "webhooks_started",
            *("webhooks_not_kept", "webhooks_kept_again"),
            *("webhooks_not_kept", "webhooks_kept_again"),
        ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"FLEET_DATABASE_URL": ""}, "FLEET_DATABASE_URL: "),
        ({"FLEET_ENCRYPTION_KEYS": ""}, "FLEET_ENCRYPTION_KEYS: missing"),
        ({"FLEET_ENCRYPTION_KEYS": "c2hvcnQ="}, "key 1: expected 32 bytes"),
        ({"FLEET_WEBHOOK_PER_S": "0"}, "FLEET_WEBHOOK_PER_S: "),
    ],
)
def test_it_does_not_start_where_it_could_believe_nothing(
    platform: Platform, tmp_path: Path, change: dict[str, str], line: str
) -> None:
    with started(tmp_path, least(platform) | change) as receiver:
        assert receiver.process.wait(30) in (1, 2)
        assert line in receiver.said
        assert "Traceback" not in receiver.said


def test_a_port_that_is_taken_is_one_line(platform: Platform, receiver: Receiving, tmp_path: Path) -> None:
    port = receiver.url.rpartition(":")[2]
    other = tmp_path / "other"
    other.mkdir()
    with started(other, least(platform), "--port", port) as second:
        assert second.process.wait(30) == 1
        assert second.said == "fleet-jobs: port in use\n"


def test_the_embedded_stack_tells_it_no_more(tmp_path: Path) -> None:
    everything = {
        "FLEET_DATABASE_URL": "worker",
        "FLEET_SYSTEM_DATABASE_URL": "system",
        "FLEET_MIGRATION_DATABASE_URL": "migrator",
        "FLEET_ADMIN_DATABASE_URL": "admin",
        "FLEET_READ_DATABASE_URL": "reader",
        "FLEET_REDIS_URL": "redis",
        "FLEET_ENCRYPTION_KEYS": "keys",
        "PATH": "path",
    }
    told = programs.webhooks(everything, 8600)
    assert told.environment == {"FLEET_DATABASE_URL": "worker", "FLEET_ENCRYPTION_KEYS": "keys", "PATH": "path"}
    assert list(told.argv)[-5:] == ["webhooks", "--host", "127.0.0.1", "--port", "8600"]


def test_the_links_of_mails_lead_here_and_one_click_unsubscribes(platform: Platform, receiver: Receiving) -> None:
    tenant_id = make_tenant(platform.admin)
    link = Unsubscriber([ENCRYPTION_KEY.encode()], receiver.url).url(tenant_id, "Sam@acme.example", "geofence")

    with requests.Session() as session:
        session.trust_env = False
        looked = session.get(link, timeout=20)
        before = platform.value("SELECT count(*) FROM suppressed_addresses")
        clicked = session.post(link, data={"List-Unsubscribe": "One-Click"}, timeout=20)
        forged = session.post(link[:-2] + "AA", timeout=20)

    assert (looked.status_code, before, clicked.status_code, forged.status_code) == (200, 0, 200, 404)
    assert platform.admin.execute("SELECT tenant_id, category, reason FROM suppressed_addresses").fetchall() == [
        (tenant_id, "geofence", "unsubscribed")
    ]
