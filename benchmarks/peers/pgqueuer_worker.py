"""pgqueuer: a worker process is `python -m benchmarks.peers.pgqueuer_worker`."""

import os

import psycopg
import uvloop
from pgqueuer.db import PsycopgDriver
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries

ENTRYPOINT = "ping"

run = uvloop.run


async def connect(url: str) -> Queries:
    """Return pgqueuer's queries on a connection of their own."""
    return Queries(PsycopgDriver(await psycopg.AsyncConnection.connect(url, autocommit=True)))


async def install(url: str) -> None:
    """Make pgqueuer's tables, all of them logged as by default, and tune autovacuum as its checklist says."""
    queries = await connect(url)
    await queries.install()
    await queries.optimize_autovacuum()


async def enqueue(url: str, chunks: list[int]) -> None:
    """Enqueue jobs, a statement a chunk."""
    queries = await connect(url)
    for chunk in chunks:
        await queries.enqueue([ENTRYPOINT] * chunk, [None] * chunk, [0] * chunk)


async def work(url: str, batch: int) -> None:
    """Work until told to stop."""
    manager = QueueManager(await connect(url))

    @manager.entrypoint(ENTRYPOINT)
    async def ping(job: Job) -> None:
        """Do nothing."""

    await manager.run(batch_size=batch)


if __name__ == "__main__":
    run(work(os.environ["BENCH_PGQUEUER_URL"], int(os.environ["BENCH_PGQUEUER_BATCH"])))
