"""Failures of the outside world, sorted by what the caller should do.

A class exists because a caller acts differently on it. Messages carry ids, statuses and shapes, never a
secret, a person or a body.
"""


class IntegrationError(Exception):
    """Any failure of a provider."""


class TransientError(IntegrationError):
    """May work later: network, 5xx, a truncated or unreadable answer. Retried with backoff."""


class TimedOut(TransientError):  # noqa: N818 - named for the caller, as its siblings are
    """Connected, but the answer did not come in time; may work later, and sooner where less is asked for."""


class RateLimited(IntegrationError):  # noqa: N818
    """The provider told us to wait.

    Args:
        retry_after_s: seconds to wait, fractional, at least 0.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type["RateLimited"], tuple[str, float]]:
        """Let it cross processes: by default only the message would."""
        return type(self), (str(self), self.retry_after_s)


class PermanentError(IntegrationError):
    """Never will work as asked: 4xx, refused, out of contract. Not retried."""


class CredentialsRejected(PermanentError):  # noqa: N818
    """The account is cut off (401, revoked, expired): its owner must act. Not retried."""


class AccessExpired(CredentialsRejected):
    """The access token is refused; where a provider renews credentials, a new one may be accepted."""


class GrantRefused(CredentialsRejected):
    """What the owner's consent gave is used up, expired or revoked: no renewal helps, only the owner's consent."""


class BadRequest(PermanentError):  # noqa: N818 - named for the caller, as its siblings are
    """The provider does not understand what we ask (400)."""


class CursorRefused(PermanentError):  # noqa: N818 - named for the caller, as its siblings are
    """The provider does not know the cursor (any more): the feed must be begun anew."""
