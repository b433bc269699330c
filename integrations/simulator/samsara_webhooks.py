"""The pushing side of the simulated Samsara: events in the second version's envelope, and their signatures."""

import hashlib
import hmac
import json
from base64 import b64decode
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import requests

from integrations.simulator.fleet import Account, now_ms, rfc3339
from integrations.simulator.samsara_faults import J1939

_TIMEOUT_S = 10


def sign_samsara(body: bytes, secret: str, timestamp: int) -> dict[str, str]:
    """Return the headers of a delivery; `secret` is base64 text, `timestamp` in Unix seconds."""
    signature = hmac.new(b64decode(secret), b"v1:%d:%b" % (timestamp, body), hashlib.sha256).hexdigest()
    return {"X-Samsara-Signature": f"v1={signature}", "X-Samsara-Timestamp": str(timestamp)}


def send_samsara(url: str, body: bytes, secret: str, timestamp: int | None = None) -> int:
    """Send a delivery, signed at `timestamp` or now. Returns the status of its answer."""
    headers = sign_samsara(body, secret, now_ms() // 1000 if timestamp is None else timestamp)
    with requests.Session() as session:
        session.trust_env = False
        headers["Content-Type"] = "application/json"
        return session.post(url, data=body, headers=headers, timeout=_TIMEOUT_S).status_code


def event(account: Account, kind: str, at_ms: int, data: dict[str, Any]) -> bytes:
    """Return an event; its id follows from what it says, so that a repeat has the same."""
    told = {
        "eventTime": rfc3339(at_ms),
        "eventType": kind,
        "orgId": 20_000 + account.seed,
        "webhookId": "1411751028848270",
        "data": data,
    }
    event_id = uuid5(NAMESPACE_URL, json.dumps(told))
    return json.dumps({"eventId": str(event_id)} | told).encode()


def vehicle_event(account: Account, kind: str, index: int, at_ms: int, **data: Any) -> bytes:
    """Return an event about a vehicle, such as GatewayUnplugged."""
    return event(account, kind, at_ms, {"vehicle": _vehicle(account, index), **data})


def engine_fault_on(account: Account, index: int, at_ms: int, code: J1939) -> bytes:
    """Return the event of a code that came on: its numbers are texts there."""
    told = {
        "spn": {"id": str(code.spn), "description": code.part},
        "fmi": {"id": str(code.fmi), "description": code.failure},
        "txId": str(code.unit),
        "occurrenceCount": 1,
    }
    return vehicle_event(account, "EngineFaultOn", index, at_ms, fault={"j1939": told})


def _vehicle(account: Account, index: int) -> dict[str, Any]:
    identity = account.identity(index)
    return {"id": identity.device_id, "name": identity.name, "externalIds": {"samsara.vin": identity.vin}}
