"""What a kept delivery brings, stored as a page of a feed is; and the sync that it asks for."""

from uuid import UUID

from msgspec.structs import replace
from sqlalchemy import Connection

from db.queries import telematics
from db.queries import webhooks as queries
from integrations.errors import PermanentError
from integrations.registry import find_provider
from integrations.telematics import Page, Rejected
from integrations.webhooks import Webhooks
from jobs.client import enqueue
from jobs.job import JOBS
from jobs.outcomes import Counts, Snooze
from jobs.run import Run
from jobs.telematics import live
from jobs.telematics.geofences.cache import FencesNotRead, refresh
from jobs.telematics.page import prepare, write_readings

STAGE = "webhook"
_SYNC = "telematics.sync_connection"
_PAUSED_S = 600.0


def read_delivery(run: Run, connection_id: UUID, event_id: str) -> Counts:
    """Store a delivery's records, mark it read and finish the run, in one transaction.

    What a paused connection was sent waits until it is resumed. One that was cut off is read: what the provider pushes
    needs no token.

    Raises:
        Snooze: the connection is paused. PermanentError: its provider has no webhooks.
    """
    try:
        return _read(run, connection_id, event_id)
    except FencesNotRead:
        assert run.tenant_id is not None
        refresh(run.database, run.tenant_id)
        return _read(run, connection_id, event_id)


def _read(run: Run, connection_id: UUID, event_id: str) -> Counts:
    with run.transaction() as connection:
        account = telematics.find_account(connection, connection_id)
        if account is None:
            return {"connection_removed": 1}
        if account.status == "paused":
            raise Snooze(_PAUSED_S, "the connection is paused")
        payload = queries.take_payload(connection, connection_id, event_id, run.now)
        if payload is None:
            return {"read_before_or_purged": 1}
        pushed = _webhooks(account.provider).read(payload, run.now)
        page = prepare(connection, account, [_own(connection, connection_id, pushed.page)], run.now)
        counts = write_readings(connection, account, STAGE, page, run.now)
        if page.newest is not None:
            telematics.note_newest(connection, account.id, page.newest)
        if pushed.wakes_sync:
            enqueue(connection, JOBS[_SYNC], {"connection_id": connection_id}, requested_by=STAGE, parent_id=run.id)
        run.add(counts)
        run.succeed(connection)
    live.show(account.tenant_id, page.latest)
    return {}


def _own(connection: Connection, connection_id: UUID, page: Page) -> Page:
    """Return a page without the devices that the account has never listed.

    A provider may push for all owners who have allowed one application: what concerns another's vehicle, or nobody can
    tell whose, is counted, and nothing of it is kept. A vehicle that is new here is read once the account lists it.
    """
    devices = {each.device_id for each in page.readings} | {each.device_id for each in page.ev_readings}
    devices |= {each.device_id for each in page.fault_reports} | {each.device_id for each in page.safety_events}
    devices |= {each.device_id for each in page.rejected if each.device_id is not None}
    foreign = devices - telematics.find_listed(connection, connection_id, list(devices))
    kept = [
        each if each.device_id is not None else replace(each, payload="")
        for each in page.rejected
        if each.device_id not in foreign
    ]
    return Page(
        [each for each in page.readings if each.device_id not in foreign],
        [*kept, *(Rejected("foreign_device", "device_id", "") for _ in foreign)],
        page.cursor,
        page.has_more,
        [each for each in page.ev_readings if each.device_id not in foreign],
        [each for each in page.fault_reports if each.device_id not in foreign],
        [each for each in page.safety_events if each.device_id not in foreign],
    )


def _webhooks(provider: str) -> Webhooks:
    webhooks = find_provider(provider).webhooks
    if webhooks is None:
        raise PermanentError(f"{provider}: this release knows no webhooks of it")
    return webhooks
