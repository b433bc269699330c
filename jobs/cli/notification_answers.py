"""`fleet-jobs notifications show` and `why`: what became of one, and whether somebody would be told now."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from db.queries import notification_list
from db.queries.notifications import SEVERITIES
from jobs.cli.arguments import JsonOption, get_id, get_tenant
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import at, print_fields, print_json, print_table, say


def show(
    notification: Annotated[
        str, typer.Argument(metavar="ID", help="The notification's id, or the first 8 or more characters of it.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Show one notification, and each attempt to send it."""
    with system_database() as database, database.statement() as connection:
        notification_id = get_id(connection, "notifications", notification)
        shown, attempts = notification_list.show_notification(connection, notification_id)
    if as_json:
        print_json({"notification": shown, "attempts": attempts})
        return
    waits = shown.state in ("pending", "ready")
    print_fields(
        {
            "id": shown.id,
            "tenant": shown.tenant,
            "state": shown.state,
            "reason": shown.reason,
            "by": shown.channel,
            "to": shown.to,
            "kind": f"{shown.kind}, resolved" if shown.is_resolution else shown.kind,
            "category": shown.category,
            "severity": shown.severity,
            "alert": shown.alert_id,
            "message": shown.message,
            "why": "the alert names the address" if shown.is_named else "as was wished",
            "folded into": shown.folded_into,
            "created": at(shown.created_at),
            "decided": at(shown.planned_at),
            "next try": at(shown.next_attempt_at) if waits else None,
            "too late from": at(shown.expires_at) if waits else None,
            "ended": at(shown.finished_at),
            "server's id": shown.provider_id,
        }
    )
    if attempts:
        say("")
        rows = ((at(each.at), each.outcome, each.code, each.reason) for each in attempts)
        print_table(("attempt", "outcome", "code", "reason"), rows, right=("code",))


def why(
    tenant: Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose user.")],
    user: Annotated[str, typer.Option(metavar="EMAIL", help="Who.")],
    kind: Annotated[str, typer.Option(metavar="KIND", help="Of which kind of alert.")] = "offline",
    severity: Annotated[str, typer.Option(help=f"Of which severity: {', '.join(SEVERITIES)}.")] = "medium",
    as_json: JsonOption = False,
) -> None:
    """Say whether and how a user would be told of an alert that is raised now, and what decides it."""
    from db.queries.wishes import read_ways
    from jobs.notifications.planning import WINDOW
    from jobs.notifications.why import answer
    from jobs.settings import get_settings

    if severity not in SEVERITIES:
        raise OperatorError(f"--severity: no such one: {severity}: expected one of {', '.join(SEVERITIES)}")
    now = datetime.now(UTC)
    with system_database() as database, database.statement() as connection:
        tenant_id = get_tenant(connection, tenant).id
        user_id = notification_list.find_user(connection, tenant_id, user)
        if user_id is None:
            raise OperatorError(f"{tenant} has no user of that address")
        ways = read_ways(connection, tenant_id, user_id, kind, now, window_s=WINDOW.total_seconds())
    has_server = get_settings().smtp_url is not None
    for way in ways:
        told = answer(way, severity, now, has_server=has_server or way.channel != "email")
        if as_json:
            print_json(told)
            continue
        say(f"{told.way}: {told.outcome}{f' until {at(told.at)}' if told.at else ''}")
        for line in told.why:
            say(f"  {line}")
