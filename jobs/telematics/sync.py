"""One sync of one connection: its vehicles, then its feeds, page by page, until the slice is over.

The next page is fetched while this one is written. One transaction a page holds everything that follows from it; a
page that rolled back never happened, one that committed has moved the cursor.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog

from db.queries import telematics
from db.queries.connections import find_moved_last
from db.queries.telematics import Account, Cursor
from integrations.errors import AccessExpired, CredentialsRejected, CursorRefused, IntegrationError, PermanentError
from integrations.registry import check_origin, open_provider
from integrations.telematics import DevicePage, Page, Rejected, TelematicsProvider
from jobs.outcomes import Counts, NextSlice, Snooze
from jobs.run import Run
from jobs.settings import Settings, get_settings
from jobs.telematics import live, pace, tokens
from jobs.telematics.page import Prepared, locate_fixes, prepare, write_devices, write_readings

_log = structlog.get_logger()

DEVICES = "devices"
_LIST_DEVICES_S = 3600
_LISTED_LIKE_A_FEED = ("smartcar",)
"""Whose list says by its cursor when it asks, and asks out of the feeds' small quota: it takes turns with them."""
_GATHER_READINGS = 2_500
"""Small pages are gathered up to so many readings, and for no longer than the seconds below."""
_GATHER_S = 1.0


@dataclass(frozen=True)
class Stage:
    """One thing to read to its end: `devices`, `snapshot:<feed>` at first sight, or `<feed>`."""

    name: str
    cursor: str | None

    @property
    def feed(self) -> str:
        """The provider's name of the feed."""
        return self.name.removeprefix("snapshot:")

    @property
    def is_snapshot(self) -> bool:
        """Whether it reads the newest values instead of what came since a cursor."""
        return self.name.startswith("snapshot:")


def sync_connection(run: Run, connection_id: UUID) -> Counts | NextSlice:
    """Read a connection's stages until all are at their end (counts) or the slice is over (more to do).

    Raises:
        PermanentError: no such connection of the tenant, or its base URL is not allowed.
        CredentialsRejected: the account refuses us; the connection is marked and its owner told.
    """
    assert run.tenant_id is not None
    settings = get_settings()
    with run.transaction() as connection:
        account = telematics.find_account(connection, connection_id)
        moved_last = find_moved_last(connection, connection_id)
    if account is None:
        raise PermanentError(f"connection_id: the tenant has no connection {connection_id}")
    if account.status != "active":
        return {"not_active": 1}
    deadline = time.monotonic() + settings.slice_s
    feeds_first = account.provider in _LISTED_LIKE_A_FEED and moved_last == DEVICES
    if tokens.runs_out(account.provider, tokens.open_credentials(account, settings), run.now):
        account = tokens.renew_or_cut_off(run, account, settings)
        may_renew = False
    else:
        may_renew = tokens.is_renewed_by(account.provider)
    is_at_end = _read_account(run, account, settings, deadline, feeds_first=feeds_first, may_renew=may_renew)
    if not is_at_end:
        return NextSlice({})
    with run.transaction() as connection:
        telematics.note_sync(connection, account.id, run.now)
        run.succeed(connection)
    return {}


def _read_account(
    run: Run, account: Account, settings: Settings, deadline: float, *, feeds_first: bool, may_renew: bool
) -> bool:
    """Read an account's stages; False where the slice was over before their end.

    An access token that is refused in the middle is renewed once; the cursors say where to go on.
    """
    provider = _open(account, settings)
    try:
        with run.transaction() as connection:
            cursors = telematics.read_cursors(connection, account.id)
        stages = list(_stages(provider, cursors, account, run))
        if feeds_first:
            stages.sort(key=lambda stage: stage.name == DEVICES)
        return all(_read_or_begin_anew(run, account, provider, stage, deadline) for stage in stages)
    except CredentialsRejected as error:
        if not (may_renew and isinstance(error, AccessExpired)):
            with run.transaction() as connection:
                telematics.cut_off(connection, account, str(error), run.now)
            raise
    finally:
        provider.close()
    renewed = tokens.renew_or_cut_off(run, account, settings)
    return _read_account(run, renewed, settings, deadline, feeds_first=feeds_first, may_renew=False)


def _open(account: Account, settings: Settings) -> TelematicsProvider:
    if account.base_url is not None:
        check_origin(account.provider, account.base_url, settings.provider_origins)
    credentials = tokens.open_credentials(account, settings)
    turn = partial(pace.wait_for_turn, account, credentials.get("client_id"))
    return open_provider(account.provider, credentials, account.base_url, options=account.settings, wait_for_turn=turn)


def _stages(provider: TelematicsProvider, cursors: dict[str, Cursor], account: Account, run: Run) -> Iterator[Stage]:
    devices = cursors.get(DEVICES, Cursor(None, None))
    every = timedelta(seconds=0 if account.provider in _LISTED_LIKE_A_FEED else _LIST_DEVICES_S)
    if devices.completed_at is None or devices.completed_at < run.now - every:
        yield Stage(DEVICES, devices.cursor)  # an unfinished one goes on: it is the last complete one that is stale
    for feed in provider.snapshots:
        snapshot = cursors.get(f"snapshot:{feed}", Cursor(None, None))
        if feed not in cursors and snapshot.completed_at is None:
            yield Stage(f"snapshot:{feed}", snapshot.cursor)
    for feed in provider.feeds:
        yield Stage(feed, cursors.get(feed, Cursor(None, None)).cursor)


def _read_or_begin_anew(
    run: Run, account: Account, provider: TelematicsProvider, stage: Stage, deadline: float
) -> bool:
    """Read a stage; one whose cursor the provider refuses is begun anew, and what that may have cost is written down.

    A second refusal in a row is an error: then it is not the cursor that the provider does not understand.
    """
    try:
        return _read_stage(run, account, provider, stage, deadline)
    except CursorRefused as error:
        _log.warning("cursor_refused", connection=str(account.id), feed=stage.name)
        with run.transaction() as connection:
            telematics.begin_anew(connection, account.id, stage.name)
            gap = Rejected("cursor_refused", "pagination.endCursor", str(error)[:1000])
            telematics.keep_rejected(connection, account.id, stage.name, [gap])
            run.report(connection, {"cursors_refused": 1}, stage=stage.name)
        return _read_stage(run, account, provider, Stage(stage.name, None), deadline)


def _read_stage(run: Run, account: Account, provider: TelematicsProvider, stage: Stage, deadline: float) -> bool:
    """Read a stage from its cursor on; False where the slice was over before its end."""
    with (
        ThreadPoolExecutor(1, thread_name_prefix="prefetch") as prefetch,
        ThreadPoolExecutor(1, thread_name_prefix="live") as watchers,
    ):
        cursor = stage.cursor
        coming: Future[Prepared | DevicePage] = prefetch.submit(_fetch, run, account, provider, stage, cursor)
        shown: Future[None] | None = None
        while True:
            page = coming.result()
            is_over = time.monotonic() >= deadline
            if page.has_more and not is_over:
                coming = prefetch.submit(_fetch, run, account, provider, stage, page.cursor)
            _write(run, account, stage, cursor, page)
            if isinstance(page, Prepared):
                if shown is not None:
                    shown.result()  # Redis sets the pace of what is shown, a page behind
                shown = watchers.submit(live.show, account.tenant_id, page.latest)
            cursor = page.cursor
            if not page.has_more:
                return True
            if is_over:
                return False


def _fetch(
    run: Run, account: Account, provider: TelematicsProvider, stage: Stage, cursor: str | None
) -> Prepared | DevicePage:
    """Get what is written next and prepare it, while what came before is being written."""
    if stage.name == DEVICES:
        return provider.list_devices(cursor)
    pages = _read_pages(account, provider, stage, cursor)
    with run.database.tenant_transaction(account.tenant_id) as connection:
        prepared = prepare(connection, account, pages, run.now)
    return locate_fixes(run.database, account, prepared)


def _read_pages(account: Account, provider: TelematicsProvider, stage: Stage, cursor: str | None) -> list[Page]:
    """Read a page, and more while they are small: a transaction costs the same for fifty points and for five thousand.

    What the provider refuses after the first page is met again at the next turn, with what came before it stored.
    """
    read = provider.read_snapshot if stage.is_snapshot else provider.read_feed
    pages: list[Page] = []
    until = time.monotonic() + _GATHER_S
    while True:
        try:
            pages.append(read(stage.feed, pages[-1].cursor if pages else cursor))
        except IntegrationError:
            if not pages:
                raise
            return pages
        if not pages[-1].has_more or time.monotonic() > until:
            return pages
        if sum(page.size for page in pages) >= _GATHER_READINGS:
            return pages


def _write(run: Run, account: Account, stage: Stage, old: str | None, page: Prepared | DevicePage) -> None:
    """Write a page, its cursor and the run's counts in one transaction; a lost claim leaves no trace."""
    with run.transaction(unhurried=True) as connection:
        if isinstance(page, DevicePage):
            counts = write_devices(connection, account, stage.name, page, run.now)
        else:
            counts = write_readings(connection, account, stage.name, page, run.now)
            if page.newest is not None:
                telematics.note_newest(connection, account.id, page.newest)
        moved = telematics.advance_cursor(
            connection,
            account.id,
            stage.name,
            old,
            page.cursor,
            pages=counts["pages"],
            points=counts.get("stored", 0),
            completed_at=None if page.has_more else run.now,
        )
        if not moved:
            raise Snooze(5.0, "another sync of this connection has moved the cursor")
        run.report(connection, counts, stage=stage.name)
