"""A due service becomes one work order and one message: from the morning's check to the inbox."""

from datetime import UTC, datetime, timedelta

from tests.maintenance.garage import Garage
from tests.notifications.conftest import Desk, Inbox


def test_a_service_that_falls_due_is_one_work_order_and_one_mail_however_often_it_is_checked(
    told: Desk, inbox: Inbox
) -> None:
    garage = Garage(told.platform, told.tenant_id, datetime.now(UTC))
    van = garage.vehicle("Van 12")
    garage.schedule(van, name="Oil change", interval_distance=15_000, start_km=0)
    told.admin.execute("UPDATE users SET locale = 'de'")
    garage.drive(van, 15_020)
    for _ in range(3):
        garage.check()
        told.deliver()

    (order,) = garage.orders()
    (mail,) = inbox.mails
    assert mail.parsed["Subject"] == f"[{order['reference']}] Oil change ist fällig: Van 12"
    text = mail.part("plain").replace("\xa0", " ")
    assert "Grund: 15.020 von 15.000 km" in text
    assert f"https://app.example/work-orders/{order['id']}" in text

    garage.pass_days(1).drive(van, 15_400)
    garage.check()
    told.deliver()

    due, overdue = inbox.mails
    assert overdue.parsed["Subject"] == f"[{order['reference']}] Oil change ist überfällig: Van 12"
    assert overdue.parsed["In-Reply-To"] == due.parsed["In-Reply-To"], "one work order is one thread"
    assert overdue.id != due.id


def test_a_morning_with_hundreds_of_due_services_is_one_mail(told: Desk, inbox: Inbox) -> None:
    garage = Garage(told.platform, told.tenant_id, datetime.now(UTC))
    started = (datetime.now(UTC) - timedelta(days=30)).date()
    for number in range(60):
        van = garage.vehicle(f"Van {number}")
        garage.schedule(van, name="Inspection", interval_days=30, start_on=started)
    garage.check()
    told.deliver()

    assert len(garage.orders()) == 60
    (mail,) = inbox.mails
    assert mail.parsed["Subject"] == "60 alerts in one message: maintenance"


def test_a_service_that_is_done_before_anybody_was_told_is_not_told(told: Desk, inbox: Inbox) -> None:
    garage = Garage(told.platform, told.tenant_id, datetime.now(UTC))
    van = garage.vehicle()
    garage.schedule(van, interval_distance=15_000, start_km=0)
    garage.drive(van, 15_020)
    garage.check()
    told.admin.execute("UPDATE maintenance_schedules SET interval_distance = 30000")
    garage.check()
    told.deliver()

    assert inbox.mails == []
    assert told.states() == {"suppressed": 1}
