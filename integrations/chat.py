"""Chats and pushes that Apprise reaches: Slack, Telegram, Discord and their like, at their own fixed hosts only.

An Apprise URL names the service and holds its secret. The schemas whose host a customer chooses (`json://`,
`mailto://`, self-hosted ones) are not spoken, and no argument is taken that reads a file or another address
(`template`), or changes how we connect (`verify`, `rto`): they would reach into our network.
"""

import re

from integrations.chat_hosts import SERVICES, Service, only_to, service_of
from integrations.errors import PermanentError
from integrations.public_address import RefusedUrl
from integrations.webhooks_out import Answered

_SCHEMA = re.compile(r"([a-z0-9]{2,20})://[!-~]{1,2000}")
_LONGEST_TEXT = 3000
_UNKNOWN = "the service does not know such an address"


def check_chat_url(url: str, *, allow_loopback: bool = False) -> None:
    """Refuse an Apprise URL that we do not speak.

    Raises:
        RefusedUrl: with the reason, without the URL.
    """
    plugin_of(url, allow_loopback)


class ChatSender:
    """Tells chats."""

    def __init__(self, *, allow_loopback: bool = False) -> None:
        self._allow_loopback = allow_loopback

    def send(self, url: str, title: str, text: str) -> Answered:
        """Tell one chat; Apprise says no more than whether it worked.

        Raises:
            RefusedUrl: it is none that we speak with.
        """
        service, plugin = plugin_of(url, self._allow_loopback)
        try:
            with only_to(service, plugin, allow_loopback=self._allow_loopback):
                worked = bool(plugin.notify(body=text[:_LONGEST_TEXT], title=title, notify_type="warning"))  # type: ignore[attr-defined]
        except RefusedUrl:
            raise
        except (TypeError, AttributeError, OSError, PermanentError) as error:
            return Answered(0, type(error).__name__)
        return Answered(200, "taken") if worked else Answered(0, "the service did not take it")


def plugin_of(url: str, allow_loopback: bool) -> tuple[Service, object]:
    """Return the service of an address, and Apprise's plugin for it. What Apprise itself reads in it is judged."""
    import apprise  # half a second, and not every process sends
    from apprise.plugins import url_to_dict

    found = _SCHEMA.fullmatch(url)
    service = service_of(found[1], allow_loopback=allow_loopback) if found else None
    if found is None or service is None:
        raise RefusedUrl(f"not the address of a service that we speak with: {', '.join(sorted(SERVICES))}")
    if found[1] not in SERVICES and not re.match(r"json://127\.0\.0\.1:\d+(/|$)", url):
        raise RefusedUrl("not the address of this machine")
    read = url_to_dict(url, secure_logging=True)  # type: ignore[no-untyped-call]
    if not read or read.get("schema") != found[1]:
        raise RefusedUrl(_UNKNOWN)
    given = {name for key in ("qsd", "qsd+", "qsd-", "qsd:") for name in read.get(key) or ()}
    if not given <= service.arguments:
        raise RefusedUrl(f"the address may have no arguments but these: {', '.join(sorted(service.arguments)) or '-'}")
    asset = apprise.AppriseAsset(app_id="Fleet Jobs", async_mode=False, secure_logging=True)
    plugin: object | None = apprise.Apprise.instantiate(read, asset=asset, suppress_exceptions=True)
    if plugin is None:
        raise RefusedUrl(_UNKNOWN)
    return service, plugin
