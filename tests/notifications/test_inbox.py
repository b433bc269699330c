"""The inbox on this machine takes what the delivery sends, and shows it without letting it do anything."""

import re
import smtplib

import pytest
import requests

from jobs.embedded.process import free_port
from jobs.notifications.inbox import MOST_KEPT, Inbox, listen, make_app
from jobs.settings import get_settings
from tests.notifications.conftest import Desk
from tests.notifications.hook import serving


def test_what_is_sent_is_on_the_page(told: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    caught, port = Inbox(), free_port()
    controller = listen(caught, port)
    monkeypatch.setenv("FLEET_SMTP_URL", f"smtp://127.0.0.1:{port}")
    get_settings.cache_clear()
    try:
        told.alert("offline", vehicle_id=told.vehicle("<b>Van & 12</b>"))
        assert told.deliver()["sent"] == 1
    finally:
        controller.stop()
    with serving(make_app(caught)) as origin:
        page = requests.get(f"{origin}/", timeout=5)
        assert "&lt;b&gt;Van &amp; 12&lt;/b&gt; has stopped reporting" in page.text
        shown = requests.get(f"{origin}/mails/1", timeout=5)
        assert "has stopped reporting" in shown.text
        assert shown.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert "Check its power" in requests.get(f"{origin}/mails/1?as=text", timeout=5).text
        assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC to ann@acme.example", page.text)
        assert re.findall(r'href="/mails/1\?as=(\w+)"', page.text) == ["text", "headers"]
        headers = requests.get(f"{origin}/mails/1?as=headers", timeout=5)
        assert headers.headers["content-type"] == "text/plain; charset=utf-8"
        assert "Auto-Submitted: auto-generated\n" in headers.text
        assert "List-Unsubscribe: <https://hooks.example/unsubscribe/connectivity/" in headers.text
        assert requests.get(f"{origin}/mails/2", timeout=5).status_code == 404
        told_as_json = requests.get(f"{origin}/mails.json", timeout=5).json()
    assert told_as_json["count"] == 1
    assert told_as_json["mails"][0]["to"] == "ann@acme.example"


def test_it_keeps_the_newest_and_counts_all() -> None:
    caught = Inbox()
    for number in range(MOST_KEPT + 5):
        caught.add("ann@acme.example", b"Subject: %d\r\n\r\nx" % number)
    assert caught.mails == MOST_KEPT + 5
    assert [mail.subject for mail in caught.newest()][:1] == [str(MOST_KEPT + 4)]
    assert len(caught.newest()) == MOST_KEPT


def test_a_mail_that_is_no_mail_is_shown_too() -> None:
    caught, port = Inbox(), free_port()
    controller = listen(caught, port)
    try:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("a@x.example", ["b@x.example"], b"\xff\xfe no header at all")
    finally:
        controller.stop()
    with serving(make_app(caught)) as origin:
        assert requests.get(f"{origin}/", timeout=5).status_code == 200
        for way in ("", "?as=text", "?as=headers"):
            assert requests.get(f"{origin}/mails/1{way}", timeout=5).status_code == 200
