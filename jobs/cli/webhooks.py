"""`fleet-jobs webhooks`: the receiver of what providers push, and what an operator tells them of it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from db.encryption import Keyring
from db.queries import connections
from db.queries import webhooks as queries
from db.queries.connections import StoredConnection
from jobs.cli.arguments import JsonOption, get_id
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import ago, print_json, print_table, say
from jobs.settings import get_settings, load_receiver_settings

cli = typer.Typer(help="Receive what providers push, until stopped; or set it up.")

_LONGEST_SECRET = 4096

Id = Annotated[str, typer.Argument(metavar="ID", help="The connection's id, or the first 8 or more characters of it.")]


@cli.callback(invoke_without_command=True)
def webhooks(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8600,
) -> None:
    """Receive what providers push, until stopped; or set it up.

    Needs FLEET_DATABASE_URL and FLEET_ENCRYPTION_KEYS and nothing else. Put a proxy with TLS before it.
    """
    if context.invoked_subcommand is not None:
        return
    from jobs.logging import configure_logging
    from jobs.webhooks.server import serve

    settings = load_receiver_settings()
    if not settings.encryption_keys:
        raise OperatorError("FLEET_ENCRYPTION_KEYS: missing: no secret can be read, so that nothing would be believed")
    configure_logging(settings)
    serve(host, port, settings)


@cli.command("url")
def url(connection: Id) -> None:
    """Print where a connection's provider should push to."""
    stored = _get(connection)
    _secret_name(stored)
    say(_url(stored))


@cli.command("secret")
def secret(
    connection: Id,
    secret_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the secret is, `-` for standard input; without it you are asked."),
    ] = None,
) -> None:
    """Store the secret with which a connection's provider signs, and print where it should push to."""
    keys = get_settings().encryption_keys
    if not keys:
        raise OperatorError("FLEET_ENCRYPTION_KEYS: missing: `fleet-jobs keygen` makes a key")
    keyring = Keyring.from_settings([key.get_secret_value() for key in keys])
    stored = _get(connection)
    name, address = _secret_name(stored), _url(stored)
    given = _read_secret(secret_file)
    stored = _get(str(stored.id))  # as it is now: somebody may have taken long to type
    credentials = keyring.decrypt_credentials(stored.tenant_id, stored.id, stored.credentials_encrypted)
    anew = keyring.encrypt_credentials(stored.tenant_id, stored.id, credentials | {name: given})
    with system_database() as database, database.system_transaction() as open_connection:
        if not queries.set_secret(open_connection, stored.id, stored.credentials_encrypted, anew):
            raise OperatorError(f"the credentials of connection {stored.id} are being replaced right now: try again")
    say(address)


@cli.command("deliveries")
def deliveries(
    connection: Id,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show what a connection's provider has pushed in the last week, and whether it was read."""
    with system_database() as database, database.statement() as open_connection:
        connection_id = get_id(open_connection, "connections", connection)
        found = queries.list_deliveries(open_connection, connection_id, limit)
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("nothing was pushed in the last week")
    else:
        print_table(
            ("event", "kind", "sent", "received", "repeats", "read"),
            (
                (
                    each.event_id,
                    each.kind,
                    ago(each.sent_at, each.now),
                    ago(each.received_at, each.now),
                    each.repeats,
                    ago(each.read_at, each.now) or "not yet",
                )
                for each in found
            ),
            right=("repeats",),
        )


def _get(given: str) -> StoredConnection:
    with system_database() as database, database.statement() as connection:
        return connections.get_stored(connection, get_id(connection, "connections", given))


def _secret_name(stored: StoredConnection) -> str:
    from integrations.registry import find_provider

    known = find_provider(stored.provider).webhooks
    if known is None:
        raise OperatorError(f"{stored.provider} has no webhooks that this release knows")
    return known.secret_name


def _url(stored: StoredConnection) -> str:
    origin = get_settings().webhook_origin
    if not origin:
        raise OperatorError("FLEET_WEBHOOK_ORIGIN: missing: where does the internet reach the receiver?")
    return f"{origin}/webhooks/{stored.tenant_id}/{stored.id}"


def _read_secret(file: Path | None) -> str:
    if file is not None and str(file) != "-":
        try:
            given = file.read_text(encoding="ascii")
        except UnicodeDecodeError:
            raise OperatorError(f"--secret-file: not a secret: {file}") from None
    elif file is None and sys.stdin.isatty():
        given = str(typer.prompt("Secret", hide_input=True))
    else:
        given = sys.stdin.read(_LONGEST_SECRET + 2)
    given = given.strip()
    if not 0 < len(given) <= _LONGEST_SECRET or not given.isascii() or not given.isprintable() or " " in given:
        raise OperatorError("not a secret: expected one line of printable ASCII without blanks")
    return given
