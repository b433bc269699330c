"""`fleet-jobs connections`: the tenants' accounts at providers. A token is never an argument, and never printed."""

import sys
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from db.encryption import Keyring
from db.engine import Database
from db.queries import connections as queries
from db.queries.connections import StoredConnection
from integrations.errors import CredentialsRejected, IntegrationError, PermanentError
from jobs.cli.arguments import JsonOption, TenantOption, YesOption, confirm, find_tenant_id, get_id, get_tenant
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import ago, print_json, print_table, say
from jobs.settings import get_settings

cli = typer.Typer(help="List the tenants' accounts at providers, or change one.")

_COLUMNS = (
    *("id", "tenant", "provider", "name", "status", "synced", "newest point"),
    *("pages", "points", "rejected", "unmatched", "reason"),
)
_LONGEST_TOKEN = 4096
_LONGEST_PAYLOAD = 100

Id = Annotated[str, typer.Argument(metavar="ID", help="The connection's id, or the first 8 or more characters of it.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where the token is, `-` for standard input; without it you are asked."),
]
Check = Annotated[
    bool, typer.Option("--check/--no-check", help="Ask the provider for its vehicles first; refuse a wrong token.")
]


@cli.callback(invoke_without_command=True)
def connections(context: typer.Context, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """List the tenants' accounts at providers, or change one."""
    if context.invoked_subcommand is not None:
        return
    with system_database() as database, database.statement() as connection:
        found = queries.list_connections(connection, find_tenant_id(connection, tenant))
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no connections: `fleet-jobs connections add` adds one")
    else:
        print_table(
            _COLUMNS,
            (
                (
                    each.id,
                    each.tenant,
                    each.provider,
                    each.name,
                    each.status,
                    ago(each.last_synced_at, each.now) or "not yet",
                    ago(each.newest_point_at, each.now) or "none",
                    each.pages,
                    each.points,
                    each.rejected,
                    each.unmatched,
                    each.status_reason,
                )
                for each in found
            ),
            right=("pages", "points", "rejected", "unmatched"),
        )


@cli.command("add")
def add(
    tenant: Annotated[str, typer.Option(metavar="SLUG", help="Whose account it is.")],
    provider: Annotated[str, typer.Option(help="At which provider, such as samsara.")],
    name: Annotated[str, typer.Option(help="What people call it.")],
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Instead of the provider's usual one; see FLEET_PROVIDER_ORIGINS.")
    ] = None,
    token_file: TokenFile = None,
    create_vehicles: Annotated[
        bool, typer.Option("--create-vehicles", help="Make a vehicle of each device that matches none.")
    ] = False,
    check: Check = True,
) -> None:
    """Add an account at a provider, and print its id: the next tick of the timetable begins to read it."""
    from integrations.registry import PROVIDERS, check_origin

    settings = get_settings()
    if not name.strip():
        raise OperatorError("--name: is empty")
    if provider not in PROVIDERS:
        raise OperatorError(f"no such provider: {provider}: expected one of {', '.join(PROVIDERS)}")
    if base_url is not None:
        try:
            check_origin(provider, base_url, settings.provider_origins)
        except PermanentError:
            raise OperatorError(
                f"--base-url: neither {provider}'s own origin nor one of FLEET_PROVIDER_ORIGINS"
            ) from None
    keyring = _keyring()
    with system_database() as database:
        with database.statement() as connection:
            tenant_id = get_tenant(connection, tenant).id
        token = _read_token(token_file)
        if check:
            _check_token(provider, token, base_url)
        connection_id = uuid4()
        credentials = keyring.encrypt_credentials(tenant_id, connection_id, {"token": token})
        options = {"create_vehicles": True} if create_vehicles else {}
        with database.system_transaction() as connection:
            is_new = queries.add_connection(
                connection, connection_id, tenant_id, provider, name.strip(), base_url, credentials, options
            )
    if not is_new:
        raise OperatorError(f"{tenant} has a {provider} connection of that name already: {name}")
    say(str(connection_id))


@cli.command("renew")
def renew(connection: Id, token_file: TokenFile = None, check: Check = True) -> None:
    """Give a connection another token, and let it be read again."""
    keyring = _keyring()
    with system_database() as database:
        stored = _get(database, connection)
        token = _read_token(token_file)
        if check:
            _check_token(stored.provider, token, stored.base_url)
        credentials = keyring.encrypt_credentials(stored.tenant_id, stored.id, {"token": token})
        with database.system_transaction() as open_connection:
            if not queries.replace_credentials(open_connection, stored.id, stored.credentials_encrypted, credentials):
                raise OperatorError(f"somebody else has just replaced the token of connection {stored.id}")
            queries.resume_connection(open_connection, stored.id)
    say(f"connection {stored.id} has its new token, and is active")


@cli.command("pause")
def pause(connection: Id, reason: Annotated[str | None, typer.Option(help="Why, for the others.")] = None) -> None:
    """Read a connection no more until it is resumed; what came meanwhile is then read."""
    with system_database() as database, database.statement() as open_connection:
        connection_id = get_id(open_connection, "connections", connection)
        was_active = queries.pause_connection(open_connection, connection_id, reason)
    say(f"connection {connection_id} {'paused' if was_active else 'was paused already'}")


@cli.command("resume")
def resume(connection: Id) -> None:
    """Read a paused or cut-off connection again, with the token that it has."""
    with system_database() as database, database.statement() as open_connection:
        connection_id = get_id(open_connection, "connections", connection)
        was_resumed = queries.resume_connection(open_connection, connection_id)
    say(f"connection {connection_id} {'is active again' if was_resumed else 'was active already'}")


@cli.command("remove")
def remove(connection: Id, yes: YesOption = False) -> None:
    """Forget a connection's token and read it no more; its vehicles and their points stay."""
    with system_database() as database:
        stored = _get(database, connection)
        confirm(f"remove the {stored.provider} connection {stored.name!r} ({stored.id})?", yes=yes)
        with database.system_transaction() as open_connection:
            queries.remove_connection(open_connection, stored.id)
            queries.cancel_pending(open_connection, stored.tenant_id, stored.id)
    say(f"connection {stored.id} removed")


@cli.command("rejected")
def rejected(connection: Id, as_json: JsonOption = False) -> None:
    """Show what a connection's provider sent that could not be read: by reason, the newest record of each."""
    with system_database() as database, database.statement() as open_connection:
        connection_id = get_id(open_connection, "connections", connection)
        found = queries.list_rejected(open_connection, connection_id)
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("nothing was rejected")
    else:
        print_table(
            ("reason", "field", "feed", "records", "times", "newest", "device", "payload"),
            (
                (
                    each.reason,
                    each.field,
                    each.feed,
                    each.records,
                    each.occurrences,
                    ago(each.newest_at, each.now),
                    each.device_id,
                    each.payload[:_LONGEST_PAYLOAD] + ("..." if len(each.payload) > _LONGEST_PAYLOAD else ""),
                )
                for each in sorted(found, key=lambda group: group.newest_at, reverse=True)
            ),
            right=("records", "times"),
        )


@cli.command("rekey")
def rekey() -> None:
    """Encrypt every token under the first key of FLEET_ENCRYPTION_KEYS, so that an old key may go."""
    keyring = _keyring()
    renewed = current = 0
    with system_database() as database, database.system_transaction() as connection:
        for stored in queries.list_stored(connection):
            if keyring.is_current(stored.credentials_encrypted):
                current += 1
                continue
            credentials = keyring.decrypt_credentials(stored.tenant_id, stored.id, stored.credentials_encrypted)
            anew = keyring.encrypt_credentials(stored.tenant_id, stored.id, credentials)
            renewed += queries.replace_credentials(connection, stored.id, stored.credentials_encrypted, anew)
    say(f"{renewed} encrypted anew, {current} were already")


def _get(database: Database, given: str) -> StoredConnection:
    with database.statement() as connection:
        return queries.get_stored(connection, get_id(connection, "connections", given))


def get_keyring() -> Keyring:
    """Return the keys of this deployment.

    Raises:
        EncryptionError: one of them is no key.
    """
    return Keyring.from_settings([key.get_secret_value() for key in get_settings().encryption_keys])


def _keyring() -> Keyring:
    if not get_settings().encryption_keys:
        raise OperatorError("FLEET_ENCRYPTION_KEYS: missing: `fleet-jobs keygen` makes a key")
    return get_keyring()


def _read_token(file: Path | None) -> str:
    if file is not None and str(file) != "-":
        try:
            token = file.read_text(encoding="ascii")
        except UnicodeDecodeError:
            raise OperatorError(f"--token-file: not a token: {file}") from None
    elif file is None and sys.stdin.isatty():
        token = str(typer.prompt("Token", hide_input=True))
    else:
        token = sys.stdin.read(_LONGEST_TOKEN + 2)
    token = token.strip()
    if not token:
        raise OperatorError("the token is empty")
    if len(token) > _LONGEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise OperatorError("not a token: expected one line of printable ASCII without blanks")
    return token


def _check_token(provider: str, token: str, base_url: str | None) -> None:
    """Read the account's first page of vehicles: what is wrong with a token is found now, not at night."""
    from integrations.registry import check_origin, open_provider

    if base_url is not None:  # an origin that is no longer allowed must not get the new token
        check_origin(provider, base_url, get_settings().provider_origins)
    account = open_provider(provider, {"token": token}, base_url)
    try:
        account.list_devices(None)
    except CredentialsRejected as error:
        raise OperatorError(f"{provider} refuses the token: {error}") from None
    except IntegrationError as error:
        raise OperatorError(f"cannot check the token at {provider}: {error}: try again, or --no-check") from None
    finally:
        account.close()
