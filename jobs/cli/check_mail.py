"""The doctor's look at the ways to people: the mail server, closed channels, endpoints that were turned off."""

import smtplib
import ssl
from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import Connection

from db.queries import health
from integrations.mail import MailServer, MailServerAway
from integrations.mail_probe import MailProbe
from jobs.cli.checks import Check, fail, ok, warn
from jobs.cli.output import span
from jobs.notifications.delivery import letterhead_of, mail_server
from jobs.settings import Settings

TIMEOUT_S = 5.0
_NAME = "mail"
_LOGIN = "correct user and password in FLEET_SMTP_URL"
_AT_LOGIN = "does not let us in"


def check_waiting(connection: Connection, settings: Settings) -> Iterator[Check]:
    """Where no mail server is set, mails wait: say how many."""
    if mail_server(settings) is None or letterhead_of(settings) is None:
        missing = "FLEET_SMTP_URL" if settings.smtp_url is None else "FLEET_MAIL_FROM"
        found = f"{missing} is not set: {health.count_waiting_mails(connection)} mails wait"
        yield warn(_NAME, found, "set FLEET_SMTP_URL and FLEET_MAIL_FROM")


def check_server(settings: Settings) -> Iterator[Check]:
    """Log in at the mail server and begin a mail as our sender; none is sent."""
    server, letterhead = mail_server(settings), letterhead_of(settings)
    if server is None or letterhead is None:
        return
    where = f"{server.host}:{server.port}"
    try:
        with MailProbe(replace(server, timeout_s=TIMEOUT_S)) as session:
            name = session.name
            session.try_sender(letterhead.sender)
    except MailServerAway as error:
        found, fix = _explain(error, server)
        yield fail(_NAME, f"{found}: {where}", fix)
    else:
        yield ok(_NAME, f"{name} at {where} lets us in and takes mails of {letterhead.sender}")


def _explain(error: MailServerAway, server: MailServer) -> tuple[str, str]:
    """Return what is wrong, and the cure; of what the library said, only what holds no secret."""
    cause = error.__context__
    if isinstance(cause, smtplib.SMTPAuthenticationError):
        return f"refuses the login ({cause.smtp_code})", _LOGIN
    if isinstance(cause, smtplib.SMTPServerDisconnected) and server.user is not None and _AT_LOGIN in str(error):
        return "ended the session at our login", _LOGIN
    if isinstance(cause, smtplib.SMTPNotSupportedError):
        lacks = "STARTTLS" if "STARTTLS" in str(cause) else "a login"
        return f"does not offer {lacks}", "smtps:// or smtp+starttls:// in FLEET_SMTP_URL, or another port"
    if isinstance(cause, ssl.SSLCertVerificationError):
        found = f"its certificate is not trusted: {cause.verify_message}"
        return found, f"name it as its certificate does, not {server.host}, or trust its authority (SSL_CERT_FILE)"
    if "sender" in str(error):
        return str(error), "correct FLEET_MAIL_FROM, or let the server take mails of it"
    return str(error), "start the server, or correct FLEET_SMTP_URL"


def check_outages(connection: Connection) -> Iterator[Check]:
    """No channel is closed."""
    outages = health.list_outages(connection)
    for outage in outages:
        found = f"closed for {span(outage.age_s)}, {outage.tries} tries: {outage.reason}"
        yield warn(f"channel {outage.channel}", found, "what waits goes out by itself once it is open again")
    if not outages:
        yield ok("channels", "none is closed")


def check_endpoints(connection: Connection) -> Check:
    """No webhook or chat was turned off."""
    there, disabled = health.count_endpoints(connection)
    if disabled:
        fix = "fleet-jobs notifications endpoints: why; `fleet-jobs notifications endpoints enable ID`"
        return warn("endpoints", f"{disabled} of {there} were turned off", fix)
    return ok("endpoints", f"{there}, none is turned off")
