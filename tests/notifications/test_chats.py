"""Which chats are spoken with: services at their own hosts, and nothing that an address could lead us to besides."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integrations import chat_hosts
from integrations.chat import ChatSender, check_chat_url, plugin_of
from integrations.chat_hosts import SERVICES
from integrations.public_address import RefusedUrl
from tests.notifications.hook import Hook, listening

# Apprise loads a plugin that asks for `imghdr`, and has its own where Python no longer does.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/"
DISCORD = "discord://" + "1" * 18 + "/" + "A" * 64
TELEGRAM = "tgram://123456789:ABCdefghijklmnopqrstuvwxyz123456789/12315544/"
SNS = "sns://AHIAJGNT76XIMXDBIJYA/bu1dHSdO22pfaaVy/wmNsdjJFD09/{}/15551234567"
EXAMPLES = {
    "clicksend": "clicksend://user:key@15551234567",
    "d7sms": "d7sms://token@15551234567",
    "discord": DISCORD,
    "gchat": "gchat://workspace/key/token",
    "msg91": "msg91://" + "a" * 20 + "@" + "b" * 20 + "/15551234567",
    "opsgenie": "opsgenie://a1b2c3d4-e5f6-a1b2-c3d4-a1b2c3d4e5f6?region=eu",
    "pagerduty": "pagerduty://integrationkey@apikey?region=eu",
    "pbul": "pbul://" + "a" * 32,
    "pover": "pover://" + "u" * 30 + "@" + "t" * 30 + "?priority=high",
    "slack": SLACK,
    "sns": SNS.format("us-east-1"),
    "splunk": "splunk://database@" + "a1b2c3d4-e5f6-a1b2-c3d4-a1b2c3d4e5f6",
    "spush": "spush://" + "a" * 10,
    "tgram": TELEGRAM + "?silent=yes",
    "twilio": "twilio://AC" + "a" * 32 + ":" + "b" * 32 + "@15551234567/15557654321",
    "wxteams": "wxteams://" + "a" * 80,
}


@pytest.fixture
def inside() -> Iterator[Hook]:
    """A server of ours that nobody outside may reach."""
    with listening() as opened:
        yield opened


@pytest.mark.parametrize(
    "url",
    [
        *("json://10.0.0.1/", "jsons://customer.example/", "mailto://u:p@x.example", "file:///etc/passwd", "slack://"),
        *("https://hooks.slack.com/x", "form://10.0.0.1", "gotify://10.0.0.1/x", "syslog://", "json://127.0.0.1:1/"),
    ],
)
def test_only_services_at_their_own_hosts_are_chats(url: str) -> None:
    with pytest.raises(RefusedUrl):
        check_chat_url(url)


@pytest.mark.parametrize("schema", sorted(SERVICES))
def test_every_service_is_known_and_asks_for_nothing_that_its_stand_in_lacks(schema: str) -> None:
    _, plugin = plugin_of(EXAMPLES[schema], False)
    assert hasattr(sys.modules[type(plugin).__module__], "requests"), "what the stand-in takes the place of"


@pytest.mark.parametrize("schema", ["workflows", "msteams", "webexteams", "signalwire"])
def test_a_schema_whose_host_is_in_the_address_or_that_there_is_not_is_refused(schema: str, inside: Hook) -> None:
    with pytest.raises(RefusedUrl):
        ChatSender().send(f"{schema}://127.0.0.1:{inside.port}/643a5e4c1e/signature123?verify=no", "t", "b")
    assert inside.calls == []


@pytest.mark.parametrize("chat", [SLACK, DISCORD, TELEGRAM])
@pytest.mark.parametrize(
    "argument",
    [
        *("template=http://127.0.0.1:{port}/admin", "template={file}", "template=file://{file}", "TEMPLATE={file}"),
        *("thread=1&template={file}", "%74emplate={file}", "template%3D{file}&template={file}", ":a={file}", "+x=y"),
        *("-x=y", "verify=no", "rto=3600", "cto=3600", "redirect=yes", "format=markdown", "retry=9&wait=60", "tz=x"),
        *("href=http://127.0.0.1/", "avatar_url=http://127.0.0.1/", "mode=bot", "to=x", "store=no", "tags=x"),
    ],
)
def test_no_argument_reads_a_file_or_another_address_or_changes_how_we_connect(
    chat: str, argument: str, inside: Hook, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"content": "of our disk"}')
    with pytest.raises(RefusedUrl) as caught:
        ChatSender().send(f"{chat}?{argument.format(port=inside.port, file=secret)}", "t", "b")
    assert inside.calls == []
    assert str(secret) not in str(caught.value)


def test_a_region_that_is_a_host_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("looked up"))
    for region in ("us-east-1.x.evil.example", "us-east-1.evil.example#", "us-east-1@evil.example"):
        with pytest.raises(RefusedUrl):
            ChatSender().send(SNS.format(region), "t", "b")


@pytest.mark.parametrize("answer", [301, 302, 307, 308])
def test_a_redirect_of_a_service_is_not_followed(answer: int, inside: Hook) -> None:
    inside.answers = [(answer, {"Location": f"http://127.0.0.1:{inside.port}/elsewhere"}), 204]

    told = ChatSender(allow_loopback=True).send(f"json://127.0.0.1:{inside.port}/", "t", "b")

    assert not told.is_taken
    assert [call.path for call in inside.calls] == ["/"]


def test_a_service_that_drips_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_hosts, "TIMEOUT_S", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 60:
                    try:
                        connection.send(bytes([byte]))
                    except OSError:
                        return
                    time.sleep(0.1)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        began = time.monotonic()
        told = ChatSender(allow_loopback=True).send(f"json://127.0.0.1:{server.getsockname()[1]}/", "t", "b")
        assert time.monotonic() - began < 3
        thread.join()

    assert not told.is_taken
