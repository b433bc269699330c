"""One way to call a provider: bounded in time and size, short retries, status turned into a kind of failure.

A caller gets the body or an exception that says what to do next. Messages name method, host, path, status and
the provider's request id; never a query, a header or a body.
"""

import base64
import re
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlencode, urlsplit

import msgspec
import requests
import urllib3
from tenacity import RetryCallState, Retrying, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from integrations.errors import IntegrationError, PermanentError, RateLimited, TimedOut, TransientError
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


class Refusal(NamedTuple):
    """An answer other than 200, for a provider that says more in its body than in its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request: str


Judge = Callable[[Refusal], IntegrationError | None]
"""Returns what a refusal means to the caller; None where the status says it all."""


class _Call(NamedTuple):
    """One request as it is made, and made again."""

    request: str
    method: str
    url: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | None
    judge: Judge | None


class BodyTooLarge(TransientError):  # noqa: N818 - named for the caller, as its siblings are
    """The answer outgrew its bound and was cut off; asking again at once would only repeat the download."""


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: asked not to follow a redirect, requests still reads its body and parses where it leads."""


class HttpSession:
    """Connections to providers, kept open between calls. Holds no credentials: each call brings its own.

    `wait_for_turn` is called before each call, and may raise instead of waiting.
    """

    def __init__(self, settings: HttpSettings | None = None, wait_for_turn: Callable[[], None] | None = None) -> None:
        self.settings = settings or HttpSettings()
        self._wait_for_turn = wait_for_turn
        self._session = _Session()
        self._session.trust_env = False
        self._session.verify = self.settings.ca_file or True
        self._session.headers = requests.structures.CaseInsensitiveDict(
            {"User-Agent": "fleet-jobs", "Accept": "application/json", "Accept-Encoding": "gzip"}
        )
        # One session may serve several accounts: a cookie of one must not travel with another.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.mount("http://", DeadlineAdapter())
        self._session.mount("https://", DeadlineAdapter())

    def get_json(
        self,
        url: str,
        *,
        params: Mapping[str, str],
        bearer: str,
        headers: Mapping[str, str] | None = None,
        judge: Judge | None = None,
    ) -> Answer:
        """Return the body of an answer that begins like JSON; repeats what may pass within seconds.

        Args:
            headers: further ones, printable.
            judge: what a refusal means, where the provider says it in the body.

        Raises:
            TransientError: network, 5xx, an answer that is no JSON, too large (`BodyTooLarge`) or late (`TimedOut`).
            RateLimited: told to wait longer than `short_wait_s`, or too often.
            CredentialsRejected: 401, or a token that no header can carry.
            PermanentError: any other 4xx, a redirect, or no http(s) URL.
        """
        return self._call("GET", url, params, _bearing(bearer), headers, None, judge)

    def post_json(
        self,
        url: str,
        *,
        payload: object,
        bearer: str,
        headers: Mapping[str, str] | None = None,
        judge: Judge | None = None,
    ) -> Answer:
        """Send JSON that only asks, and is therefore repeated as `get_json` repeats; returns and raises as it does."""
        more = {"Content-Type": "application/json", **(headers or {})}
        return self._call("POST", url, {}, _bearing(bearer), more, msgspec.json.encode(payload), judge)

    def post_form(
        self, url: str, *, form: Mapping[str, str], basic: tuple[str, str], judge: Judge | None = None
    ) -> Answer:
        """Send a form with a user and a password; returns and raises as `get_json`.

        A form may change something there: give the session one attempt where a repeat is not harmless.
        """
        more = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._call("POST", url, {}, _basic(*basic), more, urlencode(form).encode(), judge)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(
        self,
        method: str,
        url: str,
        params: Mapping[str, str],
        authorization: str | None,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        judge: Judge | None,
    ) -> Answer:
        request = _described(method, url)
        if authorization is None:
            raise failure_of(401, f"{request}: the token is empty or not printable", {})
        call = _Call(request, method, url, params, {"Authorization": authorization, **(headers or {})}, body, judge)
        if self._wait_for_turn is not None:
            self._wait_for_turn()
        with deadline(self.settings.total_s):
            return self._retrying()(self._once, call)

    def _once(self, call: _Call) -> Answer:
        bounds = self.settings
        try:
            with self._session.request(
                call.method,
                call.url,
                params=call.params,
                data=call.body,
                headers=call.headers,
                timeout=(within(bounds.connect_s), within(bounds.read_s)),
                allow_redirects=False,
                stream=True,
            ) as response:
                if response.status_code != 200:
                    raise _refused(call, response)
                body = _read(call.request, response, bounds.max_body_bytes)
        # `from None`: the messages of requests and urllib3 quote the whole URL, query included.
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            kind = TimedOut if _is_slow(error) else TransientError
            raise kind(f"{call.request}: {_named(error)}") from None
        if body[:64].lstrip()[:1] not in (b"{", b"["):
            raise TransientError(f"{call.request}: answered with {shape(body)} instead of JSON")
        return Answer(body, call.request)

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


def _bearing(token: str) -> str | None:
    return f"Bearer {token}" if _HEADER_SAFE.fullmatch(token) else None


def _basic(user: str, password: str) -> str | None:
    """Return the header of RFC 7617; a user with a colon would be read as another."""
    if ":" in user or not (_HEADER_SAFE.fullmatch(user) and _HEADER_SAFE.fullmatch(password)):
        return None
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _refused(call: _Call, response: requests.Response) -> IntegrationError:
    try:
        body = _read(call.request, response, _ERROR_BODY_BYTES)
    except (TransientError, urllib3.exceptions.HTTPError, OSError):
        body = b""
    refusal = Refusal(response.status_code, response.headers, body, call.request)
    judged = call.judge(refusal) if call.judge is not None else None
    return judged or failure_of(refusal.status, call.request, refusal.headers, body)


def _read(request: str, response: requests.Response, limit: int) -> bytes:
    """Return the decoded body, read in bounded pieces: neither a large body nor a zip bomb is held whole."""
    body = bytearray()
    while piece := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        body += piece
        if len(body) > limit:
            raise BodyTooLarge(f"{request}: the body is larger than {limit} bytes")
    return bytes(body)


def _is_slow(error: Exception) -> bool:
    """Say whether a connection was there, and only the answer did not come in time."""
    return _named(error) == "timed out" and not isinstance(error, requests.ConnectTimeout)


def _named(error: Exception) -> str:
    if isinstance(error, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError):
        return "timed out"
    return type(error).__name__
