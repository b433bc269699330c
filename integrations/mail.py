"""One connection to a mail server, for many mails: what it says of each is a value, what ends it for all an error."""

import contextlib
import io
import re
import smtplib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from integrations.errors import PermanentError, TransientError
from integrations.http_deadline import BoundedSocket, deadline, within

TIMEOUT_S = 30.0
_TIMEOUTS = 2
"""Opening a session, or handing one mail over, takes no longer than so many timeouts together."""
_GOODBYE_S = 5.0
_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
_LONGEST_REASON = 160
_TAKEN = ((250,), (250, 251, 252), (354,), (250,))
"""What goes on after the sender, the recipient, the announcement of the mail, and its end (RFC 5321, 4.3.2)."""
_AT_SENDER, _AT_RECIPIENT, _AT_DATA, _AT_END = range(4)
_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)
_ENHANCED = re.compile(r"^([245]\.\d{1,3}\.\d{1,3})\b")
_ADDRESS = re.compile(r"\S*@\S*|https?://\S*")
_WHOM = rb"(user|recipient|mailbox|address|account)"
_IS_NOT = rb"(unknown|not found|not exist|invalid|disabled|no such)"
_NOBODY = re.compile(rb"\b%b\b.{0,40}\b%b|\b%b\b.{0,20}\b%b" % (_WHOM, _IS_NOT, _IS_NOT, _WHOM), re.IGNORECASE)
"""How servers say without an enhanced code that there is no such address."""
_OF_US = re.compile(
    rb"sender|sending|verif|relay|auth|login|credential|password|block|listed|spam|polic|quota|limit|helo",
    re.IGNORECASE,
)
"""Words of a refusal that is about us, whatever else it names: many servers judge the sender beside the recipient."""
_QUEUED = re.compile(r"\b(?:queued as|id=?)[ :]?([A-Za-z0-9._-]{4,64})", re.IGNORECASE)


BAD_ADDRESS = ("5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10")
"""Enhanced codes that say that there is no such address (RFC 3463, 3.2; RFC 7505)."""
_OF_THE_MAILBOX = (*BAD_ADDRESS, "5.1.0", "5.1.4", "5.2.0", "5.2.1", "5.2.2", "5.2.3", "5.2.4")
"""And what is about the mailbox otherwise (RFC 3463, 3.3); 5.1.7 and 5.1.8 are about the sender."""
MOST_REFUSED = 20
"""So many refusals in a row, of whatever address, are the server's doing: it takes mail of ours for nobody."""


class MailServerAway(TransientError):  # noqa: N818 - named for the caller, as its siblings are
    """The server cannot be reached, refuses our login or our sender, or ended the session.

    Args:
        in_mail: it ended while it was told of a mail: that one may be the cause, or may even have been accepted.
        refuses_all: it answers, and takes mail for nobody.
    """

    def __init__(self, message: str, *, in_mail: bool = False, refuses_all: bool = False) -> None:
        super().__init__(message)
        self.in_mail = in_mail
        self.refuses_all = refuses_all


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over."""

    host: str
    port: int
    tls: Literal["smtp", "smtp+starttls", "smtps"]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_s: float = TIMEOUT_S
    greeted_as: str | None = None

    @classmethod
    def from_url(cls, url: str, greeted_as: str | None = None) -> Self:
        """Return the server of smtp://, smtp+starttls:// or smtps://USER:PASSWORD@HOST:PORT.

        Args:
            greeted_as: who we say that we are where this machine has no full name; servers refuse half ones.

        Raises:
            PermanentError: it does not look like that.
        """
        wrong = PermanentError("must look like smtps://USER:PASSWORD@HOST:PORT, smtp+starttls://... or smtp://...")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise wrong from None
        if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
            raise wrong
        user, password = (unquote(each) if each else None for each in (parts.username, parts.password))
        tls: Literal["smtp", "smtp+starttls", "smtps"] = parts.scheme  # type: ignore[assignment]
        return cls(parts.hostname, port or _PORTS[parts.scheme], tls, user, password, greeted_as=greeted_as)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server has taken the mail over; `queue_id` is its own word for it, where it says one."""

    queue_id: str | None


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The server will not have this mail.

    Args:
        is_final: it never will (5xx); otherwise it may later (4xx).
        is_bad_address: it is the address that does not exist: mail to it harms the sender's name.
        reason: the server's words, shortened, without any address.
    """

    code: int
    reason: str
    is_final: bool
    is_bad_address: bool


class MailSession:
    """An open connection; not thread-safe.

    Args:
        most_refused: after so many refusals in a row the server is taken to refuse all.

    Raises:
        MailServerAway: it cannot be opened.
    """

    def __init__(self, server: MailServer, *, most_refused: int = MOST_REFUSED) -> None:
        self.accepted = 0
        self._refused_in_a_row, self._most_refused = 0, most_refused
        self._longest_s = server.timeout_s * _TIMEOUTS
        with deadline(self._longest_s):
            self._smtp = _open(server)

    def send(self, sender: str, to: str, content: bytes) -> Accepted | NotTaken:
        """Hand one mail over. Addresses are plain ones, checked by `mime.check_address`.

        Raises:
            MailServerAway: the session is over; where it is so `in_mail`, this mail may or may not have been accepted.
        """
        with deadline(self._longest_s):
            return self._send(sender, to, content)

    def _send(self, sender: str, to: str, content: bytes) -> Accepted | NotTaken:
        replies: list[tuple[int, bytes]] = []
        try:
            self._ask((f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA"), replies)
            if _first_refused(replies) is None:
                self._smtp.send(_dotted(content))
                replies.append(self._smtp.getreply())
            elif len(replies) > _AT_DATA and replies[_AT_DATA][0] in _TAKEN[_AT_DATA]:
                self._smtp.send(b".\r\n")  # asked for all at once, it waits for a mail that has nobody to go to
                self._smtp.getreply()
        except (smtplib.SMTPException, OSError) as error:
            said = f"the mail server ended the session: {type(error).__name__}"
            has_sender = bool(replies) and replies[_AT_SENDER][0] in _TAKEN[_AT_SENDER]
            raise MailServerAway(said, in_mail=has_sender) from None
        refused = _first_refused(replies)
        if refused is not None:
            return self._not_taken(refused, *replies[refused], to)
        self.accepted += 1
        self._refused_in_a_row = 0
        found = _QUEUED.search(replies[-1][1].decode("ascii", "replace"))
        return Accepted(found[1] if found else None)

    def _ask(self, commands: Sequence[str], replies: list[tuple[int, bytes]]) -> None:
        """Give commands, all at once where the server takes them so (RFC 2920), else up to the first it refuses."""
        if self._smtp.has_extn("pipelining"):
            self._smtp.send("".join(f"{command}\r\n" for command in commands))
            for _ in commands:
                replies.append(self._smtp.getreply())
            return
        for command in commands:
            replies.append(self._smtp.docmd(command))
            if _first_refused(replies) is not None:
                return

    def close(self) -> None:
        """Say goodbye; a server that is gone is not waited for."""
        with contextlib.suppress(smtplib.SMTPException, OSError), deadline(_GOODBYE_S):
            self._smtp.quit()
        self._smtp.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _not_taken(self, step: int, code: int, said: bytes, to: str) -> NotTaken:
        if step == _AT_SENDER:
            raise MailServerAway(f"the mail server refuses the sender: {code}")
        if code == 421 or code < 400:  # it is closing, or talks no SMTP
            raise MailServerAway(f"the mail server ended the session: {code}", in_mail=True)
        with contextlib.suppress(smtplib.SMTPException, OSError):  # then the next mail finds out
            self._smtp.rset()
        reason = without_addresses(said, to)
        if step != _AT_END:  # before it has seen the mail
            self._refused_in_a_row += 1
            if self._refused_in_a_row >= self._most_refused:
                raise MailServerAway(f"the mail server takes mail for nobody: {code} {reason}", refuses_all=True)
        is_bad_address = code >= 500 and step == _AT_RECIPIENT and _is_bad_address(said)
        return NotTaken(code, reason, _is_final(step, code, said), is_bad_address)


def _first_refused(replies: Sequence[tuple[int, bytes]]) -> int | None:
    """Return the first step that the server did not go on after."""
    return next((step for step, (code, _) in enumerate(replies) if code not in _TAKEN[step]), None)


class _Bounded(smtplib.SMTP):
    """Keeps to the deadline: the timeout of a socket bounds one receive, and a server may send a byte now and then."""

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            stream: Any = self.sock.makefile("rb", buffering=0)
            self.file = io.BufferedReader(BoundedSocket(stream, self.sock))
        return super().getreply()

    def send(self, s: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(within(self.timeout))
        super().send(s)


class _BoundedOverTls(_Bounded, smtplib.SMTP_SSL):
    pass


def _open(server: MailServer) -> smtplib.SMTP:
    name = _own_name(server)
    try:
        if server.tls == "smtps":
            smtp: smtplib.SMTP = _BoundedOverTls(
                server.host, server.port, name, timeout=server.timeout_s, context=ssl.create_default_context()
            )
        else:
            smtp = _Bounded(server.host, server.port, name, timeout=server.timeout_s)
    except (smtplib.SMTPException, OSError) as error:
        raise MailServerAway(f"the mail server cannot be reached: {_named(error)}") from None
    assert smtp.sock is not None
    smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # commands are small, and each is waited for
    try:
        if server.tls == "smtp+starttls":
            smtp.starttls(context=ssl.create_default_context())
        if server.user is not None:
            smtp.login(server.user, server.password or "")
        else:
            smtp.ehlo_or_helo_if_needed()
    except (smtplib.SMTPException, OSError, ValueError) as error:
        smtp.close()
        raise MailServerAway(f"the mail server does not let us in: {_named(error)}") from None
    return smtp


def _own_name(server: MailServer) -> str:
    """Return who we say that we are: a name with a domain (RFC 5321, 4.1.4)."""
    host = socket.gethostname()
    return host if "." in host else server.greeted_as or host or "localhost"


def _named(error: Exception) -> str:
    code = getattr(error, "smtp_code", None)
    return f"{type(error).__name__} {code}" if isinstance(code, int) and code > 0 else type(error).__name__


def _dotted(content: bytes) -> bytes:
    """Return a mail as DATA carries it: no line of it is taken for the end."""
    end = b"" if content.endswith(b"\r\n") else b"\r\n"
    return _LEADING_DOT.sub(b"..", content) + end + b".\r\n"


def _enhanced(said: bytes) -> str | None:
    """Return the enhanced status code (RFC 3463), where there is one."""
    found = _ENHANCED.match(said.decode("ascii", "replace"))
    return found[1] if found else None


def _is_final(step: int, code: int, said: bytes) -> bool:
    """Tell a refusal of this mailbox or this mail from one of us: an operator may mend that while the mail waits.

    Servers say with 5xx too that they have blocked our address, that our quota is used up, that our greeting is wrong
    or that we need a login. Before the mail was seen only what is said of the mailbox is final.
    """
    if code < 500 or code == 530:
        return False
    if step == _AT_END:
        enhanced = _enhanced(said) or "5.7."
        is_ours = enhanced.startswith("5.7.") and (b"relay" in said.lower() or b"auth" in said.lower())
        return not is_ours and not enhanced.startswith(("5.4.", "5.5."))
    return step == _AT_RECIPIENT and is_refusal_of_mailbox(said)


def is_refusal_of_mailbox(said: bytes) -> bool:
    """Tell whether a refused recipient is what is refused, and not who sends."""
    enhanced = _enhanced(said)
    # RFC 5321's own words for 550.
    is_of_mailbox = b"mailbox unavailable" in said.lower() if enhanced is None else enhanced in _OF_THE_MAILBOX
    return _is_bad_address(said) or (is_of_mailbox and _OF_US.search(said) is None)


def _is_bad_address(said: bytes) -> bool:
    """Tell an address that does not exist from a mail that is not wanted, or a mailbox that is full."""
    enhanced = _enhanced(said)
    if enhanced is not None:
        return enhanced in BAD_ADDRESS
    return _NOBODY.search(said[:500]) is not None and _OF_US.search(said) is None


def without_addresses(said: bytes, to: str) -> str:
    """Return a server's words as one line of bounded length that names nobody."""
    words = _ADDRESS.sub("...", said.decode("ascii", "replace"))
    for part in (to, to.rpartition("@")[0]):
        if len(part) > 2:
            words = re.sub(re.escape(part), "...", words, flags=re.IGNORECASE)
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())[:_LONGEST_REASON]
