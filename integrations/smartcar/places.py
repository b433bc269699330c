"""Where Smartcar's endpoints are: four hosts of its own, or one base URL that stands for all of them."""

from typing import NamedTuple

# smartcar.com/docs/api-reference/vehicles-api-intro and .../authorization, read 2026-11.
ORIGINS = ("https://api.smartcar.com",)
CONNECT_URL = "https://connect.smartcar.com/oauth/authorize"


class Places(NamedTuple):
    """The hosts: of v2.0, of v3, of the owners' pairs of tokens, and of the application's own token."""

    v2: str
    v3: str
    auth: str
    iam: str

    @classmethod
    def of(cls, base_url: str) -> "Places":
        """Return the hosts of an account; a base URL of somebody else's, as a simulator's, answers for all."""
        base_url = base_url.rstrip("/")
        if base_url not in ORIGINS:
            return cls(f"{base_url}/v2.0", f"{base_url}/v3", base_url, base_url)
        return cls(
            "https://api.smartcar.com/v2.0",
            "https://vehicle.api.smartcar.com/v3",
            "https://auth.smartcar.com",
            "https://iam.smartcar.com",
        )
