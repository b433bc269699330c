"""What a job is: a name, its limits, its contract, and the function that does it. `@job` registers one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from celery import Task

from jobs.app import app
from jobs.contracts import Contract
from jobs.outcomes import Counts, NextSlice
from jobs.queues import queue_of

Result = Counts | NextSlice | None
Function = Callable[..., Result]


@dataclass(frozen=True)
class Job:
    """A job as declared.

    Args:
        name: `<area>.<verb>_<object>`, equal to the function's name after the dot.
        scope: `tenant` runs for one tenant and sees nothing else; `system` runs for the whole platform.
        batch: up to how many runs one message carries; 1 for coarse jobs.
        is_public: other applications may enqueue it.
        unique_by: arguments that make a run unique while pending or running; () is one per tenant, None is no limit.
        max_attempts: tries until the run becomes a dead letter; snoozes, slices and rescues cost none.
        priority: lower goes first, within the job.
        soft_time_limit: seconds until the job is told to stop, in prefork workers; `time_limit` until it is killed.
        retry_s: the first delay after a failure; doubled each time, up to ten minutes, with jitter.
    """

    name: str
    function: Function
    contract: Contract = field(repr=False)
    scope: Literal["tenant", "system"]
    batch: int
    is_public: bool
    unique_by: tuple[str, ...] | None
    max_attempts: int
    priority: int
    soft_time_limit: float
    time_limit: float
    retry_s: float

    @property
    def queue(self) -> str:
        """The queue of its messages."""
        return queue_of(self.name)

    @property
    def description(self) -> str:
        """The first line of its docstring."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]


JOBS: dict[str, Job] = {}


def job(
    name: str,
    *,
    scope: Literal["tenant", "system"] = "tenant",
    batch: int = 1,
    is_public: bool = False,
    unique_by: tuple[str, ...] | None = None,
    max_attempts: int = 10,
    priority: int = 100,
    soft_time_limit: float = 240,
    retry_s: float = 5,
) -> Callable[[Function], Job]:
    """Register a function as a job, and as the Celery task of the same name.

    Raises:
        TypeError: at import, where the declaration contradicts itself.
    """

    def register(function: Function) -> Job:
        contract = Contract(name, function)
        if name.partition(".")[2] != function.__name__:
            raise TypeError(f"{name}: the function must be called {name.partition('.')[2]}")
        if unknown := set(unique_by or ()) - set(contract.parameters):
            raise TypeError(f"{name}: unique_by names no argument: {sorted(unknown)}")
        declared = Job(
            name,
            function,
            contract,
            scope,
            batch,
            is_public,
            unique_by,
            max_attempts,
            priority,
            soft_time_limit,
            soft_time_limit + 30,
            retry_s,
        )
        JOBS[name] = declared

        @app.task(
            name=name,
            bind=True,
            typing=False,
            soft_time_limit=declared.soft_time_limit,
            time_limit=declared.time_limit,
        )
        def task(self: Task, *args: Any, **kwargs: Any) -> None:
            from jobs import execution

            execution.receive(declared, self.request.id, args, kwargs)

        task.__doc__ = function.__doc__
        return declared

    return register


def load_jobs() -> dict[str, Job]:
    """Import every task module and return the jobs that they declare."""
    app.loader.import_default_modules()
    return JOBS


def definitions() -> list[dict[str, Any]]:
    """Return what the database's door must know of each job, for `db.queries.definitions`."""
    return [
        {
            "job": each.name,
            "queue": each.queue,
            "scope": each.scope,
            "is_public": each.is_public,
            "max_attempts": each.max_attempts,
            "priority": each.priority,
            "parameters": each.contract.parameters,
            "unique_by": None if each.unique_by is None else list(each.unique_by),
            "description": each.description,
        }
        for each in load_jobs().values()
    ]
