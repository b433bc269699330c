"""Connections to addresses that a customer names, and that are therefore hostile: to the internet and nowhere else.

A name is looked up once for each connection, every address of it is judged, and that very address is connected to. So
no second lookup can lead elsewhere (DNS rebinding), and TLS and `Host` keep the name.
"""

import contextvars
import ipaddress
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import create_connection

from integrations.errors import PermanentError
from integrations.http_deadline import BoundedHTTPConnection, BoundedHTTPSConnection

# Global in the registry's eyes, yet each embeds an IPv4 address that it leads to: 6to4, NAT64.
_EMBEDDING = [ipaddress.ip_network(net) for net in ("2002::/16", "64:ff9b::/96", "64:ff9b:1::/48", "::/96")]

_MOST_TRIED = 3

Resolve = Callable[[str, int], Sequence[str]]


class RefusedUrl(PermanentError):  # noqa: N818 - named for the caller, as its siblings are
    """Nothing may be sent there: no https, a login in it, or an address that is not the internet's."""


def resolve(host: str, port: int) -> list[str]:
    """Look a name up, as the system does."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_door: contextvars.ContextVar["Door"] = contextvars.ContextVar("door")


def as_ip(host: str) -> Ip | None:
    """Return what is an address by number; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def judge(address: Ip, allow_loopback: bool) -> None:
    """Refuse what is not the internet's.

    Raises:
        RefusedUrl: it is private, local, reserved, for many, or holds such an address in itself.
    """
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    judged = mapped or address
    if judged.is_loopback and allow_loopback:
        return
    is_embedding = any(judged in net for net in _EMBEDDING if net.version == judged.version)
    if not judged.is_global or judged.is_multicast or judged.is_reserved or judged.is_unspecified or is_embedding:
        raise RefusedUrl("the URL leads to an address that is not the internet's")


class Door:
    """How connections leave: by which lookup, and whether this machine is allowed too.

    Args:
        allow_loopback: also to this machine, and without TLS there: for demos and tests.
    """

    def __init__(self, look_up: Resolve, *, allow_loopback: bool) -> None:
        self._look_up = look_up
        self._allow_loopback = allow_loopback

    @contextmanager
    def open(self) -> Iterator[None]:
        """Let the connections that are made inside go through here."""
        token = _door.set(self)
        try:
            yield
        finally:
            _door.reset(token)

    def connect(self, host: str, port: int, is_tls: bool, timeout: Any, options: Any) -> socket.socket:
        """Return a connection to an address that was judged.

        Raises:
            RefusedUrl: one of the name's addresses is not the internet's. OSError: none of them answers.
        """
        addresses = [as_ip(each.partition("%")[0]) for each in self._look_up(host, port)]
        for address in addresses:
            if address is None:
                raise RefusedUrl("the URL leads to no address")
            judge(address, self._allow_loopback)
            if not (is_tls or address.is_loopback):
                raise RefusedUrl("the URL is not https")
        failure = OSError("no address")
        for address in addresses[:_MOST_TRIED]:
            try:
                return create_connection((str(address), port), timeout, socket_options=options)
            except OSError as error:
                failure = error
        raise failure


class _GuardedHTTP(BoundedHTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _door.get().connect(self.host, self.port, False, self.timeout, self.socket_options)


class _GuardedHTTPS(BoundedHTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _door.get().connect(self.host, self.port, True, self.timeout, self.socket_options)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _GuardedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedHTTPS


class PublicAdapter(HTTPAdapter):
    """Connections of `requests` that go through the door that is open."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: asked not to follow a redirect, requests still reads its body and parses where it leads."""


def public_session(ca_file: str | None = None) -> requests.Session:
    """Return a session that goes through the door that is open, and keeps nothing of one customer for another."""
    session = _Session()
    session.trust_env = False
    session.verify = ca_file or True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount("http://", PublicAdapter())
    session.mount("https://", PublicAdapter())
    return session
