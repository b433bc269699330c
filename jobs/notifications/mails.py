"""Mails on their way: claimed in batches, critical first, sent over one connection outside any transaction."""

import time
from uuid import uuid4

import structlog

from db.engine import Database
from db.queries import deliveries, outages
from integrations.mail import MOST_REFUSED, MailServer, MailServerAway, MailSession
from jobs.notifications.batch import Batch, now_utc
from jobs.notifications.compose import Letterhead
from jobs.notifications.recorder import count
from jobs.outcomes import Counts

_log = structlog.get_logger()

BATCH = 200
MOST_ENDED = 20
"""So many sessions in a row that a server ends over a mail and that took none are the mails' doing; more an outage."""
MOST_REFUSED_AGAIN = 3
"""So many tries tell whether a server that took mail for nobody still does."""


def send_due(
    database: Database,
    server: MailServer,
    letterhead: Letterhead,
    *,
    until: float,
    batch: int = BATCH,
) -> tuple[Counts, bool]:
    """Send what is due, critical first, until `until` (of `time.monotonic`).

    A server that is away costs nobody an attempt: nothing is claimed before it lets us in. One that lets us in and
    takes mail for nobody costs a few.

    Returns:
        How many were sent, put off, refused and dropped; and whether more is due.
    """
    counts: Counts = {}
    with database.system_transaction() as connection:
        if not deliveries.is_due(connection, "email", now_utc()):
            return counts, False
        most_refused = MOST_REFUSED_AGAIN if outages.is_closed(connection, "email") else MOST_REFUSED
    is_more, ended = True, 0
    while is_more and time.monotonic() < until:
        try:
            with MailSession(server, most_refused=most_refused) as session:
                is_more = _send_over(database, session, letterhead, until, batch, counts)
            ended = 0
        except MailServerAway as error:
            ended += 1
            if not error.in_mail or ended >= MOST_ENDED:
                _begin_outage(database, str(error))
                return counts, False
    return counts, is_more


def _send_over(
    database: Database,
    session: MailSession,
    letterhead: Letterhead,
    until: float,
    batch: int,
    counts: Counts,
) -> bool:
    """Send over one connection until nothing is due, time is over, or the server has had enough of it.

    Returns:
        Whether more is due.

    Raises:
        MailServerAway: the server took nothing at all.
    """
    taken, has_accepted = 0, False
    while time.monotonic() < until:
        token = uuid4()
        with database.system_transaction() as connection:
            notices, dropped = deliveries.claim(connection, "email", token, now_utc(), batch=batch)
        count(counts, "dropped", dropped)
        if not notices and not dropped:
            return False
        sending = Batch(database, session, letterhead, token, counts)
        try:
            sending.send(notices)
        except MailServerAway as error:
            if error.refuses_all or taken + sending.answered == 0:
                raise
            return True  # many servers end a connection after so many mails
        finally:
            if not has_accepted and session.accepted:
                has_accepted = True
                _end_outage(database)
        taken += sending.answered
    return True


def _begin_outage(database: Database, reason: str) -> None:
    with database.system_transaction() as connection:
        if outages.begin(connection, "email", reason):
            _log.error("mail_server_away", reason=reason)


def _end_outage(database: Database) -> None:
    with database.system_transaction() as connection:
        over = outages.end(connection, "email")
    if over is not None:
        _log.info("mail_server_back", away_s=round(over[0]), tries=over[1])
