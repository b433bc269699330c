"""Who has left is told nothing: neither of what comes, nor of what was decided on while they were there."""

from collections.abc import Iterator

import pytest

from tests.notifications.conftest import Desk, Inbox
from tests.notifications.hook import Hook, listening
from tests.notifications.test_endpoints import Endpoint

# Apprise loads a plugin that asks for `imghdr`, and has its own where Python no longer does.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening() as opened:
        yield opened


def reasons(desk: Desk) -> list[tuple[str, str]]:
    return desk.admin.execute(
        "SELECT DISTINCT state, reason FROM notifications WHERE state <> 'sent' ORDER BY 1, 2"
    ).fetchall()


@pytest.mark.parametrize("leaves", ["deleted_at = now()", "status = 'inactive'"])
def test_an_alert_that_names_a_user_who_has_left_tells_them_nothing(leaves: str, desk: Desk, inbox: Inbox) -> None:
    gone = desk.user("Gone@acme.example")
    desk.admin.execute(f"UPDATE users SET {leaves} WHERE id = %s".encode(), [gone])
    desk.alert("geofence_entry", recipients=["gone@acme.example", "gate@acme.example"])
    desk.admin.execute("UPDATE alerts SET severity = 'critical'")  # told again, by the other trigger

    desk.deliver()

    assert inbox.to == ["gate@acme.example"]
    assert ("suppressed", "the user has left") in reasons(desk)


def test_who_is_locked_out_is_told_as_ever(desk: Desk, hook: Hook, inbox: Inbox) -> None:
    desk.prefer()
    desk.prefer(channel="apprise")
    ann = desk.user("ann@acme.example")
    phone = Endpoint(desk, f"json://127.0.0.1:{hook.port}/", channel="apprise", name="phone", user_id=ann)
    hook.answers = [200]
    desk.admin.execute("UPDATE users SET status = 'locked'")
    desk.alert("offline", "medium")
    desk.alert("offline", "critical", recipients=["ann@acme.example"])
    desk.admin.execute("UPDATE alerts SET severity = 'critical' WHERE severity = 'medium'")  # by the other trigger

    desk.deliver()
    phone.call()

    assert inbox.to == ["ann@acme.example"] * 2
    assert len(hook.calls) == 2
    assert reasons(desk) == [("suppressed", "told again")]


def test_who_is_not_verified_yet_is_told_only_where_an_alert_names_them(told: Desk, inbox: Inbox) -> None:
    told.admin.execute("UPDATE users SET status = 'pending_verification'")
    told.alert("offline", "critical")
    told.alert("safety_event", "critical", recipients=["ann@acme.example"])

    told.deliver()

    assert inbox.to == ["ann@acme.example"]
    assert told.value("SELECT bool_and(is_named) FROM notifications")


def test_who_is_to_verify_an_address_anew_is_sent_nothing_that_waited(told: Desk, inbox: Inbox) -> None:
    told.alert()
    told.deliver_plan()
    told.alert()
    told.admin.execute("UPDATE users SET status = 'pending_verification'")

    told.deliver()

    assert inbox.mails == []
    assert reasons(told) == [("suppressed", "the user is not verified yet")]
    assert told.states() == {"suppressed": 2}


def test_who_has_come_back_under_the_same_address_is_told(desk: Desk, inbox: Inbox) -> None:
    for _ in range(2):
        desk.user("ann@acme.example")
        desk.admin.execute("UPDATE users SET deleted_at = now()")
    ann = desk.user("ANN@acme.example")
    desk.alert("geofence_entry", recipients=["ann@acme.example"])

    desk.deliver()

    assert inbox.to == ["ann@acme.example"]
    assert desk.value("SELECT user_id FROM notifications") == ann


@pytest.mark.parametrize(
    ("leaves", "reason"),
    [
        ("UPDATE users SET deleted_at = now()", "the user has left"),
        ("UPDATE users SET status = 'inactive'", "the user has left"),
        ("UPDATE tenants SET is_active = false", "the tenant is not active"),
        ("UPDATE tenants SET deleted_at = now()", "the tenant is not active"),
    ],
)
def test_who_leaves_between_the_plan_and_the_sending_is_sent_nothing(
    leaves: str, reason: str, told: Desk, inbox: Inbox
) -> None:
    told.alert()
    told.deliver_plan()
    told.admin.execute(leaves.encode())

    assert told.deliver() == {"dropped": 1}

    assert inbox.mails == []
    assert reasons(told) == [("suppressed", reason)]


@pytest.mark.parametrize(
    ("leaves", "reason"),
    [
        ("UPDATE tenants SET is_active = false, deleted_at = now()", "the tenant is not active"),
        ("UPDATE webhook_endpoints SET deleted_at = now()", "the endpoint is disabled"),
        ("UPDATE webhook_endpoints SET disabled_at = now()", "the endpoint is disabled"),
        ("DELETE FROM webhook_endpoints", "the endpoint is disabled"),
    ],
)
def test_the_webhook_of_who_has_left_is_not_called(leaves: str, reason: str, desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url)
    desk.alert()
    desk.admin.execute(leaves.encode())

    assert endpoint.call() == {"dropped": 1}

    assert hook.calls == []
    assert reasons(desk) == [("suppressed", reason)]
