"""The simulated token endpoints: pairs that rotate, with the minute's grace, and every renewal counted."""

import base64
import binascii
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from integrations.simulator.smartcar_fleet import SmartcarAccount


class TokenRefused(Exception):  # noqa: N818
    """An answer of RFC 6749, 5.2."""

    def __init__(self, error: str, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.status = status


@dataclass
class Refresh:
    """A refresh token: whose it is, when it ends, and when it was first used."""

    account: SmartcarAccount
    ends_ms: int
    used_ms: int | None = None


@dataclass
class Tokens:
    """All tokens of a simulator. Milliseconds; `grace_ms` is how long a used refresh token still works."""

    accounts: Sequence[SmartcarAccount]
    clock_ms: Callable[[], int]
    access_ms: int = 7_200_000
    refresh_ms: int = 60 * 86_400_000
    grace_ms: int = 60_000
    granted: Counter[str] = field(default_factory=Counter)
    accesses: dict[str, tuple[SmartcarAccount, int, bool]] = field(default_factory=dict)
    refreshes: dict[str, Refresh] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)

    def ask(self, authorization: str, form: dict[str, str], *, is_application: bool) -> dict[str, object]:
        """Answer a token request. Raises: TokenRefused."""
        account = self._client(authorization)
        grant = form.get("grant_type", "")
        if is_application:
            if grant != "client_credentials":
                raise TokenRefused("unsupported_grant_type")
            self.granted[grant] += 1
            return {"access_token": self._access(account, True), "token_type": "Bearer", "expires_in": 3600}
        if grant == "authorization_code":
            self._spend_code(form)
        elif grant == "refresh_token":
            account = self._spend_refresh(account, form.get("refresh_token", ""))
        else:
            raise TokenRefused("unsupported_grant_type")
        self.granted[grant] += 1
        return self.pair(account)

    def pair(self, account: SmartcarAccount) -> dict[str, object]:
        """Return a new pair."""
        refresh = secrets.token_hex(16)
        self.refreshes[refresh] = Refresh(account, self.clock_ms() + self.refresh_ms)
        access = self._access(account, False)
        expires_in = max(1, self.access_ms // 1000)
        return {"access_token": access, "token_type": "Bearer", "expires_in": expires_in, "refresh_token": refresh}

    def account_of(self, authorization: str) -> tuple[SmartcarAccount, bool] | None:
        """Return whose access token a request carries, and whether it is the application's; None for a bad one."""
        scheme, _, token = authorization.partition(" ")
        found = self.accesses.get(token) if scheme == "Bearer" else None
        if found is None or found[1] <= self.clock_ms():
            return None
        return found[0], found[2]

    def forget_accesses(self) -> None:
        """Refuse every access token from now on, as if it had expired."""
        self.accesses.clear()

    def _access(self, account: SmartcarAccount, is_application: bool) -> str:
        token = secrets.token_hex(16)
        self.accesses[token] = (account, self.clock_ms() + self.access_ms, is_application)
        return token

    def _client(self, authorization: str) -> SmartcarAccount:
        scheme, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True).decode() if scheme == "Basic" else ""
        except (binascii.Error, UnicodeDecodeError):
            given = ""
        for account in self.accounts:
            if given == f"{account.client_id}:{account.client_secret}":
                return account
        raise TokenRefused("invalid_client", 401)

    def _spend_code(self, form: dict[str, str]) -> None:
        known = {(account.code, account.redirect_uri) for account in self.accounts}
        code = form.get("code", "")
        if (code, form.get("redirect_uri", "")) not in known or code in self.codes:
            raise TokenRefused("invalid_grant")
        self.codes.add(code)

    def _spend_refresh(self, account: SmartcarAccount, token: str) -> SmartcarAccount:
        known, now_ms = self.refreshes.get(token), self.clock_ms()
        if known is None or known.account.client_id != account.client_id or known.ends_ms <= now_ms:
            raise TokenRefused("invalid_grant")
        if known.used_ms is not None and now_ms >= known.used_ms + self.grace_ms:
            raise TokenRefused("invalid_grant")
        known.used_ms = now_ms if known.used_ms is None else known.used_ms
        return known.account
