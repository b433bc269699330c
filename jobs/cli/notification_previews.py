"""`fleet-jobs notifications templates`, `preview`, `send-test` and `inbox`: how mails look, before anybody gets one."""

import re
import webbrowser
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from jobs.cli.arguments import JsonOption, checked_locale, checked_zone
from jobs.cli.errors import OperatorError
from jobs.cli.output import print_json, print_table, say

LocaleOption = Annotated[str, typer.Option(metavar="LOCALE", help="In which language, such as de or fr_CA.")]


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


def preview(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Which mail: `notifications templates` lists them.")],
    locale: LocaleOption = "en",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")] = Path("preview"),
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write a mail with invented data as HTML, text and .eml; nothing is sent, no database is asked."""
    from integrations.mime import build
    from jobs.notifications.compose import Letterhead, compose
    from jobs.notifications.samples import AT, KINDS, sample, sample_folded
    from jobs.notifications.unsubscribe import Unsubscriber

    one_of("KIND", kind, KINDS)
    language = checked_locale("--locale", locale)
    unsubscriber = Unsubscriber([b"a preview unsubscribes nobody"], "https://hooks.example.com")
    letterhead = Letterhead("Fleet", "fleet@example.com", "https://fleet.example.com", unsubscriber)
    mail = compose(sample(kind, language), sample_folded(kind), letterhead, AT)
    out.mkdir(parents=True, exist_ok=True)
    page = out / f"{kind}.{re.sub(r'[^A-Za-z_]', '', language)}.html"
    page.write_text(mail.html, encoding="utf-8")
    page.with_suffix(".txt").write_text(f"{mail.subject}\n\n{mail.text}\n", encoding="utf-8")
    page.with_suffix(".eml").write_bytes(build(mail))
    say(mail.subject)
    say(f"{page}, .txt and .eml")
    if open_it and not webbrowser.open(page.resolve().as_uri()):
        raise OperatorError(f"there is no browser to show it: {page}")


def send_test(
    to: Annotated[str, typer.Option(metavar="ADDRESS", help="Whom to.")],
    kind: Annotated[str, typer.Option(metavar="KIND", help="Which mail, with invented data.")] = "test",
    locale: LocaleOption = "en",
    zone: Annotated[str, typer.Option(metavar="ZONE", help="On which clock, such as Europe/Berlin.")] = "UTC",
) -> None:
    """Send one mail through the configured server, and say what it answered."""
    from integrations.mail import Accepted, MailSession
    from integrations.mime import UnsendableMail, build, check_address
    from jobs.notifications import delivery
    from jobs.notifications.compose import compose
    from jobs.notifications.samples import KINDS, sample, sample_folded
    from jobs.settings import get_settings

    one_of("--kind", kind, KINDS)
    language, clock = checked_locale("--locale", locale), checked_zone("--zone", zone)
    settings = get_settings()
    server, letterhead = delivery.mail_server(settings), delivery.letterhead_of(settings)
    if server is None or letterhead is None:
        raise OperatorError("FLEET_SMTP_URL: missing: mail is handed over nowhere")
    try:
        recipient = check_address(to)
    except UnsendableMail as error:
        raise OperatorError(f"--to: {error}: expected name@company.example") from None
    now = datetime.now(UTC)
    notice = sample(kind, language, tenant=letterhead.sender_name, zone=clock)
    notice = replace(notice, id=uuid4(), address=to, opened_at=now, is_named=True)
    mail = compose(notice, sample_folded(kind), replace(letterhead, unsubscriber=None), now)
    with MailSession(server) as session:
        answer = session.send(check_address(mail.sender), recipient, build(mail))
    if not isinstance(answer, Accepted):
        raise OperatorError(f"the mail server does not take it: {answer.code} {answer.reason}")
    say(f"the mail server has taken it{f' as {answer.queue_id}' if answer.queue_id else ''}: <{mail.message_id}>")


def inbox(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where the page is, on this machine only.")] = 8025,
    smtp_port: Annotated[int, typer.Option(min=1, max=65_535, help="Where mails are taken: FLEET_SMTP_URL.")] = 1025,
) -> None:
    """Take mails on this machine and show them on a page, instead of sending them anywhere; for developers."""
    from jobs.notifications.inbox import HOST, serve

    say(f"http://{HOST}:{port}/ shows what comes to FLEET_SMTP_URL=smtp://{HOST}:{smtp_port}")
    serve(smtp_port, port)


def one_of(name: str, given: str, known: tuple[str, ...]) -> str:
    """Return what was given.

    Raises:
        OperatorError: it is none of the known ones.
    """
    if given not in known:
        raise OperatorError(f"{name}: no such one: {given}: expected one of {', '.join(known)}")
    return given
