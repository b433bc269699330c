"""The one way to call a provider, against servers that misbehave below the level of pages."""

import gzip
import pickle
import socket
import ssl
import time
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from integrations.errors import (
    BadRequest,
    CredentialsRejected,
    IntegrationError,
    PermanentError,
    RateLimited,
    TransientError,
)
from integrations.http import Answer, HttpSession, HttpSettings
from integrations.http_status import failure_of, retry_after_s
from tests.integrations.raw_server import answering, whole

ONCE = HttpSettings(connect_s=1.0, read_s=1.0, total_s=1.0, attempts=1, max_body_bytes=100_000)


def get(url: str, settings: HttpSettings = ONCE, **params: str) -> Answer:
    with HttpSession(settings) as session:
        return session.get_json(url, params=params, bearer="secret-token")


def test_headers_that_drip_are_given_up_at_the_deadline() -> None:
    drops = [bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 200]
    with answering(*drops, pause_s=0.05) as server:
        started = time.monotonic()
        with pytest.raises(TransientError, match="timed out"):
            get(server.url)
        assert 0.9 < time.monotonic() - started < 2


@pytest.mark.parametrize("location", [b"/elsewhere", b"http://[", b"\xff", b"http://127.0.0.1:1/", b""])
def test_a_redirect_is_refused_unread_wherever_it_leads(location: bytes) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    head = b"HTTP/1.1 302 Found\r\nContent-Encoding: gzip\r\nLocation: " + location
    with answering(head + b"\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb) as server:
        tracemalloc.start()
        try:
            with pytest.raises(PermanentError, match="status 302, a redirect is not followed"):
                get(server.url)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 5_000_000
    assert len(server.asked) == 1


def self_signed(directory: Path) -> Path:
    """Write a key and a certificate for 127.0.0.1 that only itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return path


def test_over_tls_the_certificate_is_verified_and_the_deadline_kept(tmp_path: Path) -> None:
    path = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(path)
    trusting = HttpSettings(attempts=1, total_s=1.0, ca_file=str(path))
    with answering(whole(b"{}"), tls=tls) as server:
        with pytest.raises(TransientError, match="SSLError"):
            get(server.url)
        assert get(server.url, trusting).body == b"{}"
    head, body = whole(b"{%s}" % (b" " * 100)).split(b"{")
    drops = [bytes([byte]) for byte in b"{" + body]
    with answering(head, *drops, pause_s=0.05, tls=tls) as server, pytest.raises(TransientError, match="timed out"):
        get(server.url, trusting)


def test_a_server_that_never_answers_is_given_up() -> None:
    with answering(pause_s=0.0) as server:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            started = time.monotonic()
            with pytest.raises(TransientError, match="timed out"):
                get(f"http://127.0.0.1:{silent.getsockname()[1]}/data")
        with pytest.raises(TransientError, match=r"ConnectionError|ProtocolError"):
            get(server.url)
    assert time.monotonic() - started < 3


def test_a_port_where_nobody_listens_may_work_later() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/data"
    with pytest.raises(TransientError, match=r"^GET 127\.0\.0\.1 /data: ConnectionError$"):
        get(url, secret="in-the-query")


def test_compressed_answers_are_read_even_in_small_pieces() -> None:
    body = b'{"numbers": [%s]}' % b",".join(b"%d" % number for number in range(5000))
    compressed = gzip.compress(body)
    pieces = [compressed[at : at + 1000] for at in range(0, len(compressed), 1000)]
    head = whole(compressed, "Content-Encoding: gzip")[: -len(compressed)]
    with answering(head, *pieces, pause_s=0.002) as server:
        assert get(server.url).body == body


def test_the_bound_of_a_body_is_exact() -> None:
    fits = b"{%s}" % (b" " * (ONCE.max_body_bytes - 2))
    with answering(whole(fits)) as server:
        assert get(server.url).body == fits
    with answering(whole(fits + b" ")) as server, pytest.raises(TransientError, match="larger than 100000"):
        get(server.url)


def test_compressed_rubbish_may_work_later() -> None:
    rubbish = whole(b"no gzip", "Content-Encoding: gzip")
    with answering(rubbish) as server, pytest.raises(TransientError, match="DecodeError"):
        get(server.url)


def test_the_token_travels_in_its_header_and_nowhere_else() -> None:
    with answering(whole(b"{}")) as server:
        get(server.url, after="cursor")
        request_line, *headers = server.asked[0].decode().split("\r\n")
    assert request_line == "GET /data?after=cursor HTTP/1.1"
    assert [line for line in headers if "secret-token" in line] == ["Authorization: Bearer secret-token"]


def test_proxies_and_netrc_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with answering(whole(b"{}")) as server:
        assert get(server.url).body == b"{}"
        assert b"Authorization: Bearer secret-token" in server.asked[0]


def test_a_cookie_of_one_account_does_not_travel_with_another() -> None:
    with answering(whole(b"{}", "Set-Cookie: account=one; Path=/")) as server, HttpSession(ONCE) as session:
        for token in ("one", "two"):
            session.get_json(server.url, params={}, bearer=token)
        assert b"Cookie" not in server.asked[1]


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/data", "http://", "nowhere", "http://[::1"])
def test_what_is_not_http_is_refused_for_good(url: str) -> None:
    with pytest.raises(PermanentError):
        get(url)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, PermanentError),
        (400, BadRequest),
        (401, CredentialsRejected),
        (403, PermanentError),
        (404, PermanentError),
        (405, PermanentError),
        (408, TransientError),
        (422, PermanentError),
        (429, RateLimited),
        (500, TransientError),
        (501, TransientError),
        (502, TransientError),
        (503, TransientError),
        (599, TransientError),
    ],
)
def test_a_status_says_what_to_do_next(status: int, kind: type[IntegrationError]) -> None:
    body = b'{"message": "about a person", "requestId": "abc-123"}'
    with answering(whole(body, status=f"{status} Whatever")) as server, pytest.raises(kind) as caught:
        get(server.url, HttpSettings(attempts=1, short_waits=0), after="cursor")
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"GET 127.0.0.1 /data: status {status}, request abc-123")
    assert not {"person", "cursor", "secret-token"} & set(str(caught.value).replace(",", "").split())


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"requestId": 7}', b'{"requestId": "two\\nlines"}', b"\xff"])
def test_a_request_id_that_cannot_be_read_is_left_out(body: bytes) -> None:
    assert str(failure_of(503, "GET host /path", {}, body)) == "GET host /path: status 503"


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        (None, 1),
        ("", 1),
        ("soon", 1),
        ("nan", 1),
        ("0", 0),
        ("0.40235", 0.40235),
        ("3", 3),
        ("-5", 0),
        ("901", 900),
        ("inf", 900),
        ("1e300", 900),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 900),
    ],
)
def test_retry_after_is_read_as_seconds_with_fractions_or_as_a_date(header: str | None, wait_s: float) -> None:
    assert retry_after_s(header) == wait_s


def test_a_date_in_retry_after_is_counted_from_now() -> None:
    assert 115 < retry_after_s(formatdate(time.time() + 120, usegmt=True)) <= 120


def test_a_rate_limit_crosses_processes_with_its_seconds() -> None:
    copy = pickle.loads(pickle.dumps(RateLimited("wait", 0.4)))
    assert (str(copy), copy.retry_after_s) == ("wait", 0.4)
