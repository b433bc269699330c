"""Faults at random against a whole platform, and an application that goes on enqueuing meanwhile."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import redis

from tests.ledger.ledger import Ledger, enqueue, enqueue_many
from tests.ledger.processes import Processes, children_of
from tests.servers import PrivateServers

RELAYS = ("relay-1", "relay-2")
BEATS = ("beat-1", "beat-2")
PREFORK = ("worker-1", "worker-2")
THREADED = "worker-3"


class Application:
    """Enqueues all the time, in transactions of several tenants; one that the server broke is not counted."""

    def __init__(self, ledger: Ledger, tenants: list[UUID], pause_s: float, seed: int) -> None:
        self.promised: set[UUID] = set()
        self.promised_many = 0
        self._ledger = ledger
        self._tenants = tenants
        self._pause_s = pause_s
        self._random = random.Random(seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="application", daemon=True)

    def start(self) -> None:
        """Start enqueuing."""
        self._thread.start()

    def stop(self) -> None:
        """Stop enqueuing."""
        self._stopped.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stopped.wait(self._pause_s):
            try:
                self._enqueue()
            except psycopg.Error:
                continue  # the server is away; what did not commit does not exist

    def _enqueue(self) -> None:
        tenant_id, draw = self._random.choice(self._tenants), self._random
        with self._ledger.application(tenant_id) as connection:
            many = [{"work_ms": draw.choice((0, 1, 5))} for _ in range(draw.randint(1, 12))]
            added = enqueue_many(connection, "test.batched", many)
            ids = [
                enqueue(connection, "test.effect", {"work_ms": draw.choice((0, 5, 50, 400))}),
                enqueue(connection, "test.keyed", {"work_ms": draw.choice((0, 5, 50, 400))}),
            ]
            if draw.random() < 0.5:
                ids.append(enqueue(connection, "test.slices", {"of": draw.randint(1, 5), "work_ms": 5}))
        self.promised.update(ids)
        self.promised_many += added


@dataclass
class Chaos:
    """Does harm, and puts right what an operator or a supervisor would."""

    servers: PrivateServers
    processes: Processes
    frozen_s: float
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    told: list[tuple[float, str]] = field(default_factory=list)
    _frozen: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def start(self) -> None:
        """Start the platform."""
        for name in RELAYS:
            self.processes.relay(name)
        for name in PREFORK:
            self.processes.worker(name, size=2)
        self.processes.worker(THREADED, pool="threads", size=3)
        for name in BEATS:
            self.processes.beat(name)

    def rage(self, kinds: list[str], over_s: float) -> None:
        """Do one fault of each listed kind, in random order, evenly over the time."""
        order = kinds[:]
        self._random.shuffle(order)
        started = time.monotonic()
        for place, kind in enumerate(order, start=1):
            faults: dict[str, Callable[[], None]] = {
                "child": self._kill_child,
                "worker": self._kill_worker,
                "relay": lambda: self._kill(self._random.choice(RELAYS)),
                "beat": lambda: self._kill(self._random.choice(BEATS)),
                "flushall": self._flush,
                "valkey": self._restart_valkey,
                "postgres": self._restart_postgres,
                "freeze": self._freeze,
            }
            self.told.append((time.time(), kind))
            faults[kind]()
            self.done[kind] += 1
            while time.monotonic() < started + over_s * place / len(order):
                self.heal(time.monotonic())
                time.sleep(0.02)

    def heal(self, now: float = float("inf")) -> None:
        """Start again what is dead, and let go on what was frozen long enough; everything by default."""
        for pid, until in list(self._frozen.items()):
            if now >= until:
                del self._frozen[pid]
                _signal(pid, signal.SIGCONT)
        for name, process in list(self.processes.running.items()):
            if process.poll() is not None:
                self.processes.restart(name)

    def _kill(self, name: str) -> None:
        self.processes.kill(name)

    def _kill_child(self) -> None:
        pool = [pid for name in PREFORK for pid in self.processes.pool(name)]
        if pool:
            _signal(self._random.choice(pool), signal.SIGKILL)

    def _kill_worker(self) -> None:
        name = self._random.choice((*PREFORK, THREADED))
        if self._random.random() < 0.5:
            self.processes.kill(name)
        else:  # its children are orphans that end what they are doing
            self.processes.running[name].kill()

    def _flush(self) -> None:
        with redis.Redis.from_url(self.servers.redis_url) as client:
            client.flushall()

    def _restart_valkey(self) -> None:
        self.servers.valkey.kill()
        self.servers.valkey.start()

    def _restart_postgres(self) -> None:
        self.servers.postgres.kill()
        self.servers.postgres.start()

    def _freeze(self) -> None:
        name = self._random.choice((*PREFORK, THREADED))
        worker = self.processes.running[name].pid
        for pid in (worker, *children_of(worker)):
            _signal(pid, signal.SIGSTOP)
            self._frozen[pid] = time.monotonic() + self.frozen_s


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
