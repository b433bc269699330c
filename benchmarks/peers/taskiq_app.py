"""taskiq on a list in Redis, its fastest broker: `taskiq worker benchmarks.peers.taskiq_app:broker`."""

import asyncio
import os

import uvloop
from taskiq_redis import ListQueueBroker

from benchmarks import tally

AT_ONCE = 100


async def ping() -> None:
    """Do nothing."""
    tally.add()


def make(url: str) -> ListQueueBroker:
    """Return the broker that knows the task."""
    made = ListQueueBroker(url, queue_name="taskiq", max_connection_pool_size=AT_ONCE, socket_timeout=None)
    made.register_task(ping, task_name="ping")
    return made


def enqueue(url: str, work: int) -> None:
    """Kick tasks, many at a time."""
    uvloop.run(_enqueue(make(url), work))


async def _enqueue(broker: ListQueueBroker, work: int) -> None:
    task = broker.find_task("ping")
    assert task is not None
    await broker.startup()

    async def kick(some: int) -> None:
        for _ in range(some):
            await task.kiq()

    share, rest = divmod(work, AT_ONCE)
    await asyncio.gather(*(kick(share + (number < rest)) for number in range(AT_ONCE)))
    await broker.shutdown()


if "BENCH_REDIS_URL" in os.environ:
    broker = make(os.environ["BENCH_REDIS_URL"])
