"""What a server has accepted is written down soon, and even while the database is away for a moment."""

import time
from collections import Counter
from datetime import timedelta

import psycopg
import pytest

from tests.notifications.conftest import Desk, Inbox, Received


def waiting(desk: Desk, number: int) -> None:
    """Let mails to different addresses be ready."""
    desk.alerts(number, "geofence_entry", "critical")
    desk.admin.execute("UPDATE notifications SET address = id || '@acme.example', is_named = true, state = 'ready'")


def cut_off(desk: Desk) -> int:
    """End every connection of the platform, as a restart of the server does."""
    with psycopg.connect(desk.platform.urls.admin_url, autocommit=True) as admin:
        ended = admin.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = 'fleet_system'"
        ).fetchone()
    assert ended is not None
    return int(ended[0])


def test_a_database_that_is_away_for_a_moment_costs_no_second_mail(told: Desk, inbox: Inbox) -> None:
    waiting(told, 60)
    ended: list[int] = []

    def at_data(mail: Received) -> None:
        if len(inbox.mails) == 25:
            ended.append(cut_off(told))

    inbox.at_data = at_data

    assert told.send() == {"sent": 60}

    assert ended[0] > 0
    assert max(Counter(inbox.to).values()) == 1
    assert told.states() == {"sent": 60}
    assert told.value("SELECT count(*) FROM notification_attempts") == 60


def test_a_database_that_stays_away_for_seconds_costs_none_either(told: Desk, inbox: Inbox) -> None:
    waiting(told, 30)
    name = told.value("SELECT current_database()")

    def at_data(mail: Received) -> None:
        allow = {5: "false", 20: "true"}.get(len(inbox.mails))
        if allow is not None:
            with psycopg.connect(
                told.platform.urls.admin_url.rsplit("/", 1)[0] + "/postgres", autocommit=True
            ) as admin:
                admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allow}".encode())
                if allow == "false":
                    admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = %s AND usename = 'fleet_system'",
                        [name],
                    )

    inbox.at_data = at_data

    assert told.send() == {"sent": 30}

    assert max(Counter(inbox.to).values()) == 1
    assert told.states() == {"sent": 30}


def test_when_the_database_is_away_as_a_mail_is_written_the_rest_is_given_back_without_a_try(
    told: Desk, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    from jobs.notifications.batch import Batch

    waiting(told, 20)
    told.alerts(12, "offline")
    told.deliver_plan()
    read_folded = Batch._read_folded

    def away(self: Batch, notice: object) -> object:
        if notice.alert_id is None:  # type: ignore[attr-defined]
            cut_off(told)
            with self._database.system_transaction() as connection:
                connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return read_folded(self, notice)  # type: ignore[arg-type]

    monkeypatch.setattr(Batch, "_read_folded", away)
    with pytest.raises(OperationalError):
        told.send()

    assert told.value("SELECT count(*) FROM notifications WHERE claim_token IS NOT NULL") == 0
    assert told.value("SELECT sum(attempts) FROM notifications WHERE state = 'ready'") == 0


def test_what_was_accepted_is_written_while_the_next_mail_hangs(told: Desk, inbox: Inbox) -> None:
    waiting(told, 9)
    seen: list[dict[str, int]] = []

    def at_data(mail: Received) -> None:
        if len(inbox.mails) == 8:
            time.sleep(1.5)
            seen.append(told.states())

    inbox.at_data = at_data
    told.send()

    assert seen == [{"sent": 8, "ready": 1}]


def test_an_outcome_that_is_written_twice_is_one_and_is_not_lost(told: Desk, inbox: Inbox) -> None:
    from datetime import UTC, datetime
    from uuid import uuid4

    from db.queries import attempts, deliveries
    from db.queries.attempts import Outcome
    from jobs import process

    waiting(told, 3)
    token, now = uuid4(), datetime.now(UTC)
    with process.get_database().system_transaction() as connection:
        taken, _ = deliveries.claim(connection, "email", token, now, batch=3)
        outcomes = [Outcome(notice.id, "sent", "accepted", now, code=250) for notice in taken[:2]]
        assert attempts.record(connection, token, outcomes) == 2
        assert attempts.record(connection, token, outcomes) == 2, "the answer to the first was lost on its way"
        assert attempts.record(connection, uuid4(), [Outcome(taken[2].id, "sent", "accepted", now)]) == 0

    assert told.value("SELECT count(*) FROM notification_attempts") == 2
    told.pass_time(timedelta(minutes=5))
    assert told.send() == {"sent": 1}
