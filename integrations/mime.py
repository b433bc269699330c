"""A mail as bytes: headers that cannot be broken out of, and two twins of one text.

The standard library's `Message` writes it. Its newer `EmailMessage` parses each header that it is given, which takes
longer than sending the mail.
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.header import Header
from email.message import Message
from email.policy import Compat32
from email.utils import format_datetime, formataddr
from functools import lru_cache

import idna

from integrations.errors import PermanentError

LONGEST_HEADER = 900
"""Characters; a line of a mail ends at 998 octets (RFC 5322, 2.1.1)."""
LONGEST_ADDRESS = 254

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029]")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_PLAIN = re.compile(r"[\x20-\x7e]*")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_LONGEST_NAME = 76


class _AsChecked(Compat32):
    """Writes headers as `_value` returns them: plain ones on one line, encoded words folded.

    Folded anew they would be parsed anew, half the time of a mail; and links that are broken over two lines are read
    wrongly by some who take List-Unsubscribe.
    """

    def fold_binary(self, name: str, value: str) -> bytes:
        return f"{name}: {value}\n".replace("\n", "\r\n").encode("ascii")


_ON_THE_WIRE = _AsChecked(linesep="\r\n")


class UnsendableMail(PermanentError):  # noqa: N818 - named for the caller, as its siblings are
    """No server may be asked to take it: an address or a header that is none. The message quotes neither."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to one address. `message_id` and what `references` names stand without their angle brackets."""

    message_id: str
    sender_name: str
    sender: str
    to: str
    subject: str
    text: str
    html: str
    at: datetime
    references: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@lru_cache(maxsize=4096)
def check_address(address: str) -> str:
    """Return an address as the envelope carries it, its domain in ASCII.

    Only plain ones (RFC 5321 `Dot-string`): quoted ones, where blanks and line ends may hide, are not sent to.

    Raises:
        UnsendableMail: it is none.
    """
    local, at, domain = address.rpartition("@")
    if not at or len(address) > LONGEST_ADDRESS or not _LOCAL.fullmatch(local):
        raise UnsendableMail("not an address that mail can be sent to")
    try:
        # By IDNA 2008: the older one, which Python has, takes straße.de for strasse.de, and that is somebody else's.
        ascii_domain = domain if domain.isascii() else idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError:
        ascii_domain = ""
    if not _DOMAIN.fullmatch(ascii_domain) or ascii_domain.rpartition(".")[2].isdigit():
        raise UnsendableMail("not an address that mail can be sent to")
    return f"{local}@{ascii_domain}"


def check_mailbox(name: str, address: str) -> None:
    """Refuse a sender that no mail could be from.

    Raises:
        UnsendableMail: the name is too long or holds a line end, or the address is none.
    """
    _mailbox(name, check_address(address))


def build(mail: Mail) -> bytes:
    """Return the mail, lines ended as SMTP wants them.

    Raises:
        UnsendableMail: an address is none, or a header holds a line end or is too long.
    """
    message = Message(_ON_THE_WIRE)
    message["From"] = _mailbox(mail.sender_name, check_address(mail.sender))
    message["To"] = check_address(mail.to)
    for name, value in (
        ("Subject", mail.subject),
        ("Date", format_datetime(mail.at)),
        ("Message-ID", f"<{mail.message_id}>"),
        *_thread(mail.references),
        *mail.headers.items(),
    ):
        message[name] = _value(name, value)
    message["MIME-Version"] = "1.0"
    # Quoted-printable text never holds `=_`.
    message["Content-Type"] = f'multipart/alternative; boundary="=_{mail.message_id.partition("@")[0]}"'
    message.attach(_part("plain", mail.text))
    message.attach(_part("html", mail.html))
    return message.as_bytes()


def _thread(references: str | None) -> list[tuple[str, str]]:
    return [] if references is None else [(name, f"<{references}>") for name in ("References", "In-Reply-To")]


def _value(name: str, value: str) -> str:
    """Return a header's value; what is not plain ASCII as encoded words (RFC 2047), folded."""
    if not _NAME.fullmatch(name) or _CONTROL.search(value) or len(value) > LONGEST_HEADER:
        raise UnsendableMail(f"the header {name[:40]!r} cannot be written")
    return value if _is_plain(value) else _encoded(value, name)


def _mailbox(name: str, address: str) -> str:
    """Return an address with its display name, quoted or encoded."""
    if _CONTROL.search(name) or len(name) > _LONGEST_NAME:
        raise UnsendableMail("the sender's name cannot be written")
    return formataddr((name, address)) if _is_plain(name) else f"{_encoded(name, 'From')} <{address}>"


def _is_plain(value: str) -> bool:
    return _PLAIN.fullmatch(value) is not None and "=?" not in value


def _encoded(value: str, name: str) -> str:
    return Header(value.encode("utf-8", "replace"), "utf-8", header_name=name).encode()  # half a pair is no text


def _part(kind: str, body: str) -> Message:
    part = Message(_ON_THE_WIRE)
    part["Content-Type"] = f"text/{kind}; charset=utf-8"
    part["Content-Transfer-Encoding"] = "quoted-printable"
    unix = body.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    # Beforehand: the library's own is written in Python, and ten times slower.
    part.set_payload(binascii.b2a_qp(unix.encode("utf-8", "replace"), istext=True).decode("ascii"))
    return part
