"""One way to call a provider: bounded in time and size, short retries, status turned into a kind of failure.

A caller gets the body or an exception that says what to do next. Messages name method, host, path, status and
the provider's request id; never a query, a header or a body.
"""

import re
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3
from tenacity import RetryCallState, Retrying, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from integrations.errors import PermanentError, RateLimited, TransientError
from integrations.http_deadline import DeadlineAdapter, deadline, within
from integrations.http_status import failure_of

_CHUNK_BYTES = 64 * 1024
_ERROR_BODY_BYTES = 64 * 1024
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
_backoff = wait_random_exponential(multiplier=0.2, max=2, min=0.1)


class HttpSettings(msgspec.Struct, frozen=True):
    """Bounds of one call. Seconds and bytes.

    `total_s` covers a call with all its attempts, each received byte included; a repeat starts only within
    `retry_window_s`. `max_body_bytes` bounds the decoded body. `ca_file` names a private authority to trust.
    """

    connect_s: float = 3.05
    read_s: float = 10.0
    total_s: float = 30.0
    retry_window_s: float = 10.0
    attempts: int = 4
    short_wait_s: float = 1.0
    short_waits: int = 2
    max_body_bytes: int = 16 * 1024 * 1024
    ca_file: str | None = None


class Answer(NamedTuple):
    """A body, and in `request` what was asked for, in words that may be logged."""

    body: bytes
    request: str


class BodyTooLarge(TransientError):  # noqa: N818 - named for the caller, as its siblings are
    """The answer outgrew its bound and was cut off; asking again at once would only repeat the download."""


class HttpSession:
    """Connections to providers, kept open between calls. Holds no credentials: each call brings its own."""

    def __init__(self, settings: HttpSettings | None = None) -> None:
        self.settings = settings or HttpSettings()
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = self.settings.ca_file or True
        self._session.headers = requests.structures.CaseInsensitiveDict(
            {"User-Agent": "fleet-jobs", "Accept": "application/json", "Accept-Encoding": "gzip"}
        )
        # One session may serve several accounts: a cookie of one must not travel with another.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.mount("http://", DeadlineAdapter())
        self._session.mount("https://", DeadlineAdapter())

    def get_json(self, url: str, *, params: Mapping[str, str], bearer: str) -> Answer:
        """Return the body of an answer that begins like JSON; repeats what may pass within seconds.

        Raises:
            TransientError: network, 5xx, an answer that is no JSON or too large.
            RateLimited: told to wait longer than `short_wait_s`, or too often.
            CredentialsRejected: 401, or a token that no header can carry.
            PermanentError: any other 4xx, a redirect, or no http(s) URL.
        """
        request = _described("GET", url)
        if not _HEADER_SAFE.fullmatch(bearer):
            raise failure_of(401, f"{request}: the token is empty or not printable", {})
        with deadline(self.settings.total_s):
            return self._retrying()(self._once, request, url, params, bearer)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _once(self, request: str, url: str, params: Mapping[str, str], bearer: str) -> Answer:
        bounds = self.settings
        try:
            with self._session.get(
                url,
                params=params,
                headers={"Authorization": f"Bearer {bearer}"},
                timeout=(within(bounds.connect_s), within(bounds.read_s)),
                allow_redirects=False,
                stream=True,
            ) as response:
                if response.status_code != 200:
                    raise _refused(request, response)
                body = _read(request, response, bounds.max_body_bytes)
        # `from None`: the messages of requests and urllib3 quote the whole URL, query included.
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise TransientError(f"{request}: {_named(error)}") from None
        if body[:64].lstrip()[:1] not in (b"{", b"["):
            raise TransientError(f"{request}: answered with {shape(body)} instead of JSON")
        return Answer(body, request)

    def _retrying(self) -> Retrying:
        return Retrying(
            retry=self._may_pass_soon,
            stop=stop_after_attempt(self.settings.attempts)
            | stop_before_delay(min(self.settings.retry_window_s, self.settings.total_s)),
            wait=_pause,
            reraise=True,
        )

    def _may_pass_soon(self, state: RetryCallState) -> bool:
        error = _failure(state)
        if isinstance(error, RateLimited):
            is_short = error.retry_after_s <= self.settings.short_wait_s
            return is_short and state.attempt_number <= self.settings.short_waits
        return isinstance(error, TransientError) and not isinstance(error, BodyTooLarge)


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _pause(state: RetryCallState) -> float:
    error = _failure(state)
    return error.retry_after_s if isinstance(error, RateLimited) else _backoff(state)


def shape(body: bytes) -> str:
    """Name what a body looks like, without quoting it."""
    start = body[:64].lstrip()
    if not start:
        return "an empty body"
    if start[:1] == b"<":
        return f"{len(body)} bytes of markup"
    if start[:1] in (b"{", b"["):
        whole = body.rstrip()[-1:] == (b"}" if start[:1] == b"{" else b"]")
        return f"{len(body)} bytes of {'malformed' if whole else 'truncated'} JSON"
    return f"{len(body)} bytes of something else"


def _described(method: str, url: str) -> str:
    """Return a request in words that may be logged. Raises: PermanentError when it is not for http or https."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise PermanentError(f"{method}: not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PermanentError(f"{method}: not an http or https URL")
    return f"{method} {parts.hostname} {parts.path}"


def _refused(request: str, response: requests.Response) -> Exception:
    try:
        body = _read(request, response, _ERROR_BODY_BYTES)
    except (TransientError, urllib3.exceptions.HTTPError, OSError):
        body = b""
    return failure_of(response.status_code, request, response.headers, body)


def _read(request: str, response: requests.Response, limit: int) -> bytes:
    """Return the decoded body, read in bounded pieces: neither a large body nor a zip bomb is held whole."""
    body = bytearray()
    while piece := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        body += piece
        if len(body) > limit:
            raise BodyTooLarge(f"{request}: the body is larger than {limit} bytes")
    return bytes(body)


def _named(error: Exception) -> str:
    if isinstance(error, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError):
        return "timed out"
    return type(error).__name__
