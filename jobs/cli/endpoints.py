"""`fleet-jobs notifications endpoints`: tenants' webhooks and chats. A secret is printed once, when it is made."""

import sys
from difflib import get_close_matches
from typing import Annotated
from uuid import UUID, uuid4

import typer

from db.queries import endpoints as queries
from db.queries import notification_list
from db.queries.notifications import CATEGORIES, SEVERITIES
from integrations.errors import PermanentError
from jobs.cli.arguments import JsonOption, TenantOption, YesOption, confirm, find_tenant_id, get_id, get_tenant
from jobs.cli.connections import get_keyring
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import ago, print_json, print_table, say
from jobs.settings import get_settings

cli = typer.Typer(help="List the webhooks and chats that are told, or change one.")

_LONGEST = 4096

Slug = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose.")]
Name = Annotated[str, typer.Option(metavar="NAME", help="What people call it.")]
Event = Annotated[
    list[str] | None,
    typer.Option("--event", metavar="NAME", help="Only this kind or category of alert; may be given again."),
]
Severity = Annotated[str, typer.Option(help=f"From which severity on: {', '.join(SEVERITIES)}.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The endpoint's id, or the first 8 or more characters of it.")]


@cli.callback(invoke_without_command=True)
def endpoints(context: typer.Context, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """List the webhooks and chats that are told, or change one."""
    if context.invoked_subcommand is not None:
        return
    with system_database() as database, database.statement() as connection:
        found = notification_list.list_endpoints(connection, find_tenant_id(connection, tenant))
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no endpoints: `fleet-jobs notifications endpoints add-webhook` adds one")
    else:
        print_table(
            ("id", "tenant", "channel", "name", "user", "state", "events", "from severity", "url", "reason"),
            (
                (
                    each.id,
                    each.tenant,
                    each.channel,
                    each.name,
                    each.user,
                    _state(each),
                    "as preferred" if each.user else ", ".join(each.events) or "all",
                    None if each.user else each.min_severity,
                    each.url,
                    each.disabled_reason,
                )
                for each in found
            ),
        )


@cli.command("add-webhook")
def add_webhook(
    tenant: Slug,
    name: Name,
    url: Annotated[str, typer.Option(metavar="URL", help="Where it is: https only.")],
    event: Event = None,
    severity: Severity = "low",
) -> None:
    """Add a webhook, and print its id and its signing secret: the secret is shown this once."""
    from integrations.webhooks_out import check_url, new_secret

    try:
        check_url(url, allow_loopback=get_settings().loopback_webhooks)
    except PermanentError as error:
        raise OperatorError(f"--url: {error}") from None
    secret = new_secret()
    endpoint_id = _add(tenant, name, "webhook", url, secret, event, severity)
    say(str(endpoint_id))
    say(secret)


@cli.command("add-chat")
def add_chat(
    tenant: Slug,
    name: Name,
    user: Annotated[
        str | None,
        typer.Option(metavar="EMAIL", help="Whose own chat it is: told by their preferences, not by events."),
    ] = None,
    event: Event = None,
    severity: Annotated[
        str | None, typer.Option(help=f"From which severity on: {', '.join(SEVERITIES)}; low without it.")
    ] = None,
) -> None:
    """Add a chat by its Apprise address, read from standard input or asked for: it is its own secret.

    One with --user is told what the user's preferences for the channel apprise ask for, which
    `fleet-jobs notifications prefer --channel apprise` sets.
    """
    from integrations.chat import check_chat_url

    if user is not None and (event or severity):
        raise OperatorError("--user: their preferences decide, and no --event or --severity")

    given = str(typer.prompt("Address", hide_input=True)) if sys.stdin.isatty() else sys.stdin.read(_LONGEST)
    try:
        check_chat_url(given.strip(), allow_loopback=get_settings().loopback_webhooks)
    except PermanentError as error:
        raise OperatorError(f"the address: {error}") from None
    say(str(_add(tenant, name, "apprise", None, given.strip(), event, severity or "low", user)))


@cli.command("rotate")
def rotate(endpoint: Id) -> None:
    """Give a webhook a new secret, and print it; the old one signs beside it for a day."""
    from integrations.webhooks_out import new_secret

    secret = new_secret()
    with system_database() as database, database.system_transaction() as connection:
        endpoint_id = get_id(connection, "webhook_endpoints", endpoint)
        tenant_id = notification_list.tenant_of_endpoint(connection, endpoint_id)
        if not queries.rotate_secret(connection, endpoint_id, _encrypted(tenant_id, endpoint_id, secret)):
            raise OperatorError(f"endpoint {endpoint_id} is no webhook: only those have a secret of ours")
    say(secret)


@cli.command("enable")
def enable(endpoint: Id) -> None:
    """Send to an endpoint again that was turned off."""
    with system_database() as database, database.system_transaction() as connection:
        endpoint_id = get_id(connection, "webhook_endpoints", endpoint)
        was_off = queries.enable(connection, endpoint_id)
    say(f"endpoint {endpoint_id} {'is on again' if was_off else 'was on already'}")


@cli.command("remove")
def remove(endpoint: Id, yes: YesOption = False) -> None:
    """Forget an endpoint and its secret."""
    with system_database() as database:
        with database.statement() as connection:
            endpoint_id = get_id(connection, "webhook_endpoints", endpoint)
        confirm(f"remove the endpoint {endpoint_id}?", yes=yes)
        with database.system_transaction() as connection:
            queries.remove(connection, endpoint_id)
    say(f"endpoint {endpoint_id} removed")


@cli.command("rekey")
def rekey() -> None:
    """Encrypt every secret under the first key of FLEET_ENCRYPTION_KEYS, so that an old key may go."""
    from jobs.notifications.endpoints import secret_context

    keyring = get_keyring()
    renewed = current = 0
    with system_database() as database, database.system_transaction() as connection:
        for stored in queries.lock_secrets(connection):
            if all(keyring.is_current(each) for each in (stored.secret, stored.previous) if each is not None):
                current += 1
                continue
            bound = secret_context(stored.tenant_id, stored.id)
            anew = [
                None if each is None else keyring.encrypt(keyring.decrypt(each, associated=bound), associated=bound)
                for each in (stored.secret, stored.previous)
            ]
            queries.replace_secrets(connection, stored.id, anew[0], anew[1])
            renewed += 1
    say(f"{renewed} encrypted anew, {current} were already")


def _add(
    tenant: str,
    name: str,
    channel: str,
    url: str | None,
    secret: str,
    events: list[str] | None,
    severity: str,
    user: str | None = None,
) -> UUID:
    if not name.strip():
        raise OperatorError("--name: is empty")
    if severity not in SEVERITIES:
        raise OperatorError(f"--severity: no such one: {severity}: expected one of {', '.join(SEVERITIES)}")
    endpoint_id = uuid4()
    with system_database() as database, database.system_transaction() as connection:
        tenant_id = get_tenant(connection, tenant).id
        user_id = None if user is None else notification_list.find_user(connection, tenant_id, user)
        if user is not None and user_id is None:
            raise OperatorError(f"--user: {tenant} has no user of that address")
        is_new = queries.add_endpoint(
            connection,
            endpoint_id,
            tenant_id,
            channel=channel,
            name=name.strip(),
            url=url,
            secret=_encrypted(tenant_id, endpoint_id, secret),
            events=_known(events or []),
            min_severity=severity,
            user_id=user_id,
        )
        is_told = user_id is None or queries.is_preferred(connection, tenant_id, user_id, channel)
    if not is_new:
        raise OperatorError(f"{tenant} has an endpoint of that name already: {name}")
    if not is_told:
        wish = f"fleet-jobs notifications prefer --tenant {tenant} --user EMAIL --channel {channel}"
        typer.echo(f"it is told nothing: no preference asks for the channel {channel}; `{wish}` sets one", err=True)
    return endpoint_id


def _known(events: list[str]) -> list[str]:
    """Return the events. Any kind may come to be, so that what nobody raises yet is warned of and not refused."""
    from jobs.notifications.samples import RAISED

    for event in events:
        if event in CATEGORIES or event in RAISED:
            continue
        if not event.replace("_", "").isalnum():
            raise OperatorError(f"--event: neither a kind of alert nor a category: {event}")
        near = get_close_matches(event, [*CATEGORIES, *RAISED], 1)
        meant = f", did you mean {near[0]}" if near else ""
        typer.echo(f"--event {event}: no category, and no kind that this platform raises itself{meant}", err=True)
    return events


def _encrypted(tenant_id: UUID, endpoint_id: UUID, secret: str) -> bytes:
    from jobs.notifications.endpoints import secret_context

    if not get_settings().encryption_keys:
        raise OperatorError("FLEET_ENCRYPTION_KEYS: missing: `fleet-jobs keygen` makes a key")
    return get_keyring().encrypt(secret.encode(), associated=secret_context(tenant_id, endpoint_id))


def _state(endpoint: notification_list.ListedEndpoint) -> str:
    if endpoint.disabled_reason is not None:
        return "off"
    if endpoint.failing_since is not None:
        return f"failing since {ago(endpoint.failing_since, endpoint.now)}"
    return "ok"
