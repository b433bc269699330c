"""What comes back of a mail that a server had taken: a report that it was not delivered, or that somebody complained.

Delivery status notifications are RFC 3464, complaints RFC 5965. Anybody may write such a mail: what it says holds only
for a mail of ours that it quotes, by the Message-ID.
"""

import re
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.policy import compat32
from itertools import islice
from typing import Literal
from uuid import UUID

import idna

from integrations.mail import BAD_ADDRESS, without_addresses

LONGEST_REPORT = 1_000_000
"""Bytes; a report may quote the whole mail, and ours are small."""
_MOST_PARTS = 50
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_ID = re.compile(r"<([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@[^<>@\s]{1,255}>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Returned:
    """What became of one mail.

    Args:
        message_id: what its Message-ID begins with. Only who has the mail knows it.
        addresses: the ways to write whom it could not be delivered to, in lower case; None where nobody is named.
            Behind a list or a forwarding it is another one than it was sent to.
        is_bad_address: there is no such address: mail to it harms the sender's name.
        reason: the server's words, shortened, without any address.
    """

    kind: Literal["bounce", "complaint"]
    message_id: UUID
    addresses: frozenset[str] | None
    is_bad_address: bool
    reason: str


def read_report(raw: bytes) -> Returned | None:
    """Return what a mail reports of one of ours; None where it reports nothing final, or names no mail.

    A warning that delivery is delayed is nothing final.
    """
    if len(raw) > LONGEST_REPORT:
        return None
    try:
        parts = list(islice(message_from_bytes(raw, policy=compat32).walk(), _MOST_PARTS))
    except RecursionError:  # parts within parts, a thousand deep
        return None
    message_id = _quoted_id(parts)
    if message_id is None:
        return None
    for part in parts:
        kind = part.get_content_type()
        found = None
        if kind == "message/delivery-status":
            found = _bounce(part, message_id)
        elif kind == "message/feedback-report":
            found = _complaint(part, message_id)
        if found is not None:
            return found
    return None


def _quoted_id(parts: list[Message]) -> UUID | None:
    """Return the id of the mail that the report quotes: all of it, its headers, or their text."""
    for number, part in enumerate(parts):
        if part.get_content_type() == "text/rfc822-headers":
            payload = part.get_payload(decode=True)
            quoted: Message | None = message_from_bytes(payload) if isinstance(payload, bytes) else None
        elif part.get_content_type() == "message/rfc822" and number + 1 < len(parts):
            quoted = parts[number + 1]
        else:
            continue
        if quoted is not None and (found := _ID.fullmatch(str(quoted.get("Message-ID", "")).strip())):
            return UUID(found[1])
    return None


def _bounce(part: Message, message_id: UUID) -> Returned | None:
    """Return what a delivery status says of the first recipient that it has failed for."""
    for block in _blocks(part):
        if _field(block, "Action").lower() != "failed":
            continue
        address = _typed(_field(block, "Final-Recipient"))
        status = _STATUS.search(_field(block, "Status"))
        said = _field(block, "Diagnostic-Code").partition(";")[2].strip()
        words = without_addresses(said.encode("ascii", "replace"), address or "")
        is_bad_address = status is not None and status[0] in BAD_ADDRESS
        reason = f"came back: {words or (status[0] if status else 'not delivered')}"
        return Returned("bounce", message_id, _written(address), is_bad_address, reason[:200])
    return None


def _written(address: str | None) -> frozenset[str] | None:
    """Return an address as reports write it, and as people do where its domain is not of ASCII."""
    if address is None:
        return None
    local, _, domain = address.lower().rpartition("@")
    try:
        return frozenset({f"{local}@{domain}", f"{local}@{idna.decode(domain)}"})
    except UnicodeError:
        return frozenset({f"{local}@{domain}"})


def _complaint(part: Message, message_id: UUID) -> Returned | None:
    for block in _blocks(part):
        if _field(block, "Feedback-Type").lower() in ("abuse", "fraud", "opt-out", "opt-out-list"):
            return Returned("complaint", message_id, None, False, "complained of as unwanted")
    return None


def _blocks(part: Message) -> list[Message]:
    """Return the groups of fields of a report; a parser that knows its type has split them, another has not."""
    payload = part.get_payload()
    if isinstance(payload, list):
        return [block for block in payload if isinstance(block, Message)]
    return [message_from_bytes(payload.encode("ascii", "replace"))] if isinstance(payload, str) else []


def _field(block: Message, name: str) -> str:
    return " ".join(str(block.get(name, ""))[:2000].split())


def _typed(value: str) -> str | None:
    """Return the address of `rfc822; ann@acme.example`."""
    kind, _, address = value.partition(";")
    return address.strip().strip("<>") or None if kind.strip().lower() in ("rfc822", "utf-8") else None
