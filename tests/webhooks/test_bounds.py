"""What anybody may send to the receiver, and when it stops listening to them."""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import psycopg
import pytest

from db.queries.webhooks import LARGEST_PAYLOAD
from jobs.webhooks.app import Bounds
from tests.inprocess import Platform
from tests.webhooks.conftest import Hook, receiving
from tests.webhooks.schemes import Samsara


@pytest.fixture
def hurried(platform: Platform) -> Iterator[Hook]:
    """A connection at a receiver of little patience."""
    with receiving(platform.urls.worker_url, bounds=Bounds(head_s=0.5, body_s=0.5)) as url:
        yield Hook(platform.admin, url, Samsara())


def dial(hook: Hook) -> socket.socket:
    """Open a connection to a hook's receiver."""
    to = urlsplit(hook.url)
    assert to.hostname
    assert to.port
    return socket.create_connection((to.hostname, to.port), timeout=20)


def head(hook: Hook, *lines: str, method: str = "POST", path: str | None = None) -> bytes:
    """Return a request's head, with lines of headers besides Host."""
    target = path or urlsplit(hook.address).path
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: hooks.example.com", *lines, "", ""]).encode("latin-1")


def talk(hook: Hook, *parts: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are and return the answer: status, headers by lower-case name, body."""
    with closing(dial(hook)) as line:
        for part in parts:
            line.sendall(part)
        answer = http.client.HTTPResponse(line)
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def fill(hook: Hook, size: int) -> bytes:
    """Return an event of an exact size."""
    empty = len(hook.scheme.event("full", padding=""))
    body = hook.scheme.event("full", padding="x" * (size - empty))
    assert len(body) == size
    return body


def in_chunks(body: bytes, size: int = 10_000) -> Iterator[bytes]:
    """Yield a body in pieces, so that it is sent without its length."""
    for start in range(0, len(body), size):
        yield body[start : start + size]


def test_the_largest_body_is_taken(samsara: Hook) -> None:
    body = fill(samsara, LARGEST_PAYLOAD)
    assert samsara.post(body).status_code == 200
    assert samsara.admin.execute("SELECT octet_length(payload) FROM webhook_deliveries").fetchone() == (
        LARGEST_PAYLOAD,
    )


def test_the_largest_body_is_taken_in_chunks(samsara: Hook) -> None:
    body = fill(samsara, LARGEST_PAYLOAD)
    assert samsara.post(in_chunks(body), samsara.scheme.sign(body)).status_code == 200  # type: ignore[arg-type]


def test_a_body_one_byte_larger_is_refused_by_its_length(samsara: Hook) -> None:
    answer = samsara.post(fill(samsara, LARGEST_PAYLOAD + 1))
    assert (answer.status_code, answer.content) == (413, b"")
    assert samsara.rows() == []


def test_a_body_one_byte_larger_is_refused_while_it_comes(samsara: Hook) -> None:
    body = fill(samsara, LARGEST_PAYLOAD + 1)
    assert samsara.post(in_chunks(body), samsara.scheme.sign(body)).status_code == 413  # type: ignore[arg-type]
    assert samsara.rows() == []


@pytest.mark.parametrize("length", ["262145", "99999999999", "1" + "0" * 18])
def test_a_large_body_is_refused_before_a_byte_of_it_comes(samsara: Hook, length: str) -> None:
    started = time.monotonic()
    status, _, body = talk(samsara, head(samsara, f"Content-Length: {length}", "Expect: 100-continue"))
    assert (status, body) == (413, b"")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("length", ["-1", "+5", "1e3", "0x10", "", "5, 6", "9" * 5000])
def test_a_length_that_is_none_is_no_request(samsara: Hook, length: str) -> None:
    assert talk(samsara, head(samsara, f"Content-Length: {length}"))[0] == 400


def test_two_lengths_at_once_are_no_request(samsara: Hook) -> None:
    assert talk(samsara, head(samsara, "Content-Length: 5", "Content-Length: 6"))[0] == 400


def test_a_length_beside_chunks_smuggles_nothing_in(samsara: Hook) -> None:
    body = samsara.scheme.event("inner")
    signed = [f"{name}: {value}" for name, value in samsara.scheme.sign(body).items()]
    inner = head(samsara, f"Content-Length: {len(body)}", *signed) + body
    outer = head(samsara, f"Content-Length: {len(inner) + 5}", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + inner
    with closing(dial(samsara)) as line:
        line.sendall(outer)
        answer = http.client.HTTPResponse(line)
        answer.begin()
        assert answer.status in (400, 401)
    # Read as chunks, what follows is a request of its own: signed, so that it may well be kept, but once.
    assert len(samsara.rows()) <= 1


def test_a_body_that_comes_too_slowly_is_given_up(hurried: Hook) -> None:
    started = time.monotonic()
    status, headers, body = talk(hurried, head(hurried, "Content-Length: 100"), b"{")
    assert (status, body, headers["connection"]) == (408, b"", "close")
    assert time.monotonic() - started < 10
    assert hurried.rows() == []


def test_a_body_that_drips_is_given_up(hurried: Hook) -> None:
    with closing(dial(hurried)) as line:
        line.sendall(head(hurried, "Content-Length: 1000"))
        started = time.monotonic()
        line.settimeout(0.05)
        said = b""
        while not said and time.monotonic() - started < 10:
            line.sendall(b"x")
            try:
                said = line.recv(100)
            except TimeoutError:
                continue
    assert said.startswith(b"HTTP/1.1 408 ")


def hung_up(line: socket.socket, drip: bytes, within_s: float = 10) -> bool:
    """Drip bytes until the other side hangs up; tell whether it did."""
    deadline = time.monotonic() + within_s
    line.settimeout(0.05)
    while time.monotonic() < deadline:
        try:
            line.sendall(drip)
            if line.recv(1000) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.parametrize("drip", [b"", b"x"], ids=["silent", "dripping"])
@pytest.mark.parametrize("begun", [b"", b"POST /webhooks/ HTTP/1.1\r\nX: "], ids=["nothing", "half a head"])
def test_who_never_ends_the_head_is_hung_up_on(hurried: Hook, begun: bytes, drip: bytes) -> None:
    with closing(dial(hurried)) as line:
        line.sendall(begun)
        assert hung_up(line, drip)


def test_who_goes_on_sending_what_was_refused_is_hung_up_on(hurried: Hook) -> None:
    with closing(dial(hurried)) as line:
        line.sendall(head(hurried, "Content-Length: 999999999"))
        assert line.recv(1000).startswith(b"HTTP/1.1 413 ")
        assert hung_up(line, b"x" * 1000)


def test_a_connection_serves_one_delivery_after_the_other(platform: Platform) -> None:
    def request(hook: Hook, event_id: str) -> bytes:
        body = hook.scheme.event(event_id)
        signed = [f"{name}: {value}" for name, value in hook.scheme.sign(body).items()]
        return head(hook, f"Content-Length: {len(body)}", *signed) + body

    with receiving(platform.urls.worker_url, bounds=Bounds(head_s=3)) as url:
        hook = Hook(platform.admin, url, Samsara())
        with closing(dial(hook)) as line:
            for number in range(4):
                line.sendall(request(hook, str(number)))
                answer = http.client.HTTPResponse(line)
                answer.begin()
                assert (answer.status, answer.read()) == (200, b"")
                time.sleep(1)  # each is well within the patience, all together are beyond it
        assert len(hook.rows()) == 4


def test_above_its_connections_the_receiver_says_so_at_once(platform: Platform) -> None:
    with receiving(platform.urls.worker_url, bounds=Bounds(connections=3)) as url:
        hook = Hook(platform.admin, url, Samsara())
        waiting = [dial(hook) for _ in range(3)]
        body = hook.scheme.event()
        assert hook.post(body).status_code == 503
        for line in waiting:
            line.close()
        deadline = time.monotonic() + 10
        while (status := hook.post(body).status_code) != 200:
            assert time.monotonic() < deadline, status
        assert len(hook.rows()) == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x"])
def test_an_encoded_body_is_not_taken(samsara: Hook, encoding: str) -> None:
    body = samsara.scheme.event()
    answer = samsara.post(body, samsara.scheme.sign(body) | {"Content-Encoding": encoding})
    assert (answer.status_code, answer.content) == (415, b"")
    assert samsara.rows() == []


def test_a_body_that_says_that_it_is_not_encoded_is_taken(samsara: Hook) -> None:
    body = samsara.scheme.event()
    assert samsara.post(body, samsara.scheme.sign(body) | {"Content-Encoding": "Identity"}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_another_method_is_not_taken(samsara: Hook, method: str) -> None:
    with closing(dial(samsara)) as line:
        line.sendall(head(samsara, method=method))
        answer = http.client.HTTPResponse(line, method=method)
        answer.begin()
        assert (answer.status, answer.getheader("allow"), answer.read()) == (405, "POST", b"")


SOME_ID = "f6aabfc2-bc5e-4e63-9eb9-95d2852a11f3"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/webhooks",
        "/webhooks/",
        "/webhooks/a/b",
        f"/webhooks/{SOME_ID}",
        f"/webhooks/{SOME_ID}/{SOME_ID}/",
        f"/webhooks/{SOME_ID}/{SOME_ID}/more",
        f"/webhooks/{SOME_ID}/{SOME_ID}%00",
        f"/webhooks/{SOME_ID}/../../health",
        f"//webhooks/{SOME_ID}/{SOME_ID}",
        "/webhooks/%2e%2e/" + SOME_ID,
        "/webhooks/1' OR '1'='1/x".replace(" ", "%20"),
        "/docs",
    ],
)
def test_another_address_is_none(samsara: Hook, path: str) -> None:
    status, headers, body = talk(samsara, head(samsara, "Content-Length: 2", path=path), b"{}")
    assert (status, body) == (404, b"")
    assert "location" not in headers


def test_a_head_without_end_is_refused(samsara: Hook) -> None:
    assert talk(samsara, head(samsara, "X: " + "x" * 20_000).removesuffix(b"\r\n\r\n"))[0] == 400


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\rb", "a\nX-Injected: 1", "a\0b"])
def test_what_is_in_a_header_never_comes_back(samsara: Hook, value: str) -> None:
    status, headers, body = talk(
        samsara, head(samsara, f"X-Samsara-Signature: {value}", "X-Samsara-Timestamp: 1", "Content-Length: 0")
    )
    assert status in (400, 401)
    assert "x-injected" not in headers
    assert b"Injected" not in body


def test_nobody_is_believed_about_where_a_request_comes_from(samsara: Hook) -> None:
    body = samsara.scheme.event()
    forwarded = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "Forwarded": "for=127.0.0.1"}
    assert samsara.post(body, forwarded).status_code == 401


def test_a_websocket_is_not_spoken(samsara: Hook) -> None:
    asked = head(samsara, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", method="GET")
    assert talk(samsara, asked)[0] == 405


def test_no_bytes_at_all_bring_the_receiver_down(samsara: Hook) -> None:
    for rubbish in (
        b"\x16\x03\x01\x02\x00\x01",
        b"\0" * 5000,
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\xff" * 70_000,
    ):
        with closing(dial(samsara)) as line:
            line.sendall(rubbish)
            line.shutdown(socket.SHUT_WR)
            line.settimeout(5)
            with closing(line.makefile("rb")) as answer:
                try:
                    said = answer.read(15)
                except ConnectionResetError:
                    said = b""
            assert said in (b"", b"HTTP/1.1 400 Ba", b"HTTP/1.1 404 No")
    assert samsara.post(samsara.scheme.event()).status_code == 200


def test_who_hangs_up_in_the_middle_of_a_body_leaves_nothing(samsara: Hook) -> None:
    body = samsara.scheme.event()
    signed = [f"{name}: {value}" for name, value in samsara.scheme.sign(body).items()]
    with closing(dial(samsara)) as line:
        line.sendall(head(samsara, f"Content-Length: {len(body)}", *signed) + body[:-1])
    assert samsara.post(samsara.scheme.event("after")).status_code == 200
    assert samsara.rows() == [("after", 0)]


def test_health_is_told_soon_while_the_database_keeps_everybody_waiting(samsara: Hook, platform: Platform) -> None:
    with psycopg.connect(platform.urls.admin_url) as holding:
        holding.execute("LOCK TABLE webhook_deliveries IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        statuses = [talk(samsara, head(samsara, method="GET", path="/health"))[0] for _ in range(2)]
        assert time.monotonic() - started < 7
    assert statuses == [503, 503]


def test_health_is_told_and_nothing_else(samsara: Hook) -> None:
    status, headers, body = talk(samsara, head(samsara, method="GET", path="/health"))
    assert (status, body) == (200, b"")
    assert "server" not in headers
