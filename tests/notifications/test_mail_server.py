"""Getting in at a mail server: TLS that is verified, a login that is never shown, and servers that misbehave."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from integrations.errors import PermanentError
from integrations.mail import MOST_REFUSED, Accepted, MailServer, MailServerAway, MailSession, NotTaken
from jobs.notifications.mails import MOST_REFUSED_AGAIN
from jobs.settings import get_settings
from tests.notifications.conftest import Desk, Inbox
from tests.notifications.test_endpoints import certificate_of

CONTENT = b"Subject: x\r\n\r\nx\r\n"


def send(url: str, timeout_s: float = 5) -> Accepted | object:
    server = MailServer.from_url(url)
    quick = MailServer(server.host, server.port, server.tls, server.user, server.password, timeout_s)
    with MailSession(quick) as session:
        return session.send("a@x.example", "b@y.example", CONTENT)


def only_ann(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: object) -> AuthResult:
    assert isinstance(given, LoginPassword)
    return AuthResult(success=(given.login, given.password) == (b"ann", b"p@ss:w/rd"))


@contextmanager
def opened(**options: object) -> Iterator[Inbox]:
    inbox = Inbox(options=options)
    inbox.start()
    try:
        yield inbox
    finally:
        inbox.stop()


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate for `localhost` that this process trusts."""
    path = certificate_of("localhost", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context


def test_a_login_goes_over_starttls(tls: ssl.SSLContext) -> None:
    with opened(tls_context=tls, require_starttls=True, authenticator=only_ann, auth_required=True) as inbox:
        assert send(f"smtp+starttls://ann:p%40ss%3Aw%2Frd@localhost:{inbox.port}") == Accepted("4Abc123")
        with pytest.raises(MailServerAway, match="does not let us in") as caught:
            send(f"smtp+starttls://ann:hunter2@localhost:{inbox.port}")
        assert "hunter2" not in str(caught.value)
        with pytest.raises(MailServerAway):
            send(f"smtp://localhost:{inbox.port}")
    assert len(inbox.mails) == 1


def test_a_certificate_of_another_name_or_of_nobody_is_refused(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tls_context=tls) as inbox:
        with pytest.raises(MailServerAway, match="SSLCertVerificationError"):
            send(f"smtp+starttls://127.0.0.1:{inbox.port}")
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(MailServerAway, match="SSLCertVerificationError"):
            send(f"smtp+starttls://localhost:{inbox.port}")


def test_a_server_without_tls_gets_neither_login_nor_mail_where_tls_was_asked_for() -> None:
    with opened() as inbox:
        with pytest.raises(MailServerAway, match="SMTPNotSupportedError"):
            send(f"smtp+starttls://ann:hunter2@127.0.0.1:{inbox.port}")
        with pytest.raises(MailServerAway):
            send(f"smtps://ann:hunter2@127.0.0.1:{inbox.port}")
    assert inbox.mails == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
def test_a_server_that_wants_a_login_loses_no_mail(told: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(authenticator=only_ann, auth_required=True, auth_require_tls=False) as inbox:
        monkeypatch.setenv("FLEET_SMTP_URL", inbox.url)
        get_settings.cache_clear()
        told.alerts(3, "geofence_entry")
        told.deliver()
        assert told.states() == {"ready": 3}
        assert told.value("SELECT reason FROM channel_outages") == "the mail server refuses the sender: 530"
        assert told.value("SELECT sum(attempts) FROM notifications") == 0

        monkeypatch.setenv("FLEET_SMTP_URL", inbox.url.replace("//", "//ann:p%40ss%3Aw%2Frd@"))
        get_settings.cache_clear()
        assert told.deliver() == {"sent": 3}


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"554 no\r\n", b"220 " + b"x" * 100_000])
def test_what_talks_no_smtp_is_away(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(MailServerAway):
            send(f"smtp://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_a_server_that_says_nothing_is_not_waited_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(MailServerAway, match="cannot be reached"):
        send(f"smtp://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", MailServer("mail.example", 25, "smtp")),
        ("smtps://mail.example", MailServer("mail.example", 465, "smtps")),
        (
            "smtp+starttls://u%40x:p%3A@mail.example:2525/",
            MailServer("mail.example", 2525, "smtp+starttls", "u@x", "p:"),
        ),
        ("smtp://[::1]:1025", MailServer("::1", 1025, "smtp")),
    ],
)
def test_where_a_server_is(url: str, expected: MailServer) -> None:
    assert MailServer.from_url(url) == expected
    assert "p:" not in repr(expected)


@pytest.mark.parametrize(
    "url", ["", "mail.example", "http://mail.example", "smtp://", "smtp://h:port", "smtp://h/x", "smtp://h?x=1"]
)
def test_what_is_no_server(url: str) -> None:
    with pytest.raises(PermanentError, match="must look like smtps://"):
        MailServer.from_url(url)


def drip(server: socket.socket, greeting: bytes) -> None:
    with contextlib.suppress(OSError):
        connection, _ = server.accept()
        with connection:
            connection.sendall(greeting)
            for byte in b"250 " + b"x" * 100 + b"\r\n":
                connection.send(bytes([byte]))
                time.sleep(0.1)


@pytest.mark.parametrize("greeting", [b"", b"220 hello\r\n", b"220 hello\r\n250 hello\r\n"])
def test_a_server_that_drips_its_answers_is_given_up(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server, greeting), daemon=True)
        thread.start()
        began = time.monotonic()
        with pytest.raises(MailServerAway):
            send(f"smtp://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3)
        assert time.monotonic() - began < 3
        thread.join()


def test_the_time_that_one_mail_took_is_not_taken_from_the_next() -> None:
    with opened() as inbox:
        server = MailServer.from_url(inbox.url)
        quick = MailServer(server.host, server.port, server.tls, timeout_s=0.5)
        inbox.at_data = lambda mail: time.sleep(0.4)
        with MailSession(quick) as session:
            for _ in range(4):
                assert isinstance(session.send("a@x.example", "b@y.example", CONTENT), Accepted)


@pytest.mark.parametrize("is_pipelining", [False, True])
def test_a_server_that_closes_at_once_costs_no_mail_a_try(
    told: Desk, monkeypatch: pytest.MonkeyPatch, is_pipelining: bool
) -> None:
    sessions = []

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                sessions.append(connection)
                with connection, connection.makefile("rwb", buffering=0) as stream:
                    stream.write(b"220 mx.example\r\n")
                    stream.readline()
                    stream.write(b"250-mx.example\r\n" + b"250-PIPELINING\r\n" * is_pipelining + b"250 HELP\r\n")
                    stream.readline()
                    stream.write(b"421 4.3.2 closing down\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=[server])
        thread.start()
        monkeypatch.setenv("FLEET_SMTP_URL", f"smtp://127.0.0.1:{server.getsockname()[1]}")
        get_settings.cache_clear()
        told.alerts(5, severity="critical")
        told.deliver()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert len(sessions) == 1
    assert told.value("SELECT sum(attempts) FROM notifications") == 0
    assert told.value("SELECT count(*) FROM channel_outages") == 1


def test_one_whom_the_server_wants_a_login_for_keeps_nobody_waiting(told: Desk, any_inbox: Inbox) -> None:
    any_inbox.answers["far@elsewhere.example"] = "530 5.7.0 Authentication required"
    told.alert("safety_event", severity="critical", recipients=["far@elsewhere.example"])
    told.alert("safety_event", severity="low")

    told.deliver()

    assert sorted(any_inbox.to) == ["ann@acme.example", "ann@acme.example"]
    assert told.value("SELECT attempts FROM notifications WHERE address LIKE 'far@%%'") == 1


def test_a_server_that_takes_mail_for_nobody_is_an_outage_and_costs_few_a_try(desk: Desk, any_inbox: Inbox) -> None:
    desk.alerts(60, "geofence_entry", recipients=["gate@acme.example"])
    desk.admin.execute("UPDATE notifications SET address = id || '@acme.example', state = 'ready', is_named = true")
    refuse = "554 5.7.1 Relay access denied"
    any_inbox.answers = _Everybody(refuse)

    desk.send()
    tried = desk.value("SELECT count(*) FROM notifications WHERE attempts > 0")
    desk.send()

    assert tried == MOST_REFUSED - 1
    assert desk.value("SELECT count(*) FROM notifications WHERE attempts > 0") == tried + MOST_REFUSED_AGAIN - 1
    assert (
        desk.value("SELECT reason FROM channel_outages") == f"the mail server takes mail for nobody: 554 {refuse[4:]}"
    )
    assert desk.states() == {"ready": 60}

    any_inbox.answers = {}
    desk.pass_time(timedelta(hours=1))
    desk.admin.execute("UPDATE notifications SET expires_at = now() + interval '1 day'")
    desk.send()
    assert desk.states() == {"sent": 60}
    assert desk.value("SELECT count(*) FROM channel_outages") == 0


def test_a_refusal_as_the_mail_is_announced_is_no_end_of_it() -> None:
    answers = {b"EHLO": b"250 mx", b"MAIL": b"250 ok", b"RCPT": b"250 ok", b"DATA": b"554 5.7.1 blocked using a list"}

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, connection.makefile("rwb", buffering=0) as stream:
            stream.write(b"220 mx.example\r\n")
            while line := stream.readline():
                stream.write(answers.get(line[:4], b"250 ok") + b"\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=[server])
        thread.start()
        answer = send(f"smtp://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert answer == NotTaken(554, "5.7.1 blocked using a list", is_final=False, is_bad_address=False)


class _Everybody(dict[str, str]):
    """One answer to whomever the mail is for."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self._answer = answer

    def get(self, key: str, default: object = None) -> str:
        return self._answer


def test_only_what_ends_a_mail_makes_it_taken(any_inbox: Inbox) -> None:
    any_inbox.at_data = lambda mail: "354 go on"
    with pytest.raises(MailServerAway):
        send(any_inbox.url)


def test_a_machine_without_a_full_name_greets_with_the_senders_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    greeted: list[str] = []
    with opened() as inbox:
        monkeypatch.setattr(socket, "gethostname", lambda: "a1b2c3")
        inbox.__class__ = type("Listening", (Inbox,), {"handle_EHLO": _noting(greeted)})
        with MailSession(MailServer.from_url(inbox.url, "jobs.example")):
            pass
        monkeypatch.setattr(socket, "gethostname", lambda: "web1.fleet.example")
        with MailSession(MailServer.from_url(inbox.url, "jobs.example")):
            pass
    assert greeted == ["jobs.example", "web1.fleet.example"]


def _noting(greeted: list[str]) -> object:
    async def handle_EHLO(
        inbox: Inbox, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        greeted.append(hostname)
        return responses

    return handle_EHLO
