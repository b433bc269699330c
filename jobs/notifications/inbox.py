"""An inbox on this machine, for the demo and for developers: takes every mail, delivers none, and shows them on a page.

A mail is a page of its own, in which nothing runs, loads or is sent: neither scripts nor forms nor pictures.
"""

import html
import itertools
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default

import uvicorn
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

MOST_KEPT = 500
MOST_BYTES = 1024 * 1024
HOST = "127.0.0.1"
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_MAIL_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'"
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5"><title>Inbox ({number})</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; max-width: 860px; padding: 24px 16px; font: 16px/1.5 system-ui, sans-serif; }}
div {{ padding: 10px 0; border-top: 1px solid #8884; }}
small {{ display: block; opacity: .8; overflow-wrap: anywhere; }}
small a {{ margin-right: 12px; }}
</style></head><body><h1>Inbox</h1><p>{number} mails; the newest first.</p>{rows}</body></html>"""


@dataclass(frozen=True, slots=True)
class Caught:
    """A mail as it came."""

    number: int
    at: datetime
    to: str
    subject: str
    message_id: str
    message: EmailMessage

    def body(self, kind: str) -> str:
        """Return one of its twins, `html` or `plain`."""
        part = self.message.get_body((kind,))
        return str(part.get_content()) if part is not None else ""

    def headers(self) -> str:
        """Return the headers, one a line, as a reader decodes them."""
        return "".join(f"{name}: {value}\n" for name, value in self.message.items())


class Inbox:
    """The newest mails, and how many there were. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[Caught] = deque(maxlen=MOST_KEPT)
        self._numbers = itertools.count(1)
        self.mails = 0

    def add(self, to: str, content: bytes) -> None:
        """Keep a mail."""
        message = BytesParser(policy=default).parsebytes(content)
        assert isinstance(message, EmailMessage)
        subject, message_id = str(message["Subject"] or ""), str(message["Message-ID"] or "")
        with self._lock:
            number = next(self._numbers)
            self.mails = number
            self._kept.append(Caught(number, datetime.now(UTC), to, subject, message_id, message))

    def newest(self) -> list[Caught]:
        """Return what is kept, the newest first."""
        with self._lock:
            return list(reversed(self._kept))

    def find(self, number: int) -> Caught | None:
        """Return one mail; None where it is no longer, or not yet, there."""
        return next((each for each in self.newest() if each.number == number), None)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail from the server."""
        assert isinstance(envelope.content, bytes)
        self.add(", ".join(envelope.rcpt_tos), envelope.content)
        return f"250 2.0.0 OK queued as {self.mails:08X}"


def listen(inbox: Inbox, port: int) -> Controller:
    """Take mail on a port of this machine, in a thread; `stop()` ends it.

    Raises:
        OSError: the port cannot be had.
    """
    controller = Controller(inbox, hostname=HOST, port=port, data_size_limit=MOST_BYTES)
    controller.start()
    return controller


def make_app(inbox: Inbox) -> Starlette:
    """Return the pages: a list, each mail as HTML and as text, and the list as JSON."""

    def index(request: Request) -> Response:
        rows = "".join(
            f'<div><a href="/mails/{each.number}">{html.escape(each.subject) or "(no subject)"}</a>'
            f"<small>{each.at:%Y-%m-%d %H:%M:%S} UTC to {html.escape(each.to)}</small>"
            f'<small><a href="/mails/{each.number}?as=text">as text</a>'
            f'<a href="/mails/{each.number}?as=headers">headers</a></small></div>'
            for each in inbox.newest()
        )
        page = _PAGE.format(number=inbox.mails, rows=rows)
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    def listed(request: Request) -> Response:
        mails = [
            {
                "number": each.number,
                "at": each.at.isoformat(),
                "to": each.to,
                "subject": each.subject,
                "id": each.message_id,
            }
            for each in inbox.newest()
        ]
        return JSONResponse({"count": inbox.mails, "mails": mails})

    def show(request: Request) -> Response:
        mail = inbox.find(request.path_params["number"])
        if mail is None:
            return Response(status_code=404)
        if request.query_params.get("as") == "text":
            return _plain(mail.body("plain"))
        if request.query_params.get("as") == "headers":
            return _plain(mail.headers())
        return HTMLResponse(mail.body("html"), headers={"Content-Security-Policy": _MAIL_POLICY})

    return Starlette(
        routes=[Route("/", index), Route("/mails.json", listed), Route("/mails/{number:int}", show)],
    )


def _plain(text: str) -> Response:
    # What a mail says is text, whatever it looks like.
    headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": _MAIL_POLICY}
    return Response(text.encode("utf-8", "replace"), media_type="text/plain", headers=headers)


def serve(smtp_port: int, port: int) -> None:
    """Take mails and show them until SIGTERM or SIGINT.

    Raises:
        OSError: a port cannot be had.
    """
    inbox = Inbox()
    controller = listen(inbox, smtp_port)
    try:
        uvicorn.run(
            make_app(inbox), host=HOST, port=port, log_level="warning", access_log=False, lifespan="off", ws="none"
        )
    finally:
        controller.stop()
