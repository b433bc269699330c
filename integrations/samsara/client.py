"""One Samsara account, read through its vehicle and vehicle stats endpoints."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from integrations.errors import BadRequest, CursorRefused, TransientError
from integrations.http import Answer, HttpSession, shape
from integrations.samsara.decode import BROKEN, Decoded, Limits, UnbelievableError, decode_page
from integrations.samsara.devices import decode_devices
from integrations.samsara.salvage import rejected, salvage_page
from integrations.samsara.wire import Pagination
from integrations.telematics import DevicePage, Page, Rejected

# developers.samsara.com/docs/authentication, read 2026-11.
ORIGINS = ("https://api.samsara.com", "https://api.eu.samsara.com", "https://api.ca.samsara.com")

# At most three types a request (developers.samsara.com/docs/vehicle-stats-feed, read 2026-11), and a cursor
# belongs to the exact combination: changing a line here invalidates the stored cursors of that feed.
# `health` has room for faultCodes.
FEEDS = {
    "gps": "gps,obdOdometerMeters,gpsOdometerMeters",
    "engine": "fuelPercents,engineStates,obdEngineSeconds",
    "health": "evStateOfChargeMilliPercent",
}
_LONGEST_CURSOR = 4096


def utc_now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


class Samsara:
    """Fulfils `TelematicsProvider` with three feeds of vehicle stats."""

    name = "samsara"
    feeds = tuple(FEEDS)
    snapshots = tuple(FEEDS)

    def __init__(
        self,
        session: HttpSession,
        token: str,
        base_url: str = ORIGINS[0],
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._session = session
        self._token = token
        self._base_url = base_url.rstrip("/")
        self._clock = clock

    def list_devices(self, cursor: str | None) -> DevicePage:
        """Return one page of the account's vehicles, at most 512."""
        answer = self._get("/fleet/vehicles", {"limit": "512"}, cursor)
        try:
            page = decode_devices(answer.body)
        except BROKEN as error:
            raise _unreadable(answer, error) from None
        looped = _loop(page.pagination, cursor)
        has_more = page.pagination.has_next_page and not looped
        next_cursor = _checked(answer, page.pagination) if has_more else None
        return DevicePage(page.devices, [*page.rejected, *looped], next_cursor, has_more)

    def read_snapshot(self, feed: str, cursor: str | None) -> Page:
        """Return one page of the latest values of the stats of a feed."""
        answer = self._get("/fleet/vehicles/stats", {"types": FEEDS[feed]}, cursor)
        decoded = self._decode(answer, is_snapshot=True)
        looped = _loop(decoded.pagination, cursor)
        has_more = decoded.pagination.has_next_page and not looped
        next_cursor = _checked(answer, decoded.pagination) if has_more else None
        return Page(decoded.readings, [*decoded.rejected, *looped], next_cursor, has_more)

    def read_feed(self, feed: str, cursor: str | None) -> Page:
        """Return one page of what came since `cursor`. The cursor of the last page is kept for the next time.

        Late uploads of a gateway that was offline come with their old times.
        """
        answer = self._get("/fleet/vehicles/stats/feed", {"types": FEEDS[feed]}, cursor)
        decoded = self._decode(answer, is_snapshot=False)
        looped = _loop(decoded.pagination, cursor)
        has_more = decoded.pagination.has_next_page and not looped
        next_cursor = _checked(answer, decoded.pagination) or cursor
        return Page(decoded.readings, [*decoded.rejected, *looped], next_cursor, has_more)

    def close(self) -> None:
        """Close the HTTP connections."""
        self._session.close()

    def _get(self, path: str, params: dict[str, str], cursor: str | None) -> Answer:
        if cursor is None:
            return self._session.get_json(self._base_url + path, params=params, bearer=self._token)
        try:
            return self._session.get_json(self._base_url + path, params={**params, "after": cursor}, bearer=self._token)
        except BadRequest as error:
            raise CursorRefused(str(error)) from error

    def _decode(self, answer: Answer, *, is_snapshot: bool) -> Decoded:
        limits = Limits.at(self._clock())
        try:
            return decode_page(answer.body, limits, is_snapshot=is_snapshot)
        except (*BROKEN, UnbelievableError):
            pass
        try:
            return salvage_page(answer.body, limits, is_snapshot=is_snapshot)
        except BROKEN as error:
            raise _unreadable(answer, error) from None


def _unreadable(answer: Answer, error: Exception) -> TransientError:
    if isinstance(error, msgspec.ValidationError):
        return TransientError(f"{answer.request}: answered with JSON that is not a page")
    return TransientError(f"{answer.request}: answered with {shape(answer.body)}")


def _loop(pagination: Pagination, cursor: str | None) -> list[Rejected]:
    """Return a rejection when the next page would be this one again."""
    if not pagination.has_next_page or (pagination.end_cursor and pagination.end_cursor != cursor):
        return []
    return [rejected("cursor_loop", "pagination.endCursor", msgspec.json.encode(pagination))]


def _checked(answer: Answer, pagination: Pagination) -> str | None:
    """Return the cursor to go on from, None when there is none; refuse one that cannot be stored."""
    cursor = pagination.end_cursor
    if len(cursor) > _LONGEST_CURSOR or "\0" in cursor:
        raise TransientError(f"{answer.request}: answered with a cursor that cannot be stored")
    return cursor or None
