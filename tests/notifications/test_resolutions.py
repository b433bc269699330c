"""Programs are told that an alert is over, after all that was told of it; people are not."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tests.notifications.conftest import Desk, Inbox
from tests.notifications.hook import Hook, listening
from tests.notifications.test_endpoints import Endpoint

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening() as opened:
        yield opened


def types(hook: Hook) -> list[str]:
    return [json.loads(call.body)["type"] for call in hook.calls]


def resolve(desk: Desk) -> None:
    desk.admin.execute("UPDATE alerts SET resolved_at = now() WHERE resolved_at IS NULL")


def test_a_webhook_hears_that_an_alert_is_over_and_people_and_chats_do_not(
    told: Desk, hook: Hook, inbox: Inbox
) -> None:
    endpoint = Endpoint(told, hook.url)
    with listening() as chat:
        chat.answers = [200]
        Endpoint(told, f"json://127.0.0.1:{chat.port}/", channel="apprise", name="chat")
        alert_id = told.alert("offline", recipients=["gate@acme.example"], details={"threshold_s": 900})
        told.deliver()
        endpoint.call()
        for _ in range(2):
            resolve(told)
            told.admin.execute("UPDATE alerts SET message = message || '.', over_at = now()")
            told.deliver()
            endpoint.call()

        assert len(chat.calls) == 1
    assert sorted(inbox.to) == ["ann@acme.example", "gate@acme.example"]
    opened, resolved = (json.loads(call.body) for call in hook.calls)
    assert (opened["type"], resolved["type"]) == ("alert.offline", "alert.offline.resolved")
    assert opened["data"]["alert_id"] == resolved["data"]["alert_id"] == str(alert_id)
    assert opened["data"]["resolved_at"] is None
    assert datetime.now(UTC) - datetime.fromisoformat(resolved["data"]["resolved_at"]) < timedelta(minutes=1)
    assert resolved["timestamp"] == resolved["data"]["resolved_at"]
    assert resolved["data"]["details"] == {"threshold_s": 900}
    assert hook.calls[0].headers["webhook-id"] != hook.calls[1].headers["webhook-id"]


@pytest.mark.parametrize(
    ("events", "min_severity", "is_sent"),
    [(["offline"], "low", True), (["connectivity"], "medium", True), (["safety"], "low", False), ([], "high", False)],
)
def test_an_endpoint_hears_the_end_of_what_it_asked_for(
    events: list[str], min_severity: str, is_sent: bool, desk: Desk, hook: Hook
) -> None:
    endpoint = Endpoint(desk, hook.url, events=events, min_severity=min_severity)
    desk.alert("offline", "medium")
    resolve(desk)
    endpoint.call()

    assert types(hook) == (["alert.offline", "alert.offline.resolved"] if is_sent else [])


def test_the_beginning_comes_before_the_end_however_long_it_waits(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url)
    hook.answers = [500, 500, 204]
    desk.alert("offline", "low")
    assert endpoint.call() == {"put_off": 1}
    desk.admin.execute("UPDATE alerts SET severity = 'critical'")
    resolve(desk)  # more urgent than the beginning, and due before it
    assert endpoint.call() == {"put_off": 1}, "what became worse is tried, and the end is not"
    desk.alert("low_fuel", "low")
    desk.admin.execute("UPDATE notifications SET next_attempt_at = now() - interval '1 min' WHERE kind = 'low_fuel'")
    assert endpoint.call() == {"sent": 1}
    assert types(hook)[-1] == "alert.low_fuel", "another one does not wait"

    endpoint.again()

    assert types(hook)[-3:] == ["alert.offline", "alert.offline", "alert.offline.resolved"]
    assert desk.states() == {"sent": 4}


def test_the_end_of_a_storm_is_told_in_order_too(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url)
    desk.alerts(60)
    resolve(desk)

    assert endpoint.call() == {"sent": 120}
    seen: set[str] = set()
    for call in hook.calls:
        told = json.loads(call.body)
        assert told["type"].endswith(".resolved") == (told["data"]["alert_id"] in seen)
        seen.add(told["data"]["alert_id"])


def test_one_that_was_over_when_it_was_written_is_told_once(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url)
    now = datetime.now(UTC)
    desk.alert("geofence_entry", opened_at=now - timedelta(minutes=1), resolved_at=now)

    assert endpoint.call() == {"sent": 1}
    assert json.loads(hook.calls[0].body)["data"]["resolved_at"] is not None


def test_an_endpoint_that_is_off_is_told_of_no_end(desk: Desk, hook: Hook) -> None:
    Endpoint(desk, hook.url)
    desk.alert("offline")
    desk.admin.execute("UPDATE webhook_endpoints SET disabled_at = now()")
    resolve(desk)

    assert desk.value("SELECT count(*) FROM notifications WHERE is_resolution") == 0


def test_who_was_told_hears_the_end_however_little_the_alert_has_become(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url, events=["offline"], min_severity="high")
    desk.alert("offline", "critical")
    endpoint.call()
    desk.admin.execute("UPDATE alerts SET severity = 'medium'")
    desk.admin.execute("UPDATE webhook_endpoints SET events = '{safety}'")
    resolve(desk)
    endpoint.call()

    assert types(hook) == ["alert.offline", "alert.offline.resolved"]


def test_who_was_told_once_it_was_worse_hears_the_end_once(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url, min_severity="high")
    desk.alert("offline", "low")
    for severity in ("high", "critical"):
        desk.admin.execute("UPDATE alerts SET severity = %s", [severity])
    resolve(desk)
    endpoint.call()

    assert types(hook) == ["alert.offline", "alert.offline", "alert.offline.resolved"]


def test_who_was_never_told_hears_no_end(desk: Desk, hook: Hook) -> None:
    Endpoint(desk, "https://127.0.0.1:1/", name="other")  # somebody hears of it
    was_off = Endpoint(desk, hook.url, name="off since before it was called")
    desk.alert("offline", "critical")
    desk.admin.execute("UPDATE notifications SET state = 'suppressed' WHERE endpoint_id = %s", [was_off.id])
    Endpoint(desk, hook.url, name="new")
    resolve(desk)

    assert desk.admin.execute(
        "SELECT e.name FROM notifications n JOIN webhook_endpoints e ON e.id = n.endpoint_id WHERE n.is_resolution"
    ).fetchall() == [("other",)]


def test_a_first_update_of_one_alert_does_not_make_one_of_thousands_slow(desk: Desk, hook: Hook) -> None:
    Endpoint(desk, hook.url)
    took_s = []
    for first in (5000, 1):  # the plan of a session's first update is kept
        with psycopg.connect(desk.platform.urls.admin_url, autocommit=True) as session:
            for number in (first, 5000):
                desk.alerts(number)
                began = time.monotonic()
                session.execute("UPDATE alerts SET resolved_at = now() WHERE resolved_at IS NULL")
                took_s.append(time.monotonic() - began)

    _, expected_s, _, after_one_s = took_s
    assert after_one_s < 4 * expected_s, "were each compared with each it would be ten times"
    assert desk.value("SELECT count(*) FROM notifications WHERE is_resolution") == 15_001
