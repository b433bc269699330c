"""A platform in this process, a tenant that is told of everything, and a mail server that can be told to misbehave."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any
from uuid import UUID

import psycopg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from jobs.embedded.process import free_port
from tests.factories import make_tenant
from tests.inprocess import Platform, platform_of
from tests.servers import Database

DELIVER = "notifications.deliver"


@dataclass
class Received:
    """A mail that a server has accepted, or read and then not acknowledged."""

    to: str
    raw: bytes

    @property
    def parsed(self) -> EmailMessage:
        message = BytesParser(policy=default).parsebytes(self.raw)
        assert isinstance(message, EmailMessage)
        return message

    @property
    def id(self) -> str:
        return str(self.parsed["Message-ID"])

    def part(self, kind: str) -> str:
        """Return the text of its `plain` or `html` twin."""
        body = self.parsed.get_body((kind,))
        assert body is not None
        return str(body.get_content())


def _drop(server: SMTP) -> None:
    assert isinstance(server.transport, asyncio.WriteTransport)
    server.transport.abort()


@dataclass
class Inbox:
    """A mail server on the loopback. `answers` says by address what RCPT is told; `at_data` what DATA is."""

    port: int = field(default_factory=free_port)
    mails: list[Received] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    refused_sender: str | None = None
    at_data: Callable[[Received], str | None] = lambda mail: None
    sessions: int = 0
    is_pipelining: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    _controller: Controller | None = None

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.sessions += 1
        return [responses[0], "250-PIPELINING", *responses[1:]] if self.is_pipelining else responses

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.refused_sender or "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.answers.get(address, "250 OK")
        if answer == "drop":
            _drop(server)
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        mail = Received(envelope.rcpt_tos[0], envelope.content)
        answer = self.at_data(mail)
        if answer is None or answer.startswith(("drop", "250")):
            self.mails.append(mail)
        if answer is not None and answer.startswith("drop"):
            _drop(server)
        return answer or "250 2.0.0 OK queued as 4Abc123"

    def start(self) -> None:
        """Open, or open again."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **self.options)
        self._controller.start()

    def stop(self) -> None:
        """Be away."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    @property
    def to(self) -> list[str]:
        """Whom the mails are to, in order."""
        return [mail.to for mail in self.mails]

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"


@pytest.fixture(params=[False, True], ids=["plain", "pipelining"])
def any_inbox(request: pytest.FixtureRequest, inbox: Inbox) -> Inbox:
    """The inbox, taking one command after the other, or several at once."""
    inbox.is_pipelining = request.param
    return inbox


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    opened = Inbox()
    opened.start()
    yield opened
    opened.stop()


class Desk:
    """One tenant of the platform, and what a test does with its alerts."""

    def __init__(self, platform: Platform, slug: str = "acme", time_zone: str = "UTC") -> None:
        self.platform = platform
        self.admin = platform.admin
        self.tenant_id = make_tenant(platform.admin, slug, time_zone)
        self.vehicles = 0

    def user(self, email: str = "ann@acme.example", locale: str | None = None, zone: str | None = None) -> UUID:
        """Add an active user."""
        row = self.admin.execute(
            "INSERT INTO users (tenant_id, email, locale, time_zone) VALUES (%s, %s, %s, %s) RETURNING id",
            [self.tenant_id, email, locale, zone],
        ).fetchone()
        assert row is not None
        found: UUID = row[0]
        return found

    def prefer(self, user_id: UUID | None = None, **given: Any) -> None:
        """Set a preference; of the tenant where no user is named."""
        values = {"tenant_id": self.tenant_id, "user_id": user_id, **given}
        marks = ", ".join("%s" for _ in values)
        self.admin.execute(
            f"INSERT INTO notification_preferences ({', '.join(values)}) VALUES ({marks})".encode(),
            list(values.values()),
        )

    def vehicle(self, name: str | None = None) -> UUID:
        """Add a vehicle."""
        self.vehicles += 1
        row = self.admin.execute(
            "INSERT INTO vehicles (tenant_id, name) VALUES (%s, %s) RETURNING id",
            [self.tenant_id, name or f"Van {self.vehicles}"],
        ).fetchone()
        assert row is not None
        found: UUID = row[0]
        return found

    def alert(self, kind: str = "offline", severity: str = "medium", **given: Any) -> UUID:
        """Open an alert, as one of the jobs or another application does: as a tenant's role, with one statement."""
        values: dict[str, Any] = {
            "kind": kind,
            "severity": severity,
            "subject": f"vehicle:{datetime.now(UTC).timestamp()}",
        }
        values |= {"message": "something happened", "opened_at": datetime.now(UTC)} | given
        if "details" in values:
            values["details"] = json.dumps(values["details"])
        with psycopg.connect(self.platform.urls.app_url) as application:
            application.execute("SELECT set_config('app.tenant_id', %s, true)", [str(self.tenant_id)])
            marks = ", ".join("%s" for _ in values)
            row = application.execute(
                f"INSERT INTO alerts (tenant_id, {', '.join(values)})"
                f" VALUES (app_tenant_id(), {marks}) RETURNING id".encode(),
                list(values.values()),
            ).fetchone()
        assert row is not None
        found: UUID = row[0]
        return found

    def alerts(self, number: int, kind: str = "offline", severity: str = "medium", **given: Any) -> None:
        """Open many with one statement."""
        values: dict[str, Any] = {"details": "{}", "recipients": []} | given
        self.admin.execute(
            "INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at, details, recipients)"
            " SELECT %s, %s, %s, 'vehicle:' || gen_random_uuid(), 'Van ' || g || ' is silent', now(), %s, %s"
            " FROM generate_series(1, %s) AS g",
            [self.tenant_id, kind, severity, values["details"], values["recipients"], number],
        )

    def deliver(self) -> dict[str, Any]:
        """Run the delivery to its end and return its counts."""
        row = self.platform.run(DELIVER)
        assert row["state"] == "succeeded", row["error"]
        counts: dict[str, Any] = row["counts"] or {}
        return counts

    def deliver_plan(self) -> None:
        """Decide on what is new, and send nothing."""
        from jobs import process
        from jobs.notifications.planning import plan

        plan(process.get_database(), datetime.now(UTC))

    def send(self) -> dict[str, int]:
        """Send what is due, as a second worker would beside a run."""
        from jobs import process
        from jobs.notifications import delivery, mails
        from jobs.settings import get_settings

        server, letterhead = delivery.mail_server(get_settings()), delivery.letterhead_of(get_settings())
        assert server is not None
        assert letterhead is not None
        return mails.send_due(process.get_database(), server, letterhead, until=float("inf"))[0]

    def states(self) -> dict[str, int]:
        """Return how many notifications there are by state."""
        rows = self.admin.execute("SELECT state, count(*) FROM notifications GROUP BY state").fetchall()
        return {row[0]: row[1] for row in rows}

    def value(self, statement: str, *values: Any) -> Any:
        """Return the only value of a query."""
        return self.platform.value(statement, *values)

    def pass_time(self, by: timedelta) -> None:
        """Let time pass: every instant of every notification moves into the past."""
        self.admin.execute(
            "UPDATE notifications SET next_attempt_at = next_attempt_at - %(by)s, expires_at = expires_at - %(by)s,"
            " planned_at = planned_at - %(by)s, claimed_until = claimed_until - %(by)s,"
            " created_at = created_at - %(by)s",
            {"by": by},
        )


@pytest.fixture
def platform(database: Database, redis_url: str, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """The platform, that hands its mail to the inbox."""
    given = {
        "FLEET_SMTP_URL": inbox.url,
        "FLEET_MAIL_FROM": "Fleet <fleet@jobs.example>",
        "FLEET_APP_URL": "https://app.example",
        "FLEET_WEBHOOK_ORIGIN": "https://hooks.example",
        "FLEET_LOOPBACK_WEBHOOKS": "true",
    }
    with platform_of(database, redis_url, monkeypatch, **given) as running:
        yield running


@pytest.fixture
def desk(platform: Platform) -> Desk:
    """A tenant without anybody who is told."""
    return Desk(platform)


@pytest.fixture
def told(desk: Desk) -> Desk:
    """A tenant whose one user is told of everything."""
    desk.prefer()
    desk.user()
    return desk


def port_is_closed(port: int) -> bool:
    """Tell whether nobody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
