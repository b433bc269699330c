"""The examples that tell people and are told: an alert by SQL, and receivers of webhooks that are sent as ours are."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import requests

from integrations.webhooks_out import WebhookSender, new_secret, sign
from jobs.embedded.process import free_port
from jobs.notifications.unsubscribe import address_digest
from tests.docs.pages import ROOT
from tests.factories import make_tenant
from tests.servers import Database

EXAMPLES = ROOT / "examples"
BODY = b'{"type": "alert.offline", "data": {"subject": "vehicle:1"}}'
SECRET = new_secret()
NODE = shutil.which("node")
RECEIVERS = [
    pytest.param([sys.executable, str(EXAMPLES / "python" / "receive_webhook.py")], id="python"),
    pytest.param(
        [NODE, str(EXAMPLES / "node" / "receive-webhook.js")],
        id="node",
        marks=pytest.mark.skipif(NODE is None, reason="there is no Node here"),
    ),
]


@contextmanager
def receiving(command: list[str], told: Path) -> Iterator[str]:
    """Run a receiver, that writes what it was told into a file, and hand out its URL."""
    port = free_port()
    with told.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, env={**os.environ, "WEBHOOK_SECRET": SECRET, "PORT": str(port)}
        )
        try:
            _wait_until_open(port)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)


def _wait_until_open(port: int) -> None:
    ends = time.monotonic() + 20
    while True:
        try:
            requests.get(f"http://127.0.0.1:{port}/", timeout=5)
        except requests.ConnectionError:
            assert time.monotonic() < ends, "the receiver does not come up"
            time.sleep(0.05)
        else:
            return


def signed(body: bytes = BODY, at: datetime | None = None, secret: str = SECRET) -> dict[str, str]:
    """Return the headers of a message."""
    at = at or datetime.now(UTC)
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": sign(secret, "msg_1", at, body),
    }


@pytest.mark.parametrize("command", RECEIVERS)
def test_a_receiver_takes_what_our_sender_signs_and_each_message_once(command: list[str], tmp_path: Path) -> None:
    with receiving(command, tmp_path / "told") as url, WebhookSender(allow_loopback=True) as sender:
        for secrets, message_id in (([SECRET], "msg_1"), ([new_secret(), SECRET], "msg_2"), ([SECRET], "msg_1")):
            answer = sender.send(url, secrets, message_id, datetime.now(UTC), BODY)
            assert answer.status == 204
    assert (tmp_path / "told").read_text() == "alert.offline vehicle:1\n" * 2


@pytest.mark.parametrize("command", RECEIVERS)
def test_a_receiver_believes_nothing_else(command: list[str], tmp_path: Path) -> None:
    now = datetime.now(UTC)
    forged = [
        ({}, BODY),
        (signed(secret=new_secret()), BODY),
        (signed(), BODY + b" "),
        (signed() | {"webhook-id": "msg_2"}, BODY),
        (signed() | {"webhook-timestamp": str(int(now.timestamp()) + 1)}, BODY),
        (signed(at=now - timedelta(minutes=6)), BODY),
        (signed(at=now + timedelta(minutes=6)), BODY),
        (signed() | {"webhook-timestamp": "9" * 400}, BODY),
        (signed() | {"webhook-timestamp": "soon"}, BODY),
        (signed() | {"webhook-signature": "v1"}, BODY),
        (signed() | {"webhook-signature": "v1,"}, BODY),
        (signed() | {"webhook-signature": "v1,\xe9"}, BODY),
        (signed() | {"webhook-signature": signed()["webhook-signature"].replace("v1,", "v2,")}, BODY),
    ]
    with receiving(command, tmp_path / "told") as url:
        answers = [requests.post(url, data=body, headers=headers, timeout=10).status_code for headers, body in forged]
        assert answers == [400] * len(forged)
        assert requests.post(url, data=b"x" * 65_537, headers=signed(), timeout=10).status_code == 413
        assert requests.post(url, data=BODY, headers=signed(), timeout=10).status_code == 204
    assert (tmp_path / "told").read_text() == "alert.offline vehicle:1\n"


@pytest.mark.skipif(shutil.which("psql") is None, reason="there is no psql here")
def test_an_alert_of_a_kind_of_its_own_is_told_and_over(database: Database) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        tenant_id = make_tenant(admin)
        admin.execute("INSERT INTO users (tenant_id, email) VALUES (%s, 'ann@acme.example')", [tenant_id])
        (vehicle_id,) = admin.execute(
            "INSERT INTO vehicles (tenant_id, name) VALUES (%s, 'Van 12') RETURNING id", [tenant_id]
        ).fetchone() or (None,)
        given = {"tenant_id": tenant_id, "vehicle_id": vehicle_id, "email": "Ann@acme.example"}
        variables = [each for name, value in given.items() for each in ("-v", f"{name}={value}")]
        command = ["psql", database.app_url, "-qAt", *variables, "-f", str(EXAMPLES / "sql" / "alert.sql")]
        for times in (1, 2):
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
            assert done.stdout.splitlines()[-1] == "email|pending|medium"
            rows = admin.execute("SELECT message, resolved_at IS NOT NULL FROM alerts").fetchall()
            assert rows == [("Van 12: the rear door has been open for 20 minutes", True)] * times
        assert admin.execute("SELECT count(*) FROM notification_preferences").fetchone() == (1,)


def _block(page: str, begins: str) -> str:
    """Return the SQL of a page that begins so."""
    text = (ROOT / "docs" / page).read_text()
    start = text.index(f"```sql\n{begins}") + len("```sql\n")
    return text[start : text.index("\n```", start)]


def test_what_the_pages_say_to_applications_can_be_run_by_them(database: Database) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        tenant_id = make_tenant(admin)
        (user_id,) = admin.execute(
            "INSERT INTO users (tenant_id, email) VALUES (%s, 'ann@acme.example') RETURNING id", [tenant_id]
        ).fetchone() or (None,)
        (vehicle_id,) = admin.execute(
            "INSERT INTO vehicles (tenant_id, name) VALUES (%s, 'Van 12') RETURNING id", [tenant_id]
        ).fetchone() or (None,)
        subject = f"vehicle:{vehicle_id}:door:rear"
        raise_alert = _block("alerts.md", "SELECT set_config").replace("0193f1a0-...", str(tenant_id))
        raise_alert = raise_alert.replace("id = '...'", f"id = '{vehicle_id}'").replace("'...'", f"'{subject}'")
        suppress = _block("notifications.md", "INSERT INTO suppressed_addresses")
        prefer = _block("notifications.md", "INSERT INTO notification_preferences").replace("'...'", f"'{user_id}'")

        with psycopg.connect(database.app_url) as application:
            for statement in (raise_alert, suppress, suppress, prefer, prefer):
                application.execute(statement.encode())

        told = admin.execute("SELECT subject, severity, resolved_at IS NULL, recipients FROM alerts").fetchall()
        assert told == [(subject, "critical", False, ["gate@acme.example"])]
        assert admin.execute("SELECT severity FROM notifications ORDER BY 1").fetchall() == [("critical",), ("high",)]
        assert admin.execute("SELECT address_digest FROM suppressed_addresses").fetchall() == [
            (address_digest(tenant_id, "ann@acme.example"),)
        ]
        assert admin.execute("SELECT user_id, min_severity FROM notification_preferences").fetchall() == [
            (user_id, "medium")
        ]
