"""Alerts become mails: once, critical first, and none is lost while the server is away."""

from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from db.queries.attempts import Outcome
from jobs.notifications import delivery, mails
from jobs.notifications.mails import MOST_ENDED
from jobs.notifications.recorder import Recorder
from jobs.settings import get_settings
from tests.notifications.conftest import DELIVER, Desk, Inbox, Received


def test_an_alert_becomes_one_mail_and_a_second_run_sends_none(told: Desk, inbox: Inbox) -> None:
    van = told.vehicle("Van 12")
    told.alert(vehicle_id=van, details={"last_reported_at": "2026-11-20T06:10:00+00:00"})

    assert told.deliver() == {"ready": 1, "sent": 1}
    assert told.deliver() == {}

    (mail,) = inbox.mails
    assert mail.to == "ann@acme.example"
    assert mail.parsed["Subject"] == "Van 12 has stopped reporting"
    assert mail.id == f"<{told.value('SELECT id FROM notifications')}@jobs.example>"
    assert told.states() == {"sent": 1}
    assert told.value("SELECT provider_id FROM notifications") == "4Abc123"
    assert told.value("SELECT outcome || code FROM notification_attempts") == "accepted250"


def test_without_a_preference_nobody_is_told_but_whom_the_alert_names(desk: Desk, inbox: Inbox) -> None:
    desk.user()
    desk.alert()
    desk.alert("geofence_entry", recipients=["gate@acme.example", "gate@acme.example", " "])

    desk.deliver()

    assert inbox.to == ["gate@acme.example"]


def test_who_is_named_and_subscribed_gets_one_mail(told: Desk, inbox: Inbox) -> None:
    told.alert("geofence_entry", recipients=["ANN@acme.example"])

    told.deliver()

    assert inbox.to == ["ANN@acme.example"]


def test_another_tenants_people_hear_nothing(told: Desk, inbox: Inbox) -> None:
    other = Desk(told.platform, "other")
    other.prefer()
    other.user("bob@other.example")

    told.alert()
    told.deliver()

    assert inbox.to == ["ann@acme.example"]


def test_an_alert_that_is_rolled_back_tells_nobody(told: Desk) -> None:
    with psycopg.connect(told.platform.urls.admin_url) as connection:
        connection.execute(
            "INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at)"
            " VALUES (%s, 'offline', 'low', 'vehicle:1', 'x', now())",
            [told.tenant_id],
        )
        assert connection.execute("SELECT count(*) FROM notifications").fetchone() == (1,)
        connection.rollback()

    assert told.states() == {}


def test_many_mails_go_over_one_connection(told: Desk, any_inbox: Inbox) -> None:
    told.alerts(150, "geofence_entry", recipients=[])
    told.admin.execute(
        "UPDATE notifications SET address = 'u' || attempts || id || '@acme.example', is_named = true, state = 'ready'"
    )

    assert told.deliver()["sent"] == 150

    assert any_inbox.sessions == 1
    assert len(set(any_inbox.to)) == 150


def test_two_deliveries_at_once_send_each_mail_once(told: Desk, inbox: Inbox) -> None:
    told.alerts(120, "geofence_entry")
    told.admin.execute("UPDATE notifications SET address = id || '@acme.example', is_named = true, state = 'ready'")
    settings = get_settings()
    server, letterhead = delivery.mail_server(settings), delivery.letterhead_of(settings)
    assert server is not None
    assert letterhead is not None

    def send() -> None:
        from jobs import process

        mails.send_due(process.get_database(), server, letterhead, until=float("inf"), batch=7)

    racing = [Thread(target=send) for _ in range(3)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()

    assert len(inbox.mails) == len(set(inbox.to)) == 120
    assert told.states() == {"sent": 120}
    assert inbox.sessions == 3


def test_killed_between_the_server_and_the_record_a_mail_is_repeated_under_the_same_id(
    told: Desk, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.alert()
    told.deliver_plan()
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_record", lambda self, outcomes: None)  # the process ended before it
        told.send()
    assert len(inbox.mails) == 1
    assert told.states() == {"ready": 1}

    assert told.send() == {}, "it is another's until the claim ends"
    told.pass_time(timedelta(minutes=5))
    assert told.send() == {"sent": 1}

    first, second = inbox.mails
    assert first.id == second.id
    assert told.states() == {"sent": 1}


def test_a_frozen_worker_that_wakes_up_records_nothing_of_what_is_another_s_by_now(
    told: Desk, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.alert()
    told.deliver_plan()
    record = Recorder._record

    def frozen_before_it(self: Recorder, outcomes: list[Outcome]) -> None:
        monkeypatch.setattr(Recorder, "_record", record)
        told.pass_time(timedelta(minutes=5))
        assert told.send() == {"sent": 1}
        record(self, outcomes)

    monkeypatch.setattr(Recorder, "_record", frozen_before_it)

    assert told.send() == {"sent": 1, "lost": 1}
    assert told.states() == {"sent": 1}
    assert told.value("SELECT count(*) FROM notification_attempts") == 1
    assert len({mail.id for mail in inbox.mails}) == 1


def test_while_the_server_is_away_nothing_is_lost_or_tried_and_critical_ones_come_first_afterwards(
    told: Desk, inbox: Inbox, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox.stop()
    told.alerts(5, "geofence_entry")
    for _ in range(3):
        assert "sent" not in told.deliver()
    told.alert("fault_code", "critical", details={"code": "P0217"})
    told.deliver()
    assert told.states() == {"ready": 6}
    assert told.value("SELECT sum(attempts) FROM notifications") == 0
    assert told.value("SELECT tries FROM channel_outages") == 4

    inbox.start()
    assert told.deliver() == {"sent": 6}

    assert "P0217" in str(inbox.mails[0].parsed["Subject"])
    assert len({mail.id for mail in inbox.mails}) == 6
    assert told.value("SELECT count(*) FROM channel_outages") == 0
    printed = capsys.readouterr()
    logged = printed.out + printed.err + caplog.text
    assert logged.count("mail_server_away") == 1
    assert logged.count("mail_server_back") == 1


def test_a_server_that_ends_the_connection_now_and_then_is_no_outage(told: Desk, any_inbox: Inbox) -> None:
    told.alerts(9, "geofence_entry")
    seen: list[str] = []

    def every_third(mail: Received) -> str | None:
        seen.append(mail.id)
        return "421 4.7.0 too many mails" if len(seen) % 3 == 0 and seen.count(mail.id) == 1 else None

    any_inbox.at_data = every_third
    counts = told.deliver()
    told.pass_time(timedelta(minutes=2))
    told.deliver()

    assert counts["sent"] + counts["put_off"] == 9
    assert told.states() == {"sent": 9}
    assert len({mail.id for mail in any_inbox.mails}) == 9
    assert told.value("SELECT count(*) FROM channel_outages") == 0


def test_a_mail_that_ends_every_session_keeps_no_other_back_and_is_given_up(told: Desk, any_inbox: Inbox) -> None:
    told.alert("geofence_entry", "high", recipients=["poison@acme.example"])
    told.alert("geofence_entry", "low")
    any_inbox.answers["poison@acme.example"] = "drop"
    for _ in range(12):
        told.deliver()
        told.admin.execute("UPDATE notifications SET next_attempt_at = now() WHERE state = 'ready'")
        told.admin.execute("UPDATE notifications SET expires_at = now() + interval '9 days'")

    assert any_inbox.to.count("ann@acme.example") == 2
    assert told.value("SELECT state || attempts FROM notifications WHERE address LIKE 'poison%%'") == "failed10"


def test_addresses_that_the_server_ends_the_session_over_keep_no_other_mail_back(told: Desk, any_inbox: Inbox) -> None:
    for number in range(15):
        any_inbox.answers[f"p{number}@other.example"] = "421 4.7.0 try later"
        told.alert("geofence_entry", "high", recipients=[f"p{number}@other.example"])
    told.admin.execute("UPDATE notifications SET state = 'suppressed' WHERE NOT is_named")
    told.alert("geofence_entry", "low")

    assert told.deliver()["sent"] == 1

    assert any_inbox.to == ["ann@acme.example"]
    assert told.value("SELECT count(*) FROM channel_outages") == 0
    assert told.value("SELECT min(attempts) FROM notifications WHERE is_named") == 1


def test_a_server_that_ends_every_session_is_an_outage_after_some_mails(told: Desk, any_inbox: Inbox) -> None:
    told.alerts(60, "geofence_entry")
    told.admin.execute(
        "UPDATE notifications SET address = 'u' || replace(id::text, '-', '') || '@acme.example', is_named = true,"
        " state = 'ready'"
    )
    any_inbox.at_data = lambda mail: "421 4.3.2 shutting down"

    assert told.deliver() == {"put_off": MOST_ENDED}

    assert told.value("SELECT count(*) FROM channel_outages") == 1


def test_a_server_that_lets_us_in_and_takes_nothing_is_one_outage(
    told: Desk, inbox: Inbox, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox.refused_sender = "550 5.7.1 sender refused"
    told.alert()
    for _ in range(4):
        told.deliver()
    assert told.value("SELECT tries FROM channel_outages") == 4
    inbox.refused_sender = None
    assert told.deliver() == {"sent": 1}

    printed = capsys.readouterr()
    logged = printed.out + printed.err + caplog.text
    assert logged.count("mail_server_away") == 1
    assert logged.count("mail_server_back") == 1


@pytest.mark.parametrize(
    ("answer", "state", "is_suppressed"),
    [
        ("550 5.1.1 no such user: ann@acme.example", "failed", True),
        ("550 user unknown", "failed", True),
        ("550 5.1.1 account disabled", "failed", True),
        ("550 the mailbox was not found", "failed", True),
        ("550 invalid recipient", "failed", True),
        ("553 5.1.3 bad syntax", "failed", True),
        ("552 5.2.2 mailbox full", "failed", False),
        ("550 5.2.1 this mailbox takes no mail", "failed", False),
        ("550 Requested action not taken: mailbox unavailable", "failed", False),
        ("550 5.1.8 <fleet@jobs.example>: Sender address rejected: Domain not found", "ready", False),
        ("550 5.1.7 bad sender", "ready", False),
        ("553 Sender address rejected: Domain not found", "ready", False),
        ("550 Sending account disabled, contact support", "ready", False),
        ("550 No Such User Here; Sender verify failed", "ready", False),
        ("550 invalid user credentials", "ready", False),
        ("554 5.7.1 we do not want this", "ready", False),
        ("550 Rejected: your IP is listed at zen.spamhaus.example", "ready", False),
        ("504 5.5.2 <web1>: Helo command rejected: need fully-qualified hostname", "ready", False),
        ("550 5.4.5 Daily user sending limit exceeded", "ready", False),
        ("530 5.7.0 must issue a STARTTLS command first", "ready", False),
        ("554 5.7.1 <ann@acme.example>: Relay access denied", "ready", False),
        ("550 relaying is not allowed", "ready", False),
        ("550 5.1.1 no author of that name", "failed", True),
        ("451 4.7.1 greylisted, ann@acme.example", "ready", False),
        ("452 4.2.2 mailbox full", "ready", False),
    ],
)
def test_what_the_server_says_of_an_address_decides(
    answer: str, state: str, is_suppressed: bool, told: Desk, any_inbox: Inbox
) -> None:
    any_inbox.answers["ann@acme.example"] = answer
    told.alert()

    told.deliver()

    assert told.states() == {state: 1}
    assert bool(told.value("SELECT count(*) FROM suppressed_addresses")) is is_suppressed
    reason = told.value("SELECT reason FROM notification_attempts")
    assert reason
    assert "ann" not in reason
    assert told.value("SELECT code FROM notification_attempts") == int(answer[:3])
    assert told.value("SELECT count(*) FROM channel_outages") == 0
    any_inbox.answers.clear()
    told.alert()
    told.deliver()
    assert len(any_inbox.mails) == (0 if is_suppressed else 1)


def test_lines_that_begin_with_a_dot_arrive_as_they_were(told: Desk, any_inbox: Inbox) -> None:
    told.alert("custom", message=".\n..hidden")
    told.alert("custom", message="x" * 75 + ".")

    assert told.deliver()["sent"] == 2

    assert sorted(str(mail.parsed["Subject"]) for mail in any_inbox.mails) == [". ..hidden", "x" * 75 + "."]
    lines = [line for mail in any_inbox.mails for line in mail.part("plain").splitlines()]
    assert ". ..hidden" in lines


def test_a_soft_bounce_is_tried_again_later_and_each_time_later_still(told: Desk, inbox: Inbox) -> None:
    inbox.answers["ann@acme.example"] = "451 later"
    told.alert(severity="critical")
    told.deliver()
    told.deliver()
    assert told.value("SELECT attempts FROM notifications") == 1
    waits = []
    for _ in range(3):
        waits.append(told.value("SELECT extract(epoch FROM next_attempt_at - now()) FROM notifications"))
        told.admin.execute("UPDATE notifications SET next_attempt_at = now()")
        told.deliver()
    assert 50 < waits[0] < 70 < 250 < waits[1] < 340 < 800 < waits[2] < 1000


@pytest.mark.parametrize(
    "address",
    ["ann@acme.example\r\nBcc: all@acme.example", "ann", "@acme.example", 'a"b c"@x', "a" * 400 + "@x.example", "a@-"],
)
def test_an_address_that_is_none_is_a_dead_letter_with_a_reason(address: str, desk: Desk, any_inbox: Inbox) -> None:
    desk.alert("geofence_entry", recipients=[address, "gate@acme.example"])

    desk.deliver()

    assert any_inbox.to == ["gate@acme.example"]
    assert desk.states() == {"failed": 1, "sent": 1}
    reason = desk.value("SELECT reason FROM notifications WHERE state = 'failed'")
    assert reason == "not an address that mail can be sent to"


def test_no_row_of_a_user_or_an_alert_keeps_an_alert_from_being_written_or_the_others_from_being_sent(
    desk: Desk, inbox: Inbox
) -> None:
    desk.prefer()
    desk.user("x" * 2_000 + "@acme.example")  # the longest that the index on users takes
    desk.user(" \n@\x01")
    named: dict[str, Any] = {"recipients": ["", " ", "y" * 50_000, "gate@acme.example", None]}
    desk.alert("k" * 5_000, subject="s" * 2_000, **named)
    desk.alert("offline", opened_at="infinity", **named)
    desk.alert("offline", opened_at="20000-01-01", **named)
    desk.alert("geofence_entry", opened_at="-infinity", **named)
    for details in ('{"a":' * 62 + "1" + "}" * 62, '{"percent": 1' + "0" * 299 + "}", '{"code": [[[]]]}', "{}", "{}"):
        desk.alerts(1, "fault_code", details=details, recipients=["gate@acme.example"])
    for _ in range(2):
        desk.deliver()

    assert set(inbox.to) == {"gate@acme.example"}
    assert len(inbox.mails) == 8
    assert desk.states() == {"failed": 8 * 2 + 3, "sent": 8, "expired": 4}


def test_the_longest_message_and_names_with_line_ends_are_bounded(told: Desk, inbox: Inbox) -> None:
    told.alert("custom", message="Brakes\r\nBcc: all@acme.example\n" + "x" * 200_000)
    told.alert("offline", vehicle_id=told.vehicle("Van\r\nBcc: x@y\u2028\x00".replace("\x00", "") + "y" * 10_000))
    told.alert("geofence_entry", details={"geofence": ["not", "text"], "time": {"a": 1}, "big": "z" * 60_000})

    assert told.deliver()["sent"] == 3

    for mail in inbox.mails:
        assert "Bcc" not in mail.parsed
        assert len(str(mail.parsed["Subject"])) <= 180
        assert len(mail.raw) < 40_000
        assert max(map(len, mail.raw.split(b"\r\n"))) <= 998


def test_what_was_resolved_before_anybody_was_told_is_not_sent_unless_critical_or_an_event(
    told: Desk, inbox: Inbox
) -> None:
    told.alert("offline")
    told.alert("low_fuel", "critical", details={"percent": 3.0})
    told.alert("geofence_entry")
    told.admin.execute("UPDATE alerts SET resolved_at = now()")

    told.deliver()

    assert sorted(str(mail.parsed["Subject"])[:20] for mail in inbox.mails) == [
        "A vehicle entered a ",
        "A vehicle is low on ",
    ]
    assert told.value("SELECT reason FROM notifications WHERE state = 'suppressed'") == "resolved"


def test_resolved_between_the_plan_and_the_sending_it_is_not_sent_either(told: Desk, inbox: Inbox) -> None:
    told.alert("offline")
    told.deliver_plan()
    told.admin.execute("UPDATE alerts SET resolved_at = now()")

    told.deliver()

    assert inbox.mails == []
    assert told.states() == {"suppressed": 1}


@pytest.mark.parametrize(
    ("kind", "age", "is_sent"),
    [
        ("geofence_entry", timedelta(minutes=14), True),
        ("geofence_entry", timedelta(minutes=16), False),
        ("safety_event", timedelta(minutes=59), True),
        ("safety_event", timedelta(minutes=61), False),
        ("maintenance_due", timedelta(days=3), True),
    ],
)
def test_what_comes_late_pages_nobody(kind: str, age: timedelta, is_sent: bool, told: Desk, inbox: Inbox) -> None:
    told.alert(kind, opened_at=datetime.now(UTC) - age)

    told.deliver()

    assert len(inbox.mails) == is_sent
    assert told.states() == ({"sent": 1} if is_sent else {"expired": 1})


def test_without_a_mail_server_mails_wait(told: Desk, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    told.alert()
    monkeypatch.delenv("FLEET_SMTP_URL")
    get_settings.cache_clear()
    assert told.deliver() == {"ready": 1}

    monkeypatch.setenv("FLEET_SMTP_URL", inbox.url)
    get_settings.cache_clear()
    assert told.deliver() == {"sent": 1}


def test_who_left_or_turned_it_off_meanwhile_is_not_told(told: Desk, inbox: Inbox) -> None:
    gone, off = told.user("gone@acme.example"), told.user("off@acme.example")
    told.alert()
    told.admin.execute("UPDATE users SET status = 'inactive' WHERE id = %s", [gone])
    told.prefer(off, enabled=False)

    told.deliver()

    assert inbox.to == ["ann@acme.example"]
    rows = told.admin.execute("SELECT reason FROM notifications WHERE state = 'suppressed' ORDER BY 1").fetchall()
    assert rows == [("the user has left",), ("turned off",)]


@pytest.mark.parametrize(
    ("preferences", "is_told"),
    [
        ([{}], True),
        ([{"enabled": False}], False),
        ([{"min_severity": "high"}], False),
        ([{"min_severity": "medium"}], True),
        ([{"category": "maintenance"}], False),
        ([{"category": "connectivity"}, {"enabled": False}], True),
        ([{}, {"category": "connectivity", "enabled": False}], False),
        ([{"of_user": True, "enabled": False}, {}], False),
        ([{"of_user": True}, {"enabled": False}], True),
        ([{"of_user": True, "category": "connectivity", "enabled": False}, {"of_user": True}], False),
        ([{"of_user": True, "enabled": False}, {"category": "connectivity"}], False),
        ([{"channel": "apprise"}], False),
    ],
)
def test_the_nearest_preference_holds_as_a_whole(
    preferences: list[dict[str, Any]], is_told: bool, desk: Desk, inbox: Inbox
) -> None:
    user_id = desk.user()
    for each in preferences:
        given = dict(each)
        desk.prefer(user_id if given.pop("of_user", False) else None, **given)

    desk.alert("offline", "medium")
    desk.deliver()

    assert len(inbox.mails) == is_told


def test_an_escalation_reaches_a_second_recipient_only_while_the_alert_stays_open(told: Desk, inbox: Inbox) -> None:
    boss = told.user("boss@acme.example")
    told.prefer(boss, after_min=30, min_severity="critical")
    first = told.alert("fault_code", "critical", details={"code": "P1"})
    told.alert("fault_code", "critical", details={"code": "P2"})
    told.deliver()
    assert inbox.to == ["ann@acme.example"] * 2

    told.admin.execute("UPDATE alerts SET resolved_at = now() WHERE id = %s", [first])
    told.pass_time(timedelta(minutes=31))
    told.deliver()

    assert inbox.to == ["ann@acme.example"] * 2 + ["boss@acme.example"]
    assert "P2" in str(inbox.mails[-1].parsed["Subject"])


def test_the_delivery_is_one_run_at_a_time(told: Desk) -> None:
    assert told.platform.enqueue(DELIVER) == told.platform.enqueue(DELIVER)


def test_no_address_is_in_a_log_or_a_run(told: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    told.alert(recipients=[f"{uuid4()}\n@x"])
    row = told.platform.run(DELIVER)
    printed = capsys.readouterr()
    assert "@" not in str(row["counts"]) + str(row["error"])
    assert "ann@" not in printed.out + printed.err
