"""`fleet-jobs work-orders`: what is open, and its next status, for operators and demonstrations."""

from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from db.queries import work_orders as queries
from db.queries.work_order_status import hold_order
from jobs.cli.arguments import JsonOption, TenantOption, find_tenant_id, get_id
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import ago, print_json, print_table, say

cli = typer.Typer(help="List the work orders; complete, cancel or hold one.")

OrderArgument = Annotated[
    str,
    typer.Argument(metavar="ORDER", help="Its id, or the beginning; or its number, such as WO-000012, of --tenant."),
]


@cli.callback(invoke_without_command=True)
def work_orders(
    context: typer.Context,
    tenant: TenantOption = None,
    with_closed: Annotated[bool, typer.Option("--all", help="Also those that are completed or cancelled.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List the open work orders, the gravest first."""
    if context.invoked_subcommand is not None:
        return
    with system_database() as database, database.statement() as connection:
        tenant_id = find_tenant_id(connection, tenant)
        found = queries.list_orders(connection, tenant_id, with_closed=with_closed, limit=limit)
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no work orders" if with_closed else "no open work orders")
    else:
        print_table(
            ("number", "tenant", "status", "priority", "type", "vehicle", "what", "due", "cost", "since", "id"),
            (
                (
                    *(each.reference, each.tenant, each.status, each.priority, each.type, each.vehicle, each.title),
                    *(each.due_on, f"{each.total_cost:.2f}", ago(each.created_at, each.now), each.id),
                )
                for each in found
            ),
            right=("cost",),
        )


@cli.command("start")
def start(order: OrderArgument, tenant: TenantOption = None) -> None:
    """Say that somebody works on it."""
    _move(order, tenant, "in_progress")


@cli.command("hold")
def hold(order: OrderArgument, tenant: TenantOption = None) -> None:
    """Put it on hold: it stays the open order of its service."""
    _move(order, tenant, "on_hold")


@cli.command("cancel")
def cancel(order: OrderArgument, tenant: TenantOption = None) -> None:
    """Cancel it for good. Its service stays due, and gets no other order until it is put off."""
    _move(order, tenant, "cancelled")


@cli.command("complete")
def complete(
    order: OrderArgument,
    tenant: TenantOption = None,
    odometer_km: Annotated[
        float | None, typer.Option(metavar="KM", min=0, max=10_000_000, help="The odometer at its completion.")
    ] = None,
    engine_hours: Annotated[
        float | None, typer.Option(metavar="HOURS", min=0, max=1_000_000, help="The engine hours at its completion.")
    ] = None,
) -> None:
    """Complete it for good; its service counts from now, within five minutes."""
    _move(order, tenant, "completed", odometer_km, engine_hours)


def _move(
    given: str, tenant: str | None, status: str, odometer_km: float | None = None, engine_hours: float | None = None
) -> None:
    with system_database() as database:
        try:
            with database.system_transaction() as connection:
                order_id = _find(connection, given, tenant)
                reference, was = hold_order(connection, order_id)
                if was == status:
                    raise OperatorError(f"work order {reference} is {status.replace('_', ' ')} already")
                queries.move_order(connection, order_id, status, odometer_km=odometer_km, engine_hours=engine_hours)
        except IntegrityError as error:
            raise OperatorError(error.orig.diag.message_primary) from None  # type: ignore[union-attr]
    say(f"work order {reference} is {status.replace('_', ' ')}")


def _find(connection: Connection, given: str, tenant: str | None) -> UUID:
    prefix, _, number = given.upper().partition("-")
    if prefix != "WO" or not number.isascii() or not number.isdigit():
        return get_id(connection, "work_orders", given)
    tenant_id = find_tenant_id(connection, tenant)
    if tenant_id is None:
        raise OperatorError(f"{given}: every tenant has its own numbers: give --tenant SLUG")
    found = queries.find_order(connection, tenant_id, min(int(number[:12]), 2**31 - 1))
    if found is None:
        raise OperatorError(f"no such work order: {given}")
    return found
