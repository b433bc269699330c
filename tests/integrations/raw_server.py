"""A server that answers with prepared bytes: for what a proper server would never send."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class RawServer:
    """Answers each connection with prepared bytes, in pieces, and keeps what was asked."""

    def __init__(self, *pieces: bytes, pause_s: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        self._pieces = pieces
        self._tls = tls
        self._pause_s = pause_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.asked: list[bytes] = []
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"{self.origin}/data"

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._tls.wrap_socket(connection, server_side=True) if self._tls else connection as spoken:
                    self._answer(spoken)
            except OSError:
                connection.close()

    def _answer(self, connection: socket.socket) -> None:
        self.asked.append(connection.recv(65536))
        try:
            for piece in self._pieces:
                connection.sendall(piece)
                time.sleep(self._pause_s)
        except OSError:
            return

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def answering(*pieces: bytes, pause_s: float = 0.0, tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    server = RawServer(*pieces, pause_s=pause_s, tls=tls)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(5)


def whole(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
