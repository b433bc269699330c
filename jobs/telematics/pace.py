"""How fast a connection may ask its provider: counted in Redis for all workers, or per process where it is down."""

import hashlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter, RateLimiter

from db.queries.telematics import Account
from integrations.errors import PermanentError, RateLimited
from jobs import process, watchers
from jobs.settings import get_settings

# Requests a second and organisation where the provider prints none (developers.samsara.com/docs/rate-limits, read
# 2026-11: 25/s for /fleet/vehicles; no number on the stats feeds). A connection's setting `requests_per_s` overrides.
_DEFAULT_PER_S = {"samsara": 25}
_LONGEST_WAIT_S = 2.0
_MOST = 1_000_000


class Bucket(NamedTuple):
    """So many requests at once, and so many more a minute."""

    size: int
    per_min: float


# Of all connections of one application together (smartcar.com/docs/help/api-limits, read 2026-11). A connection's
# settings `bucket_size` and `bucket_per_min` override.
_BUCKETS = {"smartcar": Bucket(120, 2)}

# Takes one from a bucket, by the server's clock; returns how many milliseconds are missing, 0 where it took one.
_TAKE = """
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local size, per_ms = tonumber(ARGV[1]), tonumber(ARGV[2]) / 60000
local known = redis.call('HMGET', KEYS[1], 'left', 'at_ms')
local left = tonumber(known[1]) or size
left = math.min(size, left + math.max(0, now_ms - (tonumber(known[2]) or now_ms)) * per_ms)
local missing_ms = 0
if left >= 1 then left = left - 1 else missing_ms = math.ceil((1 - left) / per_ms) end
redis.call('HSET', KEYS[1], 'left', tostring(left), 'at_ms', now_ms)
redis.call('PEXPIRE', KEYS[1], math.ceil(size / per_ms) + 1000)
return missing_ms
"""


def wait_for_turn(account: Account, client_id: str | None = None) -> None:
    """Wait until the connection may make one request; those of one client share what the provider grants the client.

    Raises:
        RateLimited: its turn is further off than a slice should sleep.
        PermanentError: a setting of the connection cannot be.
    """
    bucket = _bucket_of(account.provider, account.settings)
    deadline = time.monotonic() + _LONGEST_WAIT_S
    if bucket is not None:
        _wait_for_bucket(bucket, _key_of(account, client_id), deadline)
        return
    per_s = _per_s_of(account.provider, account.settings)
    item = RateLimitItemPerSecond(per_s)
    while not _hit(item, str(account.id)):
        if time.monotonic() >= deadline:
            raise RateLimited("the connection's own rate limit is used up", retry_after_s=1.0)
        time.sleep(1 / per_s)


def check_settings(provider: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that say how fast and cannot be. Raises: PermanentError, with the setting's name."""
    _bucket_of(provider, settings)
    _per_s_of(provider, settings)


def _bucket_of(provider: str, settings: Mapping[str, Any]) -> Bucket | None:
    usual = _BUCKETS.get(provider)
    if usual is None:
        return None
    size = _number(settings, "bucket_size", usual.size, 1)
    return Bucket(int(size), _number(settings, "bucket_per_min", usual.per_min, 0.1))


def _per_s_of(provider: str, settings: Mapping[str, Any]) -> int:
    return int(_number(settings, "requests_per_s", _DEFAULT_PER_S.get(provider, 10), 1))


def _number(settings: Mapping[str, Any], name: str, usual: float, smallest: float) -> float:
    value = settings.get(name)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int | float) or not smallest <= value <= _MOST:
        raise PermanentError(f"settings: {name}: expected a number from {smallest:g} to {_MOST}")
    return float(value)


def _key_of(account: Account, client_id: str | None) -> str:
    """Name a bucket by what shares it, without telling who that is."""
    shared = hashlib.sha256((client_id or str(account.id)).encode()).hexdigest()[:32]
    return f"{account.provider}:{shared}"


def _wait_for_bucket(bucket: Bucket, key: str, deadline: float) -> None:
    while missing_s := _take(bucket, key):
        if time.monotonic() + missing_s > deadline:
            raise RateLimited("the application's requests are used up", retry_after_s=missing_s)
        time.sleep(missing_s)


def _take(bucket: Bucket, key: str) -> float:
    """Take one request from a bucket. Returns in how many seconds there is one, 0 where it was taken."""
    name = f"{get_settings().redis_key_prefix}bucket:{key}"

    def shared() -> float:
        missing_ms = watchers.client().register_script(_TAKE)(keys=[name], args=[bucket.size, bucket.per_min])
        return int(missing_ms) / 1000

    return watchers.attempt(shared, lambda: _take_own(bucket, key))


def _take_own(bucket: Bucket, key: str) -> float:
    now, per_s = time.monotonic(), bucket.per_min / 60
    left, at = _own_buckets.get(key, (float(bucket.size), now))
    left = min(float(bucket.size), left + (now - at) * per_s)
    missing_s = 0.0 if left >= 1 else (1 - left) / per_s
    _own_buckets[key] = (left if missing_s else left - 1, now)
    return missing_s


def _hit(item: RateLimitItemPerSecond, key: str) -> bool:
    return watchers.attempt(lambda: _shared().hit(item, key), lambda: _own.hit(item, key))


_own = MovingWindowRateLimiter(MemoryStorage())
_own_buckets: dict[str, tuple[float, float]] = {}
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
    _own_buckets.clear()
