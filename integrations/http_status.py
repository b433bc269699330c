"""What a refusing status means to the caller, and how long a provider asks to be left alone."""

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

from integrations.errors import (
    BadRequest,
    CredentialsRejected,
    IntegrationError,
    PermanentError,
    RateLimited,
    TransientError,
)

_LONGEST_WAIT_S = 900.0
_DEFAULT_WAIT_S = 1.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class _ErrorBody(msgspec.Struct, rename="camel"):
    """Samsara names the failed request so (developers.samsara.com/docs/response-codes, read 2026-11)."""

    request_id: str = ""


_decode_error = msgspec.json.Decoder(_ErrorBody).decode


def failure_of(status: int, request: str, headers: Mapping[str, str], body: bytes = b"") -> IntegrationError:
    """Return the failure that a status other than 200 stands for; `request` opens its message.

    408 is the one 4xx that may pass: the server gave up waiting for our request.
    """
    message = f"{request}: status {status}{_request_id(headers, body)}"
    if status == 401:
        return CredentialsRejected(message)
    if status == 429:
        return RateLimited(message, retry_after_s(headers.get("Retry-After")))
    if status == 408 or status >= 500:
        return TransientError(message)
    if 300 <= status < 400:
        return PermanentError(f"{message}, a redirect is not followed")
    return BadRequest(message) if status == 400 else PermanentError(message)


def retry_after_s(header: str | None, default_s: float = _DEFAULT_WAIT_S, longest_s: float = _LONGEST_WAIT_S) -> float:
    """Read Retry-After: seconds, also fractional, or an HTTP date; between 0 and 900, 1 when unreadable.

    Samsara sends fractions such as 0.40235 (developers.samsara.com/docs/rate-limits, read 2026-11).
    """
    if header is None:
        return default_s
    try:
        wait_s = float(header)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):
            return default_s
    if math.isnan(wait_s):
        return default_s
    return min(max(wait_s, 0.0), longest_s)


def _request_id(headers: Mapping[str, str], body: bytes) -> str:
    try:
        request_id = _decode_error(body).request_id if body else ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request_id = ""
    request_id = request_id or headers.get("X-Request-Id", "")
    return f", request {request_id}" if _REQUEST_ID.fullmatch(request_id) else ""
