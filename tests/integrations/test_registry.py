"""Which providers there are, and where a token may be sent."""

import pytest

from integrations.errors import CredentialsRejected, PermanentError
from integrations.registry import PROVIDERS, check_origin, open_provider
from integrations.simulator import SimulatorThread
from tests.integrations.conftest import ACCOUNT

EXTRA = ("http://127.0.0.1:8100", "https://samsara.example")


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.samsara.com",
        "https://api.eu.samsara.com/",
        "https://API.samsara.com:443",
        "http://127.0.0.1:8100",
        "https://samsara.example",
    ],
)
def test_the_providers_own_origins_and_those_the_operator_allows_pass(base_url: str) -> None:
    check_origin("samsara", base_url, EXTRA)


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.samsara.com",
        "http://api.samsara.com",
        "https://api.samsara.com:8443",
        "https://api.samsara.com.evil.example",
        "https://evil.example/api.samsara.com",
        "https://api.samsara.com@evil.example",
        "https://user:password@api.samsara.com",
        "https://evil.example#https://api.samsara.com",
        "https://api.samsara.com/elsewhere",
        "https://api.samsara.com?",
        "https://api.samsara.com\\@evil.example",
        "https://api.samsara.com\n",
        "https://api.sam\tsara.com",
        "https://api.samsara.com:99999",
        "https://[::1",
        "http://127.0.0.1:8101",
        "http://169.254.169.254",
        "file:///etc/passwd",
    ],
)
def test_a_token_is_sent_nowhere_else(base_url: str) -> None:
    with pytest.raises(PermanentError, match="not an allowed origin"):
        check_origin("samsara", base_url, EXTRA)


def test_nothing_extra_is_allowed_by_default() -> None:
    with pytest.raises(PermanentError):
        check_origin("samsara", EXTRA[0])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_providers_default_is_one_of_its_own_origins(provider: str) -> None:
    for origin in PROVIDERS[provider].origins:
        check_origin(provider, origin)
        assert origin.startswith("https://")


def test_a_provider_is_opened_by_name(simulator: SimulatorThread) -> None:
    provider = open_provider("samsara", {"token": ACCOUNT.token}, simulator.url)
    assert (provider.name, provider.feeds) == ("samsara", ("gps", "engine", "health", "safety"))
    assert len(provider.list_devices(None).devices) == ACCOUNT.vehicles
    provider.close()


def test_an_unknown_provider_is_refused_for_good() -> None:
    with pytest.raises(PermanentError, match="no such provider"):
        open_provider("acme", {})


@pytest.mark.parametrize("credentials", [{}, {"token": ""}])
def test_a_missing_token_is_for_the_owner_to_mend(credentials: dict[str, str]) -> None:
    with pytest.raises(CredentialsRejected, match="'token' is missing"):
        open_provider("samsara", credentials)
