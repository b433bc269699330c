"""What Smartcar pushes: signed with the application's management token, at least once, in any order.

Source: smartcar.com/docs/api-reference/webhooks (4.0; and the challenge of 2.0), read 2026-11.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from integrations.aside import rejected
from integrations.bounds import BROKEN
from integrations.smartcar.listing import is_id
from integrations.smartcar.signals import take_pushed
from integrations.smartcar.values import BadValue, Values
from integrations.telematics import Page
from integrations.webhooks import Challenge, Delivery, Pushed, WebhookRefused

_LARGEST_BYTES = 64 * 1024  # 50 KB are documented
_TOLERANCE = timedelta(minutes=5)
# The answer to a challenge is made as a signature is, and a challenge may come unsigned: a text that could be the body
# of a delivery would be signed for whoever asks.
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{8,256}")
_EVENT_ID = re.compile(r"[!-~]{1,200}")
_STATES = "VEHICLE_STATE"
_ERRORS = "VEHICLE_ERROR"


class _Meta(msgspec.Struct, rename="camel"):
    delivered_at: Any = None


class _Vehicle(msgspec.Struct):
    id: Any = None


class _Data(msgspec.Struct):
    challenge: Any = None
    vehicle: _Vehicle | None = None
    signals: list[msgspec.Raw] = []


class _Challenge(msgspec.Struct):
    challenge: Any = None


class _Body(msgspec.Struct, rename="camel"):
    """A push; `event_name` and `payload` are those of 2.0."""

    event_id: str = ""
    event_type: str = ""
    event_name: str = ""
    vehicle_id: Any = None
    data: _Data | None = None
    payload: _Challenge | None = None
    meta: _Meta | None = None


_decode = msgspec.json.Decoder(_Body).decode


class SmartcarWebhooks:
    """Fulfils `Webhooks`."""

    secret_name = "management_token"  # noqa: S105 - the name of one

    def verify(self, body: bytes, headers: Mapping[str, str], secret: str, now: datetime) -> Delivery | Challenge:
        """Check a delivery by its signature and its age; answer a challenge."""
        if len(body) > _LARGEST_BYTES:
            raise WebhookRefused("too_large")
        signature = headers.get("sc-signature", "")
        is_signed = hmac.compare_digest(signature.strip().lower().encode(), sign(secret, body).encode())
        if signature and not is_signed:
            raise WebhookRefused("signature_wrong")
        told = _read(body)
        if told.event_type == "VERIFY" or told.event_name == "verify":
            return _answer(told, secret)
        if not is_signed:
            raise WebhookRefused("signature_missing")
        if told.event_type not in (_STATES, _ERRORS):
            raise WebhookRefused("event_unknown")
        if not _EVENT_ID.fullmatch(told.event_id):
            raise WebhookRefused("event_id_missing")
        return Delivery(told.event_id, told.event_type.lower(), _sent_at(told, now))

    def read(self, body: bytes, now: datetime) -> Pushed:
        """Return the values of a delivery, each at its own instant; an error of a vehicle is kept aside."""
        told = _read(body)
        device_id = told.data.vehicle.id if told.data and told.data.vehicle else told.vehicle_id
        if not is_id(device_id):
            return Pushed(Page([], [rejected("device_id_missing", "data.vehicle.id", body)], None, False), False)
        values = Values(device_id, now)
        take_pushed(values, told.data.signals if told.data else [])
        if told.event_type == _ERRORS:
            values.refuse("vehicle_error", "data", body)
        return Pushed(values.page(None, False), False)


def sign(secret: str, body: bytes) -> str:
    """Return the value of `SC-Signature` for a body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _read(body: bytes) -> _Body:
    try:
        return _decode(body)
    except BROKEN:
        raise WebhookRefused("unreadable") from None


def _answer(told: _Body, secret: str) -> Challenge:
    asked = told.data.challenge if told.data else told.payload.challenge if told.payload else None
    if not isinstance(asked, str) or not _CHALLENGE.fullmatch(asked):
        raise WebhookRefused("challenge_unreadable")
    return Challenge(msgspec.json.encode({"challenge": sign(secret, asked.encode())}))


def _sent_at(told: _Body, now: datetime) -> datetime:
    try:
        sent_at = Values("", now).instant(told.meta.delivered_at if told.meta else None)
    except BadValue as bad:
        raise WebhookRefused("stale" if bad.reason in ("time_in_future", "time_too_old") else bad.reason) from None
    if abs(now - sent_at) > _TOLERANCE:
        raise WebhookRefused("stale")
    return sent_at
