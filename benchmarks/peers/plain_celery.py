"""Celery without a ledger: acknowledged late, no result, nothing recorded; events as the platform sends them."""

import os

from celery import Celery
from kombu.entity import Queue

from benchmarks import tally

QUEUE = "plain"


def make(url: str) -> Celery:
    """Return the application that knows the task; the rest is as Celery ships it."""
    made = Celery("plain", set_as_current=False)
    made.conf.update(
        broker_url=url,
        broker_transport_options={"global_keyprefix": "plain:"},
        task_queues=[Queue(QUEUE)],
        task_default_queue=QUEUE,
        task_acks_late=True,
        task_ignore_result=True,
        task_send_sent_event=True,
        worker_send_task_events=True,
    )

    @made.task(name="plain.ping")
    def ping() -> None:
        """Do nothing."""
        tally.add()

    return made


if "BENCH_REDIS_URL" in os.environ:
    app = make(os.environ["BENCH_REDIS_URL"])
