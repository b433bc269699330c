"""What waits goes to the address that a user has by then, and not to one that was given up."""

from datetime import timedelta
from uuid import UUID

import pytest

from tests.notifications.conftest import Desk, Inbox

OLD, NEW = "old@private.example", "New@acme.example"


def move(desk: Desk, user_id: UUID) -> None:
    desk.admin.execute("UPDATE users SET email = %s WHERE id = %s", [NEW, user_id])


def suppress(desk: Desk, address: str) -> None:
    desk.admin.execute(
        "INSERT INTO suppressed_addresses SELECT id, sha256(convert_to(id || ':' || lower(%s), 'UTF8')), 'all',"
        " 'unsubscribed' FROM tenants",
        [address],
    )


@pytest.mark.parametrize("number", [1, 3])
def test_a_digest_goes_to_the_address_of_then(number: int, desk: Desk, inbox: Inbox) -> None:
    desk.prefer(digest="hourly")
    user_id = desk.user(OLD)
    desk.alerts(number, "maintenance_due")
    desk.deliver()
    move(desk, user_id)
    if number > 1:
        desk.alert("maintenance_due")
        desk.deliver()  # held under the new address, to come with the others
    suppress(desk, OLD)  # who goes unsubscribes
    desk.pass_time(timedelta(hours=1, minutes=1))

    desk.deliver()

    assert inbox.to == [NEW]
    assert desk.value("SELECT count(*) FROM notifications WHERE address <> %s", NEW) == 0
    assert desk.value("SELECT count(DISTINCT alert_id) FROM notifications") == number + (number > 1)


def test_what_is_tried_again_goes_there_too(told: Desk, inbox: Inbox) -> None:
    user_id = told.value("SELECT id FROM users")
    inbox.answers["ann@acme.example"] = "451 4.3.0 later"
    told.alert()
    told.deliver()
    move(told, user_id)
    told.pass_time(timedelta(minutes=2))

    assert told.deliver() == {"sent": 1}

    assert inbox.to == [NEW]
    assert told.value("SELECT address FROM notifications") == NEW


@pytest.mark.parametrize("suppressed", [OLD, NEW])
def test_what_was_decided_on_is_judged_by_the_new_address(suppressed: str, desk: Desk, inbox: Inbox) -> None:
    desk.prefer()
    user_id = desk.user(OLD)
    desk.alert()
    desk.deliver_plan()
    move(desk, user_id)
    suppress(desk, suppressed)

    desk.deliver()

    assert inbox.to == ([NEW] if suppressed == OLD else [])


def test_an_alert_that_is_told_again_is_told_once_where_the_address_changed_between(desk: Desk, inbox: Inbox) -> None:
    desk.prefer()
    user_id = desk.user(OLD)
    desk.alert("offline", "low")
    move(desk, user_id)
    desk.admin.execute("UPDATE alerts SET severity = 'high'")

    desk.deliver()

    assert inbox.to == [NEW]


def test_an_address_that_the_alert_names_is_the_one_that_is_told(desk: Desk, inbox: Inbox) -> None:
    user_id = desk.user(OLD)
    desk.alert("offline", "critical", recipients=[OLD])
    move(desk, user_id)

    desk.deliver()

    assert inbox.to == [OLD]
