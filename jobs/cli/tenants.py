"""`fleet-jobs tenants`: whose fleets these are."""

from typing import Annotated
from zoneinfo import available_timezones

import typer
from sqlalchemy.exc import IntegrityError

from db.queries import tenants as queries
from jobs.cli.arguments import JsonOption
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import at, print_json, print_table, say

cli = typer.Typer(help="List the tenants, or add one.")


@cli.callback(invoke_without_command=True)
def tenants(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the tenants, or add one."""
    if context.invoked_subcommand is not None:
        return
    with system_database() as database, database.statement() as connection:
        found = queries.list_tenants(connection)
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no tenants: `fleet-jobs tenants add SLUG NAME` adds one")
    else:
        print_table(
            ("slug", "name", "zone", "state", "connections", "vehicles", "since", "id"),
            (
                (
                    each.slug,
                    each.name,
                    each.time_zone,
                    "active" if each.is_active else "inactive",
                    each.connections,
                    each.vehicles,
                    at(each.created_at),
                    each.id,
                )
                for each in found
            ),
            right=("connections", "vehicles"),
        )


@cli.command("add")
def add(
    slug: Annotated[str, typer.Argument(help="Its short name: lower-case letters, digits and hyphens.")],
    name: Annotated[str, typer.Argument(help="What people call it.")],
    zone: Annotated[str, typer.Option(metavar="ZONE", help="Where its clocks are, such as Europe/Berlin.")] = "UTC",
) -> None:
    """Add a tenant, and print its id."""
    if zone not in available_timezones():
        raise OperatorError(f"no such time zone: {zone}: expected a name such as Europe/Berlin")
    if not name.strip():
        raise OperatorError("NAME: is empty")
    with system_database() as database:
        try:
            with database.system_transaction() as connection:
                tenant_id = queries.add_tenant(connection, slug, name.strip(), zone)
        except IntegrityError as error:
            constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
            if constraint == "ck_tenants_slug":
                problem = "expected lower-case letters, digits and hyphens, at most 63"
                raise OperatorError(f"not a slug: {slug}: {problem}") from None
            raise OperatorError(f"the database does not know the time zone: {zone}") from None
    if tenant_id is None:
        raise OperatorError(f"there is a tenant of that slug already: {slug}")
    say(str(tenant_id))
