"""The arguments that several commands take, and how they are read."""

import getpass
import os
import re
import socket
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated
from uuid import UUID
from zoneinfo import available_timezones

import typer
from sqlalchemy import Connection

from db.queries import runs
from db.queries.tenants import Tenant, find_tenant
from jobs.cli.errors import OperatorError

if TYPE_CHECKING:
    from jobs.job import Job

TenantOption = Annotated[str | None, typer.Option("--tenant", metavar="SLUG", help="Only this tenant.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_PREFIX = re.compile(r"[0-9a-f]{8,32}")
_NAMES = {
    "job_runs": "a run",
    "connections": "a connection",
    "vehicles": "a vehicle",
    "alerts": "an alert",
    "maintenance_triggers": "a service",
    "meter_readings": "a reading",
    "work_orders": "a work order",
    "notifications": "a notification",
    "webhook_endpoints": "an endpoint",
}


def get_tenant(connection: Connection, slug: str) -> Tenant:
    """Return the tenant of a slug.

    Raises:
        OperatorError: there is none.
    """
    tenant = find_tenant(connection, slug)
    if tenant is None:
        raise OperatorError(f"no such tenant: {slug}: `fleet-jobs tenants` lists them")
    return tenant


def find_tenant_id(connection: Connection, slug: str | None) -> UUID | None:
    """Return the id of a tenant; None where no tenant was named."""
    return None if slug is None else get_tenant(connection, slug).id


def get_id(connection: Connection, table: str, given: str) -> UUID:
    """Return the one id of a table that begins with what was given.

    Raises:
        OperatorError: fewer than 8 hexadecimal characters, no such id, or several.
    """
    named, prefix = _NAMES[table], given.lower().replace("-", "")
    name = named.partition(" ")[2]
    if not _PREFIX.fullmatch(prefix):
        raise OperatorError(f"not {named} id: {given}: expected a UUID, or at least its first 8 characters")
    found = runs.find_ids(connection, table, UUID(prefix.ljust(32, "0")), UUID(prefix.ljust(32, "f")))
    if not found:
        raise OperatorError(f"no such {name}: {given}")
    if len(found) > 1:
        raise OperatorError(
            f"several {name}s begin with {given}: {', '.join(map(str, found[:2]))} ...: give more of it"
        )
    return found[0]


def get_job(name: str) -> "Job":
    """Return a job by name.

    Raises:
        OperatorError: this release has no such job; with the nearest name.
    """
    from jobs.job import load_jobs

    known = load_jobs()
    if name not in known:
        raise OperatorError(f"no such job: {name}{_nearest(name, list(known))}: `fleet-jobs jobs` lists them")
    return known[name]


def get_queue(name: str) -> str:
    """Return a queue's name.

    Raises:
        OperatorError: there is no such queue.
    """
    from jobs.queues import QUEUES

    if name not in QUEUES:
        raise OperatorError(f"no such queue: {name}: expected one of {', '.join(QUEUES)}")
    return name


def checked_zone(option: str, given: str) -> str:
    """Return a zone that there is.

    Raises:
        OperatorError: there is no such zone.
    """
    if given not in available_timezones():
        raise OperatorError(f"{option}: no such time zone: {given}: expected a name such as Europe/Berlin")
    return given


def checked_locale(option: str, given: str) -> str:
    """Return a locale in a language that mails are written in.

    Raises:
        OperatorError: there is no such locale, or no mail in its language.
    """
    from babel import Locale, UnknownLocaleError

    from jobs.notifications.words import LANGUAGES

    try:
        found = Locale.parse(given.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        found = None
    if found is None or found.language not in LANGUAGES:
        raise OperatorError(f"{option}: expected one of {', '.join(LANGUAGES)}, or with a country, such as de_AT")
    return str(found)


def who() -> str:
    """Return who asks, for the ledger: user and machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"cli {user}@{socket.gethostname()}"[:200]


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that is not easily undone.

    Raises:
        OperatorError: nobody can be asked. typer.Abort: the answer is no.
    """
    import sys

    if yes:
        return
    if not sys.stdin.isatty():
        raise OperatorError(f"{question}: give --yes, there is nobody to ask")
    typer.confirm(question, abort=True)


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f", did you mean {close[0]}" if close else ""
