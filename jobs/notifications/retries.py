"""When a delivery that failed is tried again: a time in its row, spread a little, so that not all come at once."""

import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

T = TypeVar("T")

MINUTE, HOUR = 60, 3600
MAIL_S = (MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR)
"""A mail server asks for patience for minutes (greylisting) or hours (a full mailbox)."""
WEBHOOK_S = (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""After the first try, as the specification's example (standardwebhooks spec, "Deliverability", read 2026-11)."""


def next_try(schedule_s: tuple[int, ...], attempts: int, now: datetime, *, asked_s: float = 0) -> datetime | None:
    """Return when to try again after so many attempts, a tenth earlier or later; None where it was the last.

    Args:
        asked_s: how long the other side has asked for; waited for at least.
    """
    if attempts > len(schedule_s):
        return None
    delay_s = schedule_s[max(attempts, 1) - 1] * random.uniform(0.9, 1.1)  # noqa: S311
    return now + timedelta(seconds=max(delay_s, asked_s))


_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0


def until_taken(write: Callable[[], T], until: float) -> T:
    """Do what is harmless twice, again while the database is away: what a server has accepted is not to be sent again.

    Args:
        until: of `time.monotonic`: the end of the claim, after which the mail is another worker's.

    Raises:
        SQLAlchemyError: the database was away for so long, or refuses.
    """
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError, PoolTimeout):
            if time.monotonic() + pause_s > until:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
