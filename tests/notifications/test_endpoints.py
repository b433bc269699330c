"""Webhooks out and chats: signed, repeated as the specification says, and never into a private network."""

import json
import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from standardwebhooks import Webhook

from db.encryption import Keyring
from db.queries import endpoints as queries
from integrations.errors import PermanentError
from integrations.public_address import RefusedUrl
from integrations.webhooks_out import WebhookSender, check_url, new_secret, sign
from jobs.notifications.endpoints import MOST_PAYLOAD_BYTES, secret_context
from tests.factories import ENCRYPTION_KEY
from tests.notifications.conftest import Desk
from tests.notifications.hook import Hook, listening

# Apprise loads a plugin that asks for `imghdr`, and has its own where Python no longer does.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

CALL = "notifications.call_endpoints"
NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening() as opened:
        yield opened


class Endpoint:
    """A webhook of a tenant."""

    def __init__(self, desk: Desk, url: str, *, channel: str = "webhook", name: str = "erp", **given: object) -> None:
        from jobs import process

        self.desk = desk
        self.id = uuid4()
        self.secret = new_secret() if channel == "webhook" else url
        with process.get_database().system_transaction() as connection:
            assert queries.add_endpoint(
                connection,
                self.id,
                desk.tenant_id,
                channel=channel,
                name=name,
                url=url if channel == "webhook" else None,
                secret=self.encrypt(self.secret),
                **given,  # type: ignore[arg-type]
            )

    def encrypt(self, secret: str) -> bytes:
        keyring = Keyring.from_settings([ENCRYPTION_KEY])
        return keyring.encrypt(secret.encode(), associated=secret_context(self.desk.tenant_id, self.id))

    def call(self) -> dict[str, int]:
        """Run the job to its end."""
        row = self.desk.platform.run(CALL)
        assert row["state"] == "succeeded", row["error"]
        counts: dict[str, int] = row["counts"] or {}
        return counts

    def again(self) -> dict[str, int]:
        """Let the time until the next try pass, and call."""
        self.desk.admin.execute("UPDATE notifications SET next_attempt_at = now() WHERE state = 'ready'")
        return self.call()

    def payloads(self, hook: Hook) -> list[Any]:
        """Return what the endpoint was sent, verified."""
        return [Webhook(self.secret).verify(call.body, call.headers) for call in hook.calls]

    @property
    def disabled(self) -> str | None:
        found: str | None = self.desk.value("SELECT disabled_reason FROM webhook_endpoints WHERE id = %s", self.id)
        return found


def test_an_alert_reaches_the_endpoint_signed_and_once(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url)
    alert_id = desk.alert("offline", vehicle_id=desk.vehicle("Van 12"), details={"threshold_s": 900})

    assert endpoint.call() == {"sent": 1}
    assert endpoint.call() == {}

    (call,) = hook.calls
    payload = Webhook(endpoint.secret).verify(call.body, call.headers)
    assert payload["type"] == "alert.offline"
    assert payload["data"]["alert_id"] == str(alert_id)
    assert payload["data"]["vehicle"] == "Van 12"
    assert payload["data"]["vehicle_id"] == str(desk.value("SELECT id FROM vehicles"))
    assert payload["data"]["details"] == {"threshold_s": 900}
    assert call.path == "/hooks?id=7"
    assert call.headers["webhook-id"].startswith("msg_")
    assert desk.states() == {"sent": 1}


def test_while_a_secret_is_replaced_both_sign(desk: Desk, hook: Hook) -> None:
    from jobs import process

    endpoint = Endpoint(desk, hook.url)
    new = new_secret()
    with process.get_database().system_transaction() as connection:
        assert queries.rotate_secret(connection, endpoint.id, endpoint.encrypt(new))
    desk.alert()
    endpoint.call()
    desk.admin.execute("UPDATE webhook_endpoints SET previous_until = now()")
    desk.alert()
    endpoint.call()

    first, second = hook.calls
    assert len(first.headers["webhook-signature"].split(" ")) == 2
    Webhook(endpoint.secret).verify(first.body, first.headers)
    Webhook(new).verify(first.body, first.headers)
    assert len(second.headers["webhook-signature"].split(" ")) == 1
    Webhook(new).verify(second.body, second.headers)


@pytest.mark.parametrize(
    "answer",
    [500, 503, 400, 404, 429, (302, {"Location": "http://127.0.0.1:1/"}), (302, {"Location": "http://[x"}), 301],
)
def test_what_is_not_2xx_is_tried_again_with_the_same_id_and_a_redirect_is_not_followed(
    answer: object, desk: Desk, hook: Hook
) -> None:
    endpoint = Endpoint(desk, hook.url)
    hook.answers = [answer, 204]
    desk.alert()

    assert endpoint.call() == {"put_off": 1}
    assert endpoint.call() == {}
    assert endpoint.again() == {"sent": 1}

    first, second = hook.calls
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.path == second.path
    Webhook(endpoint.secret).verify(second.body, second.headers)
    assert desk.value("SELECT failing_since FROM webhook_endpoints") is None


def test_retry_after_is_waited_for(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url)
    hook.answers = [(429, {"Retry-After": "3600"})]
    desk.alert()
    desk.alert()

    endpoint.call()

    rows = desk.admin.execute(
        "SELECT next_attempt_at - now(), attempts FROM notifications ORDER BY attempts"
    ).fetchall()
    assert len(hook.calls) == 1
    assert [row[1] for row in rows] == [0, 1]
    assert all(timedelta(minutes=59) < row[0] < timedelta(minutes=61) for row in rows)


def test_410_disables_the_endpoint_and_tells_people(told: Desk, hook: Hook) -> None:
    endpoint = Endpoint(told, hook.url)
    hook.answers = [410]
    told.alert()
    told.alert()

    endpoint.call()

    assert len(hook.calls) == 1
    assert endpoint.disabled == "it answered 410 Gone"
    assert told.value("SELECT message FROM alerts WHERE kind = 'endpoint_disabled'") == (
        'The endpoint "erp" was turned off: it answered 410 Gone'
    )
    rows = told.admin.execute(
        "SELECT state, count(*) FROM notifications WHERE channel = 'webhook' GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert rows == [("failed", 1), ("suppressed", 1)]
    told.alert()
    assert endpoint.call() == {}
    assert told.deliver()["sent"] == 4, "people are told of all three, and of the endpoint"


def test_enabled_again_it_is_called_again(desk: Desk, hook: Hook) -> None:
    from jobs import process

    endpoint = Endpoint(desk, hook.url)
    hook.answers = [410, 204]
    desk.alert()
    endpoint.call()
    with process.get_database().system_transaction() as connection:
        assert queries.enable(connection, endpoint.id)
        assert not queries.enable(connection, endpoint.id)
    desk.alert()

    assert endpoint.call() == {"sent": 1}, "and not that it is on again: it never heard that it was off"
    assert desk.value("SELECT count(*) FROM alerts WHERE kind = 'endpoint_disabled' AND resolved_at IS NULL") == 0


def test_after_days_of_failure_it_is_given_up_and_disabled(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url)
    hook.answers = [500]
    desk.alert()
    endpoint.call()
    waits = []
    for _ in range(9):
        waits.append(desk.value("SELECT extract(epoch FROM next_attempt_at - now())::int FROM notifications"))
        endpoint.again()

    assert len(hook.calls) == 10
    assert desk.states() == {"failed": 1}
    assert waits == sorted(waits)
    assert waits[0] < 7
    assert waits[-1] > 23 * 3600 * 0.9
    assert endpoint.disabled == "it failed for days, at last: status 500"


def test_a_dead_endpoint_costs_one_try_and_keeps_no_other_waiting(desk: Desk, hook: Hook) -> None:
    dead = Endpoint(desk, "http://127.0.0.1:1/", name="dead")
    Endpoint(desk, hook.url, name="alive")
    desk.alerts(250)

    counts = dead.call()

    assert counts["sent"] == 250
    assert desk.value("SELECT sum(attempts) FROM notifications WHERE endpoint_id = %s", dead.id) == counts["put_off"]
    assert counts["put_off"] < 250


def test_a_slow_endpoint_with_a_long_queue_keeps_no_other_waiting(
    desk: Desk, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.notifications.endpoints._SEND_FOR_S", 0.5)
    slow = Endpoint(desk, hook.url)
    hook.answers = [0.2]
    desk.alerts(150)
    with listening() as fast_hook:
        fast = Endpoint(Desk(desk.platform, "other"), fast_hook.url)
        fast.desk.alert()

        counts = slow.call()

        assert len(fast_hook.calls) == 1
    assert 2 <= len(hook.calls) < 10
    assert counts == {"sent": len(hook.calls) + 1}
    rows = desk.admin.execute(
        "SELECT count(*), sum(attempts), min(next_attempt_at - now()) FROM notifications WHERE state = 'ready'"
    ).fetchone()
    assert rows is not None
    assert rows[:2] == (150 - len(hook.calls), 0)
    assert rows[2] > timedelta(seconds=20), "all of it gives way, not only what was claimed"


def test_an_endpoint_that_no_thread_came_to_is_not_taken_for_a_slow_one(
    desk: Desk, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.notifications.endpoints._SEND_FOR_S", 0.1)
    monkeypatch.setattr("jobs.notifications.endpoints.THREADS", 1)
    slow = [Endpoint(desk, hook.url, name=f"slow {number}") for number in range(3)]
    hook.answers = [0.2]
    desk.alerts(2)

    assert slow[0].call() == {"sent": 3}, "one of each, the others after the pause"


@pytest.mark.parametrize(
    ("events", "min_severity", "is_sent"),
    [
        ([], "low", True),
        (["offline"], "low", True),
        (["connectivity"], "low", True),
        (["maintenance", "fault_code"], "low", False),
        ([], "high", False),
    ],
)
def test_an_endpoint_hears_what_it_asked_for(
    events: list[str], min_severity: str, is_sent: bool, desk: Desk, hook: Hook
) -> None:
    endpoint = Endpoint(desk, hook.url, events=events, min_severity=min_severity)
    desk.alert("offline", "medium")

    assert endpoint.call() == ({"sent": 1} if is_sent else {})


def test_an_answer_without_end_and_a_slow_one_are_bounded(
    desk: Desk, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrations.webhooks_out.TIMEOUT_S", 0.5)
    endpoint = Endpoint(desk, hook.url)
    hook.answers = [2.0]
    desk.alert()

    assert endpoint.call() == {"put_off": 1}
    assert desk.value("SELECT reason FROM notification_attempts") == "timed out"


def test_what_one_endpoint_sets_as_a_cookie_no_other_is_sent(desk: Desk, hook: Hook) -> None:
    Endpoint(desk, hook.url)
    endpoint = Endpoint(Desk(desk.platform, "other"), hook.url)
    hook.answers = [(204, {"Set-Cookie": "session=of-one; Path=/"})]
    desk.alerts(2)
    endpoint.desk.alerts(2)

    assert endpoint.call() == {"sent": 4}
    assert [call for call in hook.calls if "cookie" in call.headers] == []


def test_a_payload_stays_small(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url)
    desk.alert("custom", message="x" * 200_000, details={"big": "y" * 60_000})

    assert endpoint.call() == {"sent": 1}

    assert len(hook.calls[0].body) < MOST_PAYLOAD_BYTES
    assert json.loads(hook.calls[0].body)["data"]["is_cut"] is True


def test_an_alert_that_cannot_be_written_keeps_no_other_back(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url)
    desk.alert("custom", opened_at="infinity")
    desk.alerts(1, details='{"a":' * 62 + "1" + "}" * 62)
    desk.alert("k" * 100_000)
    desk.alert("offline")

    assert endpoint.call() == {"sent": 4}
    assert max(len(call.body) for call in hook.calls) < MOST_PAYLOAD_BYTES


def test_a_webhook_whose_key_is_gone_fails_with_a_reason(
    desk: Desk, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint(desk, hook.url)
    desk.admin.execute("UPDATE webhook_endpoints SET secret_encrypted = '\\x00'")
    desk.alert()

    assert endpoint.call() == {"failed": 1}
    assert hook.calls == []


PRIVATE = [
    *("127.0.0.1", "127.8.9.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1"),
    *("ff02::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:a00:1::", "2001:db8::1"),
    *("::127.0.0.1", "64:ff9b:1::1", "fd00:ec2::254"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_no_private_address_is_called_under_its_number_or_under_a_name(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(RefusedUrl):
        check_url(f"https://{literal}/", allow_loopback=False)

    def lookup(host: str, port: int) -> Sequence[str]:
        return [address]

    with WebhookSender(look_up=lookup) as sender, pytest.raises(RefusedUrl):
        sender.send("https://customer.example/", [new_secret()], "msg_1", NOW, b"{}")


@pytest.mark.parametrize(
    "url",
    [
        *("http://customer.example/", "ftp://customer.example/", "https://", "https:///x", "not a url", ""),
        *("https://user:secret@customer.example/", "https://customer.example:0/", "https://customer.example:99999/"),
        *("https://customer.example/\r\nX: y", "https://" + "x" * 4000, "file:///etc/passwd", "https://[::1"),
        *("http://0x7f000001/", "http://127.0.0.1/", "//customer.example"),
    ],
)
def test_no_url_is_called_that_is_not_plainly_https(url: str) -> None:
    with pytest.raises(RefusedUrl) as caught:
        check_url(url, allow_loopback=False)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("found", [["93.184.216.34", "10.0.0.1"], ["10.0.0.1", "93.184.216.34"]])
def test_a_name_with_one_private_address_among_others_is_refused(found: list[str]) -> None:
    with WebhookSender(look_up=lambda host, port: found) as sender, pytest.raises(RefusedUrl):
        sender.send("https://customer.example/", [new_secret()], "msg_1", NOW, b"{}")


def test_even_where_loopback_is_allowed_the_rest_of_the_network_is_not() -> None:
    for address in ("10.0.0.1", "169.254.169.254", "93.184.216.34"):  # the last is public, and without TLS
        with (
            WebhookSender(allow_loopback=True, look_up=lambda host, port, found=address: [found]) as sender,  # type: ignore[misc]
            pytest.raises(RefusedUrl),
        ):
            sender.send("http://customer.example/", [new_secret()], "msg_1", NOW, b"{}")


def certificate_of(name: str, directory: Path) -> Path:
    """Write a key and a certificate for a name that only itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(called, called, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return path


def test_the_address_that_was_judged_is_the_one_connected_to_under_the_name_that_was_asked_for(tmp_path: Path) -> None:
    path = certificate_of("customer.example", tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(path)
    lookups: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        lookups.append(host)
        return ["127.0.0.1"] if len(lookups) == 1 else ["169.254.169.254"]

    with listening(tls) as hook:
        url = f"https://customer.example:{hook.port}/"
        with WebhookSender(allow_loopback=True, look_up=rebinding, ca_file=str(path)) as sender:
            assert sender.send(url, [new_secret()], "msg_1", NOW, b"{}").is_taken
            assert sender.send(url, [new_secret()], "msg_2", NOW, b"{}").is_taken, "over the same connection"
        assert lookups == ["customer.example"]
        assert hook.calls[0].headers["host"] == f"customer.example:{hook.port}"
        with WebhookSender(allow_loopback=True, look_up=lambda host, port: ["127.0.0.1"], ca_file=str(path)) as sender:
            assert sender.send(url.replace("customer", "other"), [new_secret()], "m", NOW, b"{}").reason == "SSLError"
        with WebhookSender(allow_loopback=True, look_up=lambda host, port: ["127.0.0.1"]) as sender:
            assert sender.send(url, [new_secret()], "m", NOW, b"{}").reason == "SSLError"


def test_an_endpoint_on_a_private_address_is_disabled_and_nothing_is_sent(
    desk: Desk, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.settings import get_settings

    monkeypatch.setenv("FLEET_LOOPBACK_WEBHOOKS", "false")
    get_settings.cache_clear()
    endpoint = Endpoint(desk, hook.url.replace("http://", "https://"))
    desk.alert()

    assert endpoint.call() == {"failed": 1}

    assert hook.calls == []
    assert endpoint.disabled == "the URL leads to an address that is not the internet's"


def test_the_signature_is_the_one_of_the_specification() -> None:
    secret, body, at = new_secret(), b'{"test": 2432232314}', datetime.now(UTC)
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body),
    }
    assert Webhook(secret).verify(body, headers) == {"test": 2432232314}
    assert headers["webhook-signature"] == Webhook(secret).sign(headers["webhook-id"], at, body.decode())
    with pytest.raises(PermanentError):
        sign("whsec_no base64", "msg_1", at, body)


def test_a_chat_is_told_as_text(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, f"json://127.0.0.1:{hook.port}/", channel="apprise", name="chat")
    hook.answers = [200]
    desk.alert("fault_code", "critical", vehicle_id=desk.vehicle("Van 12"), details={"code": "P0217"})
    desk.deliver()

    assert endpoint.call() == {"sent": 1}

    told = json.loads(hook.calls[0].body)
    assert told["title"] == "Van 12 reports fault P0217"
    assert "Fault code: P0217" in told["message"]


def test_a_chat_of_a_user_hears_what_the_user_prefers_and_a_storm_as_one(desk: Desk, hook: Hook) -> None:
    user_id = desk.user()
    desk.prefer(user_id, channel="apprise", min_severity="high")
    endpoint = Endpoint(desk, f"json://127.0.0.1:{hook.port}/", channel="apprise", name="phone", user_id=user_id)
    hook.answers = [200]
    desk.alerts(40, severity="low")
    desk.alerts(40, severity="high")
    desk.deliver()

    assert endpoint.call() == {"sent": 1}
    assert json.loads(hook.calls[0].body)["title"].startswith("40 alerts")


def test_a_chat_that_does_not_take_it_is_tried_again(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, f"json://127.0.0.1:{hook.port}/", channel="apprise", name="chat")
    hook.answers = [500, 200]
    desk.alert()
    desk.deliver()

    assert endpoint.call() == {"put_off": 1}
    assert endpoint.again() == {"sent": 1}


def test_the_secrets_of_endpoints_are_shown_to_no_application(desk: Desk, hook: Hook) -> None:
    import psycopg

    Endpoint(desk, hook.url)
    for url in (desk.platform.urls.app_url, desk.platform.urls.readonly_url):
        with psycopg.connect(url) as connection:
            connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(desk.tenant_id)])
            row = connection.execute("SELECT name, url, disabled_at FROM webhook_endpoints").fetchone()
            assert row == ("erp", hook.url, None)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT secret_encrypted FROM webhook_endpoints")


def test_two_runs_at_once_call_each_endpoint_once_for_each_alert(desk: Desk, hook: Hook) -> None:
    from threading import Thread

    from integrations.webhooks_out import WebhookSender as Sender
    from jobs import process
    from jobs.notifications.endpoints import call_due, webhooks
    from jobs.notifications.retries import WEBHOOK_S

    Endpoint(desk, hook.url)
    desk.alerts(120)
    keyring = Keyring.from_settings([ENCRYPTION_KEY])

    def call() -> None:
        with Sender(allow_loopback=True) as sender:
            send = webhooks(keyring, sender)
            call_due(process.get_database(), "webhook", send, until=float("inf"), schedule_s=WEBHOOK_S)

    racing = [Thread(target=call) for _ in range(3)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()

    ids = [call.headers["webhook-id"] for call in hook.calls]
    assert len(ids) == len(set(ids)) == 120
    assert desk.states() == {"sent": 120}
    assert UUID(ids[0].removeprefix("msg_"))
