"""`fleet-jobs maintenance`: what is due, what a check would open, and the meters that it goes by."""

from datetime import date
from typing import Annotated

import typer

from db.engine import set_tenant
from db.queries import due_list as queries
from db.queries import quarantine
from db.queries.meter_list import list_meters
from db.queries.schedule import read_clock
from db.queries.tenants import list_tenants
from db.queries.work_order_numbers import read_today
from jobs.cli import services
from jobs.cli.arguments import JsonOption, TenantOption, find_tenant_id, get_id, get_tenant
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import ago, print_json, print_table, say, words
from jobs.cli.run import run

cli = typer.Typer(
    help="Say which services vehicles have; show what is or will be due; put a service off; see to meters."
)
meters_cli = typer.Typer(help="Show what meters are believed to show, and the readings that wait for a person.")
cli.add_typer(services.cli, name="schedules")
cli.command("upcoming")(services.upcoming)
cli.add_typer(meters_cli, name="meters")

LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most so many.")]


@cli.callback(invoke_without_command=True)
def maintenance(
    context: typer.Context,
    tenant: TenantOption = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only overdue, due, due_soon or snoozed ones.")
    ] = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """Show what is overdue, due, due soon and put off at this moment, the worst of each tenant first."""
    if context.invoked_subcommand is not None:
        return
    if status not in (None, "overdue", "due", "due_soon", "snoozed"):
        raise OperatorError(f"--status: expected overdue, due, due_soon or snoozed, got {status}")
    found: list[tuple[str, queries.Due]] = []
    with system_database() as database:
        with database.statement() as connection:
            wanted = find_tenant_id(connection, tenant)
            tenants = [each for each in list_tenants(connection) if wanted in (None, each.id)]
        for each in tenants:
            if len(found) == limit:
                break
            with database.system_transaction() as connection:
                set_tenant(connection, each.id)
                now = read_clock(connection)
                today = read_today(connection, now)
                due = queries.list_due(connection, now, today, status=status, limit=limit - len(found))
            found += [(each.slug, one) for one in due]
    if as_json:
        for slug, one in found:
            print_json({"tenant": slug} | {name: getattr(one, name) for name in one.__slots__})
    elif not found:
        say("nothing is due")
    else:
        print_table(
            ("id", "tenant", "vehicle", "status", "why", "predicted", "put off until", "work order"),
            (
                (
                    *(one.trigger_id, slug, one.vehicle, one.status, one.reason),
                    one.predicted_on,
                    _limits(one.snoozed_until, one.snoozed_until_km, one.snoozed_until_engine_hours),
                    one.work_order,
                )
                for slug, one in found
            ),
        )


@cli.command("check")
def check(
    tenant: Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose services.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would open; change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Enqueue the check of a tenant now, or rehearse it: all of it is done, printed and taken back."""
    if not dry_run:
        run("maintenance.check_due", tenant=tenant, as_json=as_json)
        return
    from jobs.maintenance.check import rehearse

    with system_database() as database, database.system_transaction() as connection:
        set_tenant(connection, get_tenant(connection, tenant).id)
        now = read_clock(connection)
        savepoint = connection.begin_nested()
        counts = rehearse(connection, now)
        opened, told = queries.list_opened(connection, now), queries.list_told(connection, now)
        savepoint.rollback()
    if as_json:
        for each in (*opened, *told):
            print_json(each)
        return
    if opened:
        print_table(
            ("work order", "priority", "vehicle", "due", "why"),
            ((each.reference, each.priority, each.vehicle, each.due_on, each.description) for each in opened),
        )
        say("")
    if told:
        print_table(
            ("alert", "severity", "vehicle", "message"),
            ((each.kind, each.severity, each.vehicle, each.message) for each in told),
        )
        say("")
    say(f"would open {len(opened)} work orders and {len(told)} alerts; nothing was changed")
    typer.echo(words({name: number for name, number in counts.items() if number}), err=True)


@cli.command("snooze")
def snooze(
    service: Annotated[str, typer.Argument(metavar="ID", help="The service's id, as `fleet-jobs maintenance` prints.")],
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="The day from which it counts again: 2026-12-24.")
    ] = None,
    until_km: Annotated[
        float | None, typer.Option(metavar="KM", min=0, max=10_000_000, help="The odometer from which it does.")
    ] = None,
    until_hours: Annotated[
        float | None, typer.Option(metavar="HOURS", min=0, max=1_000_000, help="The engine hours from which it does.")
    ] = None,
) -> None:
    """Put a service off: until that day, or that meter, whichever comes first, nothing is said and nothing opened.

    A service whose work order was cancelled gets another one from then on.
    """
    limits = (None if until is None else _day(until), until_km, until_hours)
    if limits == (None, None, None):
        raise OperatorError("give --until, --until-km or --until-hours")
    with system_database() as database, database.system_transaction() as connection:
        trigger_id = get_id(connection, "maintenance_triggers", service)
        standing = queries.read_standing(connection, trigger_id, read_clock(connection))
        _check_day(limits[0], standing.today)
        _check_meter("--until-km", until_km, standing.km, "km")
        _check_meter("--until-hours", until_hours, standing.engine_hours, "h")
        queries.snooze(connection, trigger_id, *limits)
    say(f"service {trigger_id} is put off until {_limits(*limits)}")


def _day(given: str) -> date:
    try:
        day = date.fromisoformat(given)
    except ValueError:
        raise OperatorError(f"--until: not a day: {given}: expected one such as 2026-12-24") from None
    if not 1950 <= day.year < 2200:
        raise OperatorError(f"--until: too far away: {given}")
    return day


def _check_day(limit: date | None, today: date) -> None:
    if limit is not None and limit <= today:
        raise OperatorError(f"--until: {limit} is not ahead: it is {today} for the tenant")


def _check_meter(option: str, limit: float | None, value: float | None, unit: str) -> None:
    """Refuse a limit that puts nothing off.

    Args:
        value: what the meter is taken to show by now.
    """
    if limit is None:
        return
    if value is None:
        raise OperatorError(f"{option}: nobody knows this meter of the vehicle: give --until")
    if limit <= value:
        raise OperatorError(f"{option}: {limit:,.0f} {unit} is not ahead: the meter shows {value:,.0f} {unit} by now")


def _limits(day: date | None, km: float | None, hours: float | None) -> str | None:
    given = (
        None if day is None else str(day),
        None if km is None else f"{km:,.0f} km",
        None if hours is None else f"{hours:,.0f} h",
    )
    return " or ".join(each for each in given if each) or None


@meters_cli.callback(invoke_without_command=True)
def meters(
    context: typer.Context,
    tenant: TenantOption = None,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="The readings that cannot be, and wait for a person.")
    ] = False,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """Show what each meter is believed to show, the stalest first; or what was set aside."""
    if context.invoked_subcommand is not None:
        return
    with system_database() as database, database.statement() as connection:
        tenant_id = find_tenant_id(connection, tenant)
        waiting = quarantine.list_quarantined(connection, tenant_id, limit) if quarantined else []
        believed = [] if quarantined else list_meters(connection, tenant_id, limit)
    if as_json:
        for each in (*waiting, *believed):
            print_json(each)
    elif waiting:
        print_table(
            ("id", "tenant", "vehicle", "meter", "reading", "read", "why", "believed", "since"),
            (
                (
                    *(each.id, each.tenant, each.vehicle, each.meter, _number(each.value), ago(each.read_at, each.now)),
                    *(each.reason, _number(each.accepted_value), ago(each.accepted_at, each.now)),
                )
                for each in waiting
            ),
            right=("reading", "believed"),
        )
    elif believed:
        print_table(
            ("vehicle", "tenant", "meter", "value", "read", "a day", "id"),
            (
                (
                    *(each.vehicle, each.tenant, each.meter, _number(each.value), ago(each.read_at, each.now)),
                    *(_number(each.per_day), each.vehicle_id),
                )
                for each in believed
            ),
            right=("value", "a day"),
        )
    else:
        say("no reading waits" if quarantined else "no meter was read yet")


@meters_cli.command("accept")
def accept(
    reading: Annotated[str, typer.Argument(metavar="ID", help="The reading's id, or its beginning.")],
    replaced: Annotated[
        bool, typer.Option("--replaced", help="The instrument is a new one: services count on from where they were.")
    ] = False,
) -> None:
    """Believe a reading that was set aside: it is right, and what contradicts it was wrong."""
    with system_database() as database, database.system_transaction() as connection:
        reading_id = get_id(connection, "meter_readings", reading)
        try:
            accepted = quarantine.accept_reading(connection, reading_id, replaced=replaced)
        except quarantine.FutureReadingError:
            raise OperatorError(
                f"reading {reading_id} was read in the future: until then no other would count:"
                " `fleet-jobs maintenance meters reject`"
            ) from None
    if not accepted:
        raise OperatorError(f"reading {reading_id} does not wait for anybody")
    say(f"reading {reading_id} is accepted; the next check goes by it")


@meters_cli.command("reject")
def reject(
    reading: Annotated[str, typer.Argument(metavar="ID", help="The reading's id, or its beginning.")],
) -> None:
    """Dismiss a reading that was set aside: it is wrong. It is kept, and nobody is asked about it again."""
    with system_database() as database, database.system_transaction() as connection:
        reading_id = get_id(connection, "meter_readings", reading)
        if not quarantine.reject_reading(connection, reading_id):
            raise OperatorError(f"reading {reading_id} does not wait for anybody")
    say(f"reading {reading_id} is dismissed")


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,.1f}"
