"""What was told is forgotten after 90 days; what is still to be told is not."""

from datetime import timedelta

from tests.notifications.conftest import Desk, Inbox

PURGE = "retention.purge_history"


def test_what_was_told_long_ago_goes_with_its_attempts_and_who_unsubscribed_stays(told: Desk, inbox: Inbox) -> None:
    told.alert()
    told.deliver()
    told.pass_time(timedelta(days=91))
    told.alert()
    inbox.stop()
    told.deliver()
    told.admin.execute("UPDATE notifications SET created_at = now() - interval '91 days' WHERE state = 'ready'")
    told.alert()
    told.admin.execute("INSERT INTO suppressed_addresses SELECT id, '\\x00', 'all', 'unsubscribed' FROM tenants")
    assert told.value("SELECT count(*) FROM notification_attempts") == 1

    first, second = told.platform.run(PURGE), told.platform.run(PURGE)

    assert (first["counts"]["notifications"], second["counts"]["notifications"]) == (1, 0)
    assert told.states() == {"ready": 1, "pending": 1}
    assert told.value("SELECT count(*) FROM notification_attempts") == 0
    assert told.value("SELECT count(*) FROM suppressed_addresses") == 1
