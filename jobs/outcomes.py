"""The closed set of what a job can end as: counts, another slice, a snooze, or one of the errors."""

from dataclasses import dataclass, field
from typing import Any

Counts = dict[str, int]
"""What a run did, by word: added up over its slices, shown by `fleet-jobs show`."""


@dataclass(frozen=True)
class NextSlice:
    """There is more to do: the run goes on behind the other tenants' first slices. Costs no try."""

    counts: Counts
    progress: dict[str, Any] = field(default_factory=dict)


class Snooze(Exception):  # noqa: N818  # an outcome, not an error
    """Nothing to do yet: run again after `delay_s`. Costs no try."""

    def __init__(self, delay_s: float, reason: str) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


class InvalidArguments(Exception):  # noqa: N818
    """The arguments break the job's contract. The message names the field and the value's shape."""


class ClaimLost(Exception):  # noqa: N818
    """The run is no longer this worker's: it was rescued meanwhile. What its transaction did is rolled back."""


class CancelRequested(Exception):  # noqa: N818
    """Somebody asked to cancel the run; raised where it next opens a transaction."""
