"""Smartcar's tokens: the first pair from the owner's consent, and the next pair from the one before.

A pair: access for two hours, a refresh token for sixty days that is spent by its use and dies a minute later
(smartcar.com/docs/api-reference/authorization, read 2026-11). An application token: one hour, got with the client's
secret alone and used with the owner's `user_id`; nothing is spent and nothing rotates.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from integrations.bounds import BROKEN
from integrations.errors import CredentialsRejected, GrantRefused, IntegrationError, PermanentError, TransientError
from integrations.http import HttpSession, Refusal
from integrations.smartcar.places import CONNECT_URL, Places

# The answer does not say it; Smartcar's own SDK computes it so.
_REFRESH_LASTS = timedelta(days=60)
_LONGEST_ACCESS_S = 7 * 86_400
DEFAULT_SCOPE = (
    *("read_vehicle_info", "read_vin", "read_location", "read_odometer"),
    *("read_fuel", "read_battery", "read_charge", "read_diagnostics"),
)

# RFC 6749, 5.2. The first group is for the owner to mend, the second for the operator, the third passes.
_ERRORS: dict[str, tuple[type[IntegrationError], str]] = {
    "invalid_grant": (GrantRefused, "invalid_grant: the code or the refresh token is used up, expired or revoked"),
    "access_denied": (GrantRefused, "access_denied: the owner has withdrawn the consent"),
    "invalid_client": (CredentialsRejected, "invalid_client: the client id or its secret is refused"),
    "unauthorized_client": (CredentialsRejected, "unauthorized_client: the client may not do this"),
    "invalid_request": (PermanentError, "invalid_request"),
    "invalid_scope": (PermanentError, "invalid_scope"),
    "unsupported_grant_type": (PermanentError, "unsupported_grant_type"),
    "server_error": (TransientError, "server_error"),
    "temporarily_unavailable": (TransientError, "temporarily_unavailable"),
}

Token = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"\A[!-~]+\Z")]


class _Tokens(msgspec.Struct):
    """What the token endpoint answers (RFC 6749, 5.1)."""

    access_token: Token
    expires_in: Annotated[int, Meta(ge=1, le=_LONGEST_ACCESS_S)]
    refresh_token: Token | None = None


class _Error(msgspec.Struct):
    error: str


_decode_tokens = msgspec.json.Decoder(_Tokens).decode
_decode_error = msgspec.json.Decoder(_Error).decode


def utc_now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


def exchange(
    http: HttpSession, given: Mapping[str, str], base_url: str, *, clock: Callable[[], datetime] = utc_now
) -> dict[str, str]:
    """Return an account's first credentials: from a `code` of the owner's consent, or for a `user_id`.

    Raises:
        GrantRefused: the code is used up or expired. CredentialsRejected: the client is refused, or something is
        missing. TransientError, PermanentError: as `HttpSession`.
    """
    kept = {name: value for name, value in given.items() if name not in ("code", "redirect_uri")}
    if not given.get("code"):
        return renew(http, kept, base_url, clock=clock)
    form = {"grant_type": "authorization_code", "code": given["code"], "redirect_uri": given.get("redirect_uri", "")}
    pair = _ask(http, kept, f"{Places.of(base_url).auth}/oauth/token", form, clock)
    if "refresh_token" not in pair:
        raise TransientError("the answer to the code brings no refresh token")
    return pair


def renew(
    http: HttpSession, credentials: Mapping[str, str], base_url: str, *, clock: Callable[[], datetime] = utc_now
) -> dict[str, str]:
    """Return the credentials that follow these. Those that were given are spent: keep the answer before using it.

    An answer without a refresh token leaves the one before in force (RFC 6749, 6), and with it its end.

    Raises:
        GrantRefused: only the owner's consent helps. CredentialsRejected: the client is refused, or something is
        missing. TransientError: it may or may not have happened there.
    """
    places = Places.of(base_url)
    if credentials.get("refresh_token"):
        form = {"grant_type": "refresh_token", "refresh_token": credentials["refresh_token"]}
        return _ask(http, credentials, f"{places.auth}/oauth/token", form, clock)
    if credentials.get("user_id"):
        return _ask(http, credentials, f"{places.iam}/oauth2/token", {"grant_type": "client_credentials"}, clock)
    raise CredentialsRejected("a credential is missing: the refresh token of a pair, or the user_id of an owner")


def authorize_url(
    client_id: str, redirect_uri: str, scope: Sequence[str] = DEFAULT_SCOPE, *, mode: str = "live", state: str = ""
) -> str:
    """Return where an owner gives consent; it leads back to `redirect_uri` with a `code` for ten minutes.

    Source: smartcar.com/docs/connect/redirect-to-connect, read 2026-11.
    """
    asked = {"response_type": "code", "client_id": client_id, "redirect_uri": redirect_uri}
    asked |= {"scope": " ".join(scope), "mode": mode} | ({"state": state} if state else {})
    return f"{CONNECT_URL}?{urlencode(asked)}"


def _ask(
    http: HttpSession,
    credentials: Mapping[str, str],
    url: str,
    form: Mapping[str, str],
    clock: Callable[[], datetime],
) -> dict[str, str]:
    for name in ("client_id", "client_secret"):
        if not credentials.get(name):
            raise CredentialsRejected(f"the credential {name!r} is missing")
    asked_at = clock()
    answer = http.post_form(
        url, form=form, basic=(credentials["client_id"], credentials["client_secret"]), judge=_judge
    )
    try:
        tokens = _decode_tokens(answer.body)
    except BROKEN:
        raise TransientError(f"{answer.request}: answered with what is no pair of tokens") from None
    new = dict(credentials) | {
        "access_token": tokens.access_token,
        "access_expires_at": (asked_at + timedelta(seconds=tokens.expires_in)).isoformat(),
    }
    if tokens.refresh_token is not None:
        new["refresh_token"] = tokens.refresh_token
        new["refresh_expires_at"] = (asked_at + _REFRESH_LASTS).isoformat()
    return new


def _judge(refusal: Refusal) -> IntegrationError | None:
    try:
        word = _decode_error(refusal.body).error
    except BROKEN:
        return None
    if word not in _ERRORS:
        return None
    kind, said = _ERRORS[word]
    return kind(f"{refusal.request}: {said}")
