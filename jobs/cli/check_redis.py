"""The doctor's look at Redis or Valkey. It only carries wake-up calls, so that losing them costs time, not work."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from jobs.cli.check_database import judge_skew
from jobs.cli.checks import Check, fail, ok, warn
from jobs.settings import Settings

_VARIABLE = "FLEET_REDIS_URL"
_OLDEST = 6


def check_redis(settings: Settings) -> Iterator[Check]:
    """Reach it, and read what it says of its version, its memory, its persistence and its clock."""
    url = settings.redis_url.get_secret_value()
    parts = urlsplit(url)
    where = f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            info: dict[str, Any] = client.info()
            started = time.time()
            seconds, microseconds = client.time()
            finished = time.time()
    except AuthenticationError:
        yield fail(_VARIABLE, f"refuses the password: {where}", "correct the URL")
        return
    except NoPermissionError:
        yield fail(_VARIABLE, f"the user may not run INFO and TIME: {where}", "give its ACL the category @dangerous")
        return
    except (RedisError, OSError, ValueError) as error:
        fix = "start the server, or correct the URL"
        yield fail(_VARIABLE, f"cannot be reached ({type(error).__name__}): {where}", fix)
        return
    yield _judge_version(info, where)
    yield _judge_eviction(info)
    yield _judge_persistence(info)
    told = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)
    yield judge_skew("clock of Redis", told, started, finished)


def _judge_version(info: dict[str, Any], where: str) -> Check:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version") or "?")
    major = version.partition(".")[0]
    if major.isdigit() and int(major) < _OLDEST:
        return fail(_VARIABLE, f"{name} {version} at {where}", f"upgrade it to {_OLDEST} or newer")
    if info.get("role") == "slave":
        return fail(_VARIABLE, f"{name} {version} at {where} is a replica", "name the primary")
    return ok(_VARIABLE, f"{name} {version} at {where}")


def _judge_eviction(info: dict[str, Any]) -> Check:
    policy, limit = str(info.get("maxmemory_policy", "?")), int(info.get("maxmemory", 0))
    found = f"maxmemory-policy is {policy}, maxmemory {limit or 'unlimited'}"
    fix = "CONFIG SET maxmemory-policy noeviction"
    if policy == "noeviction":
        return ok("eviction", found)
    return fail("eviction", f"{found}: messages vanish when it is full", fix) if limit else warn("eviction", found, fix)


def _judge_persistence(info: dict[str, Any]) -> Check:
    if int(info.get("aof_enabled", 0)):
        if info.get("aof_last_write_status", "ok") != "ok":
            return fail("persistence", "the last write of the append-only file failed", "look at its disk and its log")
        return ok("persistence", "append-only file")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return warn("persistence", "the last snapshot failed", "look at its disk and its log")
    fix = "CONFIG SET appendonly yes; without it a restart delays runs by FLEET_REPUBLISH_AFTER_S"
    return warn("persistence", "no append-only file", fix)
