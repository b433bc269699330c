"""The platform's own jobs."""

from jobs.job import job
from jobs.outcomes import Counts
from jobs.run import Run


@job("platform.ping", scope="system", batch=100)
def ping(run: Run) -> Counts:
    """Do nothing, from end to end: enqueued, published, claimed, recorded."""
    return {}
