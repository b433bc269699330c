"""Which providers there are. A new one is a folder and a line."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from integrations.errors import CredentialsRejected, PermanentError
from integrations.http import HttpSession, HttpSettings
from integrations.samsara import ORIGINS as SAMSARA_ORIGINS
from integrations.samsara import Samsara, SamsaraWebhooks
from integrations.smartcar import ORIGINS as SMARTCAR_ORIGINS
from integrations.smartcar import Smartcar, SmartcarWebhooks
from integrations.smartcar import exchange as smartcar_exchange
from integrations.smartcar import renew as smartcar_renew
from integrations.telematics import TelematicsProvider
from integrations.traccar import Traccar
from integrations.webhooks import Webhooks

Credentials = Mapping[str, str]
Options = Mapping[str, object]
"""A connection's settings: each provider reads those that are its own, and believes none of them."""

# urlsplit drops tabs and line breaks silently, and browsers read a backslash as a slash.
_PRINTABLE = re.compile(r"[!-\[\]-~]{1,2048}")


class Provider(NamedTuple):
    """How to open an account at a provider.

    `origins` are its own, the first is the default; a provider that everybody hosts for themselves has none.
    `credentials` are what an operator is asked for. `renew` exchanges credentials that run out for new ones; `exchange`
    makes the first from a code that the owner's consent gave. Both say in ISO 8601 when the access ends,
    `access_expires_at`, and when only the owner can give it again, `refresh_expires_at`, where that is known.
    `webhooks` is how it pushes, None where it does not.
    """

    origins: tuple[str, ...]
    open: Callable[[HttpSession, Credentials, str, Options], TelematicsProvider]
    credentials: tuple[str, ...] = ("token",)
    renew: Callable[[HttpSession, Credentials, str], Credentials] | None = None
    exchange: Callable[[HttpSession, Credentials, str], Credentials] | None = None
    webhooks: Webhooks | None = None


PROVIDERS: dict[str, Provider] = {
    "samsara": Provider(
        SAMSARA_ORIGINS,
        lambda http, keys, url, _: Samsara(http, _key(keys, "token"), url),
        webhooks=SamsaraWebhooks(),
    ),
    "smartcar": Provider(
        SMARTCAR_ORIGINS,
        Smartcar,
        ("client_id", "client_secret", "redirect_uri", "code"),
        smartcar_renew,
        smartcar_exchange,
        SmartcarWebhooks(),
    ),
    "traccar": Provider((), lambda http, keys, url, options: Traccar(http, _key(keys, "token"), url, options)),
}


def open_provider(
    provider: str,
    credentials: Credentials,
    base_url: str | None = None,
    settings: HttpSettings | None = None,
    options: Options | None = None,
    wait_for_turn: Callable[[], None] | None = None,
) -> TelematicsProvider:
    """Return a provider that reads one account; the caller has checked `base_url` and closes it.

    `options` are the connection's settings; `wait_for_turn` is called before each request.

    Raises:
        PermanentError: no such provider, no base URL where it has no origin of its own, or an option that cannot be.
        CredentialsRejected: a credential is missing.
    """
    url = where(provider, base_url)
    return find_provider(provider).open(HttpSession(settings, wait_for_turn), credentials, url, options or {})


def where(provider: str, base_url: str | None) -> str:
    """Return the origin of an account: its connection's base URL, or the provider's default.

    Raises:
        PermanentError: neither, or no such provider.
    """
    origins = find_provider(provider).origins
    if not base_url and not origins:
        raise PermanentError(f"{provider}: base_url is missing: everybody hosts it themselves")
    return base_url or origins[0]


def check_origin(provider: str, base_url: str, allowed_extra_origins: Collection[str] = ()) -> None:
    """Refuse a base URL that is neither the provider's own nor allowed by the operator.

    A tenant chooses the base URL and we send a token there, from inside our network: only exact origins
    pass, a scheme, host and port without user, path, query or fragment.

    Raises:
        PermanentError: not allowed, or no such provider.
    """
    origin = _origin(base_url)
    allowed = {_origin(known) for known in (*find_provider(provider).origins, *allowed_extra_origins)}
    if origin is None or origin not in allowed:
        raise PermanentError(f"{provider}: the base URL is not an allowed origin")


def find_provider(provider: str) -> Provider:
    """Return a provider by its name.

    Raises:
        PermanentError: no such provider.
    """
    if provider not in PROVIDERS:
        raise PermanentError(f"no such provider: {provider[:64]!r}")
    return PROVIDERS[provider]


def _key(credentials: Credentials, name: str) -> str:
    if not credentials.get(name):
        raise CredentialsRejected(f"the credential {name!r} is missing")
    return credentials[name]


def _origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of a bare origin, None when it is anything else."""
    if not _PRINTABLE.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    is_bare = parts.path in ("", "/") and not (parts.query or parts.fragment or "?" in url or "#" in url)
    if not parts.hostname or "@" in parts.netloc or not is_bare:
        return None
    return parts.scheme, parts.hostname, port
