"""A mail as bytes: headers that cannot be broken out of, and two twins of one text.

Written out here rather than by `email.message`, which takes a millisecond a mail, more than sending it.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

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
_WORD_BYTES = 45


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
        ascii_domain = domain.encode("idna").decode("ascii") if not domain.isascii() else domain
    except UnicodeError:
        ascii_domain = ""
    if not _DOMAIN.fullmatch(ascii_domain):
        raise UnsendableMail("not an address that mail can be sent to")
    return f"{local}@{ascii_domain}"


def build(mail: Mail) -> bytes:
    """Return the mail, lines ended as SMTP wants them.

    Raises:
        UnsendableMail: an address is none, or a header holds a line end or is too long.
    """
    boundary = f"=_{mail.message_id.partition('@')[0]}"  # quoted-printable text never holds `=_`
    headers = [
        ("From", f"{_phrase(mail.sender_name)} <{check_address(mail.sender)}>".lstrip()),
        ("To", check_address(mail.to)),
        ("Subject", mail.subject),
        ("Date", format_datetime(mail.at)),
        ("Message-ID", f"<{mail.message_id}>"),
    ]
    if mail.references is not None:
        headers += [("References", f"<{mail.references}>"), ("In-Reply-To", f"<{mail.references}>")]
    headers += mail.headers.items()
    headers += [("MIME-Version", "1.0"), ("Content-Type", f'multipart/alternative; boundary="{boundary}"')]
    lines = "".join(f"{name}: {_value(name, value)}\r\n" for name, value in headers)
    return b"".join(
        (
            lines.encode("ascii"),
            b"\r\n",
            _part(boundary, "plain", mail.text),
            _part(boundary, "html", mail.html),
            f"--{boundary}--\r\n".encode(),
        )
    )


def _value(name: str, value: str) -> str:
    """Return a header's value; what is not plain ASCII as encoded words, folded."""
    if not _NAME.fullmatch(name) or _CONTROL.search(value) or len(value) > LONGEST_HEADER:
        raise UnsendableMail(f"the header {name[:40]!r} cannot be written")
    if _PLAIN.fullmatch(value) and "=?" not in value:
        return value
    if name in ("From", "To"):
        return value  # built of parts that are encoded already
    return "\r\n ".join(_encoded_words(value))


def _encoded_words(value: str) -> Iterator[str]:
    """Yield a text as encoded words (RFC 2047), each of whole characters and of at most 75 octets."""
    word = b""
    for character in value:
        encoded = character.encode("utf-8", "replace")
        if len(word) + len(encoded) > _WORD_BYTES:
            yield f"=?utf-8?b?{base64.b64encode(word).decode()}?="
            word = b""
        word += encoded
    yield f"=?utf-8?b?{base64.b64encode(word).decode()}?="


def _phrase(name: str) -> str:
    """Return a display name, quoted or encoded."""
    if _CONTROL.search(name) or len(name) > _LONGEST_NAME:
        raise UnsendableMail("the sender's name cannot be written")
    if not name:
        return ""
    if _PLAIN.fullmatch(name) and "=?" not in name:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return " ".join(_encoded_words(name))


def _part(boundary: str, kind: str, body: str) -> bytes:
    unix = body.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    encoded = binascii.b2a_qp(unix.encode("utf-8", "replace"), istext=True).replace(b"\n", b"\r\n")
    head = (
        f"--{boundary}\r\nContent-Type: text/{kind}; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    return head.encode() + encoded + b"\r\n"
