"""What Smartcar's refusals mean: decided by their type and code, never by the class of their status.

A 501 is for good, a 400 may be for the owner to mend, a 502 may be a rate limit. Source:
smartcar.com/docs/api-reference/api-errors, .../errors/api-errors and .../help/api-limits, read 2026-11.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from integrations.bounds import BROKEN
from integrations.errors import (
    AccessExpired,
    BadRequest,
    CredentialsRejected,
    IntegrationError,
    PermanentError,
    RateLimited,
    TransientError,
)
from integrations.http import Refusal
from integrations.http_status import retry_after_s


class Verdict(Enum):
    """What follows: for the account, for the application, or for one vehicle, which never stops the others."""

    ACCESS = "a new access token may help"
    OWNER = "the owner must connect the account again"
    PLAN = "the operator must see to the plan at Smartcar"
    APPLICATION_WAITS = "too many requests of the application"
    PASSES = "may work later"
    OURS = "asked in a way that Smartcar does not understand"
    VEHICLE_WAITS = "too many requests for the vehicle, or for its maker"
    NEXT_ROUND = "the vehicle is asked again in its turn"
    NEXT_DAY = "the vehicle cannot, or may not be asked"
    NEXT_MONTH = "the vehicle's requests of this month are used up"


VERDICTS: dict[tuple[str, str | None], Verdict] = {
    ("AUTHENTICATION", None): Verdict.ACCESS,
    ("CONNECTED_SERVICES_ACCOUNT", None): Verdict.OWNER,
    ("CONNECTED_SERVICES_ACCOUNT", "VEHICLE_MISSING"): Verdict.NEXT_DAY,
    ("CONNECTED_SERVICES_ACCOUNT", "SUBSCRIPTION"): Verdict.NEXT_DAY,
    ("CONNECTED_SERVICES_ACCOUNT", "PERMISSION"): Verdict.NEXT_DAY,
    ("CONNECTED_SERVICES_ACCOUNT", "VIRTUAL_KEY_REQUIRED"): Verdict.NEXT_DAY,
    ("BILLING", None): Verdict.PLAN,
    ("BILLING", "VEHICLE_REQUEST_LIMIT"): Verdict.NEXT_MONTH,
    ("RATE_LIMIT", None): Verdict.APPLICATION_WAITS,
    ("RATE_LIMIT", "VEHICLE"): Verdict.VEHICLE_WAITS,
    ("UPSTREAM", None): Verdict.NEXT_ROUND,
    ("UPSTREAM", "RATE_LIMIT"): Verdict.VEHICLE_WAITS,
    ("VEHICLE_STATE", None): Verdict.NEXT_ROUND,
    ("COMPATIBILITY", None): Verdict.NEXT_DAY,
    ("PERMISSION", None): Verdict.NEXT_DAY,
    ("RESOURCE_NOT_FOUND", None): Verdict.NEXT_DAY,
    ("RESOURCE_NOT_FOUND", "PATH"): Verdict.OURS,
    ("RESOURCE_NOT_FOUND", "INVALID_PATH"): Verdict.OURS,
    ("RESOURCE_NOT_FOUND", "VERSION"): Verdict.OURS,
    ("VALIDATION", None): Verdict.OURS,
    ("SERVER", None): Verdict.PASSES,
}

# v3 refuses with a list of errors whose type may be absent: then its exact status says it.
_TYPE_OF_STATUS = {
    "401": "AUTHENTICATION",
    "403": "PERMISSION",
    "404": "RESOURCE_NOT_FOUND",
    "409": "VEHICLE_STATE",
    "429": "RATE_LIMIT",
    "430": "BILLING",
    "500": "SERVER",
    "501": "COMPATIBILITY",
}
_BUCKET_REFILL_S = 30.0
_VEHICLE_WAIT_S = 3600.0
_LONGEST_WAIT_S = 86_400.0
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class VehicleRefused(IntegrationError):  # noqa: N818 - named for the caller
    """One vehicle cannot be read now; `wait_s` is how long it asked to be left alone, None where it did not."""

    def __init__(self, message: str, verdict: Verdict, type_: str, code: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.type = type_
        self.code = code
        self.wait_s = wait_s


class _Body(msgspec.Struct):
    """The error bodies of v2.0 (flat) and of v3 (a list); nothing in them is believed to be a word."""

    type: Any = None
    code: Any = None
    errors: Any = None


_decode = msgspec.json.Decoder(_Body).decode
_FOR_A_VEHICLE = (Verdict.VEHICLE_WAITS, Verdict.NEXT_ROUND, Verdict.NEXT_DAY, Verdict.NEXT_MONTH)


def verdict_of(type_: str, code: str | None) -> Verdict | None:
    """Return what an error means; None where its type is not known."""
    return VERDICTS.get((type_, code)) or VERDICTS.get((type_, None))


def judge(refusal: Refusal) -> IntegrationError | None:
    """Return what a refused request means; None where the body says nothing known, and the status must do."""
    try:
        body = _decode(refusal.body)
    except BROKEN:
        return None
    type_, code = _word(body.type), _word(body.code)
    first = body.errors[0] if isinstance(body.errors, list) and body.errors else None
    if isinstance(first, dict):
        type_, code = _word(first.get("type")), _word(first.get("code"))
        type_ = type_ or _TYPE_OF_STATUS.get(str(first.get("status")), "")
    return failure(type_, code, refusal.request, refusal.headers)


def _word(told: object) -> str:
    return told if isinstance(told, str) else ""


def failure(type_: str, code: str, request: str, headers: Mapping[str, str]) -> IntegrationError | None:
    """Return the failure that an error stands for; None where its type is not known."""
    verdict = verdict_of(type_, code)
    if verdict is None:
        return None
    message = f"{request}: {type_}:{code}" if code and _SAFE.issuperset(code) else f"{request}: {type_}"
    if verdict in _FOR_A_VEHICLE:
        asked_s = retry_after_s(headers.get("retry-after"), _VEHICLE_WAIT_S, _LONGEST_WAIT_S)
        return VehicleRefused(message, verdict, type_, code, asked_s if verdict is Verdict.VEHICLE_WAITS else None)
    if verdict is Verdict.APPLICATION_WAITS:
        return RateLimited(message, retry_after_s(headers.get("retry-after"), _BUCKET_REFILL_S))
    if verdict in (Verdict.OWNER, Verdict.PLAN):
        return CredentialsRejected(f"{message}: {verdict.value}")
    return {Verdict.ACCESS: AccessExpired, Verdict.PASSES: TransientError}.get(
        verdict, BadRequest if type_ == "VALIDATION" else PermanentError
    )(message)
