"""How fast a connection may ask its provider: counted in Redis for all workers, or per process where it is down."""

import time

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter, RateLimiter

from db.queries.telematics import Account
from integrations.errors import RateLimited
from jobs import process, watchers
from jobs.settings import get_settings

# Requests a second and organisation where the provider prints none (developers.samsara.com/docs/rate-limits, read
# 2026-11: 25/s for /fleet/vehicles; no number on the stats feeds). A connection's setting `requests_per_s` overrides.
_DEFAULT_PER_S = {"samsara": 25}
_LONGEST_WAIT_S = 2.0


def wait_for_turn(account: Account) -> None:
    """Wait until the connection may make one request.

    Raises:
        RateLimited: its turn is further off than a slice should sleep.
    """
    per_s = max(1, int(account.settings.get("requests_per_s") or _DEFAULT_PER_S.get(account.provider, 10)))
    item = RateLimitItemPerSecond(per_s)
    deadline = time.monotonic() + _LONGEST_WAIT_S
    while not _hit(item, str(account.id)):
        if time.monotonic() >= deadline:
            raise RateLimited("the connection's own rate limit is used up", retry_after_s=1.0)
        time.sleep(1 / per_s)


def _hit(item: RateLimitItemPerSecond, key: str) -> bool:
    return watchers.attempt(lambda: _shared().hit(item, key), lambda: _own.hit(item, key))


_own = MovingWindowRateLimiter(MemoryStorage())
_limiters: dict[int, RateLimiter] = {}


def _shared() -> RateLimiter:
    pid = process.current_id()
    if pid not in _limiters:
        settings = get_settings()
        storage = RedisStorage(
            settings.redis_url.get_secret_value(),
            connection_pool=watchers.pool(),
            key_prefix=f"{settings.redis_key_prefix}limits",
        )
        _limiters[pid] = MovingWindowRateLimiter(storage)
    return _limiters[pid]


def forget() -> None:
    """Forget every connection of this process."""
    _limiters.clear()
