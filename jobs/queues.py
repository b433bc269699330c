"""Queues, and the route of every job."""

ROUTES = {
    "telematics": "telematics",
    "maintenance": "maintenance",
    "work_orders": "maintenance",
    "notifications": "notifications",
    "reconstruction": "reconstruction",
    "rollups": "lifecycle",
    "retention": "lifecycle",
    "anonymisation": "lifecycle",
    "platform": "lifecycle",
}
"""The area of a job (what stands before the dot) and its queue."""

QUEUES = tuple(dict.fromkeys(ROUTES.values()))

THREADED = ("telematics", "notifications", "reconstruction")
"""Queues whose jobs wait on networks: their workers use threads. The others compute: prefork."""


def queue_of(job: str) -> str:
    """Return the queue of a job.

    Raises:
        KeyError: the area has no route.
    """
    return ROUTES[job.partition(".")[0]]
