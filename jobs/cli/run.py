"""`fleet-jobs run`: enqueue one run, and follow it to its end if asked."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from sqlalchemy.exc import DBAPIError

from db.engine import Database
from db.queries import runs
from db.queries.runs import RunDetail
from jobs.cli.arguments import JsonOption, find_tenant_id, get_job, who
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import console, print_json, say, span, words
from jobs.cli.runs import describe_error, get_run
from jobs.settings import get_settings

if TYPE_CHECKING:
    from jobs.job import Job

_FIRST_LOOK_S, _LONGEST_REST_S = 0.1, 1.0
_STUCK_AFTER_S = 5.0

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NUMBERS: dict[str, Callable[[str], Any]] = {
    "integer": int,
    "number": float,
    "boolean": lambda text: _BOOLEANS[text.lower()],
}


def run(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's name; `fleet-jobs jobs` lists them.")],
    tenant: Annotated[str | None, typer.Option(metavar="SLUG", help="For a job that runs for one tenant.")] = None,
    arg: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An argument of the job; give it once for each.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; the exit code is 1 if it fails.")] = False,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.1, help="Stop waiting after that long.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Enqueue one run of any job, and print its id.

    Where a run with the same unique key is pending or running, that one's id is printed.

    Example: `fleet-jobs run telematics.sync_connection --tenant acme --arg connection_id=... --wait`
    """
    if timeout is not None and not wait:
        raise OperatorError("--timeout: only with --wait")
    declared = get_job(job)
    args = parse_args(declared, arg or [])
    if (declared.scope == "tenant") != (tenant is not None):
        needs = "is for one tenant: give --tenant SLUG" if tenant is None else "is for the whole platform: no --tenant"
        raise OperatorError(f"{job}: {needs}")
    with system_database() as database:
        run_id, is_new = _enqueue(database, declared, args, tenant)
        if wait:
            _wait(database, run_id, timeout, as_json=as_json)
        elif as_json:
            print_json({"id": run_id, "job": job, "is_new": is_new})
        else:
            say(str(run_id))
            if not is_new:
                typer.echo(f"{job} was already pending or running with these arguments: this is that run", err=True)


def parse_args(job: "Job", given: list[str]) -> dict[str, Any]:
    """Return `name=value` texts with the types of the job's contract; the contract itself checks the rest.

    Raises:
        OperatorError: not of that form, given twice, or not of that type.
        InvalidArguments: unknown, missing or of the wrong shape.
    """
    args: dict[str, Any] = {}
    for each in given:
        name, found, value = each.partition("=")
        if not found or not name:
            raise OperatorError(f"--arg {each}: expected NAME=VALUE")
        if name in args:
            raise OperatorError(f"--arg {name}: given twice")
        word = str(job.contract.parameters[name]["type"]) if name in job.contract.parameters else "string"
        try:
            args[name] = _NUMBERS.get(word, str)(value)
        except (ValueError, KeyError):
            raise OperatorError(f"{job.name}: {name}: expected {word}, got {value!r}") from None
    job.contract.parse(args)
    return args


def _enqueue(database: Database, job: "Job", args: dict[str, Any], tenant: str | None) -> tuple[UUID, bool]:
    from jobs.client import enqueue

    try:
        with database.system_transaction() as connection:
            tenant_id = find_tenant_id(connection, tenant)
            run_id = enqueue(connection, job, args, tenant_id=tenant_id, requested_by=who())
            return run_id, runs.is_new(connection, run_id)
    except DBAPIError as error:
        state, diagnostic = getattr(error.orig, "sqlstate", None), getattr(error.orig, "diag", None)
        if state == "42704":
            raise OperatorError(
                f"{job.name}: the database does not know this job yet: run `fleet-jobs migrate`"
            ) from None
        if state == "22023":
            raise OperatorError(str(diagnostic.message_primary if diagnostic else state)) from None
        raise


def _wait(database: Database, run_id: UUID, timeout_s: float | None, *, as_json: bool) -> None:
    if not as_json:
        say(str(run_id))
    try:
        with _showing(silent=as_json) as show:
            detail = _follow(database, run_id, timeout_s, show)
    except KeyboardInterrupt:
        typer.echo(f"no longer waiting; the run goes on: fleet-jobs show {run_id}", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(detail)
    else:
        say(outcome(detail))
    if detail.state != "succeeded":
        raise typer.Exit(1)


def _follow(database: Database, run_id: UUID, timeout_s: float | None, show: Callable[[str], None]) -> RunDetail:
    started, rest_s, shown = time.monotonic(), _FIRST_LOOK_S, None
    while True:
        with database.statement() as connection:
            detail = get_run(connection, run_id)
        if detail.finished_at is not None:
            return detail
        waited_s = time.monotonic() - started
        if timeout_s is not None and waited_s >= timeout_s:
            raise OperatorError(
                f"not finished within {timeout_s:g} s: run {run_id} is {detail.state}{_why(database, detail)}"
            )
        line = f"{detail.state} {words(detail.progress)} {words(detail.counts)}".strip()
        if waited_s > _STUCK_AFTER_S and detail.state == "pending":
            line += _why(database, detail)
        if line != shown:
            show(line)
            shown = line
        time.sleep(rest_s if timeout_s is None else min(rest_s, max(timeout_s - waited_s, 0)))
        rest_s = min(rest_s * 1.5, _LONGEST_REST_S)


def _why(database: Database, detail: RunDetail) -> str:
    """Say why a pending run does not start, where that can be known."""
    if detail.state != "pending":
        return ""
    if detail.is_paused:
        return ", its job or queue is paused"
    if detail.run_at > detail.now:
        return f", its next try is in {span((detail.run_at - detail.now).total_seconds())}"
    with database.statement() as connection:
        alive = runs.count_live_workers(connection, get_settings().rescue_after_s)
    if not alive:
        return ", no worker is alive"
    return ", no worker has taken it yet" if detail.published_at else ", no relay has published it yet"


@contextmanager
def _showing(*, silent: bool) -> Iterator[Callable[[str], None]]:
    """Show the newest line in place on a terminal, each line below the other elsewhere."""
    if silent:
        yield lambda _: None
    elif sys.stdout.isatty():
        with console().status("pending") as status:
            yield status.update
    else:
        yield say


def outcome(detail: RunDetail) -> str:
    """Return how a run ended as one sentence."""
    assert detail.finished_at is not None
    took = span((detail.finished_at - detail.created_at).total_seconds())
    line = f"{detail.state} after {took}"
    if detail.attempt > 1:
        line += f", at try {detail.attempt}"
    told = words(detail.counts) if detail.state == "succeeded" else describe_error(detail.error)
    return f"{line}: {told}" if told else line
