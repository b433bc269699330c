"""The doctor at the mail server and the other ways to people: each illness named, and no secret said."""

import socket
import ssl
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.cli.conftest import Answer, Cli
from tests.factories import make_tenant
from tests.notifications.conftest import Inbox
from tests.notifications.test_mail_server import only_ann, opened, tls

__all__ = ["tls"]

Told = tuple[str, str, str]


@pytest.fixture
def mail(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> "Mail":
    monkeypatch.setenv("FLEET_MAIL_FROM", "Fleet <fleet@acme.example>")
    return Mail(cli, monkeypatch)


class Mail:
    """What the doctor says of the mail server at a URL."""

    def __init__(self, cli: Cli, patch: pytest.MonkeyPatch) -> None:
        self._cli, self._patch = cli, patch

    def at(self, url: str) -> Told:
        self._patch.setenv("FLEET_SMTP_URL", url)
        answer = self._cli("doctor", "--json")
        told = told_of(answer, "mail")
        assert answer.status == (1 if told[0] == "fail" else 0)
        assert "hunter2" not in answer.out + answer.err
        return told


def told_of(answer: Answer, name: str) -> Told:
    [found] = [each for each in answer.objects if each["name"] == name]
    return found["status"], found["found"], found["fix"] or ""


@pytest.fixture
def tenant_id(admin: psycopg.Connection) -> UUID:
    return make_tenant(admin)


def test_a_server_that_takes_our_mails_is_named_and_gets_none(mail: Mail) -> None:
    with opened(server_hostname="mx.acme.example") as inbox:
        assert mail.at(inbox.url) == (
            "ok",
            f"mx.acme.example at 127.0.0.1:{inbox.port} lets us in and takes mails of fleet@acme.example",
            "",
        )
        assert (inbox.sessions, inbox.mails) == (1, [])


def _refuse(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: object) -> AuthResult:
    return AuthResult(success=False, handled=False)


def test_a_login_over_starttls_is_tried(mail: Mail, tls: ssl.SSLContext) -> None:
    with opened(tls_context=tls, require_starttls=True, authenticator=only_ann, auth_required=True) as inbox:
        assert mail.at(f"smtp+starttls://ann:p%40ss%3Aw%2Frd@localhost:{inbox.port}")[0] == "ok"
        status, found, fix = mail.at(f"smtp+starttls://ann:hunter2@127.0.0.1:{inbox.port}")
        assert (status, "certificate is not trusted" in found, "not 127.0.0.1" in fix) == ("fail", True, True)


def test_a_login_that_is_refused_or_never_answered_is_told_as_that(
    mail: Mail, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.cli import check_mail

    monkeypatch.setattr(check_mail, "TIMEOUT_S", 1.5)
    cure = "correct user and password in FLEET_SMTP_URL"
    for authenticator, said in ((_refuse, "refuses the login (535)"), (only_ann, "ended the session at our login")):
        with opened(tls_context=tls, require_starttls=True, authenticator=authenticator) as inbox:
            told = mail.at(f"smtp+starttls://ann:hunter2@localhost:{inbox.port}")
            assert told == ("fail", f"{said}: localhost:{inbox.port}", cure)


def test_a_server_without_starttls_or_without_logins_is_told_apart(mail: Mail) -> None:
    with opened() as inbox:
        at = f"127.0.0.1:{inbox.port}"
        assert mail.at(f"smtp+starttls://ann:hunter2@{at}")[:2] == ("fail", f"does not offer STARTTLS: {at}")
        assert mail.at(f"smtp://ann:hunter2@{at}")[:2] == ("fail", f"does not offer a login: {at}")


def test_a_server_that_is_away_or_silent_fails(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.cli import check_mail

    monkeypatch.setattr(check_mail, "TIMEOUT_S", 0.3)
    assert mail.at("smtp://ann:hunter2@127.0.0.1:1") == (
        "fail",
        "the mail server cannot be reached: ConnectionRefusedError: 127.0.0.1:1",
        "start the server, or correct FLEET_SMTP_URL",
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        status, found, _ = mail.at(f"smtp://127.0.0.1:{server.getsockname()[1]}")
    assert (status, "the mail server cannot be reached: " in found) == ("fail", True)


def test_a_server_that_refuses_our_sender_fails(mail: Mail) -> None:
    with opened() as inbox:
        inbox.refused_sender = "553 5.7.1 not yours, hunter2"
        assert mail.at(inbox.url) == (
            "fail",
            f"the mail server refuses the sender: 553: 127.0.0.1:{inbox.port}",
            "correct FLEET_MAIL_FROM, or let the server take mails of it",
        )


def test_without_a_mail_server_mails_wait_and_are_counted(cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
    assert told_of(cli("doctor", "--json"), "mail") == (
        "warn",
        "FLEET_SMTP_URL is not set: 0 mails wait",
        "set FLEET_SMTP_URL and FLEET_MAIL_FROM",
    )
    for number, state in enumerate(("pending", "ready", "sent")):
        admin.execute(
            "INSERT INTO notifications (tenant_id, category, kind, severity, priority, channel, address, dedupe_key,"
            " state, expires_at) VALUES (%s, 'other', 'x', 'low', 3, 'email', 'a@acme.example', %s, %s, now())",
            [tenant_id, str(number), state],
        )
    assert told_of(cli("doctor", "--json"), "mail")[1] == "FLEET_SMTP_URL is not set: 2 mails wait"


def test_a_channel_that_is_closed_is_told_with_since_when_and_why(cli: Cli, admin: psycopg.Connection) -> None:
    assert told_of(cli("doctor", "--json"), "channels")[0] == "ok"
    admin.execute(
        "INSERT INTO channel_outages (channel, began_at, tries, reason)"
        " VALUES ('email', now() - interval '2 h 5 min', 41, 'the mail server refuses the sender: 553')"
    )
    status, found, _ = told_of(cli("doctor", "--json"), "channel email")
    assert (status, found) == ("warn", "closed for 2 h 5 min, 41 tries: the mail server refuses the sender: 553")


def test_endpoints_that_were_turned_off_are_counted(cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
    for name, disabled, deleted in (("on", "NULL", "NULL"), ("off", "now()", "NULL"), ("gone", "now()", "now()")):
        admin.execute(
            "INSERT INTO webhook_endpoints (tenant_id, name, url, secret_encrypted, disabled_at, deleted_at)"
            f" VALUES (%s, %s, 'https://hooks.acme.example', '\\x00', {disabled}, {deleted})".encode(),
            [tenant_id, name],
        )
    status, found, fix = told_of(cli("doctor", "--json"), "endpoints")
    assert (status, found) == ("warn", "1 of 2 were turned off")
    assert "fleet-jobs notifications endpoints" in fix


def test_what_waits_for_a_person_is_counted(cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
    van = admin.execute("INSERT INTO vehicles (tenant_id, name) VALUES (%s, 'x') RETURNING id", [tenant_id]).fetchone()
    assert van is not None
    admin.execute(
        "INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at, state, reason)"
        " VALUES (%s, %s, 'odometer_km', 5, now(), 'quarantined', 'jumps')",
        [tenant_id, van[0]],
    )
    admin.execute(
        "INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at, resolved_at) VALUES"
        " (%(t)s, 'work_order_flagged', 'low', 'a', 'x', now(), NULL),"
        " (%(t)s, 'work_order_flagged', 'low', 'b', 'x', now(), now())",
        {"t": tenant_id},
    )
    answer = cli("doctor", "--json")
    assert told_of(answer, "meter readings")[:2] == ("warn", "1 were set aside and wait for a person")
    assert told_of(answer, "completed work orders")[:2] == ("warn", "1 are flagged: their schedules may count wrongly")


def test_the_mail_server_is_asked_where_the_database_is_away(
    mail: Mail, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEET_SYSTEM_DATABASE_URL", "postgresql://fleet:hunter2@127.0.0.1:1/fleet")
    inbox = Inbox()
    inbox.start()
    try:
        monkeypatch.setenv("FLEET_SMTP_URL", inbox.url)
        answer = mail._cli("doctor", "--json")
    finally:
        inbox.stop()
    assert (answer.status, told_of(answer, "mail")[0]) == (1, "ok")
