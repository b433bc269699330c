"""A sending process is really killed, at the worst moments; what it had sent is recognised when it comes again."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.notifications.conftest import Desk, Inbox, Received

SENDER = """
import os
from jobs import process
from jobs.notifications import delivery, mails
from jobs.settings import get_settings
print(os.getpid(), flush=True)
settings = get_settings()
mails.send_due(
    process.get_database(), delivery.mail_server(settings), delivery.letterhead_of(settings), until=float("inf")
)
"""


@pytest.mark.kill
@pytest.mark.parametrize("kill_after", [1, 25, 39])
def test_killed_while_sending_no_mail_is_lost_and_few_are_repeated_under_their_ids(
    kill_after: int, told: Desk, inbox: Inbox
) -> None:
    told.alerts(40, "geofence_entry")
    told.admin.execute("UPDATE notifications SET address = id || '@acme.example', is_named = true, state = 'ready'")
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    )

    def kill_it(mail: Received) -> None:
        if len(inbox.mails) + 1 == kill_after:
            sender.send_signal(signal.SIGKILL)

    inbox.at_data = kill_it
    sender.communicate(timeout=60)
    assert sender.returncode == -signal.SIGKILL
    sent_before = len(inbox.mails)
    assert kill_after - 1 <= sent_before <= kill_after
    told.pass_time(timedelta(minutes=5))
    inbox.at_data = lambda mail: None

    told.send()

    assert told.states() == {"sent": 40}
    assert len({mail.id for mail in inbox.mails}) == len(set(inbox.to)) == 40
    repeats = len(inbox.mails) - 40
    assert repeats <= 20, "at most what lies between two records"
