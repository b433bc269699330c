"""A sender whose claim is another's by now stops: what is left is for the other to send."""

import time
from datetime import UTC, datetime
from threading import Thread
from uuid import UUID, uuid4

from db.queries import attempts, deliveries
from db.queries.attempts import Outcome
from jobs import process
from tests.notifications.conftest import Desk, Inbox, Received
from tests.notifications.hook import listening
from tests.notifications.test_endpoints import Endpoint
from tests.notifications.test_recorder import waiting


def run_out(desk: Desk) -> None:
    """Let the claims of now be over, as of a machine that was suspended."""
    desk.admin.execute("UPDATE notifications SET claimed_until = now() - interval '1 s' WHERE claim_token IS NOT NULL")


def test_a_sender_of_mails_whose_claim_was_taken_stops_soon(told: Desk, inbox: Inbox) -> None:
    waiting(told, 60)
    others: list[UUID] = []

    def at_data(mail: Received) -> None:
        if len(inbox.mails) != 5:
            return
        run_out(told)
        token, now = uuid4(), datetime.now(UTC)
        with process.get_database().system_transaction() as connection:
            taken, _ = deliveries.claim(connection, "email", token, now, batch=200)
            attempts.record(connection, token, [Outcome(each.id, "sent", "accepted", now) for each in taken])
        others.extend(each.id for each in taken)

    inbox.at_data = at_data

    counts = told.send()

    assert len(others) > 40
    assert len(inbox.mails) < 40, "all that were claimed are 60"
    assert told.states() == {"sent": 60}
    assert (
        told.value(
            "SELECT max(number) FROM (SELECT count(*) AS number FROM notification_attempts GROUP BY notification_id) t"
        )
        == 1
    )
    assert 0 < counts["lost"] <= len(inbox.mails)


def test_what_is_still_the_senders_is_given_back_at_once(told: Desk, inbox: Inbox) -> None:
    waiting(told, 60)

    def at_data(mail: Received) -> None:
        if len(inbox.mails) == 5:
            told.admin.execute(
                "UPDATE notifications SET claim_token = gen_random_uuid(), claimed_until = now() + interval '1 h'"
                " WHERE id = (SELECT id FROM notifications WHERE state = 'ready' AND address = %s)",
                [mail.to],
            )

    inbox.at_data = at_data

    counts = told.send()

    assert counts == {"sent": 60, "lost": 1}
    assert len(inbox.mails) == 60
    assert told.states() == {"sent": 59, "ready": 1}
    assert told.value("SELECT sum(attempts) FROM notifications") == 60


def test_a_caller_whose_claim_was_taken_calls_no_more(desk: Desk) -> None:
    with listening() as hook:
        endpoint = Endpoint(desk, hook.url)
        desk.alerts(25)

        hook.answers = [0.5]
        counts: list[dict[str, int]] = []
        calling = Thread(target=lambda: counts.append(endpoint.call()))
        calling.start()
        while not hook.calls:
            time.sleep(0.01)
        desk.admin.execute(
            "UPDATE notifications SET claim_token = gen_random_uuid(), claimed_until = now() + interval '1 h'"
            " WHERE claim_token IS NOT NULL"
        )
        calling.join()

    assert counts == [{"lost": 1}]
    assert len(hook.calls) == 1
    assert desk.states() == {"ready": 25}
