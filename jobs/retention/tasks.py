"""The doorways of retention."""

from db.queries import history
from db.timeseries.partitions import make_partitions as make
from jobs.job import job
from jobs.outcomes import Counts, NextSlice
from jobs.run import Run


@job("retention.make_partitions", scope="system", unique_by=())
def make_partitions(run: Run) -> Counts:
    """Make the partitions of the coming days, and any that is missing behind.

    Twice is harmless: a partition is known by its name.
    """
    with run.database.owner_transaction() as connection:
        return make(connection, run.now)


@job("retention.purge_history", scope="system", unique_by=())
def purge_history(run: Run) -> Counts | NextSlice:
    """Remove what is too old: runs, notifications, resolved alerts, meter readings, and what providers sent.

    Twice is harmless: what is gone is gone. Dead letters stay until they are replayed or as old.
    """
    with run.transaction() as connection:
        removed = history.purge(connection, run.now)
    return NextSlice(removed) if max(removed.values()) == history.BATCH else removed
