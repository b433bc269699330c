"""`fleet-jobs notifications`: who was told of what; how mails look; who wishes to be told how."""

import re
import webbrowser
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from db.queries import notification_list as queries
from db.queries import suppressions
from db.queries.notifications import CATEGORIES, SEVERITIES
from jobs.cli import bounces, endpoints, notification_answers
from jobs.cli.arguments import JsonOption, TenantOption, find_tenant_id, get_id, get_tenant
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import ago, at, print_json, print_table, say

cli = typer.Typer(help="List what people are told, look at the mails, set who is told how.")
cli.add_typer(endpoints.cli, name="endpoints")
cli.command("bounced")(bounces.bounced)
cli.command("show")(notification_answers.show)
cli.command("why")(notification_answers.why)

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
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, the newest.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List the newest notifications, and what became of them."""
    if context.invoked_subcommand is not None:
        return
    if state is not None:
        _one_of("--state", state, queries.STATES)
    with system_database() as database, database.statement() as connection:
        tenant_id = find_tenant_id(connection, tenant)
        found = queries.list_notifications(connection, tenant_id=tenant_id, state=state, limit=limit)
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no notifications")
    else:
        print_table(
            ("id", "created", "tenant", "kind", "severity", "channel", "to", "state", "tries", "next try", "reason"),
            (
                (
                    each.id,
                    at(each.created_at),
                    each.tenant,
                    each.kind,
                    each.severity,
                    each.channel,
                    each.to,
                    each.state,
                    each.attempts,
                    ago(each.next_attempt_at, each.now) if each.state in ("pending", "ready") else None,
                    each.reason,
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


@cli.command("templates")
def templates(as_json: JsonOption = False) -> None:
    """List the kinds of mail that there are, and the languages."""
    from jobs.notifications.render import OF_KIND
    from jobs.notifications.samples import KINDS
    from jobs.notifications.words import LANGUAGES

    rows = [(kind, OF_KIND.get(kind, "alert")) for kind in KINDS]
    if as_json:
        for kind, template in rows:
            print_json({"kind": kind, "template": template, "locales": LANGUAGES})
        return
    print_table(("kind", "template"), rows)
    say(f"languages: {', '.join(LANGUAGES)}")


@cli.command("preview")
def preview(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Which mail: `notifications templates` lists them.")],
    locale: Annotated[str, typer.Option(metavar="LOCALE", help="In which language, such as de or fr_CA.")] = "en",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")] = Path("preview"),
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write a mail with invented data as HTML, text and .eml; nothing is sent, no database is asked."""
    from integrations.mime import build
    from jobs.notifications.compose import Letterhead, compose
    from jobs.notifications.samples import AT, KINDS, sample, sample_folded

    _one_of("KIND", kind, KINDS)
    letterhead = Letterhead("Fleet", "fleet@example.com", "https://fleet.example.com")
    mail = compose(sample(kind, locale), sample_folded(kind), letterhead, AT)
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"{kind}.{re.sub(r'[^A-Za-z_-]', '', locale)[:20] or 'en'}"
    page = stem.with_name(f"{stem.name}.html")
    page.write_text(mail.html, encoding="utf-8")
    stem.with_name(f"{stem.name}.txt").write_text(f"{mail.subject}\n\n{mail.text}\n", encoding="utf-8")
    stem.with_name(f"{stem.name}.eml").write_bytes(build(mail))
    say(f"{mail.subject}")
    say(f"{page}, .txt and .eml")
    if open_it and not webbrowser.open(page.resolve().as_uri()):
        raise OperatorError(f"there is no browser to show it: {page}")


@cli.command("send-test")
def send_test(
    to: Annotated[str, typer.Option(metavar="ADDRESS", help="Whom to.")],
    kind: Annotated[str, typer.Option(metavar="KIND", help="Which mail, with invented data.")] = "test",
    locale: Annotated[str, typer.Option(metavar="LOCALE", help="In which language.")] = "en",
) -> None:
    """Send one mail through the configured server, and say what it answered."""
    from dataclasses import replace

    from integrations.mail import Accepted, MailSession
    from integrations.mime import build, check_address
    from jobs.notifications import delivery
    from jobs.notifications.compose import compose
    from jobs.notifications.samples import KINDS, sample, sample_folded
    from jobs.settings import get_settings

    _one_of("--kind", kind, KINDS)
    settings = get_settings()
    server, letterhead = delivery.mail_server(settings), delivery.letterhead_of(settings)
    if server is None or letterhead is None:
        raise OperatorError("FLEET_SMTP_URL: missing: mail is handed over nowhere")
    now = datetime.now(UTC)
    notice = replace(sample(kind, locale), id=uuid4(), address=to, opened_at=now)
    mail = compose(notice, sample_folded(kind), replace(letterhead, unsubscriber=None), now)
    content = build(mail)
    with MailSession(server) as session:
        answer = session.send(check_address(mail.sender), check_address(to), content)
    if not isinstance(answer, Accepted):
        raise OperatorError(f"the mail server does not take it: {answer.code} {answer.reason}")
    say(f"the mail server has taken it{f' as {answer.queue_id}' if answer.queue_id else ''}: <{mail.message_id}>")


@cli.command("inbox")
def inbox(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where the page is, on this machine only.")] = 8025,
    smtp_port: Annotated[int, typer.Option(min=1, max=65_535, help="Where mails are taken: FLEET_SMTP_URL.")] = 1025,
) -> None:
    """Take mails on this machine and show them on a page, instead of sending them anywhere; for developers."""
    from jobs.notifications.inbox import HOST, serve

    say(f"http://{HOST}:{port}/ shows what comes to FLEET_SMTP_URL=smtp://{HOST}:{smtp_port}")
    serve(smtp_port, port)


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
    _one_of("--category", category, ("all", *CATEGORIES))
    _one_of("--channel", channel, ("email", "apprise"))
    changes: dict[str, object] = {}
    if on is not None:
        changes["enabled"] = on
    if severity is not None:
        changes["min_severity"] = _one_of("--severity", severity, SEVERITIES)
    if quiet is not None:
        changes["quiet_from"], changes["quiet_to"] = _quiet(quiet)
    if digest is not None:
        changes["digest"] = _one_of("--digest", digest, _DIGESTS)
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


@cli.command("allow")
def allow(
    tenant: SlugOption,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The address.")],
) -> None:
    """Send to an address again that bounced, complained or unsubscribed."""
    from jobs.notifications.unsubscribe import address_digest

    with system_database() as database, database.system_transaction() as connection:
        tenant_id = get_tenant(connection, tenant).id
        was_kept = suppressions.allow(connection, tenant_id, address_digest(tenant_id, address))
    say("it is sent to again" if was_kept else "nothing kept us from it")


def _one_of(name: str, given: str, known: tuple[str, ...]) -> str:
    if given not in known:
        raise OperatorError(f"{name}: no such one: {given}: expected one of {', '.join(known)}")
    return given


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
