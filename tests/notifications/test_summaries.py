"""A summary is read from the top: by kind, the worst first, and vehicles in the order in which people count."""

import re
from datetime import timedelta

from tests.notifications.conftest import Desk, Inbox


def test_vehicles_come_in_the_order_in_which_people_count(told: Desk, inbox: Inbox) -> None:
    vans = [told.vehicle(f"Van {number}") for number in (2, 12, 1, 11, 3, 21, 10, 20, 4, 5, 30, 6)]
    for van in vans:
        told.alert("offline", vehicle_id=van)

    told.deliver()

    (mail,) = inbox.mails
    assert re.findall(r"- Van (\d+) ", mail.part("plain")) == [
        *("1", "2", "3", "4", "5", "6", "10", "11", "12", "20", "21", "30")
    ]


def test_a_flood_of_one_kind_hides_no_other(told: Desk, inbox: Inbox) -> None:
    told.alerts(500)
    told.alert("connection_silent", "medium")
    told.alert("connection_rejected", "low")

    told.deliver()

    (mail,) = inbox.mails
    text = mail.part("plain")
    names = re.findall(r"^(?:Connection|Vehicle)[^\r\n:]*", text, re.MULTILINE)
    assert names == ["Connection silent", "Vehicle stopped reporting (500)", "Connection cut off"]
    assert "... and 482 more" in text


def test_a_line_leads_to_its_work_order_or_its_alert(told: Desk, inbox: Inbox) -> None:
    order = "0193f1a0-0000-7000-8000-000000000042"
    details = {"schedule_name": "Oil change", "work_order_id": order, "work_order_number": "WO-000042"}
    told.admin.execute("UPDATE notification_preferences SET digest = 'hourly'")
    told.alert("maintenance_due", details=details | {"reason": "Oil change: 15,020 of 15,000 km"})
    alert_id = told.alert("low_fuel", details={"percent": 8})
    told.deliver()
    assert inbox.mails == []
    told.pass_time(timedelta(hours=1))
    told.deliver()

    (mail,) = inbox.mails
    assert "WO-000042 · 15,020 of 15,000 km" in mail.part("plain")
    assert f"/work-orders/{order}" in mail.part("html")
    assert f"/alerts/{alert_id}" in mail.part("html")
