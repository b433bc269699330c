"""Webhooks that we send: signed as Standard Webhooks asks, and never into a network that is not the internet.

The specification is github.com/standard-webhooks/standard-webhooks (read 2026-11). A customer names the URL, so it is
hostile: its name is looked up once for each connection, every address of it is judged, and that very address is
connected to. So no second lookup can lead elsewhere, and TLS and `Host` keep the name.
"""

import base64
import binascii
import contextvars
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import create_connection

from integrations.errors import PermanentError
from integrations.http_deadline import _HTTPConnection, _HTTPSConnection, deadline, within
from integrations.http_status import retry_after_s

TIMEOUT_S = 15.0
_CONNECT_S = 5.0
_MOST_ANSWER_BYTES = 64 * 1024
_LONGEST_URL = 2000
_LONGEST_WAIT_S = 24 * 3600.0
_PREFIX = "whsec_"
_GONE = 410
_THROTTLED = (429, 502, 503, 504)
# Global in the registry's eyes, yet each embeds an IPv4 address that it leads to: 6to4, NAT64.
_EMBEDDING = [ipaddress.ip_network(net) for net in ("2002::/16", "64:ff9b::/96", "64:ff9b:1::/48", "::/96")]

Resolve = Callable[[str, int], Sequence[str]]


class RefusedUrl(PermanentError):  # noqa: N818 - named for the caller, as its siblings are
    """Nothing may be sent there: no https, a login in it, or an address that is not the internet's."""


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
    literal = _as_ip(parts.hostname)
    if literal is not None:
        _judge(literal, allow_loopback and (parts.scheme == "https" or literal.is_loopback))


def resolve(host: str, port: int) -> list[str]:
    """Look a name up, as the system does."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class WebhookSender:
    """Connections to endpoints of customers.

    Args:
        allow_loopback: endpoints may be on this machine, and without TLS: for demos and tests.
        look_up: how names are looked up.
        ca_file: a private authority to trust.
    """

    def __init__(self, *, allow_loopback: bool = False, look_up: Resolve = resolve, ca_file: str | None = None) -> None:
        self._allow_loopback = allow_loopback
        self._look_up = look_up
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_file or True
        self._session.mount("http://", _Adapter())
        self._session.mount("https://", _Adapter())

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
        token = _door.set(self._open)
        try:
            with deadline(TIMEOUT_S):
                return self._post(url, headers, body)
        finally:
            _door.reset(token)

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

    def _open(self, host: str, port: int, is_tls: bool, timeout: Any, options: Any) -> socket.socket:
        addresses = [_as_ip(each.partition("%")[0]) for each in self._look_up(host, port)]
        if not addresses:
            raise OSError("no address")
        for address in addresses:
            if address is None:
                raise RefusedUrl("the URL leads to no address")
            _judge(address, self._allow_loopback and (is_tls or address.is_loopback))
        return create_connection((str(addresses[0]), port), timeout, socket_options=options)


_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_door: contextvars.ContextVar[Callable[[str, int, bool, Any, Any], socket.socket]] = contextvars.ContextVar("door")


def _as_ip(host: str) -> _Ip | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _judge(address: _Ip, allow_loopback: bool) -> None:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    judged = mapped or address
    if judged.is_loopback and allow_loopback:
        return
    is_embedding = any(judged in net for net in _EMBEDDING if net.version == judged.version)
    if not judged.is_global or judged.is_multicast or judged.is_reserved or judged.is_unspecified or is_embedding:
        raise RefusedUrl("the URL leads to an address that is not the internet's")


class _GuardedHTTP(_HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _door.get()(self.host, self.port, False, self.timeout, self.socket_options)


class _GuardedHTTPS(_HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _door.get()(self.host, self.port, True, self.timeout, self.socket_options)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _GuardedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedHTTPS


class _Adapter(HTTPAdapter):
    """Connections of `requests` that go through the door."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


def _named(error: Exception) -> str:
    if isinstance(error, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError):
        return "timed out"
    return type(error).__name__
