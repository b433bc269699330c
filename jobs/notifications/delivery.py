"""One run of the delivery: plan, then send for the length of a slice."""

import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parseaddr

from db.encryption import Keyring
from integrations.chat import ChatSender
from integrations.mail import MailServer
from integrations.mime import check_address
from integrations.webhooks_out import WebhookSender
from jobs.notifications import endpoints, mails
from jobs.notifications.compose import Letterhead
from jobs.notifications.planning import plan
from jobs.notifications.recorder import count
from jobs.notifications.unsubscribe import Unsubscriber
from jobs.outcomes import Counts, NextSlice
from jobs.run import Run
from jobs.settings import Settings, get_settings


def deliver(run: Run) -> Counts | NextSlice:
    """Plan what is new and send the mails that are due. Without a mail server they wait."""
    settings = get_settings()
    until = time.monotonic() + settings.slice_s
    counts = plan(run.database, run.now, until=time.monotonic() + settings.slice_s / 2)
    server, letterhead = mail_server(settings), letterhead_of(settings)
    if server is None or letterhead is None:
        return counts
    sent, is_more = mails.send_due(run.database, server, letterhead, until=until)
    counts |= sent
    return NextSlice(counts) if is_more else counts


def call(run: Run) -> Counts | NextSlice:
    """Call the webhooks that are due and tell the chats, side by side: neither keeps the other waiting."""
    settings = get_settings()
    until = time.monotonic() + settings.slice_s
    keyring = Keyring.from_settings([key.get_secret_value() for key in settings.encryption_keys])
    app_url = settings.app_url.rstrip("/") if settings.app_url else None
    with WebhookSender(allow_loopback=settings.loopback_webhooks) as sender:
        chat_sender = ChatSender(allow_loopback=settings.loopback_webhooks)
        ways = {
            "webhook": endpoints.webhooks(keyring, sender),
            "apprise": endpoints.chats(keyring, chat_sender, run.database, app_url),
        }

        def call_by(channel: str) -> tuple[Counts, bool]:
            schedule_s = endpoints.SCHEDULES[channel]
            return endpoints.call_due(run.database, channel, ways[channel], until=until, schedule_s=schedule_s)

        with ThreadPoolExecutor(len(ways), thread_name_prefix="channel") as threads:
            told = list(threads.map(call_by, ways))
    counts: Counts = {}
    for each, _ in told:
        for word, number in each.items():
            count(counts, word, number)
    return NextSlice(counts) if any(is_more for _, is_more in told) else counts


def mail_server(settings: Settings) -> MailServer | None:
    """Return where mail is handed over; None where nothing is set."""
    if settings.smtp_url is None:
        return None
    letterhead = letterhead_of(settings)
    return MailServer.from_url(settings.smtp_url.get_secret_value(), letterhead.domain if letterhead else None)


def letterhead_of(settings: Settings) -> Letterhead | None:
    """Return what all mails have in common; None without a sender."""
    if settings.mail_from is None:
        return None
    name, sender = parseaddr(settings.mail_from)
    unsubscribe_to = parseaddr(settings.mail_unsubscribe_to)[1] if settings.mail_unsubscribe_to else None
    app_url = settings.app_url.rstrip("/") if settings.app_url else None
    return Letterhead(name, check_address(sender), app_url, unsubscriber_of(settings), unsubscribe_to)


def unsubscriber_of(settings: Settings) -> Unsubscriber | None:
    """Return who makes the links that unsubscribe; None without a key, or without an origin where they lead."""
    if not settings.encryption_keys or not settings.webhook_origin:
        return None
    keys = [key.get_secret_value().strip().encode() for key in settings.encryption_keys]
    return Unsubscriber(keys, settings.webhook_origin)
