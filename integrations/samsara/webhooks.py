"""What Samsara pushes: how a delivery is signed, and what its events say.

`X-Samsara-Signature` is `v1=` and the hexadecimal HMAC-SHA256 of `v1:<X-Samsara-Timestamp>:<raw body>`, the timestamp
in Unix seconds, the key the base64-decoded secret (developers.samsara.com/docs/webhooks#webhook-signatures, read
2026-11; the same in erikgall/samsara, WebhookSignatureVerifier). The vendor's own Python package (samsara-api 14.10,
utils/webhooks_helper.py) verifies another scheme, with a header that is never sent: do not follow it.

No documented event carries a position of a vehicle: what happened is in the feeds, a delivery says when to look.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from integrations.aside import Members, rejected
from integrations.bounds import BROKEN, Limits
from integrations.samsara.faults import MEDIUM, MOST, MOST_FMI, MOST_SPN, j1939_code, lamp_severity
from integrations.samsara.wire import Instant
from integrations.telematics import FaultCode, FaultReport, Page, Rejected
from integrations.webhooks import Delivery, Pushed, WebhookRefused

TOLERANCE = timedelta(minutes=5)
"""How far a delivery's timestamp may be from now, both ways; an older one is a replay."""

_SIGNATURES = 8
_LONGEST_HEADER = 1024
_LONGEST_SECRET = 1024
_ID = 128

# developers.samsara.com/docs/event-types, read 2026-11; those of addresses, drivers, documents and routes wake nothing.
WAKING = frozenset(
    [
        "Alert",
        "AlertIncident",
        "AlertObjectEvent",
        "EngineFaultOff",
        "EngineFaultOn",
        "GatewayUnplugged",
        "GeofenceEntry",
        "GeofenceExit",
        "PredictiveMaintenanceAlert",
        "SevereSpeedingEnded",
        "SevereSpeedingStarted",
        "SpeedingEventEnded",
        "SpeedingEventStarted",
        "SuddenFuelLevelDrop",
        "SuddenFuelLevelRise",
    ]
)


class _Envelope(msgspec.Struct, rename="camel"):
    """The same of all versions: of the first there is more under `event`, of the second under `data`."""

    event_id: str
    event_type: str


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


class SamsaraWebhooks:
    """Fulfils `Webhooks`."""

    secret_name = "webhook_secret"  # noqa: S105 - the name, not the secret

    def verify(self, body: bytes, headers: Mapping[str, str], secret: str, now: datetime) -> Delivery:
        """Check a delivery; header names are lower case.

        Raises:
            WebhookRefused: do not believe it.
        """
        signatures = _signatures(headers.get("x-samsara-signature", ""))
        timestamp = headers.get("x-samsara-timestamp", "")
        sent_at = _instant(timestamp)
        right = hmac.new(_key(secret), b"v1:%b:%b" % (timestamp.encode(), body), hashlib.sha256).hexdigest().encode()
        if not sum(hmac.compare_digest(right, given) for given in signatures):  # all of them, whichever is right
            raise WebhookRefused("signature_wrong")
        if abs(now - sent_at) > TOLERANCE:
            raise WebhookRefused("stale")
        try:
            envelope = _decode_envelope(body)
        except BROKEN:
            raise WebhookRefused("unreadable") from None
        for told in (envelope.event_id, envelope.event_type):
            if not 0 < len(told) <= _ID or "\0" in told:
                raise WebhookRefused("unreadable")
        return Delivery(envelope.event_id, envelope.event_type, sent_at)

    def read(self, body: bytes, now: datetime) -> Pushed:
        """Return the fault that a delivery tells, and whether it tells of more that the feeds have."""
        aside: list[Rejected] = []
        try:
            event = Members(body, "", None, aside)
        except BROKEN:
            aside.append(rejected("wrong_type", "webhook", body))
            return Pushed(Page([], aside, None, has_more=False), wakes_sync=False)
        kind = event.text("eventType", _ID)
        report = _fault(event, Limits.at(now)) if kind == "EngineFaultOn" else None
        page = Page([], aside, None, has_more=False, fault_reports=(report,) if report else ())
        return Pushed(page, wakes_sync=kind in WAKING)


def _signatures(header: str) -> list[bytes]:
    """Return the signatures of our version in a header, of which there may be several while a secret is exchanged."""
    if not header:
        raise WebhookRefused("signature_missing")
    parts = header.split(",") if len(header) <= _LONGEST_HEADER else []
    given = [part.strip()[3:].lower().encode(errors="replace") for part in parts if part.strip().startswith("v1=")]
    if not given or len(given) > _SIGNATURES:
        raise WebhookRefused("signature_unreadable")
    return given


def _instant(timestamp: str) -> datetime:
    if not timestamp:
        raise WebhookRefused("timestamp_missing")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 11):
        raise WebhookRefused("timestamp_unreadable")
    return datetime.fromtimestamp(int(timestamp), UTC)


def _key(secret: str) -> bytes:
    """Return the key; an empty one would make everybody's signature right."""
    try:
        key = base64.b64decode(secret[:_LONGEST_SECRET].strip().encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        key = b""
    if not key:
        raise WebhookRefused("secret_unusable")
    return key


def _fault(event: Members, limits: Limits) -> FaultReport | None:
    """Return the one code that came on; the others are not gone for that, so the report is not complete.

    EngineFaultOff names no code but the lamps that are lit: it only wakes the sync, whose feed has the codes. Shapes:
    the examples of both at developers.samsara.com/docs/webhook-event-types, read 2026-11, where numbers are texts.
    """
    at: datetime | None = event.read("eventTime", Instant, "time", required=True)
    doubt = limits.doubt(at) if at else None
    if doubt:
        event.refuse(doubt, "eventTime")
    data = event.within("data")
    vehicle = data.within("vehicle") if data else None
    if data is None or vehicle is None:
        event.refuse("device_id_missing", "data.vehicle")
        return None
    data.device_id = vehicle.identity("id", "device_id", 64)
    if at is None or doubt or data.device_id is None:
        return None
    fault = data.within("fault")
    told = fault.within("j1939") if fault else None
    if told is None:
        data.refuse("fault_protocol_unknown", "fault")
        return None
    code = _code(told)
    return FaultReport(data.device_id, at.astimezone(UTC), (code,), is_complete=False) if code else None


def _code(told: Members) -> FaultCode | None:
    spn, part = _named_number(told, "spn", MOST_SPN)
    fmi, failure = _named_number(told, "fmi", MOST_FMI)
    severity = lamp_severity(told.within("lamps"), ("stop", "protect", "warning", "emissions")) or MEDIUM
    source = _number(told, "txId", "tx_id", MOST)
    occurrences = _number(told, "occurrenceCount", "occurrences", MOST)
    return j1939_code(spn, fmi, severity, "" if source is None else str(source), [part, failure], occurrences)


def _named_number(told: Members, key: str, most: int) -> tuple[int | None, str | None]:
    named = told.within(key)
    if named is None:
        if not told.has(key):
            told.refuse(f"{key}_missing", key)
        return None, None
    return _number(named, "id", key, most, required=True), named.text("description", 200)


def _number(of: Members, key: str, word: str, most: int, *, required: bool = False) -> int | None:
    """Return a whole number that is sent as a number or as text."""
    value: int | str | None = of.read(key, int | str, word, required=required)
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else -1
    if value is not None and not 0 <= value <= most:
        of.refuse(f"{word}_out_of_range", key)
        return None
    return value
