"""What the receiver believes and what it does not: over HTTP, into a database, with the providers' own schemes."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
import requests

from db.encryption import new_key
from integrations.registry import PROVIDERS
from integrations.webhooks import Delivery, Pushed
from jobs.webhooks.app import Bounds
from tests.inprocess import Platform
from tests.ledger.processes import wait_until
from tests.webhooks.conftest import Hook, give_credentials, receiving
from tests.webhooks.schemes import Samsara, Smartcar


def assert_refused(answer: requests.Response, *hooks: Hook) -> None:
    """Assert that outside nothing is told, and that inside nothing is kept."""
    assert answer.status_code == 401
    assert answer.content == b""
    assert answer.headers.keys() <= {"Content-Length", "content-length", "date"}
    for hook in hooks:
        assert hook.rows() == []
        assert hook.runs() == []


def test_a_delivery_is_kept_with_the_one_run_that_will_read_it(hook: Hook) -> None:
    event_id = str(uuid4())
    body = hook.scheme.event(event_id)

    answer = hook.post(body)

    assert (answer.status_code, answer.content) == (200, b"")
    assert hook.rows() == [(event_id, 0)]
    row = hook.admin.execute(
        "SELECT tenant_id, payload, read_at, r.tenant_id, r.args, r.requested_by, r.state FROM webhook_deliveries"
        " JOIN job_runs r USING (tenant_id) WHERE r.job = 'telematics.read_webhook'"
    ).fetchall()
    assert row == [
        (
            hook.tenant_id,
            body,
            None,
            hook.tenant_id,
            {"connection_id": str(hook.id), "event_id": event_id},
            "webhook",
            "pending",
        )
    ]


def test_a_repeat_is_counted_and_nothing_more(hook: Hook) -> None:
    event_id = str(uuid4())
    body = hook.scheme.event(event_id)

    for _ in range(3):
        assert hook.post(body).status_code == 200

    assert hook.rows() == [(event_id, 2)]
    assert len(hook.runs()) == 1


def test_a_repeat_after_it_was_read_is_not_read_again(hook: Hook, platform: Platform) -> None:
    event_id = str(uuid4())
    body = hook.scheme.event(event_id)
    hook.post(body)
    assert platform.work(hook.runs()[0])["state"] == "succeeded"

    assert hook.post(body).status_code == 200

    assert len(hook.runs()) == 1
    assert platform.value("SELECT payload IS NULL AND repeats = 1 FROM webhook_deliveries") is True


def test_of_two_bodies_with_one_event_id_the_first_is_kept(hook: Hook) -> None:
    event_id = str(uuid4())
    first, second = hook.scheme.event(event_id), hook.scheme.event(event_id, padding="x")

    assert [hook.post(body).status_code for body in (first, second)] == [200, 200]

    assert hook.rows() == [(event_id, 1)]
    assert hook.admin.execute("SELECT payload FROM webhook_deliveries").fetchone() == (first,)


def test_fifty_deliveries_of_one_event_at_once_are_one_row_and_one_run(hook: Hook) -> None:
    event_id = str(uuid4())
    body = hook.scheme.event(event_id)
    headers = hook.scheme.sign(body)

    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda _: hook.post(body, headers).status_code, range(50)))

    assert answers == [200] * 50
    assert hook.rows() == [(event_id, 49)]
    assert len(hook.runs()) == 1


def test_one_event_id_at_two_connections_is_two_deliveries(hook: Hook) -> None:
    other = Hook(hook.admin, hook.url, hook.scheme, hook.tenant_id)
    body = hook.scheme.event("same")

    assert [hook.post(body).status_code, other.post(body).status_code] == [200, 200]

    assert (len(hook.runs()), len(other.runs())) == (1, 1)


def test_a_signature_of_another_secret_is_refused(hook: Hook) -> None:
    forger = type(hook.scheme)()
    body = hook.scheme.event()
    assert_refused(hook.post(body, forger.sign(body)), hook)


def test_a_body_that_was_changed_after_signing_is_refused(hook: Hook) -> None:
    body = hook.scheme.event("one")
    assert_refused(hook.post(body.replace(b"one", b"two"), hook.scheme.sign(body)), hook)


def test_a_delivery_without_a_signature_is_refused(hook: Hook) -> None:
    assert_refused(hook.post(hook.scheme.event(), {}), hook)


@pytest.mark.parametrize("value", ["", "v1=", "v1", "é" * 64, "0" * 64, "v1=" + "0" * 64, "v1=" + "é" * 64])
def test_a_header_that_is_no_signature_is_refused(hook: Hook, value: str) -> None:
    body = hook.scheme.event()
    broken = {name: value.encode("latin-1") for name in hook.scheme.sign(body)}
    assert_refused(hook.post(body, broken), hook)  # type: ignore[arg-type]


@pytest.mark.parametrize("away", [timedelta(days=-6), timedelta(days=6), timedelta(hours=-12), timedelta(hours=2)])
def test_a_delivery_of_another_time_is_refused_however_well_it_is_signed(hook: Hook, away: timedelta) -> None:
    at = datetime.now(UTC) + away
    body = hook.scheme.event(at=at)
    assert_refused(hook.post(body, hook.scheme.sign(body, at)), hook)


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b"{}", b"null", b'{"eventId": 1}', b"\xff\xfe", b"{" * 5000])
def test_what_is_signed_and_no_event_is_refused(hook: Hook, body: bytes) -> None:
    assert_refused(hook.post(body), hook)


@pytest.mark.parametrize("event_id", ["", "x" * 201, "nul\0", "line\nbreak", "\ud800"])
def test_an_event_id_that_cannot_be_kept_is_refused(hook: Hook, event_id: str) -> None:
    assert_refused(hook.post(hook.scheme.event(eventId=event_id)), hook)


def test_nobodys_address_looks_like_a_wrong_signature(hook: Hook) -> None:
    elsewhere = Hook(hook.admin, hook.url, hook.scheme)
    body = hook.scheme.event()
    for tenant_id, connection_id in (
        (uuid4(), uuid4()),
        (hook.tenant_id, uuid4()),
        (uuid4(), hook.id),
        (elsewhere.tenant_id, hook.id),
        (hook.tenant_id, elsewhere.id),
        (UUID(int=0), hook.id),
    ):
        address = f"{hook.url}/webhooks/{tenant_id}/{connection_id}"
        assert_refused(hook.post(body, address=address), hook, elsewhere)


def test_a_connection_without_a_secret_believes_nothing(hook: Hook) -> None:
    give_credentials(hook.admin, hook.tenant_id, hook.id, {"token": "simulated"})
    assert_refused(hook.post(hook.scheme.event()), hook)


def test_an_empty_secret_is_none(hook: Hook) -> None:
    give_credentials(hook.admin, hook.tenant_id, hook.id, {hook.scheme.secret_name: ""})
    hook.scheme.secret = ""
    assert_refused(hook.post(hook.scheme.event()), hook)


def test_a_provider_without_webhooks_believes_nothing(hook: Hook) -> None:
    hook.admin.execute("UPDATE connections SET provider = 'nobody' WHERE id = %s", [hook.id])
    assert_refused(hook.post(hook.scheme.event()), hook)


def test_a_removed_connection_is_nobodys_address(hook: Hook) -> None:
    hook.admin.execute("UPDATE connections SET deleted_at = now(), status = 'paused' WHERE id = %s", [hook.id])
    assert_refused(hook.post(hook.scheme.event()), hook)


def test_a_tenant_that_left_is_nobodys_address(hook: Hook) -> None:
    hook.admin.execute("UPDATE tenants SET deleted_at = now() WHERE id = %s", [hook.tenant_id])
    assert_refused(hook.post(hook.scheme.event()), hook)


@pytest.mark.parametrize("status", ["paused", "reconnect"])
def test_a_connection_that_is_not_read_still_keeps_what_comes(hook: Hook, status: str) -> None:
    hook.admin.execute("UPDATE connections SET status = %s WHERE id = %s", [status, hook.id])
    assert hook.post(hook.scheme.event("kept")).status_code == 200
    assert hook.rows() == [("kept", 0)]


def test_a_receiver_without_the_key_believes_nothing(platform: Platform) -> None:
    with receiving(platform.urls.worker_url, key=new_key()) as url:
        hook = Hook(platform.admin, url, Samsara())
        assert_refused(hook.post(hook.scheme.event()), hook)


class Broken:
    """A scheme whose verification has a bug."""

    secret_name = "webhook_secret"

    def verify(self, body: bytes, headers: Mapping[str, str], secret: str, now: datetime) -> Delivery:
        raise ZeroDivisionError(secret)

    def read(self, body: bytes, now: datetime) -> Pushed:
        raise NotImplementedError


def test_a_bug_in_a_scheme_looks_like_a_wrong_signature_outside(
    samsara: Hook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PROVIDERS, "samsara", PROVIDERS["samsara"]._replace(webhooks=Broken()))
    assert_refused(samsara.post(samsara.scheme.event()), samsara)
    said = capsys.readouterr().out
    assert "webhook_verification_broken" in said
    assert "ZeroDivisionError" in said
    assert samsara.scheme.secret not in said


def test_the_challenge_is_answered_and_not_kept(platform: Platform, receiver_url: str) -> None:
    smartcar = Smartcar()
    hook = Hook(platform.admin, receiver_url, smartcar)

    answer = hook.post(smartcar.challenge("are-you-there"))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == smartcar.answer("are-you-there")
    assert hook.rows() == []


def test_nobody_gets_a_signature_by_asking_for_one(platform: Platform, receiver_url: str) -> None:
    smartcar = Smartcar()
    hook = Hook(platform.admin, receiver_url, smartcar)
    body = smartcar.challenge(smartcar.event("forged").decode())

    assert_refused(hook.post(body, {}), hook)
    assert_refused(hook.post(body, Smartcar().sign(body)), hook)


def test_verified_deliveries_above_a_connections_rate_are_to_come_again(platform: Platform) -> None:
    with receiving(platform.urls.worker_url, per_s=1) as url:
        hook = Hook(platform.admin, url, Samsara())
        other = Hook(platform.admin, url, Samsara())
        forged = hook.scheme.event()
        assert {hook.post(forged, {}).status_code for _ in range(9)} == {401}
        assert hook.post(hook.scheme.event()).status_code == 200, "forgeries used up its turn"
        bodies = [hook.scheme.event(str(number)) for number in range(10)]

        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(hook.post, bodies))

        late = [answer for answer in answers if answer.status_code != 200]
        assert late
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in late} == {(429, "1")}
        assert len(hook.rows()) == 1 + len(answers) - len(late)
        assert other.post(other.scheme.event()).status_code == 200


def test_a_commit_that_takes_too_long_is_answered_and_the_repeat_finds_it(platform: Platform) -> None:
    with receiving(platform.urls.worker_url, bounds=Bounds(answer_s=0.5)) as url:
        hook = Hook(platform.admin, url, Samsara())
        body = hook.scheme.event("slow")
        with psycopg.connect(platform.urls.admin_url) as locking:
            locking.execute("LOCK TABLE webhook_deliveries")
            answer = hook.post(body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        wait_until(hook.rows, what="the late commit")
        assert hook.rows() == [("slow", 0)]
        wait_until(lambda: hook.post(body).status_code == 200, what="the repeat to be known")
        assert len(hook.runs()) == 1
