"""Reports about mails that were taken and came back: believed of a mail that was sent, once."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.bounces import LONGEST_REPORT, Returned, read_report
from tests.cli.conftest import COMMAND
from tests.notifications.conftest import Desk, Inbox

ADDRESS = "ann@acme.example"
ID = UUID("0193f1a0-0000-7000-8000-000000000001")


def report(
    message_id: str = f"<{ID}@jobs.example>",
    status: str = "5.1.1",
    action: str = "failed",
    said: str = "550 5.1.1 <ann@acme.example>: user unknown",
    *,
    is_whole: bool = False,
    address: str = ADDRESS,
    kind: str = "delivery-status",
    fields: str | None = None,
) -> bytes:
    """Return what a mail server writes, quoting the whole mail or its headers."""
    told = fields or (
        f"Reporting-MTA: dns; mx.example\nArrival-Date: Fri, 20 Nov 2026 06:32:00 +0000\n\n"
        f"Final-Recipient: rfc822; {address}\nAction: {action}\nStatus: {status}\nDiagnostic-Code: smtp; {said}\n"
    )
    quoted = f"Message-ID: {message_id}\nSubject: Oil change is due\n"
    parts = [
        "Content-Type: text/plain\n\nYour message could not be delivered.\n",
        f"Content-Type: message/{kind}\n\n{told}",
        f"Content-Type: {'message/rfc822' if is_whole else 'text/rfc822-headers'}\n\n{quoted}\n",
    ]
    head = f"From: MAILER-DAEMON@mx.example\nContent-Type: multipart/report; report-type={kind}; boundary=b\n\n"
    return (head + "".join(f"--b\n{part}\n" for part in parts) + "--b--\n").encode()


COMPLAINT = "Feedback-Type: abuse\nUser-Agent: SomeGenerator/1.0\nVersion: 1\nOriginal-Rcpt-To: <ann@acme.example>\n"


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize(
    ("status", "is_bad_address"), [("5.1.1", True), ("5.2.2", False), ("4.4.7", False), ("5.7.1", False)]
)
def test_a_report_says_which_mail_came_back_and_whether_the_address_exists(
    status: str, is_bad_address: bool, is_whole: bool
) -> None:
    found = read_report(report(status=status, is_whole=is_whole))
    assert found == Returned(
        "bounce", ID, frozenset({ADDRESS}), is_bad_address, "came back: 550 5.1.1 ... user unknown"
    )


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_complaint_is_read(is_whole: bool) -> None:
    found = read_report(report(kind="feedback-report", fields=COMPLAINT, is_whole=is_whole))
    assert found == Returned("complaint", ID, None, False, "complained of as unwanted")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff" * 1000,
        b"From: ann@acme.example\nSubject: Re: Oil change\n\nthanks\n",
        report(action="delayed", status="4.4.1"),
        report(action="relayed", status="2.0.0"),
        report(message_id="<not-ours@elsewhere.example>"),
        report(message_id=f"<{ID}@jobs.example> <{ID}@jobs.example>"),
        report(kind="feedback-report", fields="Feedback-Type: not-spam\n"),
        report() + b" " * LONGEST_REPORT,
        b"Content-Type: multipart/report; boundary=a\n\n"
        + b"--a\nContent-Type: multipart/mixed; boundary=a\n\n" * 5000,
        b"Content-Type: message/rfc822\n\n" * 5000,
    ],
)
def test_what_reports_nothing_final_of_a_mail_of_ours_is_none(raw: bytes) -> None:
    assert read_report(raw) is None


@given(st.integers(0, 2000), st.binary(max_size=40), st.integers(0, 60))
def test_no_report_that_is_broken_ends_in_an_error(at: int, put: bytes, cut: int) -> None:
    raw = report(is_whole=at % 2 == 0)
    read_report(raw[:at] + put + raw[at + cut :])


@pytest.mark.parametrize(
    ("make", "state", "is_suppressed"),
    [
        (lambda message_id: report(message_id), "failed", True),
        (lambda message_id: report(message_id, status="5.2.2"), "failed", False),
        (lambda message_id: report(message_id, kind="feedback-report", fields=COMPLAINT), "failed", True),
        (lambda message_id: report(message_id, action="delayed"), "sent", False),
        (lambda message_id: report(f"<{uuid4()}@jobs.example>"), "sent", False),
        (lambda message_id: report(message_id, address="gone@acme.example"), "sent", False),
    ],
    ids=["no such address", "mailbox full", "complaint", "delayed", "another mail", "one who is on the list"],
)
def test_a_mail_that_came_back_is_no_longer_sent_and_a_bad_address_gets_no_more(
    told: Desk, inbox: Inbox, tmp_path: Path, make: Callable[[str], bytes], state: str, is_suppressed: bool
) -> None:
    told.alert("safety_event")
    told.deliver()
    path = tmp_path / "bounce.eml"
    path.write_bytes(make(inbox.mails[0].id))

    for _ in range(2):
        done = subprocess.run([*COMMAND, "notifications", "bounced", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ADDRESS not in done.stdout + done.stderr

    assert told.states() == {state: 1}
    assert told.value("SELECT count(*) FROM suppressed_addresses") == int(is_suppressed)
    assert told.value("SELECT count(*) FROM notification_attempts WHERE outcome = 'refused'") == (state == "failed")
    told.alert("safety_event")
    told.deliver()
    assert len(inbox.mails) == (1 if is_suppressed else 2)


def test_a_server_is_asked_to_try_again_while_the_database_is_away() -> None:
    nowhere = "postgresql://fleet_system:x@127.0.0.1:1/fleet"
    done = subprocess.run(
        [*COMMAND, "notifications", "bounced"],
        input=report(),
        capture_output=True,
        env=os.environ
        | {
            "FLEET_SYSTEM_DATABASE_URL": nowhere,
            "FLEET_DATABASE_URL": nowhere,
            "FLEET_REDIS_URL": "redis://127.0.0.1:1",
        },
    )
    assert done.returncode == 75, done.stderr
    assert b"connection refused" in done.stderr


@pytest.mark.parametrize("setting", ["FLEET_DATABASE_URL", "FLEET_MAIL_FROM"])
def test_a_server_is_asked_to_try_again_where_settings_are_missing_or_wrong(setting: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "notifications", "bounced"],
        input=report(),
        capture_output=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], setting: "nothing"} | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 75
    assert b"Traceback" not in done.stderr


def test_a_report_that_comes_before_the_record_is_asked_for_again(told: Desk, inbox: Inbox, tmp_path: Path) -> None:
    told.alert("safety_event")
    told.deliver()
    told.admin.execute(
        "UPDATE notifications SET state = 'ready', finished_at = NULL, claim_token = gen_random_uuid(),"
        " claimed_until = now() + interval '1 minute'"
    )
    path = tmp_path / "bounce.eml"
    path.write_bytes(report(inbox.mails[0].id))
    done = subprocess.run([*COMMAND, "notifications", "bounced", str(path)], capture_output=True, text=True)
    assert done.returncode == 75, done.stdout


def test_a_domain_that_is_not_of_ascii_is_the_same_in_both_ways(told: Desk, inbox: Inbox, tmp_path: Path) -> None:
    told.alert("safety_event", recipients=["ann@bücher.example"])
    told.deliver()
    mail = next(mail for mail in inbox.mails if mail.to == "ann@xn--bcher-kva.example")
    path = tmp_path / "bounce.eml"
    path.write_bytes(report(mail.id, address="Ann@xn--bcher-kva.example"))
    subprocess.run([*COMMAND, "notifications", "bounced", str(path)], check=True)
    assert told.value("SELECT state FROM notifications WHERE address LIKE '%%bücher%%'") == "failed"
