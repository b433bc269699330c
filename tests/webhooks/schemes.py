"""The providers' side: how each signs what it sends."""

import base64
import hashlib
import hmac
import json
import secrets
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

from integrations.registry import PROVIDERS


class Scheme(Protocol):
    """What a provider does before it sends."""

    provider: str
    secret: str

    @property
    def secret_name(self) -> str:
        """The credential of a connection that holds the secret."""
        ...

    def event(self, event_id: str | None = None, at: datetime | None = None, **changes: Any) -> bytes:
        """Return the body of an event, sent at an instant."""
        ...

    def sign(self, body: bytes, at: datetime | None = None) -> dict[str, str]:
        """Return the headers of a delivery, signed at an instant."""
        ...


def _secret_name(provider: str) -> str:
    webhooks = PROVIDERS[provider].webhooks
    assert webhooks is not None
    return webhooks.secret_name


class Samsara:
    """A timestamp and a signature over it and the body; the secret is base64."""

    provider = "samsara"

    def __init__(self) -> None:
        self.secret = base64.b64encode(secrets.token_bytes(32)).decode()

    @property
    def secret_name(self) -> str:
        return _secret_name(self.provider)

    def event(self, event_id: str | None = None, at: datetime | None = None, **changes: Any) -> bytes:
        happened = (at or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = {
            "eventId": event_id or str(uuid4()),
            "eventTime": happened,
            "eventType": "VehicleUpdated",
            "orgId": 42,
            "webhookId": "1411751028848270",
            "data": {"vehicle": {"id": "281474977075805", "name": "Truck 1", "vin": "1FUJGLDR6CLBK0001"}},
        }
        return json.dumps(told | changes).encode()

    def sign(self, body: bytes, at: datetime | None = None) -> dict[str, str]:
        stamp = str(int((at or datetime.now(UTC)).timestamp()))
        signed = hmac.new(base64.b64decode(self.secret), f"v1:{stamp}:".encode() + body, hashlib.sha256)
        return {"X-Samsara-Signature": f"v1={signed.hexdigest()}", "X-Samsara-Timestamp": stamp}


class Smartcar:
    """A signature over the body, which says itself when it was sent."""

    provider = "smartcar"
    car = "0e6b2a9c-1f8d-4b0e-9f0a-1a2b3c4d5e6f"

    def __init__(self) -> None:
        self.secret = secrets.token_hex(24)

    @property
    def secret_name(self) -> str:
        return _secret_name(self.provider)

    def event(self, event_id: str | None = None, at: datetime | None = None, **changes: Any) -> bytes:
        sent_ms = int((at or datetime.now(UTC)).timestamp() * 1000)
        told = {
            "eventId": event_id or str(uuid4()),
            "eventType": "VEHICLE_STATE",
            "vehicleId": self.car,
            "data": {
                "user": {"id": str(uuid4())},
                "vehicle": {"id": self.car, "make": "TESLA", "model": "Model 3", "year": 2024},
                "triggers": [],
                "signals": [
                    {
                        "code": "odometer-traveleddistance",
                        "name": "TraveledDistance",
                        "group": "Odometer",
                        "body": {"unit": "kilometers", "value": 12345.6},
                        "meta": {"oemUpdatedAt": sent_ms, "fetchedAt": sent_ms},
                    }
                ],
            },
            "meta": {"version": "4.0", "deliveryId": str(uuid4()), "deliveredAt": sent_ms, "webhookId": str(uuid4())},
        }
        return json.dumps(told | changes).encode()

    def sign(self, body: bytes, at: datetime | None = None) -> dict[str, str]:
        return {"SC-Signature": hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()}

    def challenge(self, word: str) -> bytes:
        """Return the body with which it asks whether we hold the secret."""
        return self.event(eventType="VERIFY", data={"challenge": word})

    def answer(self, word: str) -> dict[str, str]:
        """Return the JSON that it wants to hear."""
        return {"challenge": hmac.new(self.secret.encode(), word.encode(), hashlib.sha256).hexdigest()}
