"""One endpoint's share of a claim: sent in order, each recorded as it is answered."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from db.encryption import EncryptionError
from db.engine import Database
from db.queries import attempts, endpoints
from db.queries.attempts import Outcome
from db.queries.deliveries import LEASE_S, Notice
from db.queries.endpoints import Endpoint
from db.queries.folded import is_of_the_row
from integrations.errors import PermanentError
from integrations.public_address import RefusedUrl
from integrations.webhooks_out import Answered
from jobs.notifications.recorder import count
from jobs.notifications.retries import next_try, until_taken
from jobs.outcomes import Counts

_log = structlog.get_logger()

Send = Callable[[Endpoint, Notice, datetime], Answered]

_SHORTEST_PAUSE = timedelta(seconds=30)
_AN_HOUR = timedelta(hours=1)
_WORDS = {"sent": "sent", "ready": "put_off", "failed": "failed", "suppressed": "suppressed"}
_DISABLED = "the endpoint is disabled"


class Share:
    """What a claim holds for one endpoint, and how it is told."""

    def __init__(
        self,
        database: Database,
        token: UUID,
        endpoint: Endpoint,
        notices: Sequence[Notice],
        send: Send,
        schedule_s: tuple[int, ...],
    ) -> None:
        self._database = database
        self._token = token
        self._endpoint = endpoint
        self._notices = notices
        self._send = send
        self._schedule_s = schedule_s
        self._until = time.monotonic() + LEASE_S

    def call(self, stop_at: float) -> Counts:
        """Send in order. After the first failure, after `stop_at` (of `time.monotonic`), or once the claim is another's
        the rest waits."""
        counts: Counts = {}
        for number, notice in enumerate(self._notices):
            now = datetime.now(UTC)
            if time.monotonic() > stop_at:
                self._give_way(self._notices[number:], now, is_slow=number > 0)
                return counts
            outcome, disabled = _attempt(self._endpoint, notice, self._send, self._schedule_s, now)
            recorded = self._record(outcome, disabled, self._notices[number + 1 :], now)
            count(counts, "lost" if not recorded else _WORDS[outcome.state], 1)
            if not recorded:
                self._give_way(self._notices[number + 1 :], now, is_slow=False)
            if not recorded or disabled is not None or outcome.state == "ready":
                return counts
        return counts

    def _record(self, outcome: Outcome, disabled: str | None, rest: Sequence[Notice], now: datetime) -> int:
        """Write how one ended, and what it means for the endpoint and the rest. Returns 0 where it was not ours."""

        def write(connection: Connection) -> int:
            recorded = attempts.record(connection, self._token, [outcome])
            if outcome.state == "sent":
                endpoints.note_success(connection, self._endpoint)
            elif outcome.next_at is not None:
                until = max(outcome.next_at, now + _SHORTEST_PAUSE)
                endpoints.note_failure(connection, self._endpoint, outcome.id, now, until)
                self._put_back(connection, rest, now, until)
            if disabled is not None:
                ended = [Outcome(each.id, "suppressed", None, now, _DISABLED) for each in rest]
                attempts.record(connection, self._token, ended)
                endpoints.disable(connection, self._endpoint.id, disabled, now)
            return recorded

        return self._written(write)

    def _give_way(self, notices: Sequence[Notice], now: datetime, *, is_slow: bool) -> None:
        """Give back what there was no time for: to be sent at once where it was not the endpoint that took it."""
        until = now + _SHORTEST_PAUSE if is_slow else None

        def write(connection: Connection) -> int:
            self._put_back(connection, notices, now, until)
            if until is not None:
                endpoints.leave_alone(connection, self._endpoint, until)
            return len(notices)

        self._written(write)

    def _put_back(
        self, connection: Connection, notices: Sequence[Notice], now: datetime, until: datetime | None
    ) -> None:
        outcomes = [Outcome(each.id, "ready", None, now, next_at=until) for each in notices]
        attempts.record(connection, self._token, outcomes)

    def _written(self, write: Callable[[Connection], int]) -> int:
        def once() -> int:
            with self._database.system_transaction() as connection:
                return write(connection)

        return until_taken(once, self._until)


def _attempt(
    endpoint: Endpoint, notice: Notice, send: Send, schedule_s: tuple[int, ...], now: datetime
) -> tuple[Outcome, str | None]:
    """Return how one try ended, and why the endpoint is to be disabled, or None."""
    try:
        answer = send(endpoint, notice, now)
    except RefusedUrl as error:
        return Outcome(notice.id, "failed", "unreadable", now, str(error)), str(error)
    except (PermanentError, EncryptionError) as error:
        return Outcome(notice.id, "failed", "unreadable", now, str(error)[:200]), None
    except Exception as error:  # what one row holds must not end the run of all
        if isinstance(error, SQLAlchemyError) and not is_of_the_row(error):
            raise
        _log.exception("message_not_written", notification=str(notice.id))
        return Outcome(notice.id, "failed", "unreadable", now, f"it cannot be written: {type(error).__name__}"), None
    return _judged(endpoint, notice, answer, schedule_s, now)


def _judged(
    endpoint: Endpoint, notice: Notice, answer: Answered, schedule_s: tuple[int, ...], now: datetime
) -> tuple[Outcome, str | None]:
    if answer.is_taken:
        return Outcome(notice.id, "sent", "accepted", now, code=answer.status), None
    if answer.is_gone:
        return Outcome(notice.id, "failed", "refused", now, answer.reason, answer.status), "it answered 410 Gone"
    again_at = next_try(schedule_s, notice.attempts, now, asked_s=answer.wait_s)
    if again_at is None or again_at >= notice.expires_at:
        failing = endpoint.failing_since is not None and endpoint.failing_since <= notice.created_at + _AN_HOUR
        why = f"it failed for days, at last: {answer.reason}" if failing else None
        return Outcome(notice.id, "failed", "deferred", now, f"given up: {answer.reason}", answer.status or None), why
    return Outcome(notice.id, "ready", "deferred", now, answer.reason, answer.status or None, next_at=again_at), None
