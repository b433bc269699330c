"""`fleet-jobs notifications`: who was told of what; how mails look; who wishes to be told how."""

import re
from datetime import time
from typing import Annotated

import typer

from db.queries import notification_list as queries
from db.queries.notifications import CATEGORIES, SEVERITIES
from jobs.cli import bounces, endpoints, notification_answers, notification_previews
from jobs.cli.arguments import JsonOption, TenantOption, find_tenant_id, get_id, get_tenant
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.notification_previews import one_of
from jobs.cli.output import ago, at, print_json, print_table, say

cli = typer.Typer(help="List what people are told, look at the mails, set who is told how.")
cli.add_typer(endpoints.cli, name="endpoints")
cli.command("show")(notification_answers.show)
cli.command("why")(notification_answers.why)
cli.command("suppressed")(bounces.suppressed)
cli.command("allow")(bounces.allow)
cli.command("bounced")(bounces.bounced)
cli.command("templates")(notification_previews.templates)
cli.command("preview")(notification_previews.preview)
cli.command("send-test")(notification_previews.send_test)
cli.command("inbox")(notification_previews.inbox)

_DIGESTS = ("none", "hourly", "daily")
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")

SlugOption = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose.")]


@cli.callback(invoke_without_command=True)
def notifications(
    context: typer.Context,
    tenant: TenantOption = None,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help=f"Only this state: {', '.join(queries.STATES)}.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Only to this address, or endpoint by name.")
    ] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only of this kind of alert.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, the newest.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List the newest notifications, what they are about, and what became of them."""
    if context.invoked_subcommand is not None:
        return
    if state is not None:
        one_of("--state", state, queries.STATES)
    with system_database() as database, database.statement() as connection:
        tenant_id = find_tenant_id(connection, tenant)
        found = queries.list_notifications(connection, tenant_id=tenant_id, state=state, limit=limit, to=to, kind=kind)
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no notifications")
    else:
        print_table(
            (
                *("id", "created", "tenant", "kind", "about", "severity", "channel", "to", "state", "tries"),
                *("next try", "reason", "alert"),
            ),
            (
                (
                    each.id,
                    at(each.created_at),
                    each.tenant,
                    each.kind,
                    each.about,
                    each.severity,
                    each.channel,
                    each.to,
                    each.state,
                    each.attempts,
                    ago(each.next_attempt_at, each.now) if each.state in ("pending", "ready") else None,
                    each.reason,
                    each.alert_id and str(each.alert_id)[:13],
                )
                for each in found
            ),
            right=("tries",),
        )


@cli.command("retry")
def retry(
    notification: Annotated[
        str, typer.Argument(metavar="ID", help="The notification's id, or the first 8 or more characters of it.")
    ],
) -> None:
    """Send after all what failed or came too late."""
    with system_database() as database, database.system_transaction() as connection:
        notification_id = get_id(connection, "notifications", notification)
        is_ready = queries.retry(connection, notification_id)
    if not is_ready:
        raise OperatorError(f"notification {notification_id} has neither failed nor expired")
    say(f"notification {notification_id} is sent again")


@cli.command("preferences")
def preferences(tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """List who wishes to be told how; a line without a user holds for all of the tenant who have none of their own."""
    with system_database() as database, database.statement() as connection:
        found = queries.list_preferences(connection, find_tenant_id(connection, tenant))
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no preferences, so nobody is told: `fleet-jobs notifications prefer` sets one")
    else:
        print_table(
            ("tenant", "user", "category", "channel", "told", "from severity", "quiet", "digest", "after min"),
            (
                (
                    each.tenant,
                    each.user or "(all)",
                    each.category,
                    each.channel,
                    "yes" if each.enabled else "no",
                    each.min_severity,
                    each.quiet,
                    each.digest,
                    each.after_min or None,
                )
                for each in found
            ),
        )


@cli.command("prefer")
def prefer(
    tenant: SlugOption,
    user: Annotated[str | None, typer.Option(metavar="EMAIL", help="Whose wish; of all users without it.")] = None,
    category: Annotated[str, typer.Option(help=f"Of what: all, {', '.join(CATEGORIES)}.")] = "all",
    channel: Annotated[str, typer.Option(help="By which way: email or apprise.")] = "email",
    on: Annotated[bool | None, typer.Option("--on/--off", help="Whether to be told at all.")] = None,
    severity: Annotated[str | None, typer.Option(help=f"From which severity on: {', '.join(SEVERITIES)}.")] = None,
    quiet: Annotated[
        str | None, typer.Option(metavar="HH:MM-HH:MM", help="When only critical alerts break through; `none`.")
    ] = None,
    digest: Annotated[str | None, typer.Option(help=f"All in one mail: {', '.join(_DIGESTS)}.")] = None,
    digest_at: Annotated[str | None, typer.Option(metavar="HH:MM", help="When the daily digest comes.")] = None,
    after_min: Annotated[
        int | None, typer.Option(min=0, max=10_080, help="Only of what is still open after so many minutes.")
    ] = None,
) -> None:
    """Set how a user, or all users of a tenant, are told; times are on each user's own clock."""
    one_of("--category", category, ("all", *CATEGORIES))
    one_of("--channel", channel, ("email", "apprise"))
    changes: dict[str, object] = {}
    if on is not None:
        changes["enabled"] = on
    if severity is not None:
        changes["min_severity"] = one_of("--severity", severity, SEVERITIES)
    if quiet is not None:
        changes["quiet_from"], changes["quiet_to"] = _quiet(quiet)
    if digest is not None:
        changes["digest"] = one_of("--digest", digest, _DIGESTS)
    if digest_at is not None:
        changes["digest_at"] = _clock("--digest-at", digest_at)
    if after_min is not None:
        changes["after_min"] = after_min
    with system_database() as database, database.system_transaction() as connection:
        tenant_id = get_tenant(connection, tenant).id
        user_id = None
        if user is not None:
            user_id = queries.find_user(connection, tenant_id, user)
            if user_id is None:
                raise OperatorError(f"{tenant} has no user of that address")
        queries.set_preference(connection, tenant_id, user_id, category, channel, changes)
    say(f"set for {'all users' if user is None else 'the user'} of {tenant}")


def _clock(name: str, given: str) -> time:
    if not _CLOCK.fullmatch(given):
        raise OperatorError(f"{name}: not a time of day: {given}: expected HH:MM")
    return time.fromisoformat(given)


def _quiet(given: str) -> tuple[time | None, time | None]:
    if given == "none":
        return None, None
    begins, _, ends = given.partition("-")
    quiet_from, quiet_to = _clock("--quiet", begins), _clock("--quiet", ends)
    if quiet_from == quiet_to:
        raise OperatorError("--quiet: begins and ends at once")
    return quiet_from, quiet_to
