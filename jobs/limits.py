"""The order of the limits: what must be shorter than what, so that no two mechanisms act on the same run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.job import Job
    from jobs.settings import Settings

MAX_SILENT_BEATS = 3


def check_limits(jobs: "Mapping[str, Job]", settings: "Settings") -> list[str]:
    """Return one line per limit that is out of order; [] is as it should be.

    A job is told to stop before it is killed, and killed before the broker delivers its message again.
    A worker may miss a beat without losing its runs.
    """
    problems = []
    for job in jobs.values():
        soft_s, hard_s = job.soft_time_limit, job.time_limit
        if not 0 < soft_s < hard_s:
            problems.append(f"{job.name}: soft_time_limit {soft_s:g} s must be less than time_limit {hard_s:g} s")
        if hard_s >= settings.visibility_timeout_s:
            problems.append(
                f"{job.name}: time_limit {hard_s:g} s must be less than"
                f" FLEET_VISIBILITY_TIMEOUT_S {settings.visibility_timeout_s} s"
            )
    return problems + _order_of_times(settings)


def _order_of_times(settings: "Settings") -> list[str]:
    problems = []
    if settings.rescue_after_s < MAX_SILENT_BEATS * settings.heartbeat_s:
        problems.append(
            f"FLEET_RESCUE_AFTER_S {settings.rescue_after_s:g} s must be at least {MAX_SILENT_BEATS} times"
            f" FLEET_HEARTBEAT_S {settings.heartbeat_s:g} s"
        )
    if settings.republish_after_s <= 2 * settings.poll_s:
        problems.append(
            f"FLEET_REPUBLISH_AFTER_S {settings.republish_after_s:g} s must be more than twice"
            f" FLEET_POLL_S {settings.poll_s:g} s"
        )
    if settings.republish_after_s >= settings.visibility_timeout_s:
        problems.append(
            f"FLEET_REPUBLISH_AFTER_S {settings.republish_after_s:g} s must be less than"
            f" FLEET_VISIBILITY_TIMEOUT_S {settings.visibility_timeout_s} s"
        )
    return problems
