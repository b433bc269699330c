"""A deadline for a whole HTTP call, held by every single receive of it.

The read timeout of `requests` bounds one receive: a server that sends a byte now and then holds a worker
for ever.
"""

import contextvars
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from socket import SocketIO, socket
from typing import Any, cast

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_BUFFER_BYTES = 64 * 1024
_deadline: contextvars.ContextVar[float] = contextvars.ContextVar("deadline")


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Give the calls made inside so long, all together."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def within(seconds: float) -> float:
    """Cut a timeout to what is left of the call; raises TimeoutError when nothing is."""
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return min(seconds, left)


class BoundedSocket(io.RawIOBase):
    """A socket that waits for each receive no longer than the deadline allows."""

    def __init__(self, stream: SocketIO, sock: socket) -> None:
        self._stream = stream
        self._sock = sock
        self._read_s = sock.gettimeout() or 1.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(within(self._read_s))
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        stream = cast("SocketIO", self.fp.detach())
        self.fp = io.BufferedReader(BoundedSocket(stream, sock), _BUFFER_BYTES)


class BoundedHTTPConnection(HTTPConnection):
    """Reads its answers within the deadline."""

    response_class = _Response


class BoundedHTTPSConnection(HTTPSConnection):
    """The same over TLS."""

    response_class = _Response


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = BoundedHTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = BoundedHTTPSConnection


class DeadlineAdapter(HTTPAdapter):
    """Connections of `requests` that keep to the deadline of the call."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
