"""`fleet-jobs replay`, `cancel`, `pause`, `resume`, `paused`: steering what runs."""

from collections import Counter
from typing import Annotated, Literal
from uuid import UUID

import typer
from psycopg.errors import UniqueViolation
from sqlalchemy.exc import IntegrityError

from db.engine import Database
from db.queries import controls, runs
from db.queries.runs import ReplayCandidate
from jobs.cli.arguments import (
    JsonOption,
    YesOption,
    confirm,
    find_tenant_id,
    get_id,
    get_job,
    get_queue,
    who,
)
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import ago, print_json, print_table, say

_TRIES = 3
_SHOWN = 20

Kind = Annotated[Literal["job", "queue"], typer.Argument(help="What NAME is.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of a job or queue.")]


def replay(
    run: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Ids, or their beginnings.")] = None,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="All runs of this job instead.")] = None,
    state: Annotated[
        Literal["failed", "cancelled"] | None, typer.Option(help="With --job: those in this state; failed by default.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="SLUG", help="With --job: only this tenant's.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="With --job: at most that many, the oldest first.")] = 10_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be replayed, and change nothing.")] = False,
    yes: YesOption = False,
) -> None:
    """Run again what failed or was cancelled, from its first try.

    A run whose unique key is held by one that is pending or running is left as it is, and counted.
    """
    if bool(run) == (job is not None):
        raise OperatorError("replay: give the ids of runs, or --job")
    if job is None and (state is not None or tenant is not None):
        raise OperatorError("replay: --state and --tenant only with --job")
    with system_database() as database:
        with database.statement() as connection:
            if job is not None:
                tenant_id = find_tenant_id(connection, tenant)
                found = runs.check_replay_of_job(connection, job, state or "failed", tenant_id, limit)
            else:
                found = runs.check_replay(connection, [get_id(connection, "job_runs", each) for each in run or []])
        if not found and job is not None:
            _say_nothing_to_replay(database, job, state or "failed")
            return
        if not dry_run and job is not None:
            confirm(f"replay {_count(found)} of {job}?", yes=yes)
        replayed = [each.id for each in found if _problem(each) is None] if dry_run else _replay(database, found)
    _report_replay(found, set(replayed), dry_run=dry_run)
    if job is None and len(replayed) < len(found):
        raise typer.Exit(1)


def _replay(database: Database, found: list[ReplayCandidate]) -> list[UUID]:
    for _ in range(_TRIES):
        try:
            with database.system_transaction() as connection:
                now = runs.check_replay(connection, [each.id for each in found])
                found[:] = now
                return runs.replay(connection, [each.id for each in now if _problem(each) is None])
        except IntegrityError as error:
            if isinstance(error.orig, UniqueViolation):
                continue  # a unique key was taken between the two statements
            raise OperatorError(f"nothing was replayed: {error.orig.diag.constraint_name}") from None  # type: ignore[union-attr]
    raise OperatorError("runs with the same unique keys are being enqueued: nothing was replayed, try again")


def _report_replay(found: list[ReplayCandidate], replayed: set[UUID], *, dry_run: bool) -> None:
    left = [(each, _problem(each) or "it changed meanwhile") for each in found if each.id not in replayed]
    for each, problem in left[:_SHOWN]:
        typer.echo(f"{each.id} {each.job}: left as it is: {problem}", err=True)
    if len(left) > _SHOWN:
        typer.echo(f"... and {len(left) - _SHOWN} more", err=True)
    if dry_run:
        kinds = Counter((each.job, each.state, each.error_type) for each in found if each.id in replayed)
        print_table(
            ("job", "state", "error", "runs"), [(*kind, count) for kind, count in kinds.most_common()], right=("runs",)
        )
    say(f"{len(replayed)} {'would be replayed' if dry_run else 'replayed'}, {len(left)} left as they are")


def _problem(candidate: ReplayCandidate) -> str | None:
    if not candidate.is_over:
        return f"it is {candidate.state}, only failed and cancelled runs can be replayed"
    if candidate.is_too_large:
        return f"its arguments are more than {runs.MOST_BYTES:,} bytes"
    if candidate.blocked_by is not None:
        return f"run {candidate.blocked_by} has the same unique key"
    return None


def _count(found: list[ReplayCandidate]) -> str:
    return f"{len(found)} run{'' if len(found) == 1 else 's'}"


def _say_nothing_to_replay(database: Database, job: str, state: str) -> None:
    with database.statement() as connection:
        if not runs.has_runs(connection, job):
            get_job(job)
    say(f"no {state} runs of {job}")


def cancel(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids, or their beginnings.")],
) -> None:
    """Cancel runs: a pending one at once, a running one where it next opens a transaction."""
    with system_database() as database, database.system_transaction() as connection:
        ids = [get_id(connection, "job_runs", each) for each in run]
        before = runs.cancel(connection, ids)
    for run_id in dict.fromkeys(ids):
        match before[run_id]:
            case "pending":
                say(f"{run_id} cancelled")
            case "running":
                say(f"{run_id} asked to stop")
            case over:
                typer.echo(f"{run_id} left as it is: it is {over} already", err=True)
    if not {"pending", "running"}.issuperset(before.values()):
        raise typer.Exit(1)


def pause(
    kind: Kind,
    name: Name,
    reason: Annotated[str | None, typer.Option(help="Why, for the others.")] = None,
) -> None:
    """Start no more runs of a job or queue; what is running goes on."""
    _check_name(kind, name)
    with system_database() as database, database.statement() as connection:
        was_running = controls.pause(connection, kind, name, who(), reason)
    say(f"{kind} {name} {'paused' if was_running else 'was paused already'}")


def resume(kind: Kind, name: Name) -> None:
    """Let a paused job or queue go on with what has waited."""
    with system_database() as database, database.statement() as connection:
        was_paused = controls.resume(connection, kind, name)
        if not was_paused:
            _check_name(kind, name)
    say(f"{kind} {name} {'resumed' if was_paused else 'was not paused'}")


def paused(as_json: JsonOption = False) -> None:
    """List what is paused, by whom, why, and how many runs wait."""
    with system_database() as database, database.statement() as connection:
        found = controls.list_paused(connection)
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("nothing is paused")
    else:
        now = max(each.now for each in found)
        rows = ((c.name, c.kind, ago(c.paused_at, now), c.paused_by, c.waiting, c.reason) for c in found)
        print_table(("name", "kind", "paused", "by", "waiting", "reason"), rows, right=("waiting",))


def _check_name(kind: str, name: str) -> None:
    if kind == "job":
        get_job(name)
    else:
        get_queue(name)
