"""The mails of one claim: written while the server is waited for, sent in order, recorded as they go.

Delivery is at least once. While one group of RECORD_AFTER mails is recorded the next is sent: at most twice as many lie
between a server's acceptance and our record. A worker killed there sends those again, with the same Message-ID.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db.engine import Database
from db.queries.attempts import Outcome
from db.queries.deliveries import LEASE_S, Notice
from db.queries.folded import Folded, is_of_the_row, read_folded
from integrations.mail import Accepted, MailServerAway, MailSession, NotTaken
from integrations.mime import UnsendableMail, build, check_address
from jobs.notifications.compose import MOST_LINES, Letterhead, compose
from jobs.notifications.recorder import Recorder
from jobs.notifications.retries import MAIL_S, next_try
from jobs.outcomes import Counts

_log = structlog.get_logger()

_SEND_FOR_S = LEASE_S / 4
"""How far into its claim a batch is sent; a single mail may take as long again, twice."""


def now_utc() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


class _Envelope(NamedTuple):
    """A mail as it goes over the wire."""

    sender: str
    to: str
    content: bytes


class Batch:
    """The mails of one claim. Whatever happens on the way, what was done is recorded and the rest given back."""

    def __init__(
        self,
        database: Database,
        session: MailSession,
        letterhead: Letterhead,
        token: UUID,
        counts: Counts,
    ) -> None:
        self._database = database
        self._session = session
        self._letterhead = letterhead
        self._recorder = Recorder(database, token, counts)
        self.answered = 0

    def send(self, notices: list[Notice]) -> None:
        """Send all, in order; the next ones are written while the server is waited for.

        Raises:
            MailServerAway: the session is over.
            SQLAlchemyError: the database is away; what was sent is recorded as soon as it is back.
        """
        stop_at = time.monotonic() + _SEND_FOR_S
        waiting = iter(notices)
        with self._recorder, ThreadPoolExecutor(1, "mails-write") as writer:
            written = writer.map(self._write, notices)
            try:
                for notice in waiting:
                    if self._recorder.is_lost or time.monotonic() > stop_at:
                        self._give_back([notice, *waiting])
                        break
                    self._send(notice, written)
            except (MailServerAway, SQLAlchemyError):
                self._give_back(list(waiting))
                raise
            finally:
                writer.shutdown(wait=False, cancel_futures=True)

    def _send(self, notice: Notice, written: Iterator[_Envelope | str]) -> None:
        try:
            envelope = next(written)
        except SQLAlchemyError:
            self._give_back([notice])
            raise
        self._recorder.keep([self._attempt(notice, envelope)])

    def _write(self, notice: Notice) -> _Envelope | str:
        """Return a mail as it is sent, or why there is none. No mail of one row may end the run of all."""
        try:
            mail = compose(notice, self._read_folded(notice), self._letterhead, now_utc())
            return _Envelope(check_address(mail.sender), check_address(mail.to), build(mail))
        except UnsendableMail as error:
            return str(error)
        except Exception as error:
            if isinstance(error, SQLAlchemyError) and not is_of_the_row(error):
                raise
            _log.exception("mail_not_written", notification=str(notice.id))
            return f"it cannot be written: {type(error).__name__}"

    def _attempt(self, notice: Notice, written: _Envelope | str) -> Outcome:
        at = now_utc()
        if isinstance(written, str):
            return Outcome(notice.id, "failed", "unreadable", at, written)
        try:
            answer = self._session.send(written.sender, written.to, written.content)
        except MailServerAway as error:
            if error.in_mail:
                self._recorder.keep([self._put_off(notice, at, str(error), None)])
            else:
                self._give_back([notice])
            raise
        self.answered += 1
        if isinstance(answer, Accepted):
            return Outcome(notice.id, "sent", "accepted", at, code=250, provider_id=answer.queue_id)
        return self._refused(notice, at, answer)

    def _refused(self, notice: Notice, at: datetime, answer: NotTaken) -> Outcome:
        if not answer.is_final:
            return self._put_off(notice, at, answer.reason, answer.code)
        bad = answer.is_bad_address
        return Outcome(notice.id, "failed", "refused", at, answer.reason, answer.code, is_bad_address=bad)

    def _put_off(self, notice: Notice, at: datetime, reason: str, code: int | None) -> Outcome:
        again_at = next_try(MAIL_S, notice.attempts, at)
        if again_at is None or again_at >= notice.expires_at:
            return Outcome(notice.id, "failed", "deferred", at, f"given up: {reason}"[:200], code)
        return Outcome(notice.id, "ready", "deferred", at, reason, code, next_at=again_at)

    def _read_folded(self, notice: Notice) -> Folded | None:
        if notice.alert_id is not None:
            return None
        with self._database.system_transaction() as connection:
            return read_folded(connection, notice.id, most=MOST_LINES)

    def _give_back(self, notices: list[Notice]) -> None:
        now = now_utc()
        self._recorder.keep([Outcome(notice.id, "ready", None, now) for notice in notices])
