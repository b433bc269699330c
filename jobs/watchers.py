"""Redis as the applications beside us see it: best effort, never waited for.

Nothing here is needed for correctness. A Redis that does not answer is left alone for some seconds, so that an outage
costs one short wait and not one per page.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobs import process
from jobs.settings import get_settings

_log = structlog.get_logger()
_LEAVE_ALONE_S = 5.0

T = TypeVar("T")
_pools: dict[int, ConnectionPool] = {}
_down_until = 0.0


def pool() -> ConnectionPool:
    """Return this process's connections to Redis."""
    pid = process.current_id()
    if pid not in _pools:
        _pools[pid] = ConnectionPool.from_url(
            get_settings().redis_url.get_secret_value(),
            socket_connect_timeout=1,
            socket_timeout=2,
            retry=Retry(NoBackoff(), 0),
        )
    return _pools[pid]


def client() -> Redis:
    """Return a client on this process's connections."""
    return Redis(connection_pool=pool())


def attempt(action: Callable[[], T], otherwise: Callable[[], T]) -> T:
    """Do something in Redis, or something else where it is down."""
    global _down_until
    if time.monotonic() < _down_until:
        return otherwise()
    try:
        result = action()
    except RedisError as error:
        if _down_until == 0.0:
            _log.warning("redis_away", error=type(error).__name__)
        _down_until = time.monotonic() + _LEAVE_ALONE_S
        return otherwise()
    if _down_until:
        _log.info("redis_back")
        _down_until = 0.0
    return result


def forget() -> None:
    """Close this process's connections to Redis; the next use begins anew."""
    global _down_until
    for each in _pools.values():
        each.disconnect()
    _pools.clear()
    _down_until = 0.0
