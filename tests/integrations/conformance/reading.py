"""Reading a feed as a sync does: page after page, the cursor kept as text in between."""

import json
from collections.abc import Callable, Iterable

from integrations.telematics import EvReading, FaultReport, Page, Reading, SafetyEvent, TelematicsProvider

_MOST_PAGES = 500
LONGEST_CURSOR = 64 * 1024

Record = Reading | EvReading | FaultReport | SafetyEvent
Id = tuple[object, ...]


def stored(cursor: str | None) -> str | None:
    """Return a cursor as it comes back from where it is kept: a column of text, which takes no NUL."""
    if cursor is None:
        return None
    assert isinstance(cursor, str)
    assert "\0" not in cursor
    assert 0 < len(cursor.encode()) <= LONGEST_CURSOR
    back = json.loads(json.dumps(cursor))
    assert isinstance(back, str)
    return back


def list_devices(account: TelematicsProvider) -> list[str]:
    """List the account's devices to their end; returns their ids."""
    listed: list[str] = []
    cursor = None
    for _ in range(_MOST_PAGES):
        page = account.list_devices(cursor)
        assert not page.rejected
        listed += (device.device_id for device in page.devices)
        cursor = stored(page.cursor)
        if not page.has_more:
            return listed
        assert cursor is not None
    raise AssertionError(f"no end after {_MOST_PAGES} pages")


def read_pages(account: TelematicsProvider, feed: str, cursor: str | None = None) -> list[Page]:
    """Read a feed to its end."""
    return _to_the_end(lambda at: account.read_feed(feed, at), cursor)


def read_snapshot(account: TelematicsProvider, feed: str) -> list[Page]:
    """Read the snapshot of a feed to its end."""
    return _to_the_end(lambda at: account.read_snapshot(feed, at), None)


def _to_the_end(read: Callable[[str | None], Page], cursor: str | None) -> list[Page]:
    pages: list[Page] = []
    while len(pages) < _MOST_PAGES:
        pages.append(read(cursor))
        cursor = stored(pages[-1].cursor)
        if not pages[-1].has_more:
            return pages
    raise AssertionError(f"no end after {_MOST_PAGES} pages")


def records(pages: Iterable[Page]) -> list[Record]:
    """Return everything that pages bring."""
    found: list[Record] = []
    for page in pages:
        found += [*page.readings, *page.ev_readings, *page.fault_reports, *page.safety_events]
    return found


def by_id(found: Iterable[Record]) -> dict[Id, Record]:
    """Return records by what they are known by; one that comes again must say the same."""
    known: dict[Id, Record] = {}
    for record in found:
        key: Id = (type(record), record.device_id, record.time)
        if isinstance(record, SafetyEvent):
            key = (SafetyEvent, record.event_id)
        elif isinstance(record, FaultReport):
            key = (*key, record.scope)
        assert known.setdefault(key, record) == record, "one record is told in two ways"
    return known
