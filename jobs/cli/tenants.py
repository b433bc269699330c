"""`fleet-jobs tenants`: whose fleets these are."""

from typing import Annotated

import typer
from sqlalchemy.exc import IntegrityError

from db.queries import tenants as queries
from jobs.cli.arguments import JsonOption, checked_locale, checked_zone, get_tenant
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import at, print_json, print_table, say

cli = typer.Typer(help="List the tenants, add one, or change one.")


@cli.callback(invoke_without_command=True)
def tenants(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the tenants, add one, or change one."""
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
            ("slug", "name", "zone", "locale", "units", "state", "connections", "vehicles", "since", "id"),
            (
                (
                    each.slug,
                    each.name,
                    each.time_zone,
                    each.locale,
                    each.units,
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
    checked_zone("--zone", zone)
    _checked_name("NAME", name)
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


@cli.command("set")
def set_(
    slug: Annotated[str, typer.Argument(help="Its short name; it stays.")],
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    zone: Annotated[str | None, typer.Option(metavar="ZONE", help="Where its clocks are: its mornings move.")] = None,
    locale: Annotated[
        str | None, typer.Option(metavar="LOCALE", help="The language of those who have set none, such as de or fr_CA.")
    ] = None,
    units: Annotated[
        str | None, typer.Option(help="How distances are told: km or miles; auto is as in the reader's country.")
    ] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Whether work is done for it, and anybody told.")
    ] = None,
) -> None:
    """Change what is given of a tenant; the rest stays."""
    changes: dict[str, object] = {}
    if name is not None:
        changes["name"] = _checked_name("--name", name)
    if zone is not None:
        changes["time_zone"] = checked_zone("--zone", zone)
    if locale is not None:
        changes["locale"] = checked_locale("--locale", locale)
    if units not in (None, "km", "miles", "auto"):
        raise OperatorError(f"--units: expected km, miles or auto, got {units}")
    if active is not None:
        changes["is_active"] = active
    if not changes and units is None:
        raise OperatorError("nothing to change: give --name, --zone, --locale, --units, --active or --inactive")
    with system_database() as database, database.system_transaction() as connection:
        queries.change_tenant(connection, get_tenant(connection, slug).id, changes, units)
    say(f"{slug} is changed")


def _checked_name(option: str, given: str) -> str:
    if not given.strip():
        raise OperatorError(f"{option}: is empty")
    return given.strip()
