"""How far an answer of Samsara's reaches: its cursor, whether there is more, and that a feed does not go in circles."""

import msgspec

from integrations.aside import rejected
from integrations.errors import TransientError
from integrations.http import Answer, shape
from integrations.samsara.wire import Pagination
from integrations.telematics import Rejected

_LONGEST_CURSOR = 4096


def unreadable(answer: Answer, error: Exception) -> TransientError:
    """Return the failure that an answer without even the outline of a page is."""
    if isinstance(error, msgspec.ValidationError):
        return TransientError(f"{answer.request}: answered with JSON that is not a page")
    return TransientError(f"{answer.request}: answered with {shape(answer.body)}")


def loop(pagination: Pagination, cursor: str | None) -> list[Rejected]:
    """Return a rejection when the next page would be this one again."""
    if not pagination.has_next_page or (pagination.end_cursor and pagination.end_cursor != cursor):
        return []
    return [rejected("cursor_loop", "pagination.endCursor", msgspec.json.encode(pagination))]


def checked(answer: Answer, pagination: Pagination) -> str | None:
    """Return the cursor to go on from, None when there is none; refuse one that cannot be stored."""
    cursor = pagination.end_cursor
    if len(cursor) > _LONGEST_CURSOR or "\0" in cursor:
        raise TransientError(f"{answer.request}: answered with a cursor that cannot be stored")
    return cursor or None
