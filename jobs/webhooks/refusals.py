"""What was refused, counted: a line of the log for each reason, and no more of them in a flood."""

import threading
import time
from collections import Counter
from uuid import UUID

import structlog

_log = structlog.get_logger()
_SAID_EVERY_S = 10.0


class Refusals:
    """Says the first refusal at once, those after it together at the next one that comes ten seconds later.

    Thread-safe. Connections are named where they are the tenants' own, never as somebody made them up.
    """

    def __init__(self, said_every_s: float = _SAID_EVERY_S) -> None:
        self._said_every_s = said_every_s
        self._counted: Counter[tuple[str, UUID | None]] = Counter()
        self._next_at = 0.0
        self._lock = threading.Lock()

    def add(self, reason: str, connection_id: UUID | None = None) -> None:
        """Count a refusal for a reason, a constant word."""
        with self._lock:
            self._counted[reason, connection_id] += 1
            is_due = time.monotonic() >= self._next_at
        if is_due:
            self.say()

    def say(self) -> None:
        """Log what was counted and not yet said."""
        with self._lock:
            told, self._counted = self._counted, Counter()
            self._next_at = time.monotonic() + self._said_every_s
        for (reason, connection_id), times in told.items():
            known = {} if connection_id is None else {"connection": str(connection_id)}
            _log.warning("webhooks_refused", reason=reason, times=times, **known)
