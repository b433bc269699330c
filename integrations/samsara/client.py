"""One Samsara account, read through its vehicle and vehicle stats endpoints."""

from collections.abc import Callable
from datetime import UTC, datetime

from integrations.bounds import BROKEN, Limits, UnbelievableError
from integrations.errors import BadRequest, CursorRefused
from integrations.http import Answer, HttpSession, Judge
from integrations.samsara.decode import Decoded, decode_page
from integrations.samsara.devices import decode_devices
from integrations.samsara.paging import checked, loop, unreadable
from integrations.samsara.safety_feed import SafetyFeed
from integrations.samsara.salvage import salvage_page
from integrations.telematics import DevicePage, Page, Rejected

# developers.samsara.com/docs/authentication, read 2026-11.
ORIGINS = ("https://api.samsara.com", "https://api.eu.samsara.com", "https://api.ca.samsara.com")

# At most three types a request (developers.samsara.com/docs/vehicle-stats-feed, read 2026-11), and a cursor
# belongs to the exact combination: changing a line here invalidates the stored cursors of that feed, which is then
# begun anew.
FEEDS = {
    "gps": "gps,obdOdometerMeters,gpsOdometerMeters",
    "engine": "fuelPercents,engineStates,obdEngineSeconds",
    "health": "evStateOfChargeMilliPercent,faultCodes,evChargingStatus",
}


def utc_now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


class Samsara:
    """Fulfils `TelematicsProvider` with three feeds of vehicle stats and one of safety events."""

    name = "samsara"
    feeds = (*FEEDS, "safety")
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
        self._safety = SafetyFeed(self._get, clock)

    def list_devices(self, cursor: str | None) -> DevicePage:
        """Return one page of the account's vehicles, at most 512."""
        answer = self._get("/fleet/vehicles", {"limit": "512"}, cursor)
        try:
            page = decode_devices(answer.body)
        except BROKEN as error:
            raise unreadable(answer, error) from None
        looped = loop(page.pagination, cursor)
        has_more = page.pagination.has_next_page and not looped
        next_cursor = checked(answer, page.pagination) if has_more else None
        return DevicePage(page.devices, [*page.rejected, *looped], next_cursor, has_more)

    def read_snapshot(self, feed: str, cursor: str | None) -> Page:
        """Return one page of the latest values of the stats of a feed; the safety events have none."""
        answer = self._get("/fleet/vehicles/stats", {"types": FEEDS[feed]}, cursor)
        decoded = self._decode(answer, is_snapshot=True)
        looped = loop(decoded.pagination, cursor)
        has_more = decoded.pagination.has_next_page and not looped
        next_cursor = checked(answer, decoded.pagination) if has_more else None
        return _page(decoded, looped, next_cursor, has_more=has_more)

    def read_feed(self, feed: str, cursor: str | None) -> Page:
        """Return one page of what came since `cursor`. The cursor of the last page is kept for the next time.

        Late uploads of a gateway that was offline come with their old times.
        """
        if feed == "safety":
            return self._safety.read(cursor)
        answer = self._get("/fleet/vehicles/stats/feed", {"types": FEEDS[feed]}, cursor)
        decoded = self._decode(answer, is_snapshot=False)
        looped = loop(decoded.pagination, cursor)
        has_more = decoded.pagination.has_next_page and not looped
        next_cursor = checked(answer, decoded.pagination) or cursor
        return _page(decoded, looped, next_cursor, has_more=has_more)

    def close(self) -> None:
        """Close the HTTP connections."""
        self._session.close()

    def _get(self, path: str, params: dict[str, str], cursor: str | None, judge: Judge | None = None) -> Answer:
        url = self._base_url + path
        if cursor is None:
            return self._session.get_json(url, params=params, bearer=self._token, judge=judge)
        try:
            return self._session.get_json(url, params={**params, "after": cursor}, bearer=self._token, judge=judge)
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
            raise unreadable(answer, error) from None


def _page(decoded: Decoded, looped: list[Rejected], cursor: str | None, *, has_more: bool) -> Page:
    health = decoded.health
    rejected = [*decoded.rejected, *looped]
    return Page(decoded.readings, rejected, cursor, has_more, health.ev_readings, health.fault_reports)
