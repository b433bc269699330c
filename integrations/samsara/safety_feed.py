"""The feed of safety events: from the current stream, or from the legacy list where an account has no stream.

The two name one event by different ids, so the cursor says which was chosen, and the choice sticks. Both need the scope
Read Safety Events & Scores: without it the feed is empty and says why, and the account's points flow on.

- The stream is asked by `updatedAtTime` without an end: an event comes again when it is reviewed. Every request must
  repeat the `startTime` with which its cursor began (answered with 400 otherwise), so the cursor holds it.
- The list wants a window. An event appears there minutes after it happened: windows overlap by an hour.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from integrations.aside import rejected
from integrations.bounds import BROKEN, Limits
from integrations.errors import BadRequest, CursorRefused, PermanentError
from integrations.http import Answer, Judge, Refusal
from integrations.samsara.paging import checked, loop, unreadable
from integrations.samsara.safety import decode_event
from integrations.samsara.salvage import open_envelope
from integrations.telematics import Page, Rejected, SafetyEvent

FIRST_SIGHT = timedelta(hours=24)
"""How far back the events of a new account are read."""
OVERLAP = timedelta(hours=1)
"""How far windows of the legacy list overlap: an event that took longer to appear is missed."""

_CURRENT = "/safety-events/stream"
_CURRENT_PARAMS = {"queryByTimeField": "updatedAtTime", "includeVgOnlyEvents": "true"}
_LEGACY = "/fleet/safety-events"
_NO_ACCESS = b'"the token lacks the scope Read Safety Events & Scores, or the organisation its licence"'

Get = Callable[[str, dict[str, str], str | None, Judge], Answer]


class NoAccess(PermanentError):  # noqa: N818 - named for the caller, as its siblings are
    """The account cannot use an endpoint: 403, 404 or 405, depending on what its token or organisation lacks."""


class Place(NamedTuple):
    """A place in one of the two: since when, until when (the legacy list only), and Samsara's own cursor therein."""

    source: str
    since: str
    until: str = ""
    after: str = ""

    @classmethod
    def parse(cls, cursor: str) -> "Place":
        """Read a cursor back.

        Raises:
            CursorRefused: not one of ours.
        """
        source, _, rest = cursor.partition(":")
        since, slash, rest = rest.partition("/")
        until, second, after = rest.partition("/")
        if source not in ("current", "legacy") or not slash or not second:
            raise CursorRefused("the cursor of the safety events is not one of ours")
        return cls(source, since, until, after)

    def __str__(self) -> str:
        return f"{self.source}:{self.since}/{self.until}/{self.after}"


class SafetyFeed:
    """The safety events of one account."""

    def __init__(self, get: Get, clock: Callable[[], datetime]) -> None:
        self._get = get
        self._clock = clock

    def read(self, cursor: str | None) -> Page:
        """Return one page of events that are new or changed since `cursor`; None begins a day ago."""
        now = self._clock()
        if cursor is None:
            since = _text(now - FIRST_SIGHT)
            return (
                self._read(Place("current", since), now)
                or self._read(Place("legacy", since, _text(now)), now)
                or _refused(None)
            )
        place = Place.parse(cursor)
        if place.source == "legacy" and not place.after:
            place = _next_window(place, now)
        try:
            return self._read(place, now) or _refused(cursor)
        except BadRequest as error:
            raise CursorRefused(str(error)) from error

    def _read(self, place: Place, now: datetime) -> Page | None:
        """Return the page of a place, None where the account has no access to it."""
        path, params = _CURRENT, {"startTime": place.since, **_CURRENT_PARAMS}
        if place.source == "legacy":
            path, params = _LEGACY, {"startTime": place.since, "endTime": place.until}
        try:
            answer = self._get(path, params, place.after or None, _judge)
        except NoAccess:
            return None
        return _page(answer, place, Limits.at(now))


def _judge(refusal: Refusal) -> NoAccess | None:
    is_closed = refusal.status in (403, 404, 405)
    return NoAccess(f"{refusal.request}: status {refusal.status}") if is_closed else None


def _page(answer: Answer, place: Place, limits: Limits) -> Page:
    try:
        envelope = open_envelope(answer.body)
    except BROKEN as error:
        raise unreadable(answer, error) from None
    aside: list[Rejected] = []
    events = [event for raw in envelope.data if (event := decode_event(bytes(raw), limits, aside))]
    looped = loop(envelope.pagination, place.after)
    has_more = envelope.pagination.has_next_page and not looped
    there = _beyond(place, checked(answer, envelope.pagination), has_more=has_more)
    return Page([], [*aside, *looped], str(there), has_more, safety_events=_by_device(events))


def _beyond(place: Place, after: str | None, *, has_more: bool) -> Place:
    """Return where to go on: a window of the list is over with its last page, the stream never is."""
    if place.source == "legacy" and not has_more:
        return place._replace(after="")
    return place._replace(after=after or place.after)


def _by_device(events: list[SafetyEvent]) -> list[SafetyEvent]:
    """Return events oldest first; of two states of one event within a page the later."""
    return sorted({event.event_id: event for event in events}.values(), key=lambda event: event.time)


def _next_window(place: Place, now: datetime) -> Place:
    try:
        until = datetime.fromisoformat(place.until)
    except ValueError:
        raise CursorRefused("the cursor of the safety events is not one of ours") from None
    return Place("legacy", _text(until - OVERLAP), _text(max(now, until)))


def _refused(cursor: str | None) -> Page:
    """Return an empty page that says why; always the same words, so that they are kept once."""
    return Page([], [rejected("scope_missing", _CURRENT, _NO_ACCESS)], cursor, has_more=False)


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
