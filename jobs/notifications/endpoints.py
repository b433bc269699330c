"""Webhooks and chats on their way: claimed as mails are, each endpoint in a thread of its own, so that a slow one
keeps no other waiting."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from db.encryption import EncryptionError, Keyring
from db.engine import Database
from db.queries import deliveries, endpoints
from db.queries.deliveries import LEASE_S, Notice, Outcome
from db.queries.endpoints import Endpoint
from db.queries.folded import Folded, read_folded
from integrations.chat import ChatSender
from integrations.errors import PermanentError
from integrations.public_address import RefusedUrl
from integrations.webhooks_out import Answered, WebhookSender
from jobs.notifications.compose import FOLDING, MOST_LINES, write
from jobs.notifications.retries import MAIL_S, WEBHOOK_S, next_try
from jobs.outcomes import Counts

_log = structlog.get_logger()

BATCH = 100
THREADS = 8
MOST_PAYLOAD_BYTES = 20_000
"""Endpoints may refuse larger ones (standardwebhooks spec, "Payload size", read 2026-11)."""
_EACH = 25
"""So many of one endpoint in a claim."""
_SEND_FOR_S = LEASE_S / 9
"""For how long the calls of a claim begin, all endpoints together; who is slower gives way for `_SHORTEST_PAUSE`."""
_SHORTEST_PAUSE = timedelta(seconds=30)

Send = Callable[[Endpoint, Notice, datetime], Answered]


def secret_context(tenant_id: UUID, endpoint_id: UUID) -> bytes:
    """Return what binds an endpoint's secret to its row."""
    return b"webhook_endpoints.secret/" + tenant_id.bytes + endpoint_id.bytes


def call_due(
    database: Database, channel: str, send: Send, *, until: float, schedule_s: tuple[int, ...]
) -> tuple[Counts, bool]:
    """Send what is due by a channel until `until` (of `time.monotonic`).

    Returns:
        How many were sent, put off, refused and dropped; and whether more is due.
    """
    counts: Counts = {}
    while time.monotonic() < until:
        token, now = uuid4(), datetime.now(UTC)
        with database.system_transaction() as connection:
            if not deliveries.is_due(connection, channel, now):
                return counts, False
            notices, dropped = deliveries.claim(connection, channel, token, now, batch=BATCH, each=_EACH)
            found = endpoints.read_endpoints(connection, {n.endpoint_id for n in notices if n.endpoint_id}, now)
        _add(counts, "dropped", dropped)
        if not notices and not dropped:
            return counts, False
        stop_at = time.monotonic() + _SEND_FOR_S
        by_endpoint: dict[UUID | None, list[Notice]] = defaultdict(list)
        for notice in notices:
            by_endpoint[notice.endpoint_id].append(notice)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="endpoints") as threads:
            calls = [
                threads.submit(
                    _call,
                    database,
                    token,
                    found.get(endpoint_id) if endpoint_id else None,
                    group,
                    send,
                    schedule_s,
                    stop_at,
                )
                for endpoint_id, group in by_endpoint.items()
            ]
            for call in calls:
                for word, number in call.result().items():
                    _add(counts, word, number)
    return counts, True


def _call(
    database: Database,
    token: UUID,
    endpoint: Endpoint | None,
    notices: Sequence[Notice],
    send: Send,
    schedule_s: tuple[int, ...],
    stop_at: float,
) -> Counts:
    """Send to one endpoint in order, each recorded as it is answered; after the first failure the rest waits."""
    counts: Counts = {}
    for number, notice in enumerate(notices):
        now = datetime.now(UTC)
        if endpoint is None or endpoint.is_disabled:
            outcomes = [Outcome(each.id, "suppressed", None, now, "the endpoint is disabled") for each in notices]
            _record(database, token, outcomes, counts)
            return counts
        if time.monotonic() > stop_at:
            _give_way(database, token, endpoint, notices[number:], now, is_slow=number > 0)
            return counts
        outcome, disabled = _attempt(endpoint, notice, send, schedule_s, now)
        rest = notices[number + 1 :]
        with database.system_transaction() as connection:
            recorded = deliveries.record(connection, token, [outcome])
            if outcome.state == "sent":
                endpoints.note_success(connection, endpoint)
            elif outcome.next_at is not None:
                endpoints.note_failure(connection, endpoint, notice.id, now, _pause(outcome, now))
            if disabled is not None:
                deliveries.record(
                    connection,
                    token,
                    [Outcome(each.id, "suppressed", None, now, "the endpoint is disabled") for each in rest],
                )
                endpoints.disable(connection, endpoint.id, disabled, now)
        _add(counts, "lost" if not recorded else _WORDS[outcome.state], 1)
        if disabled is not None:
            return counts
        if outcome.state == "ready":
            _give_back(database, token, rest, now, _pause(outcome, now))
            return counts
    return counts


_WORDS = {"sent": "sent", "ready": "put_off", "failed": "failed", "suppressed": "suppressed"}


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
    except SQLAlchemyError:
        raise
    except Exception as error:  # what one row holds must not end the run of all
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
        failing = endpoint.failing_since is not None and endpoint.failing_since <= notice.created_at + _A_WHILE
        why = f"it failed for days, at last: {answer.reason}" if failing else None
        return Outcome(notice.id, "failed", "deferred", now, f"given up: {answer.reason}", answer.status or None), why
    return Outcome(notice.id, "ready", "deferred", now, answer.reason, answer.status or None, next_at=again_at), None


_A_WHILE = timedelta(hours=1)


def _pause(outcome: Outcome, now: datetime) -> datetime:
    return max(outcome.next_at or now, now + _SHORTEST_PAUSE)


def _give_back(
    database: Database, token: UUID, notices: Sequence[Notice], now: datetime, until: datetime | None
) -> None:
    outcomes = [Outcome(each.id, "ready", None, now, next_at=until) for each in notices]
    _record(database, token, outcomes, {})


def _give_way(
    database: Database, token: UUID, endpoint: Endpoint, notices: Sequence[Notice], now: datetime, *, is_slow: bool
) -> None:
    """Give back what there was no time for: to be sent at once where it was not the endpoint that took it."""
    until = now + _SHORTEST_PAUSE if is_slow else None
    _give_back(database, token, notices, now, until)
    if until is not None:
        with database.system_transaction() as connection:
            endpoints.leave_alone(connection, endpoint, until)


def _record(database: Database, token: UUID, outcomes: Sequence[Outcome], counts: Counts) -> None:
    if outcomes:
        with database.system_transaction() as connection:
            deliveries.record(connection, token, outcomes)
        _add(counts, _WORDS[outcomes[0].state], len(outcomes))


def payload_of(notice: Notice) -> bytes:
    """Return the body of a webhook: what happened, bounded; what is too long for it is in the alert."""
    data: dict[str, object] = {
        "alert_id": notice.alert_id,
        "kind": notice.kind,
        "category": notice.category,
        "severity": notice.severity,
        "subject": notice.subject,
        "message": notice.message,
        "vehicle": notice.vehicle,
        "opened_at": notice.opened_at,
        "resolved_at": notice.resolved_at,
        "details": notice.details,
    }
    told = {
        "type": f"alert.{notice.kind}.resolved" if notice.is_resolution else f"alert.{notice.kind}",
        "timestamp": (notice.resolved_at if notice.is_resolution else notice.opened_at) or notice.created_at,
        "data": data,
    }
    body = msgspec.json.encode(told)
    if len(body) > MOST_PAYLOAD_BYTES:
        data |= {"details": None, "vehicle": None, "subject": (notice.subject or "")[:200], "is_cut": True}
        body = msgspec.json.encode(told)
    return body


def webhooks(keyring: Keyring, sender: WebhookSender) -> Send:
    """Return how a webhook is sent."""

    def send(endpoint: Endpoint, notice: Notice, now: datetime) -> Answered:
        associated = secret_context(endpoint.tenant_id, endpoint.id)
        stored = [each for each in (endpoint.secret_encrypted, endpoint.previous_encrypted) if each]
        secrets = [keyring.decrypt(each, associated=associated).decode() for each in stored]
        return sender.send(endpoint.url or "", secrets, f"msg_{notice.id.hex}", now, payload_of(notice))

    return send


def chats(keyring: Keyring, sender: ChatSender, database: Database, app_url: str | None) -> Send:
    """Return how a chat is told: the text twin, under its subject."""

    def send(endpoint: Endpoint, notice: Notice, now: datetime) -> Answered:
        url = keyring.decrypt(endpoint.secret_encrypted, associated=secret_context(endpoint.tenant_id, endpoint.id))
        folded: Folded | None = None
        if notice.kind in FOLDING:
            with database.system_transaction() as connection:
                folded = read_folded(connection, notice.id, most=MOST_LINES)
        rendered = write(notice, folded, app_url, None)
        return sender.send(url.decode(), rendered.subject, rendered.text)

    return send


def _add(counts: Counts, word: str, number: int) -> None:
    if number:
        counts[word] = counts.get(word, 0) + number


SCHEDULES = {"webhook": WEBHOOK_S, "apprise": MAIL_S}
