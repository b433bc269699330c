"""The doorways of maintenance."""

from jobs.job import job
from jobs.maintenance import check
from jobs.outcomes import Counts, NextSlice
from jobs.run import Run


@job("maintenance.check_due", unique_by=(), is_public=True)
def check_due(run: Run) -> Counts | NextSlice:
    """Open a work order for every service of a tenant that has fallen due, and tell of what is due and due soon.

    Twice is harmless: a due cycle has one work order, a trigger one open alert of a kind.
    """
    return check.check_due(run)
