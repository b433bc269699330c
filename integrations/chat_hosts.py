"""How a plugin of Apprise reaches its service: only the hosts of that service, over TLS, within a deadline.

A plugin calls `requests`. What it finds under that name is a stand-in whose every request is judged, so that nothing an
address can say (a region, a redirect, a proxy of the environment) leads elsewhere.
"""

import contextvars
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

from integrations.http_deadline import deadline, within
from integrations.public_address import Door, RefusedUrl, public_session, resolve

TIMEOUT_S = 15.0
_CONNECT_S = 5.0


class Service(NamedTuple):
    """A service that Apprise knows: its hosts, and the arguments of an address that lead nowhere else."""

    hosts: str
    arguments: frozenset[str] = frozenset()


def _service(hosts: str, *arguments: str) -> Service:
    return Service(hosts, frozenset(arguments))


SERVICES = {
    "clicksend": _service(r"rest\.clicksend\.com"),
    "d7sms": _service(r"api\.d7networks\.com"),
    "discord": _service(r"discord\.com", "thread"),
    "gchat": _service(r"chat\.googleapis\.com", "thread"),
    "msg91": _service(r"control\.msg91\.com"),
    "opsgenie": _service(r"api(\.eu)?\.opsgenie\.com", "region", "priority"),
    "pagerduty": _service(r"events(\.eu)?\.pagerduty\.com", "region"),
    "pbul": _service(r"api\.pushbullet\.com"),
    "pover": _service(r"api\.pushover\.net", "priority", "sound"),
    "slack": _service(r"(hooks\.)?slack\.com"),
    "sns": _service(r"sns\.[a-z0-9-]{1,30}\.amazonaws\.com"),
    "splunk": _service(r"alert\.victorops\.com"),
    "spush": _service(r"api\.simplepu\.sh"),
    "tgram": _service(r"api\.telegram\.org", "topic", "thread", "silent"),
    "twilio": _service(r"api\.twilio\.com"),
    "wxteams": _service(r"api\.ciscospark\.com|webexapis\.com"),
}
"""By schema; the hosts are those of Apprise's plugins (appriseit.com/services, and their sources, read 2026-11)."""
_LOOPBACK = {"json": _service(r"127\.0\.0\.1")}

_hosts: contextvars.ContextVar[str] = contextvars.ContextVar("hosts")


def service_of(schema: str, *, allow_loopback: bool) -> Service | None:
    """Return the service of a schema; None for one that we do not speak with."""
    return SERVICES.get(schema) or (_LOOPBACK.get(schema) if allow_loopback else None)


@contextmanager
def only_to(service: Service, plugin: object, *, allow_loopback: bool) -> Iterator[None]:
    """Let a plugin reach its service, within a deadline for all its requests together."""
    module: Any = sys.modules[type(plugin).__module__]
    module.requests = _REQUESTS  # for good: a plugin that is used outside of here reaches nothing
    token = _hosts.set(service.hosts)
    try:
        with deadline(TIMEOUT_S), Door(resolve, allow_loopback=allow_loopback).open():
            yield
    finally:
        _hosts.reset(token)


class _Requests:
    """What a plugin calls `requests`; a name that is not here ends its attempt."""

    codes = requests.codes
    RequestException = requests.RequestException

    def request(self, method: str, url: str, **given: Any) -> requests.Response:
        if re.fullmatch(_hosts.get(), urlsplit(url).hostname or "") is None:
            raise RefusedUrl("the address leads to a host that is not the service's")
        given |= {"timeout": (within(_CONNECT_S), within(TIMEOUT_S)), "verify": True, "allow_redirects": False}
        with public_session() as session:
            return session.request(method, url, **given)

    def get(self, url: str, **given: Any) -> requests.Response:
        return self.request("GET", url, **given)

    def post(self, url: str, **given: Any) -> requests.Response:
        return self.request("POST", url, **given)


_REQUESTS = _Requests()
