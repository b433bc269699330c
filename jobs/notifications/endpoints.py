"""Webhooks and chats on their way: claimed as mails are, each endpoint in a thread of its own, so that a slow one
keeps no other waiting."""

import time
from collections import defaultdict
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec

from db.encryption import Keyring
from db.engine import Database
from db.queries import deliveries, endpoints
from db.queries.deliveries import LEASE_S, Notice
from db.queries.endpoints import Endpoint
from db.queries.folded import Folded, read_folded
from integrations.chat import ChatSender
from integrations.webhooks_out import Answered, WebhookSender
from jobs.notifications.calls import Send, Share
from jobs.notifications.compose import MOST_LINES, write
from jobs.notifications.recorder import count
from jobs.notifications.retries import MAIL_S, WEBHOOK_S
from jobs.outcomes import Counts

THREADS = 16
"""So many endpoints are called at once."""
_OF_TENANT = 8
"""So many of one tenant, so that one whose endpoints hang leaves room for the others."""
MOST_PAYLOAD_BYTES = 20_000
"""Endpoints may refuse larger ones (standardwebhooks spec, "Payload size", read 2026-11)."""
_EACH = 25
"""So many of one endpoint in a claim."""
_SEND_FOR_S = LEASE_S / 9
"""For how long the calls of a claim begin; who is slower gives way for a while."""
_LOOK_AGAIN_S = 1.0
"""While all are called that something waits for, so often is looked for more."""


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
    calls: dict[Future[Counts], UUID] = {}
    is_more = True
    with ThreadPoolExecutor(THREADS, thread_name_prefix=channel) as threads:
        while True:
            if is_more and len(calls) < THREADS and time.monotonic() < until:
                begun = _begin(database, channel, send, schedule_s, threads, calls, counts)
                is_more = begun or bool(calls)
            if not calls and (not is_more or time.monotonic() >= until):
                return counts, is_more
            done, _ = wait(calls, _LOOK_AGAIN_S, return_when=FIRST_COMPLETED)
            for call in done:
                del calls[call]
                for word, number in call.result().items():
                    count(counts, word, number)


def _begin(
    database: Database,
    channel: str,
    send: Send,
    schedule_s: tuple[int, ...],
    threads: ThreadPoolExecutor,
    calls: dict[Future[Counts], UUID],
    counts: Counts,
) -> bool:
    """Begin to call the endpoints that are next, one for each free thread. False: nothing is due but for busy ones."""
    token, now = uuid4(), datetime.now(UTC)
    with database.system_transaction() as connection:
        if not deliveries.is_due(connection, channel, now):
            return False
        notices, dropped = deliveries.claim_of_endpoints(
            connection,
            channel,
            token,
            now,
            endpoints=THREADS - len(calls),
            each=_EACH,
            of_tenant=_OF_TENANT,
            busy=calls.values(),
        )
        found = endpoints.read_endpoints(connection, {n.endpoint_id for n in notices if n.endpoint_id}, now)
    count(counts, "dropped", dropped)
    by_endpoint: dict[UUID, list[Notice]] = defaultdict(list)
    for notice in notices:
        if notice.endpoint_id is not None:
            by_endpoint[notice.endpoint_id].append(notice)
    stop_at = time.monotonic() + _SEND_FOR_S
    for endpoint in found.values():
        if not endpoint.is_disabled:  # turned off since the claim, which ends with its lease
            share = Share(database, token, endpoint, by_endpoint[endpoint.id], send, schedule_s)
            calls[threads.submit(share.call, stop_at)] = endpoint.id
    return bool(notices or dropped)


def payload_of(notice: Notice) -> bytes:
    """Return the body of a webhook: what happened, bounded; what is too long for it is in the alert."""
    data: dict[str, object] = {
        "alert_id": notice.alert_id,
        "kind": notice.kind,
        "category": notice.category,
        "severity": notice.severity,
        "subject": notice.subject,
        "message": notice.message,
        "vehicle_id": notice.vehicle_id,
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
        if notice.alert_id is None:
            with database.system_transaction() as connection:
                folded = read_folded(connection, notice.id, most=MOST_LINES)
        rendered = write(notice, folded, app_url, None)
        return sender.send(url.decode(), rendered.subject, rendered.text)

    return send


SCHEDULES = {"webhook": WEBHOOK_S, "apprise": MAIL_S}
