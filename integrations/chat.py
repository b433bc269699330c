"""Chats and pushes that Apprise reaches: Slack, Teams, Telegram and their like, at their own fixed hosts only.

An Apprise URL names the service and holds its secret; the schemas whose host a customer chooses (`json://`,
`mailto://`, self-hosted ones) are not spoken: they would reach into our network.
"""

import re

from integrations.errors import PermanentError
from integrations.public_address import RefusedUrl
from integrations.webhooks_out import Answered

SCHEMAS = frozenset(
    {
        *("slack", "msteams", "workflows", "discord", "tgram", "gchat", "webexteams", "wxteams", "pover", "pbul"),
        *("pagerduty", "opsgenie", "twilio", "msg91", "sns", "d7sms", "signalwire", "clicksend", "splunk", "spush"),
    }
)
"""By which Apprise knows services at hosts of their own (appriseit.com/services, read 2026-11)."""
_LOOPBACK = frozenset({"json"})
_SCHEMA = re.compile(r"([a-z0-9]{2,20})://\S{1,2000}")
_LONGEST_TEXT = 3000


def check_chat_url(url: str, *, allow_loopback: bool = False) -> None:
    """Refuse an Apprise URL that we do not speak.

    Raises:
        RefusedUrl: with the reason, without the URL.
    """
    found = _SCHEMA.fullmatch(url)
    if found is None or (found[1] not in SCHEMAS and not (allow_loopback and found[1] in _LOOPBACK)):
        raise RefusedUrl(f"not the address of a service that we speak with: {', '.join(sorted(SCHEMAS))}")
    if found[1] in _LOOPBACK and not re.match(r"json://127\.0\.0\.1:\d+(/|$)", url):
        raise RefusedUrl("not the address of this machine")
    if _instance(url) is None:
        raise RefusedUrl("the service does not know such an address")


class ChatSender:
    """Tells chats. Apprise bounds the time of its requests itself."""

    def __init__(self, *, allow_loopback: bool = False) -> None:
        self._allow_loopback = allow_loopback

    def send(self, url: str, title: str, text: str) -> Answered:
        """Tell one chat; Apprise says no more than whether it worked.

        Raises:
            RefusedUrl: it is none that we speak with.
        """
        check_chat_url(url, allow_loopback=self._allow_loopback)
        found = _instance(url)
        assert found is not None
        try:
            worked = bool(found.notify(title=title, body=text[:_LONGEST_TEXT]))  # type: ignore[attr-defined]
        except (TypeError, OSError, PermanentError) as error:
            return Answered(0, type(error).__name__)
        return Answered(200, "taken") if worked else Answered(0, "the service did not take it")


def _instance(url: str) -> object | None:
    import apprise  # half a second, and not every process sends

    asset = apprise.AppriseAsset(app_id="Fleet Jobs", async_mode=False, secure_logging=True)
    found: object | None = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    return found
