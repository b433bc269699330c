"""`fleet-jobs connections`: the tenants' accounts at providers. A token is never an argument, and never printed."""

import json
from typing import Annotated, Any
from uuid import uuid4

import typer

from db.encryption import EncryptionError, Keyring
from db.engine import Database
from db.queries import connections as queries
from db.queries.connections import StoredConnection
from integrations.errors import PermanentError
from jobs.cli.arguments import JsonOption, TenantOption, YesOption, confirm, find_tenant_id, get_id, get_tenant
from jobs.cli.credentials import (
    OF_RENEWAL,
    CredentialsFile,
    TokenFile,
    beside_account,
    check_credentials,
    obtain,
    read_credentials,
)
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import ago, print_json, print_table, say
from jobs.settings import get_settings

cli = typer.Typer(help="List the tenants' accounts at providers, or change one.")

_COLUMNS = (
    *("id", "tenant", "provider", "name", "status", "synced", "newest point"),
    *("pages", "points", "rejected", "unmatched", "reason"),
)
_LONGEST_PAYLOAD = 100

Id = Annotated[str, typer.Argument(metavar="ID", help="The connection's id, or the first 8 or more characters of it.")]
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
    credentials_file: CredentialsFile = None,
    create_vehicles: Annotated[
        bool, typer.Option("--create-vehicles", help="Make a vehicle of each device that matches none.")
    ] = False,
    check: Check = True,
) -> None:
    """Add an account at a provider, and print its id: the next tick of the timetable begins to read it."""
    from jobs.telematics.tokens import renew_before

    if not name.strip():
        raise OperatorError("--name: is empty")
    _refuse_wrong_origin(provider, base_url)
    keyring = _keyring()
    with system_database() as database:
        with database.statement() as connection:
            tenant_id = get_tenant(connection, tenant).id
            if queries.is_name_taken(connection, tenant_id, provider, name.strip()):
                raise OperatorError(f"{tenant} has a {provider} connection of that name already: {name}")
        given = read_credentials(provider, token_file, credentials_file, {})
        credentials, _ = _obtain(provider, given, base_url, check=check)
        connection_id = uuid4()
        options = {"create_vehicles": True} if create_vehicles else {}
        with database.system_transaction() as connection:
            is_new = queries.add_connection(
                connection,
                connection_id,
                tenant_id,
                provider,
                name.strip(),
                base_url,
                keyring.encrypt_credentials(tenant_id, connection_id, credentials),
                options,
                renew_before(credentials),
            )
    if not is_new:
        raise OperatorError(f"{tenant} has a {provider} connection of that name already: {name}")
    say(str(connection_id))


@cli.command("renew")
def renew(
    connection: Id, token_file: TokenFile = None, credentials_file: CredentialsFile = None, check: Check = True
) -> None:
    """Give a connection another token or other credentials, and let it be read again.

    What is not given stays: the client of an application, the secret of its webhooks.
    """
    keyring = _keyring()
    with system_database() as database:
        stored = _get(database, connection)
        kept = _kept(keyring, stored)
        given = read_credentials(stored.provider, token_file, credentials_file, kept)
        fresh, is_spent = _obtain(stored.provider, kept | given, stored.base_url, check=check)
        while not _give(database, keyring, stored, fresh):
            if not is_spent:
                raise OperatorError(f"somebody else has just replaced the token of connection {stored.id}")
            stored = _get(database, str(stored.id))  # the code works no second time: what it brought must be kept
            fresh |= beside_account(stored.provider, _kept(keyring, stored), given)
    say(f"connection {stored.id} has its new token, and is active")


@cli.command("authorize-url")
def authorize_url(
    client_id: Annotated[str, typer.Option(metavar="ID", help="The application's, from Smartcar's dashboard.")],
    redirect_uri: Annotated[str, typer.Option(metavar="URL", help="Where the owner's browser brings the code.")],
    scope: Annotated[list[str] | None, typer.Option(help="A permission; may be repeated. All that we read.")] = None,
    mode: Annotated[str, typer.Option(help="live, or simulated for Smartcar's own simulator.")] = "live",
) -> None:
    """Print where the owner of Smartcar vehicles gives consent: its code is for `connections add`, for ten minutes."""
    from integrations.smartcar import DEFAULT_SCOPE
    from integrations.smartcar import authorize_url as url_of

    if mode not in ("live", "simulated"):
        raise OperatorError("--mode: expected live or simulated")
    say(url_of(client_id, redirect_uri, scope or DEFAULT_SCOPE, mode=mode))


@cli.command("set")
def set_setting(
    connection: Id,
    setting: Annotated[
        str, typer.Argument(metavar="NAME=VALUE", help="The value is JSON, or a word; none removes it.")
    ],
) -> None:
    """Change one of a connection's settings; the next sync goes by it."""
    from integrations.http import HttpSession
    from integrations.registry import PROVIDERS, where
    from jobs.telematics import pace

    name, is_given, text = setting.partition("=")
    if not (name.isidentifier() and is_given):
        raise OperatorError(f"not a setting: {name}: expected NAME=VALUE")
    with system_database() as database:
        stored = _get(database, connection)
        options = {key: value for key, value in stored.settings.items() if key != name}
        if text:
            options[name] = _as_json(text)
        credentials = _keyring().decrypt_credentials(stored.tenant_id, stored.id, stored.credentials_encrypted)
        with HttpSession() as http:  # opened, and asked nothing: it refuses what it does not understand
            url = where(stored.provider, stored.base_url)
            PROVIDERS[stored.provider].open(http, credentials, url, options).close()
        pace.check_settings(stored.provider, options)
        with database.statement() as open_connection:
            queries.write_settings(open_connection, stored.id, options)
    say(f"connection {stored.id}: {name} {'is ' + text if text else 'removed'}")


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
    with system_database() as database:
        with database.statement() as connection:
            stored = queries.list_stored(connection)
        anew = sum(_encrypt_anew(database, keyring, each) for each in stored)
    say(f"{anew} encrypted anew, {len(stored) - anew} were already")


def _encrypt_anew(database: Database, keyring: Keyring, stored: StoredConnection) -> bool:
    """Encrypt a connection's credentials under the first key, alone: a renewal waits for this one only.

    False: they are already.
    """
    while not keyring.is_current(stored.credentials_encrypted):
        credentials = keyring.decrypt_credentials(stored.tenant_id, stored.id, stored.credentials_encrypted)
        anew = keyring.encrypt_credentials(stored.tenant_id, stored.id, credentials)
        with database.statement() as connection:
            if queries.replace_credentials(connection, stored.id, stored.credentials_encrypted, anew):
                return True
            stored = queries.get_stored(connection, stored.id)
    return False


def _refuse_wrong_origin(provider: str, base_url: str | None) -> None:
    from integrations.registry import PROVIDERS, check_origin

    if provider not in PROVIDERS:
        raise OperatorError(f"no such provider: {provider}: expected one of {', '.join(PROVIDERS)}")
    if base_url is None and not PROVIDERS[provider].origins:
        raise OperatorError(f"--base-url: missing: everybody hosts {provider} themselves; see FLEET_PROVIDER_ORIGINS")
    if base_url is not None:
        try:
            check_origin(provider, base_url, get_settings().provider_origins)
        except PermanentError:
            raise OperatorError(
                f"--base-url: neither {provider}'s own origin nor one of FLEET_PROVIDER_ORIGINS"
            ) from None


def _give(database: Database, keyring: Keyring, stored: StoredConnection, fresh: dict[str, str]) -> bool:
    """Store other credentials in place of those that were read, and let the connection be read. False: they changed."""
    from jobs.telematics.tokens import renew_before

    encrypted = keyring.encrypt_credentials(stored.tenant_id, stored.id, fresh)
    with database.system_transaction() as connection:
        before, ends_at = stored.credentials_encrypted, renew_before(fresh)
        is_given = queries.give_credentials(connection, stored.id, before, encrypted, ends_at)
        if is_given:
            queries.resume_connection(connection, stored.id)
    return is_given


def _obtain(provider: str, given: dict[str, str], base_url: str | None, *, check: bool) -> tuple[dict[str, str], bool]:
    """Return the credentials to keep, checked, and whether a code was spent: then kept also where the check fails."""
    credentials, is_spent = obtain(provider, given, base_url)
    if check:
        try:
            check_credentials(provider, credentials, base_url)
        except OperatorError as error:
            if not is_spent:
                raise
            typer.echo(f"kept, and not checked: {error}", err=True)
    return credentials, is_spent


def _kept(keyring: Keyring, stored: StoredConnection) -> dict[str, str]:
    """Return what of a connection's credentials outlives a renewal; nothing where they cannot be read any more."""
    try:
        known = keyring.decrypt_credentials(stored.tenant_id, stored.id, stored.credentials_encrypted)
    except EncryptionError:
        return {}
    return {name: value for name, value in known.items() if name not in OF_RENEWAL}


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


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
