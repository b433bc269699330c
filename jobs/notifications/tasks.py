"""The doorways of notifications."""

from jobs.job import job
from jobs.notifications import delivery
from jobs.outcomes import Counts, NextSlice
from jobs.run import Run


@job("notifications.deliver", scope="system", unique_by=(), priority=10)
def deliver(run: Run) -> Counts | NextSlice:
    """Decide on new notifications, and send the mails that are due.

    Twice is harmless: a notification is claimed by one worker; a repeat after a kill has the same Message-ID.
    """
    return delivery.deliver(run)


@job("notifications.call_endpoints", scope="system", unique_by=(), priority=20)
def call_endpoints(run: Run) -> Counts | NextSlice:
    """Call the webhooks and tell the chats that are due.

    Twice is harmless: as `deliver`; a repeat has the same webhook-id.
    """
    return delivery.call(run)
