"""Webhooks that we send: signed as Standard Webhooks asks, and never into a network that is not the internet.

The specification is github.com/standard-webhooks/standard-webhooks (read 2026-11).
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import requests
import urllib3

from integrations.errors import PermanentError
from integrations.http_deadline import deadline, within
from integrations.http_status import retry_after_s
from integrations.public_address import Door, RefusedUrl, Resolve, as_ip, judge, public_session, resolve

TIMEOUT_S = 15.0
_CONNECT_S = 5.0
_MOST_ANSWER_BYTES = 64 * 1024
_LONGEST_URL = 2000
_LONGEST_WAIT_S = 24 * 3600.0
_PREFIX = "whsec_"
_GONE = 410
_THROTTLED = (429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Answered:
    """What an endpoint said: `status` 0 where it said nothing.

    Args:
        wait_s: how long it asks to be left alone.
    """

    status: int
    reason: str
    wait_s: float = 0.0

    @property
    def is_taken(self) -> bool:
        """Only 2xx is; a redirect is not followed."""
        return 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """The endpoint wants nothing more, ever."""
        return self.status == _GONE


def new_secret() -> str:
    """Return a new signing secret, as it is shown to its owner."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, message_id: str, at: datetime, body: bytes) -> str:
    """Return the signature of a message under a secret: `v1,` and base64.

    Raises:
        PermanentError: the secret is not `whsec_` and base64.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise PermanentError("the signing secret is not one") from None
    signed = b".".join((message_id.encode(), str(int(at.timestamp())).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def check_url(url: str, *, allow_loopback: bool) -> None:
    """Refuse a URL that nothing is ever sent to; where its name leads is judged at every connection.

    Raises:
        RefusedUrl: with the reason, without the URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RefusedUrl("the URL is not one") from None
    if len(url) > _LONGEST_URL or not parts.hostname or not url.isprintable() or " " in url or port == 0:
        raise RefusedUrl("the URL is not one")
    if parts.username is not None or parts.password is not None:
        raise RefusedUrl("the URL has a login in it")
    if parts.scheme != "https" and not (allow_loopback and parts.scheme == "http"):
        raise RefusedUrl("the URL is not https")
    literal = as_ip(parts.hostname)
    if literal is not None:
        judge(literal, allow_loopback and (parts.scheme == "https" or literal.is_loopback))


class WebhookSender:
    """Connections to endpoints of customers.

    Args:
        allow_loopback: endpoints may be on this machine, and without TLS: for demos and tests.
        look_up: how names are looked up.
        ca_file: a private authority to trust.
    """

    def __init__(self, *, allow_loopback: bool = False, look_up: Resolve = resolve, ca_file: str | None = None) -> None:
        self._allow_loopback = allow_loopback
        self._door = Door(look_up, allow_loopback=allow_loopback)
        self._session = public_session(ca_file)

    def send(self, url: str, secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> Answered:
        """Send one message, signed with each secret: the old one overlaps the new while a customer changes over.

        Raises:
            RefusedUrl: nothing was sent, and nothing ever will be to this URL.
        """
        check_url(url, allow_loopback=self._allow_loopback)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "fleet-jobs",
            "Accept-Encoding": "identity",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(sign(secret, message_id, at, body) for secret in secrets),
        }
        with deadline(TIMEOUT_S), self._door.open():
            return self._post(url, headers, body)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, url: str, headers: dict[str, str], body: bytes) -> Answered:
        try:
            with self._session.post(
                url,
                data=body,
                headers=headers,
                timeout=(within(_CONNECT_S), within(TIMEOUT_S)),
                allow_redirects=False,
                stream=True,
            ) as response:
                response.raw.read(_MOST_ANSWER_BYTES)  # what is longer is cut off with its connection
                status = response.status_code
                asked = response.headers.get("Retry-After")
        # `from None`, and no message: those of requests and urllib3 quote the URL.
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            return Answered(0, _named(error))
        wait_s = retry_after_s(asked, 0.0, _LONGEST_WAIT_S) if status in _THROTTLED else 0.0
        return Answered(status, f"status {status}", wait_s)


def _named(error: Exception) -> str:
    if isinstance(error, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError):
        return "timed out"
    return type(error).__name__
