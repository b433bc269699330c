"""`fleet-jobs runs` and `show`: what ran, and everything of one run."""

from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from sqlalchemy import Connection

from db.queries import runs as queries
from db.queries.runs import RunDetail
from jobs.cli.arguments import JsonOption, TenantOption, find_tenant_id, get_id, get_job
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import ago, at, clean, print_fields, print_json, print_table, say, span, words

State = Literal["pending", "running", "succeeded", "failed", "cancelled", "skipped"]


def get_run(connection: Connection, run_id: UUID) -> RunDetail:
    """Return everything of a run.

    Raises:
        OperatorError: there is none of that id.
    """
    detail = queries.find_run(connection, run_id)
    if detail is None:
        raise OperatorError(f"no such run: {run_id}")
    return detail


def runs(
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only runs of this job.")] = None,
    state: Annotated[State | None, typer.Option(help="Only runs in this state.")] = None,
    tenant: TenantOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most that many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first. Dead letters are `--state failed`."""
    with system_database() as database, database.statement() as connection:
        tenant_id = find_tenant_id(connection, tenant)
        found = queries.list_runs(connection, job=job, state=state, tenant_id=tenant_id, limit=limit)
        if not found and job is not None and not queries.has_runs(connection, job):
            get_job(job)
    if as_json:
        for each in found:
            print_json(each)
        return
    if not found:
        say("no runs")
        return
    print_table(
        ("run", "job", "tenant", "state", "try", "queued", "took", "counts or error"),
        (
            (
                each.id,
                each.job,
                each.tenant,
                each.state,
                f"{each.attempt}/{each.max_attempts}",
                ago(each.created_at, each.now),
                _took(each.started_at, each.finished_at or (each.now if each.state == "running" else None)),
                words(each.counts) if each.state == "succeeded" else each.error_type or words(each.counts),
            )
            for each in found
        ),
        right=("try",),
    )


def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or the first 8 or more characters of it.")],
    as_json: JsonOption = False,
) -> None:
    """Show everything of one run: state, tries, times, counts, progress, error."""
    with system_database() as database, database.statement() as connection:
        detail = get_run(connection, get_id(connection, "job_runs", run))
    if as_json:
        print_json(detail)
        return
    print_fields(_fields(detail))
    if trace := (detail.error or {}).get("traceback"):
        say("traceback")
        for line in str(trace).rstrip().splitlines():
            typer.echo(f"  {clean(line)}")


def _fields(run: RunDetail) -> dict[str, object]:
    return {
        "run": run.id,
        "job": run.job,
        "state": run.state,
        "now": _now(run),
        "error": describe_error(run.error),
        "counts": words(run.counts),
        "progress": words(run.progress),
        "arguments": words(run.args),
        "tenant": run.tenant or "(the whole platform)",
        "queue": run.queue,
        "priority": run.priority,
        "tries": _tries(run),
        "tick": at(run.nominal_at),
        "queued": f"{at(run.created_at)}, {ago(run.created_at, run.now)}",
        "due": None if run.state != "pending" else f"{at(run.run_at)}, {ago(run.run_at, run.now)}",
        "published": at(run.published_at),
        "started": None
        if run.started_at is None
        else f"{at(run.started_at)}, {span((run.started_at - run.created_at).total_seconds())} after it was queued",
        "claimed": at(run.claimed_at) if run.claimed_at != run.started_at else None,
        "finished": at(run.finished_at),
        "took": _took(run.started_at, run.finished_at),
        "cancel asked": at(run.cancel_requested_at),
        "worker": run.worker or run.worker_id,
        "worker's beat": ago(run.worker_beat_at, run.now) if run.state == "running" else None,
        "asked by": run.requested_by,
        "parent": run.parent_id,
        "unique key": run.unique_key,
        "trace": run.trace_context,
    }


def _now(run: RunDetail) -> str | None:
    """Say what a run that is not over waits for."""
    if run.state == "running":
        return "asked to stop" if run.cancel_requested_at else None
    if run.state != "pending":
        return None
    if run.is_paused:
        return "held back: its job or queue is paused (fleet-jobs paused)"
    if run.run_at > run.now:
        return f"waits for its {'next try' if run.attempt else 'time'}, {ago(run.run_at, run.now)}"
    return "waits for a worker" if run.published_at else "waits for a relay"


def _tries(run: RunDetail) -> str:
    more = {"snoozed": run.snoozes, "rescued": run.rescues, "replayed": run.replays, "published": run.publishes}
    told = [f"{word} {count} time{'' if count == 1 else 's'}" for word, count in more.items() if count]
    return ", ".join([f"{run.attempt} of {run.max_attempts}", *told])


def _took(started: Any, finished: Any) -> str | None:
    return None if started is None or finished is None else span((finished - started).total_seconds())


def describe_error(error: dict[str, Any] | None) -> str | None:
    """Return an error's type and message on one line."""
    if not error:
        return None
    return ": ".join(str(error[name]) for name in ("type", "message") if error.get(name))
