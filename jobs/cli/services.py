"""`fleet-jobs maintenance schedules` and `upcoming`: which services vehicles have, and when they will be due."""

import sys
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from db.engine import Database, set_tenant
from db.queries import maintenance_schedules as queries
from db.queries import schedule_files
from db.queries.schedule import read_clock
from db.queries.tenants import list_tenants
from db.queries.work_order_numbers import hold, read_today
from jobs.cli.arguments import JsonOption, TenantOption, YesOption, confirm, find_tenant_id, get_tenant
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import clean, print_json, print_table, say

cli = typer.Typer(
    help="List the services that vehicles are to have; import and export them; pause, resume or remove one."
)

OfTenant = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose vehicles' services.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most so many.")]
ScheduleArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The schedule's id, or the first 8 or more characters of it.")
]

_MOST_REFUSALS = 50
_SHORT = 8  # of an id, in a table: as much as names one, and fits a terminal


@cli.callback(invoke_without_command=True)
def schedules(
    context: typer.Context, tenant: TenantOption = None, limit: LimitOption = 100, as_json: JsonOption = False
) -> None:
    """List the services that vehicles and vehicle types are to have, and how many of each are due or overdue."""
    if context.invoked_subcommand is not None:
        return
    found: list[queries.ListedSchedule] = []
    with system_database() as database:
        for tenant_id in _tenant_ids(database, tenant):
            with database.system_transaction() as connection:
                set_tenant(connection, tenant_id)
                now = read_clock(connection)
                if len(found) < limit:
                    today = read_today(connection, now)
                    found += queries.list_schedules(connection, now, today, limit - len(found))
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no schedules: `fleet-jobs maintenance schedules import FILE --tenant SLUG` brings some")
    else:
        print_table(
            ("id", "tenant", "name", "of", "every", "due", "overdue", "state"),
            (
                (
                    *(str(each.id)[:_SHORT], each.tenant, each.name),
                    each.vehicle or f"type {each.vehicle_type} ({each.vehicles})",
                    *(_every(each), each.due or None, each.overdue or None, "active" if each.is_active else "paused"),
                )
                for each in found
            ),
            right=("due", "overdue"),
        )


def _every(each: queries.ListedSchedule) -> str:
    """Return the intervals, of which whichever comes first counts, and whether they are a grid."""
    intervals = {
        "months" if each.interval_months != 1 else "month": each.interval_months,
        "days" if each.interval_days != 1 else "day": each.interval_days,
        each.distance_unit: each.interval_distance,
        "h": each.interval_engine_hours,
    }
    words = [f"{value:,.10g} {unit}" for unit, value in intervals.items() if value is not None]
    return ", ".join([*words, "fixed"] if each.anchor == "schedule" else words)


@cli.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or JSON; `-` for standard input.")],
    tenant: OfTenant,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be, and change nothing.")] = False,
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="Import the others where some rows are refused.")
    ] = False,
) -> None:
    """Add a file's schedules, and change those that are known already. All of them, or none.

    A schedule is known by its vehicle or vehicle type, and its name; importing a file twice changes nothing. CSV has a
    header row; JSON is a list of objects. A column that is not there leaves what is; an empty cell is none, or the
    default. All columns: `fleet-jobs maintenance schedules export` prints them.

    For example, every van every year or 10,000 miles, whichever comes first:

    `vehicle_type,name,interval_months,interval_distance,distance_unit,checklist`

    `van,oil change,12,10000,mi,drain the oil; replace the filter`
    """
    from jobs.cli.service_files import UnreadableFile, read_schedules

    try:
        read = read_schedules(_content(file))
    except UnreadableFile as error:
        raise OperatorError(f"{file}: {error}") from None
    total = len(read.rows) + len(read.refused)
    with system_database() as database, database.system_transaction() as connection:
        set_tenant(connection, get_tenant(connection, tenant).id)
        now = read_clock(connection)
        if not dry_run:
            hold(connection, now)
        verdicts = schedule_files.judge_schedules(connection, read.rows)
        refused = read.refused | {each.line: _placed(each.problem, read.place) for each in verdicts if each.problem}
        taken = [each for each in verdicts if each.problem is None]
        is_kept_out = bool(refused) and not skip_refused
        if not dry_run and not is_kept_out and any(each.outcome != "unchanged" for each in taken):
            _put(connection, [row for row in read.rows if row["line"] not in refused], now)
    # Who reads this may take as long as they like, and the tenant's counter is free by now.
    _tell_refused(refused, read.place)
    if is_kept_out:
        raise OperatorError(f"nothing imported: {len(refused)} of {total} rows refused: --skip-refused?")
    if dry_run:
        names = {row["line"]: row["name"] for row in read.rows}
        for each in taken:
            say(f"{each.outcome}: {read.place} {each.line}: {names[each.line]}")
    outcomes = [each.outcome for each in taken]
    counts = [f"{outcomes.count(word)} {word}" for word in ("added", "changed", "unchanged")]
    say(", ".join([*counts, f"{len(refused)} refused"]) + (": nothing was changed" if dry_run else ""))
    if not dry_run and set(outcomes) - {"unchanged"}:
        typer.echo(f"the next check goes by it; now: `fleet-jobs maintenance check --tenant {tenant}`", err=True)


def _content(file: Path) -> bytes:
    from jobs.cli.service_files import MOST_BYTES

    if str(file) == "-":
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    with file.open("rb") as content:
        return content.read(MOST_BYTES + 1)


def _placed(problem: str | None, place: str) -> str:
    return (problem or "").replace("the same as in ", f"the same as in {place} ")


def _tell_refused(refused: dict[int, str], place: str) -> None:
    for line in sorted(refused)[:_MOST_REFUSALS]:
        say(f"refused: {place} {line}: {refused[line]}")
    if len(refused) > _MOST_REFUSALS:
        say(f"refused: {len(refused) - _MOST_REFUSALS} more")


def _put(connection: Connection, rows: list[dict[str, Any]], now: Any) -> None:
    try:
        schedule_files.put_schedules(connection, rows, now)
    except IntegrityError as error:
        constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None) or "a constraint"
        raise OperatorError(f"nothing imported: the database refuses it: {constraint}") from None


@cli.command("export")
def export(tenant: OfTenant) -> None:
    """Print a tenant's schedules as CSV, which `import` takes back.

    For example: `fleet-jobs maintenance schedules export --tenant acme > schedules.csv`
    """
    from jobs.cli.service_files import write_schedules

    with system_database() as database, database.system_transaction() as connection:
        set_tenant(connection, get_tenant(connection, tenant).id)
        found = schedule_files.export_schedules(connection)
    for line in write_schedules(found):
        typer.echo(clean(line) if sys.stdout.isatty() else line, nl=False)


@cli.command("pause")
def pause(schedule: ScheduleArgument) -> None:
    """Let a schedule rest: nothing of it becomes due, and its alerts are resolved with the next check."""
    _turn(schedule, active=False)


@cli.command("resume")
def resume(schedule: ScheduleArgument) -> None:
    """Let a paused schedule count again, from where its services were last done."""
    _turn(schedule, active=True)


def _turn(given: str, *, active: bool) -> None:
    with system_database() as database, database.system_transaction() as connection:
        found = _get_schedule(connection, given)
        was_turned = queries.turn_schedule(connection, found.id, active=active)
    state = "active" if active else "paused"
    say(f"schedule {found.id} {f'is {state} from the next check on' if was_turned else f'was {state} already'}")


@cli.command("remove")
def remove(schedule: ScheduleArgument, yes: YesOption = False) -> None:
    """Remove a schedule: nothing of it becomes due any more; its work orders, also open ones, and its history stay."""
    with system_database() as database:
        with database.statement() as connection:
            found = _get_schedule(connection, schedule)
        orders = f"; its {found.open_orders} open work orders stay" if found.open_orders else ""
        confirm(f"remove the schedule {found.name!r} of {found.of} ({found.tenant}){orders}?", yes=yes)
        with database.system_transaction() as connection:
            queries.remove_schedule(connection, found.id)
    say(f"schedule {found.id} removed{orders}")


def _get_schedule(connection: Connection, given: str) -> queries.NamedSchedule:
    """Return the one schedule whose id begins with what was given.

    Raises:
        OperatorError: fewer than 8 hexadecimal characters, no such schedule, or several.
    """
    prefix = given.lower().replace("-", "")
    if not 8 <= len(prefix) <= 32 or set(prefix) - set("0123456789abcdef"):
        raise OperatorError(f"not a schedule id: {given}: expected a UUID, or at least its first 8 characters")
    found = queries.find_schedules(connection, UUID(prefix.ljust(32, "0")), UUID(prefix.ljust(32, "f")))
    if not found:
        raise OperatorError(f"no such schedule: {given}: `fleet-jobs maintenance schedules` lists them")
    if len(found) > 1:
        raise OperatorError(f"several schedules begin with {given}: {found[0].id}, {found[1].id} ...: give more of it")
    return found[0]


def upcoming(
    days: Annotated[int, typer.Option(metavar="DAYS", min=0, max=3650, help="So many days from now.")] = 90,
    tenant: TenantOption = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """Show what will be due within the next days, and what is so already: by the calendar, and as vehicles are used.

    For example, next month's: `fleet-jobs maintenance upcoming --days 30 --tenant acme`
    """
    found: list[queries.Upcoming] = []
    unpredictable = unmet = 0
    with system_database() as database:
        for tenant_id in _tenant_ids(database, tenant):
            with database.system_transaction() as connection:
                set_tenant(connection, tenant_id)
                now = read_clock(connection)
                outlook = queries.list_upcoming(connection, now, read_today(connection, now), days, limit)
            found = sorted(found + outlook.upcoming, key=lambda each: each.predicted_on)[:limit]
            unpredictable, unmet = unpredictable + outlook.unpredictable, unmet + outlook.unmet
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say(f"nothing will be due within {days} days")
    else:
        print_table(
            ("id", "predicted", "tenant", "vehicle", "service", "first", "left"),
            (
                (
                    *(str(each.trigger_id)[:_SHORT], each.predicted_on, each.tenant, each.vehicle, each.schedule),
                    *(each.first, _left(each)),
                )
                for each in found
            ),
        )
    if unpredictable:
        typer.echo(f"services without a meter or a use a day, so that nothing is known: {unpredictable}", err=True)
    if unmet:
        typer.echo(f"schedules that wait for their first check: {unmet}: `fleet-jobs maintenance check`", err=True)


def _left(each: queries.Upcoming) -> str:
    """Return what is left of each interval, in the schedule's own unit, below zero where it is over."""
    from db.queries.judging import KM_PER_MILE

    distance = each.left_km
    if distance is not None and each.distance_unit == "mi":
        distance /= KM_PER_MILE
    left = {"days": each.left_days, each.distance_unit: distance, "h": each.left_engine_hours}
    words = [f"{value:,.0f} {unit}" for unit, value in left.items() if value is not None]
    return ", ".join([*words, "put off"] if each.is_snoozed else words)


def _tenant_ids(database: Database, slug: str | None) -> list[UUID]:
    with database.statement() as connection:
        wanted = find_tenant_id(connection, slug)
        return [each.id for each in list_tenants(connection) if wanted in (None, each.id)]
