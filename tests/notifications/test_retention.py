"""What was told is forgotten after a year; what is still to be told is not."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.notifications.conftest import Desk, Inbox
from tests.notifications.hook import Hook, listening
from tests.notifications.test_endpoints import Endpoint

PURGE = "retention.purge_history"


def test_what_was_told_long_ago_goes_with_its_attempts_and_who_unsubscribed_stays(told: Desk, inbox: Inbox) -> None:
    told.alert()
    told.deliver()
    told.pass_time(timedelta(days=366))
    told.alert()
    inbox.stop()
    told.deliver()
    told.admin.execute("UPDATE notifications SET created_at = now() - interval '366 days' WHERE state = 'ready'")
    told.alert()
    told.admin.execute("INSERT INTO suppressed_addresses SELECT id, '\\x00', 'all', 'unsubscribed' FROM tenants")
    assert told.value("SELECT count(*) FROM notification_attempts") == 1

    first, second = told.platform.run(PURGE), told.platform.run(PURGE)

    assert (first["counts"]["notifications"], second["counts"]["notifications"]) == (1, 0)
    assert told.states() == {"ready": 1, "pending": 1}
    assert told.value("SELECT count(*) FROM notification_attempts") == 0
    assert told.value("SELECT count(*) FROM suppressed_addresses") == 1


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening() as opened:
        yield opened


def test_who_was_told_of_what_is_still_open_is_remembered_and_told_of_its_end(desk: Desk, hook: Hook) -> None:
    endpoint = Endpoint(desk, hook.url)
    desk.alert("offline", subject="vehicle:1")
    desk.alert("offline", subject="vehicle:2")
    endpoint.call()
    desk.admin.execute("UPDATE alerts SET resolved_at = now() WHERE subject = 'vehicle:2'")
    endpoint.call()
    desk.pass_time(timedelta(days=366))

    assert desk.platform.run(PURGE)["counts"]["notifications"] == 2
    desk.admin.execute("UPDATE alerts SET resolved_at = now() WHERE subject = 'vehicle:1'")
    endpoint.call()

    types = [payload["type"] for payload in endpoint.payloads(hook)]
    assert types.count("alert.offline.resolved") == 2
