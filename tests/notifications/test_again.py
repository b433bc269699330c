"""An alert that is open is told again when it is worse or a reminder of it is due; and no other change of it is."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.notifications.conftest import Desk, Inbox


def change(desk: Desk, alert_id: UUID, **given: Any) -> None:
    """Change an alert, as another application does: as a tenant's role, with one statement."""
    if "details" in given:
        given["details"] = json.dumps(given["details"])
    with psycopg.connect(desk.platform.urls.app_url) as application:
        application.execute("SELECT set_config('app.tenant_id', %s, true)", [str(desk.tenant_id)])
        marks = ", ".join(f"{name} = %s" for name in given)
        done = application.execute(f"UPDATE alerts SET {marks} WHERE id = %s".encode(), [*given.values(), alert_id])
        assert done.rowcount == 1


def test_an_alert_that_becomes_worse_is_told_again_once_for_each_severity(told: Desk, inbox: Inbox) -> None:
    alert_id = told.alert("low_fuel", "low", details={"percent": 9})
    told.deliver()
    for severity in ("high", "high", "medium", "high", "critical", "low", "critical"):
        change(told, alert_id, severity=severity)
        told.deliver()

    severities = ["For information", "Important", "Critical"]
    assert [[word for word in severities if word in mail.part("html")] for mail in inbox.mails] == [
        [word] for word in severities
    ]
    assert len({mail.id for mail in inbox.mails}) == 3
    assert len({str(mail.parsed["References"]) for mail in inbox.mails}) == 1, "one thread"


@pytest.mark.parametrize(
    "given",
    [
        {"severity": "low"},
        {"severity": "medium"},
        {"message": "still so", "details": {"reminders": 3}},
        {"severity": "critical", "resolved_at": "2026-11-20"},
        {"reminders": 0},
    ],
)
def test_what_is_no_worse_or_over_is_not_told_again(given: dict[str, Any], told: Desk, inbox: Inbox) -> None:
    alert_id = told.alert("offline", "medium", opened_at="2026-11-19")
    told.deliver()

    change(told, alert_id, **given)
    told.deliver()

    assert len(inbox.mails) == 1
    assert told.states() == {"sent": 1}


def test_an_upsert_that_raises_the_severity_tells_again(told: Desk, inbox: Inbox) -> None:
    for severity in ("medium", "high"):
        told.admin.execute(
            "INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at)"
            " VALUES (%s, 'fault_code', %s, 'fault:1', 'x', now())"
            " ON CONFLICT (tenant_id, kind, subject) WHERE resolved_at IS NULL"
            " DO UPDATE SET severity = excluded.severity",
            [told.tenant_id, severity],
        )
        told.deliver()

    assert len(inbox.mails) == 2


@pytest.mark.parametrize(
    ("locale", "title"),
    [
        ("en", "Reminder: Oil change is overdue: Van 12"),
        ("de", "Erinnerung: Oil change ist überfällig: Van 12"),
        ("fr", "Rappel : Oil change en retard : Van 12"),
        ("es", "Recordatorio: Oil change fuera de plazo: Van 12"),
    ],
)
def test_a_reminder_says_so(locale: str, title: str, told: Desk, inbox: Inbox) -> None:
    told.admin.execute("UPDATE users SET locale = %s", [locale])
    details = {"schedule_name": "Oil change", "work_order_number": "WO-000042"}
    alert_id = told.alert("maintenance_overdue", "high", vehicle_id=told.vehicle("Van 12"), details=details)
    told.deliver()
    for number in (1, 2):
        for _ in range(2):
            change(told, alert_id, reminders=number, details=details | {"reminders": number})
            told.deliver()

    subjects = [str(mail.parsed["Subject"]).replace("\xa0", " ") for mail in inbox.mails]
    assert subjects[1:] == [f"[WO-000042] {title}"] * 2
    assert title.partition(" ")[0] not in subjects[0]


def test_what_is_told_again_before_it_was_told_is_told_once_as_it_is(told: Desk, inbox: Inbox) -> None:
    alert_id = told.alert("low_fuel", "low", details={"percent": 9})
    change(told, alert_id, severity="high")

    assert told.deliver() == {"suppressed": 1, "ready": 1, "sent": 1}

    assert "Important" in inbox.mails[0].part("html")
    assert told.value("SELECT reason FROM notifications WHERE state = 'suppressed'") == "told again"


def test_a_storm_that_becomes_worse_is_one_more_mail_after_the_pause(told: Desk, inbox: Inbox) -> None:
    told.alerts(300, severity="low")
    told.deliver()
    told.admin.execute("UPDATE alerts SET severity = 'high'")
    told.deliver()
    assert len(inbox.mails) == 1

    told.pass_time(timedelta(minutes=11))
    told.deliver()

    assert [str(mail.parsed["Subject"])[:10] for mail in inbox.mails] == ["300 alerts", "300 alerts"]


def test_who_unsubscribed_is_not_told_again_either_and_who_was_not_told_is_told_now(desk: Desk, inbox: Inbox) -> None:
    desk.prefer()
    desk.user()
    desk.prefer(desk.user("boss@acme.example"), min_severity="high")
    alert_id = desk.alert("offline", "low", recipients=["gate@acme.example"])
    desk.deliver()
    desk.admin.execute(
        "INSERT INTO suppressed_addresses SELECT id, sha256(convert_to(id || ':ann@acme.example', 'UTF8')), 'all',"
        " 'unsubscribed' FROM tenants"
    )
    change(desk, alert_id, severity="critical")
    desk.deliver()

    assert sorted(inbox.to) == ["ann@acme.example", "boss@acme.example", "gate@acme.example", "gate@acme.example"]


def test_told_again_in_the_transaction_that_raises_it_and_not_without_it(told: Desk) -> None:
    alert_id = told.alert("offline", "low")
    told.deliver()
    with psycopg.connect(told.platform.urls.admin_url) as other:
        other.execute("UPDATE alerts SET severity = 'high' WHERE id = %s", [alert_id])
        other.rollback()

    assert told.states() == {"sent": 1}


def test_nobody_hears_of_another_tenants_alert(told: Desk, inbox: Inbox) -> None:
    other = Desk(told.platform, "other")
    other.prefer()
    other.user("bob@other.example")
    for desk in (told, other):
        desk.alert("offline", "low")
    told.deliver()
    told.admin.execute("UPDATE alerts SET severity = 'high' WHERE tenant_id = %s", [told.tenant_id])
    told.deliver()

    assert sorted(inbox.to) == ["ann@acme.example", "ann@acme.example", "bob@other.example"]


@pytest.mark.parametrize("column", ["alerts.recipients", "geofences.alert_recipients"])
def test_one_alert_fans_out_to_so_many_addresses_and_no_more(column: str, desk: Desk) -> None:
    def write(number: int) -> None:
        recipients = [f"a{each}@acme.example" for each in range(number)]
        if column == "alerts.recipients":
            desk.alert("offline", recipients=recipients)
            return
        desk.admin.execute(
            "INSERT INTO geofences (tenant_id, name, kind, center_latitude, center_longitude, radius_m,"
            " alert_recipients) VALUES (%s, 'Depot', 'circle', 52, 13, 100, %s)",
            [desk.tenant_id, recipients],
        )

    with pytest.raises(psycopg.errors.CheckViolation, match=f"ck_{column.replace('.', '_')}"):
        write(201)
    write(200)

    assert desk.value("SELECT count(*) FROM notifications") == (200 if column == "alerts.recipients" else 0)


def test_many_are_compared_as_a_set_even_where_the_session_began_with_one(told: Desk) -> None:
    told.alerts(20_000, "geofence_entry")
    told.admin.execute("UPDATE alerts SET message = 'x' WHERE id = (SELECT id FROM alerts LIMIT 1)")
    told.admin.execute("SET statement_timeout = '10s'")  # half a second, and row by row half a minute

    told.admin.execute("UPDATE alerts SET message = message || '.'")

    assert told.value("SELECT count(*) FROM notifications") == 20_000
