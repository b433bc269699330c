"""The platform with two jobs more that do nothing: `python -m benchmarks.app relay|migrate`."""

from jobs.app import app
from jobs.job import job
from jobs.outcomes import Counts
from jobs.queues import ROUTES
from jobs.run import Run

__all__ = ["app"]

ROUTES["bench"] = ROUTES["platform"]


@job("bench.ping_one", scope="system", batch=1)
def ping_one(run: Run) -> Counts:
    """Do nothing, one run a message."""
    return {}


@job("bench.ping_many", scope="system", batch=1000)
def ping_many(run: Run) -> Counts:
    """Do nothing, up to a thousand runs a message."""
    return {}


if __name__ == "__main__":
    from jobs.cli.main import main

    main()
