"""The order of the limits: in order as shipped, and each disorder one line."""

import os
from dataclasses import dataclass
from typing import Any, cast

import pytest

from jobs.limits import check_limits
from jobs.settings import Settings


@dataclass
class Limited:
    """As much of a job as has limits."""

    name: str = "platform.ping"
    soft_time_limit: float = 240
    time_limit: float = 270


def settings(**changed: Any) -> Settings:
    """Return the default settings, with some changed behind their own checks."""
    urls = {"database_url": "postgresql:///x", "system_database_url": "postgresql:///x", "redis_url": "redis://x"}
    return Settings(_env_file=None, **urls).model_copy(update=changed)  # type: ignore[call-arg, arg-type]


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FLEET_")]:
        monkeypatch.delenv(name)


def check(job: Limited, given: Settings) -> list[str]:
    return check_limits({job.name: cast("Any", job)}, given)


def test_the_defaults_are_in_order() -> None:
    assert check(Limited(), settings()) == []


@pytest.mark.parametrize(
    ("job", "changed", "said"),
    [
        (Limited(soft_time_limit=270), {}, "soft_time_limit 270 s must be less than time_limit 270 s"),
        (Limited(soft_time_limit=0), {}, "soft_time_limit 0 s must be less than"),
        (Limited(time_limit=1800), {}, "time_limit 1800 s must be less than FLEET_VISIBILITY_TIMEOUT_S 1800 s"),
        (Limited(), {"rescue_after_s": 5.9}, "FLEET_RESCUE_AFTER_S 5.9 s must be at least 3 times"),
        (Limited(), {"republish_after_s": 1.0}, "FLEET_REPUBLISH_AFTER_S 1 s must be more than twice FLEET_POLL_S"),
        (Limited(), {"republish_after_s": 1800.0}, "FLEET_REPUBLISH_AFTER_S 1800 s must be less than"),
    ],
)
def test_each_disorder_is_one_line(job: Limited, changed: dict[str, float], said: str) -> None:
    problems = check(job, settings(**changed))

    assert len(problems) == 1
    assert said in problems[0]


def test_just_in_order_is_in_order() -> None:
    assert check(Limited(time_limit=1799.9), settings(rescue_after_s=6.0, republish_after_s=1.1)) == []
