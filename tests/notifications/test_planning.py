"""Nobody is woken, flooded, or told twice: quiet hours, digests, storms, limits, on real rows."""

from datetime import UTC, datetime, time, timedelta
from threading import Thread
from typing import Any

import psycopg
import pytest

from db.queries import notifications as queries
from jobs.notifications.planning import CRITICAL_WAIT, MOST_ALONE, MOST_AN_HOUR, plan
from tests.notifications.conftest import Desk, Inbox


def plan_at(now: datetime) -> dict[str, int]:
    from jobs import process

    return plan(process.get_database(), now)


def around_now(zone_hours: int = 0) -> tuple[time, time]:
    """Return quiet hours that began an hour ago and end in an hour, on a clock so far ahead of UTC."""
    here = datetime.now(UTC) + timedelta(hours=zone_hours)
    return (here - timedelta(hours=1)).time().replace(microsecond=0), (here + timedelta(hours=1)).time().replace(
        microsecond=0
    )


def test_five_hundred_silent_vehicles_become_one_mail(told: Desk, inbox: Inbox) -> None:
    told.alerts(500)

    assert told.deliver() == {"folded": 500, "sent": 1}

    (mail,) = inbox.mails
    assert mail.parsed["Subject"] == "500 alerts in one message: connections"
    assert "Vehicle stopped reporting (500)" in mail.part("plain")
    assert "and 480 more" in mail.part("plain")
    assert told.states() == {"folded": 500, "sent": 1}
    assert told.value("SELECT count(DISTINCT folded_into) FROM notifications") == 1


def test_a_trickling_storm_lets_some_through_and_then_gathers(told: Desk, inbox: Inbox) -> None:
    for _ in range(6):
        told.alerts(4)
        told.deliver()
    assert len(inbox.mails) == 8 + 1
    assert told.states() == {"sent": 9, "folded": 4, "pending": 12}

    told.pass_time(timedelta(minutes=11))
    told.deliver()

    assert len(inbox.mails) == 10
    assert str(inbox.mails[-1].parsed["Subject"]).startswith("12 alerts")


def test_a_storm_of_one_category_holds_back_no_other(told: Desk, inbox: Inbox) -> None:
    told.alerts(50)
    told.alert("maintenance_due", details={"schedule_name": "Oil change", "work_order_number": "WO-1"})

    told.deliver()

    assert sorted(str(mail.parsed["Subject"]) for mail in inbox.mails) == [
        "50 alerts in one message: connections",
        "[WO-1] Oil change is due: A vehicle",
    ]


def test_critical_ones_are_folded_apart_and_at_once(told: Desk, inbox: Inbox) -> None:
    told.alerts(30, severity="low")
    told.alerts(30, severity="critical")

    told.deliver()
    told.alert(severity="critical")
    told.deliver()

    assert [str(mail.parsed["Subject"])[:9] for mail in inbox.mails] == ["30 alerts", "30 alerts", "A vehicle"]
    assert inbox.mails[0].parsed["Importance"] == "high"


def test_more_than_so_many_an_hour_wait_unless_critical(told: Desk, inbox: Inbox) -> None:
    told.alerts(MOST_AN_HOUR)
    told.admin.execute("UPDATE notifications SET state = 'sent', planned_at = now() - interval '30 minutes'")
    told.alert("geofence_entry")
    told.alert("fault_code", "critical", details={"code": "P0217"})

    told.deliver()
    assert len(inbox.mails) == 1
    assert told.states()["pending"] == 1

    told.admin.execute("UPDATE notifications SET planned_at = planned_at - interval '31 minutes'")
    told.admin.execute("UPDATE notifications SET next_attempt_at = now() WHERE state = 'pending'")
    told.deliver()
    assert len(inbox.mails) == 2


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_quiet_hours_hold_everything_but_critical_on_the_users_own_clock(
    zone: str | None, desk: Desk, inbox: Inbox
) -> None:
    begins, ends = around_now(9 if zone else 0)
    user_id = desk.user(zone=zone)
    desk.prefer(user_id, quiet_from=begins, quiet_to=ends)
    desk.alert("offline", "high")
    desk.alert("fault_code", "critical", details={"code": "P0217"})

    assert desk.deliver() == {"held": 1, "ready": 1, "sent": 1}

    assert "P0217" in str(inbox.mails[0].parsed["Subject"])
    waits = desk.value("SELECT next_attempt_at - now() FROM notifications WHERE state = 'pending'")
    assert timedelta(minutes=59) < waits < timedelta(minutes=61)
    desk.admin.execute("UPDATE notification_preferences SET quiet_from = NULL, quiet_to = NULL")
    desk.pass_time(timedelta(minutes=61))
    desk.deliver()
    assert len(inbox.mails) == 2


def test_a_short_lived_event_of_the_night_is_not_told_in_the_morning(desk: Desk, inbox: Inbox) -> None:
    begins, ends = around_now()
    desk.prefer(desk.user(), quiet_from=begins, quiet_to=ends)
    desk.alert("geofence_entry")
    desk.deliver()
    desk.pass_time(timedelta(minutes=61))

    desk.deliver()

    assert inbox.mails == []
    assert desk.states() == {"expired": 1}


def test_a_daily_digest_gathers_all_categories_into_one_mail(desk: Desk, inbox: Inbox) -> None:
    desk.prefer(desk.user(), digest="daily", digest_at=(datetime.now(UTC) + timedelta(hours=3)).time())
    desk.alert("offline", vehicle_id=desk.vehicle("Van 1"))
    desk.alert("maintenance_due", "high", details={"schedule_name": "Oil change", "reason": "15,020 of 15,000 km"})
    desk.alert("geofence_exit", details={"geofence": "Depot"})
    assert desk.deliver() == {"held": 3}
    assert desk.deliver() == {}

    desk.pass_time(timedelta(hours=3, minutes=1))
    assert desk.deliver() == {"folded": 3, "sent": 1}

    (mail,) = inbox.mails
    assert mail.parsed["Subject"] == "3 alerts since the last digest"
    text = mail.part("plain")
    assert text.index("Oil change is due") < text.index("Van 1 has stopped")
    assert "/unsubscribe/all/" in str(mail.parsed["List-Unsubscribe"])


def test_a_digest_of_one_is_the_alert_itself_and_what_is_over_by_then_is_left_out(desk: Desk, inbox: Inbox) -> None:
    desk.prefer(desk.user(), digest="hourly")
    desk.alert("offline", vehicle_id=desk.vehicle("Van 1"))
    gone = desk.alert("low_fuel", details={"percent": 3})
    desk.deliver()
    desk.admin.execute("UPDATE alerts SET resolved_at = now() WHERE id = %s", [gone])
    desk.pass_time(timedelta(hours=1))

    desk.deliver()

    assert [str(mail.parsed["Subject"]) for mail in inbox.mails] == ["Van 1 has stopped reporting"]


def test_critical_ones_do_not_wait_for_the_digest(desk: Desk, inbox: Inbox) -> None:
    desk.prefer(desk.user(), digest="daily")
    desk.alert("fault_code", "critical", details={"code": "P0217"})

    desk.deliver()

    assert len(inbox.mails) == 1


def test_two_planners_at_once_fold_a_storm_once(told: Desk) -> None:
    told.alerts(3000, "geofence_entry")
    now = datetime.now(UTC)
    racing = [Thread(target=plan_at, args=[now]) for _ in range(3)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()

    states = told.states()
    assert states["folded"] == 3000
    assert states["ready"] == told.value("SELECT count(*) FROM notifications WHERE kind = 'summary'")
    assert told.value("SELECT count(*) FROM notifications WHERE state = 'folded' AND folded_into IS NULL") == 0


def test_killed_between_taking_and_settling_nothing_has_happened(told: Desk) -> None:
    from jobs import process

    told.alerts(20)
    with pytest.raises(KeyboardInterrupt), process.get_database().system_transaction() as connection:
        groups, _, _ = queries.take_pending(connection, datetime.now(UTC), window_s=600, batch=100)
        assert sum(len(group.ids) for group in groups) == 20
        raise KeyboardInterrupt

    assert told.states() == {"pending": 20}
    assert told.deliver() == {"folded": 20, "sent": 1}


def test_so_many_reach_a_recipient_one_by_one(told: Desk, inbox: Inbox) -> None:
    told.alerts(MOST_ALONE)
    told.deliver()
    assert len(inbox.mails) == MOST_ALONE


def test_ten_thousand_alerts_at_once_are_planned_as_sets(told: Desk) -> None:
    told.alerts(10_000)
    told.user("second@acme.example")
    told.alerts(10_000)

    counts = plan_at(datetime.now(UTC))

    assert counts["folded"] + counts.get("held", 0) == 30_000
    assert told.value("SELECT count(*) FROM notifications WHERE kind = 'summary'") == 2, "one for each of the two"


@pytest.mark.parametrize("given", [("22:00", "24:00", "07:00"), ("24:00", "07:00", "07:00"), (None, None, "24:00")])
def test_a_time_that_no_clock_shows_is_refused_and_ends_the_run_of_nobody(
    given: tuple[str | None, ...], told: Desk, inbox: Inbox
) -> None:
    times: dict[str, Any] = dict(zip(("quiet_from", "quiet_to", "digest_at"), given, strict=True))
    with pytest.raises(psycopg.errors.CheckViolation):
        told.prefer(category="connectivity", digest="daily", **times)
    told.admin.execute(
        "ALTER TABLE notification_preferences DROP CONSTRAINT ck_notification_preferences_clock"
    )  # as a row would be that was written before it
    told.prefer(category="connectivity", digest="daily", **times)
    other = Desk(told.platform, "other")
    other.prefer()
    other.user("bob@other.example")
    told.alert("offline")
    other.alert("offline")

    assert told.deliver()["sent"] == 1
    assert inbox.to == ["bob@other.example"]


def test_a_long_queue_of_one_tenant_keeps_no_critical_one_of_another_waiting(
    told: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.notifications.planning.BATCH", 5)
    told.alerts(20, severity="low")
    other = Desk(told.platform, "other")
    other.prefer()
    other.user("bob@other.example")
    other.alert(severity="critical")
    from jobs import process

    plan(process.get_database(), datetime.now(UTC), until=0)

    assert told.value("SELECT state FROM notifications WHERE tenant_id = %s", other.tenant_id) == "ready"
    assert told.states()["pending"] == 20 - 4


def test_what_is_left_of_a_tenant_that_is_gone_ends_and_blocks_nobody(
    told: Desk, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.notifications.planning.BATCH", 5)
    told.alert()
    told.admin.execute(
        "INSERT INTO notifications (tenant_id, category, kind, severity, priority, channel, address, dedupe_key,"
        " expires_at, next_attempt_at) SELECT gen_random_uuid(), 'other', 'x', 'critical', 0, 'email', 'a@b.example',"
        " g::text, now() + INTERVAL '1 day', now() - INTERVAL '1 hour' FROM generate_series(1, 12) AS g"
    )

    assert told.deliver() == {"suppressed": 12, "ready": 1, "sent": 1}

    assert inbox.to == ["ann@acme.example"]
    assert told.states() == {"suppressed": 12, "sent": 1}


def test_a_summary_waits_for_a_server_as_long_as_what_it_tells_of(told: Desk, inbox: Inbox) -> None:
    told.alerts(30, "maintenance_overdue")
    told.alerts(30, "offline")
    inbox.stop()
    told.deliver()
    told.pass_time(timedelta(days=2))
    inbox.start()
    told.deliver()

    (mail,) = inbox.mails
    assert mail.parsed["Subject"] == "30 alerts in one message: maintenance"


def test_critical_ones_that_drip_are_ten_messages_and_then_one_of_all(told: Desk) -> None:
    span = CRITICAL_WAIT.total_seconds()
    begins = datetime.fromtimestamp((datetime.now(UTC).timestamp() // span + 1) * span, UTC)
    for second in range(30):
        told.alert("fault_code", "critical")
        plan_at(begins + timedelta(seconds=second))
    assert told.states() == {"ready": MOST_ALONE, "pending": 20}

    assert plan_at(begins + CRITICAL_WAIT) == {"folded": 20}
    told.alert("fault_code", "critical")
    assert plan_at(begins + CRITICAL_WAIT) == {"held": 1}
    assert plan_at(begins + 2 * CRITICAL_WAIT) == {"ready": 1}, "none has come with it, and it waits no longer"


@pytest.mark.parametrize("preferred", [{"enabled": False}, {"digest": "daily"}, {"min_severity": "critical"}, {}])
def test_whom_an_alert_names_is_told_whatever_they_prefer(preferred: dict[str, Any], desk: Desk, inbox: Inbox) -> None:
    begins, ends = around_now()
    desk.prefer(desk.user(), quiet_from=begins, quiet_to=ends, **preferred)
    desk.alert("maintenance_overdue", "high", recipients=["ann@acme.example"])

    assert desk.deliver() == {"ready": 1, "sent": 1}


def test_a_severity_that_is_asked_for_since_holds_for_what_still_waits(told: Desk, inbox: Inbox) -> None:
    told.alert(severity="low")
    told.alert(severity="high")
    told.alert(severity="low", recipients=["gate@acme.example"])
    told.admin.execute("UPDATE notification_preferences SET min_severity = 'high'")

    told.deliver()

    assert sorted(inbox.to) == ["ann@acme.example", "gate@acme.example"]
    reasons = "SELECT reason, count(*) FROM notifications WHERE state = 'suppressed' GROUP BY 1"
    assert told.admin.execute(reasons).fetchall() == [("less than is asked for", 2)]


@pytest.mark.parametrize("kind", ["summary", "digest"])
def test_an_alert_that_is_called_a_summary_is_told_as_what_it_is_and_holds_back_no_other(
    kind: str, told: Desk, inbox: Inbox
) -> None:
    told.alert(kind, message="Fire in hall 3")
    told.deliver()
    told.alerts(2, "theft", "high")
    told.deliver()

    assert "Fire in hall 3" in inbox.mails[0].part("plain")
    assert "0 alerts" not in str(inbox.mails[0].parsed["Subject"])
    assert len(inbox.mails) == 3
