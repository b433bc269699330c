"""`fleet-jobs users`: who can be told something; for operators without another application."""

from typing import Annotated

import typer

from db.queries import users as queries
from jobs.cli.arguments import JsonOption, TenantOption, checked_locale, checked_zone, find_tenant_id, get_tenant
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import print_json, print_table, say

cli = typer.Typer(help="List the users who can be told something; add one, disable one.")

SlugOption = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose user.")]
EmailOption = Annotated[str, typer.Option("--email", metavar="ADDRESS", help="The user's address.")]

_LONGEST_NAME = 100


@cli.callback(invoke_without_command=True)
def users(
    context: typer.Context,
    tenant: TenantOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List the users; of an address only its first letter and its domain are shown."""
    if context.invoked_subcommand is not None:
        return
    with system_database() as database, database.statement() as connection:
        found = queries.list_users(connection, find_tenant_id(connection, tenant), limit)
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no users: `fleet-jobs users add --tenant SLUG --email ADDRESS` adds one")
    else:
        print_table(
            ("tenant", "address", "state", "language", "zone", "preference"),
            (
                (each.tenant, each.address, each.status, each.locale, each.time_zone, each.told_by or "none")
                for each in found
            ),
        )


@cli.command("add")
def add(
    tenant: SlugOption,
    email: EmailOption,
    first_name: Annotated[str | None, typer.Option(metavar="NAME", help="What they are called.")] = None,
    last_name: Annotated[str | None, typer.Option(metavar="NAME", help="Their family's name.")] = None,
    locale: Annotated[
        str | None, typer.Option(metavar="LOCALE", help="Their language, such as de or fr_CA; else the tenant's.")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Where their clock is, such as Europe/Berlin; else the tenant's.")
    ] = None,
) -> None:
    """Add a user who can be told something, and print the id. There is no password: nobody logs in with it.

    For example: `fleet-jobs users add --tenant acme --email ann@acme.example --locale de --zone Europe/Berlin`
    """
    given = {"first_name": _name("--first-name", first_name), "last_name": _name("--last-name", last_name)}
    given["locale"] = None if locale is None else checked_locale("--locale", locale)
    given["time_zone"] = None if zone is None else checked_zone("--zone", zone)
    address = _address(email)
    with system_database() as database, database.system_transaction() as connection:
        tenant_id = get_tenant(connection, tenant).id
        user_id = queries.add_user(connection, tenant_id, address, **given)
        if user_id is None:
            raise OperatorError(f"--email: {tenant} has a user of that address already")
        is_told = queries.tells_all_users(connection, tenant_id)
    say(str(user_id))
    if not is_told:
        wish = f"`fleet-jobs notifications prefer --tenant {tenant} --severity low`"
        typer.echo(f"nobody tells them anything yet: {wish} does, of everything", err=True)


@cli.command("disable")
def disable(tenant: SlugOption, email: EmailOption) -> None:
    """Tell a user nothing more; what is theirs stays. An alert that names the address is sent to it all the same."""
    _set_status(tenant, email, "inactive", "disabled")


@cli.command("enable")
def enable(tenant: SlugOption, email: EmailOption) -> None:
    """Tell a disabled user again what they wish to be told."""
    _set_status(tenant, email, "active", "active")


def _set_status(tenant: str, email: str, status: str, word: str) -> None:
    with system_database() as database, database.system_transaction() as connection:
        found = queries.set_user_status(connection, get_tenant(connection, tenant).id, email.strip(), status)
    if found is None:
        raise OperatorError(f"--email: {tenant} has no user of that address: `fleet-jobs users` lists them")
    user_id, before = found
    say(f"user {user_id} {'was' if before == status else 'is'} {word}{' already' if before == status else ''}")


def _address(given: str) -> str:
    """Return an address that a mail can be sent to; the error does not repeat it."""
    from integrations.mime import UnsendableMail, check_address

    try:
        check_address(given.strip())
    except UnsendableMail:
        raise OperatorError("--email: no mail can be sent to this address: expected name@company.example") from None
    return given.strip()


def _name(option: str, given: str | None) -> str | None:
    name = (given or "").strip()
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise OperatorError(f"{option}: expected one line of at most {_LONGEST_NAME} characters")
    return name or None
