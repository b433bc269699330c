"""What an operator gives of an account: a token, or several credentials by name. Never an argument, never printed."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from integrations.errors import CredentialsRejected, IntegrationError
from jobs.cli.errors import OperatorError
from jobs.settings import get_settings

_LONGEST = 4096
_LONGEST_FILE = 64 * 1024
_SHOWN = ("client_id", "redirect_uri", "user_id")
OF_RENEWAL = ("access_token", "access_expires_at", "refresh_token", "refresh_expires_at", "user_id")
"""What a renewal makes or needs, and nobody carries over to other credentials."""

TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where the token is, `-` for standard input; without it you are asked."),
]
CredentialsFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Where the credentials are, a JSON object by name, `-` for standard input, instead."
    ),
]


def read_credentials(
    provider: str, token_file: Path | None, credentials_file: Path | None, known: dict[str, str]
) -> dict[str, str]:
    """Return what the operator gives, from a file or by asking for what is not `known`.

    Raises:
        OperatorError: there is nothing, or not what a provider's credentials are.
    """
    from integrations.registry import PROVIDERS

    entry = PROVIDERS[provider]
    if token_file is not None and credentials_file is not None:
        raise OperatorError("give either --token-file or --credentials-file")
    if credentials_file is not None:
        secret_name = [entry.webhooks.secret_name] if entry.webhooks is not None else []
        named = {*entry.credentials, *secret_name, *(OF_RENEWAL if entry.renew is not None else ())}
        return _read_object(credentials_file, named)
    if entry.credentials == ("token",):
        return {"token": read_token(token_file)}
    if token_file is not None:
        raise OperatorError(f"--token-file: {provider} has more than a token: --credentials-file")
    if not sys.stdin.isatty():
        raise OperatorError(f"give --credentials-file FILE with {', '.join(entry.credentials)}: there is nobody to ask")
    return {
        name: _checked(name, str(typer.prompt(name.replace("_", " ").capitalize(), hide_input=name not in _SHOWN)))
        for name in entry.credentials
        if name not in known
    }


def obtain(provider: str, given: dict[str, str], base_url: str | None) -> tuple[dict[str, str], bool]:
    """Return the credentials to keep, and whether something was spent for them that works only once.

    Raises:
        OperatorError: the provider refuses, or cannot be asked.
    """
    from integrations.http import HttpSession, HttpSettings
    from integrations.registry import PROVIDERS, where

    exchange = PROVIDERS[provider].exchange
    if exchange is None or given.get("access_token"):
        return given, False
    _check_origin(provider, base_url)
    try:
        with HttpSession(HttpSettings(attempts=1)) as http:
            return dict(exchange(http, given, where(provider, base_url))), True
    except CredentialsRejected as error:
        raise OperatorError(f"{provider} refuses the credentials: {error}") from None
    except IntegrationError as error:
        raise OperatorError(f"cannot exchange the credentials at {provider}: {error}") from None


def beside_account(provider: str, stored: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """Return what is stored beside an account's own credentials (a secret of webhooks) and is not given anew."""
    from integrations.registry import PROVIDERS

    of_account = {*PROVIDERS[provider].credentials, *OF_RENEWAL, *given}
    return {name: value for name, value in stored.items() if name not in of_account}


def check_credentials(
    provider: str, credentials: dict[str, str], base_url: str | None, options: dict[str, Any] | None = None
) -> None:
    """Read the account's first page of vehicles: what is wrong with a token is found now, not at night.

    Raises:
        OperatorError: they are refused, or cannot be checked. PermanentError: the origin is no longer allowed.
    """
    from integrations.registry import open_provider

    _check_origin(provider, base_url)
    what = "token" if "token" in credentials else "credentials"
    try:
        account = open_provider(provider, credentials, base_url, options=options)
        try:
            account.list_devices(None)
        finally:
            account.close()
    except CredentialsRejected as error:
        raise OperatorError(f"{provider} refuses the {what}: {error}") from None
    except IntegrationError as error:
        raise OperatorError(f"cannot check the {what} at {provider}: {error}: try again, or --no-check") from None


def read_token(file: Path | None) -> str:
    """Return the one token, from a file, from standard input, or from whoever is asked."""
    if file is not None and str(file) != "-":
        try:
            token = file.read_text(encoding="ascii")
        except UnicodeDecodeError:
            raise OperatorError(f"--token-file: not a token: {file}") from None
    elif file is None and sys.stdin.isatty():
        token = str(typer.prompt("Token", hide_input=True))
    else:
        token = sys.stdin.read(_LONGEST + 2)
    return _checked("token", token)


def _check_origin(provider: str, base_url: str | None) -> None:
    """Refuse an origin that is no longer allowed: it must not get new credentials."""
    from integrations.registry import check_origin

    if base_url is not None:
        check_origin(provider, base_url, get_settings().provider_origins)


def _read_object(file: Path, named: set[str]) -> dict[str, str]:
    try:
        if str(file) == "-":
            text = sys.stdin.read(_LONGEST_FILE + 1)
        else:
            with file.open(encoding="utf-8") as opened:
                text = opened.read(_LONGEST_FILE + 1)
        told = json.loads(text) if len(text) <= _LONGEST_FILE else None
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not told:
        raise OperatorError(f"--credentials-file: expected a JSON object of texts: {file}")
    if unknown := sorted(set(told) - named):
        raise OperatorError(
            f"--credentials-file: no such credential: {unknown[0]}: expected {', '.join(sorted(named))}"
        )
    return {name: _checked(name, value) for name, value in told.items()}


def _checked(name: str, value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    what = name.replace("_", " ")
    if not text:
        raise OperatorError(f"the {what} is empty")
    if len(text) > _LONGEST or not text.isascii() or not text.isprintable() or " " in text:
        article = "not a token" if name == "token" else f"not a {what}"
        raise OperatorError(f"{article}: expected one line of printable ASCII without blanks")
    return text
