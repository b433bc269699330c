"""`fleet-jobs notifications bounced`, `suppressed` and `allow`: what came back, and who is sent nothing more."""

from datetime import UTC, datetime
from typing import Annotated, BinaryIO

import typer
from sqlalchemy.exc import SQLAlchemyError

from db.queries import suppressions
from db.queries.bounces import record_returned
from integrations.bounces import LONGEST_REPORT, Returned, read_report
from jobs.cli.arguments import JsonOption, TenantOption, find_tenant_id, get_tenant
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError, explain
from jobs.cli.output import at, print_json, print_table, say
from jobs.settings import SettingsError

TRY_LATER = 75
"""What a mail server understands as: keep it, and hand it over again (EX_TEMPFAIL of sysexits.h)."""


def bounced(
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(metavar="FILE", help="The mail as it came; standard input without it.")
    ] = "-",  # type: ignore[assignment]
) -> None:
    """Take a bounce or a complaint about a mail of ours, and send nothing more to an address that does not exist.

    For a pipe of the mail server that receives for the sender's address, in the directory that has .env:
    `fleet: "|cd /srv/fleet && .venv/bin/fleet-jobs notifications bounced"`. Where it cannot do its work it leaves with
    75, so that the server tries again.
    """
    returned = _read(file)
    if returned is None:
        say("no report that one of our mails came back: passed over")
        return
    suppress = {"complaint": "complaint", "bounce": "hard_bounce" if returned.is_bad_address else None}[returned.kind]
    try:
        with system_database() as database, database.system_transaction() as connection:
            found = record_returned(
                connection,
                returned.message_id,
                returned.addresses,
                returned.reason,
                datetime.now(UTC),
                suppress=suppress,  # type: ignore[arg-type]
            )
    except (OperatorError, SettingsError, SQLAlchemyError) as error:
        typer.echo(f"fleet-jobs: {explain(error) or str(error)}", err=True)
        raise typer.Exit(TRY_LATER) from None
    if found == "too early":
        typer.echo(f"fleet-jobs: notification {returned.message_id} is being sent", err=True)
        raise typer.Exit(TRY_LATER)
    if found == "unknown":
        say(f"notification {returned.message_id} is none that was sent to this address: passed over")
    else:
        then = "nothing more is sent to its address" if suppress else "later ones are still sent"
        say(f"notification {returned.message_id} {returned.reason}; {then}")


def _read(file: BinaryIO) -> Returned | None:
    return read_report(file.read(LONGEST_REPORT + 1))


def suppressed(
    tenant: TenantOption = None,
    address: Annotated[
        str | None, typer.Argument(metavar="ADDRESS", help="Whether it is sent nothing; all are counted without it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count the addresses that are sent nothing more, by reason: only their digests are stored, so none is listed."""
    with system_database() as database, database.statement() as connection:
        found = suppressions.count_suppressed(connection, find_tenant_id(connection, tenant), address)
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("every address is sent to" if address is None else "nothing keeps us from sending to it")
    else:
        print_table(
            ("tenant", "sent nothing of", "because of", "addresses", "last"),
            ((each.tenant, each.category, each.reason, each.addresses, at(each.last_at)) for each in found),
            right=("addresses",),
        )


def allow(
    tenant: Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose.")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The address.")],
) -> None:
    """Send to an address again that bounced, complained or unsubscribed."""
    with system_database() as database, database.system_transaction() as connection:
        was_kept = suppressions.allow(connection, get_tenant(connection, tenant).id, address)
    say("it is sent to again" if was_kept else "nothing kept us from it")
