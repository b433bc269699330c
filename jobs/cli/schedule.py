"""`fleet-jobs schedule` and `jobs`: the timetable with its last and next ticks, and what there is to run."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from sqlalchemy import Connection

from db.queries import schedule as queries
from jobs.cli.arguments import JsonOption, get_tenant
from jobs.cli.database import system_database
from jobs.cli.output import ago, print_json, print_table, words
from jobs.settings import SettingsError, get_settings
from jobs.timetable import Entry, next_tick


@dataclass(frozen=True)
class Row:
    """An entry of the timetable with its last tick, None before the first, and its next one."""

    job: str
    when: str
    per: str
    zone: str
    catch_up: str
    args: dict[str, object]
    last_tick_at: datetime | None
    next_tick_at: datetime


def read_timetable() -> tuple[Entry, ...]:
    """Return the timetable of this deployment.

    Raises:
        SettingsError: an override of FLEET_SCHEDULE_EVERY names no entry, or no interval.
    """
    from jobs.scheduler import timetable

    try:
        return timetable(get_settings().schedule_every)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def schedule(
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="SLUG", help="Ticks as this tenant's clocks show them.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the timetable with each entry's last and next tick: in the tenant's zone, in UTC without --tenant."""
    entries = read_timetable()
    with system_database() as database, database.statement() as connection:
        zone = get_tenant(connection, tenant).time_zone if tenant else None
        now = queries.read_clock(connection)
        rows = list(_rows(connection, entries, zone, now))
    if as_json:
        for row in rows:
            print_json(row)
        return
    shown = ZoneInfo(zone or "UTC")
    print_table(
        ("job", "when", "for each", "zone", f"last ({shown.key})", f"next ({shown.key})", "", "arguments"),
        (
            (
                row.job,
                row.when,
                row.per,
                row.zone,
                _clock(row.last_tick_at, shown) or "not yet",
                _clock(row.next_tick_at, shown),
                ago(row.next_tick_at, now),
                words(row.args),
            )
            for row in rows
        ),
    )


def _rows(connection: Connection, entries: tuple[Entry, ...], zone: str | None, now: datetime) -> Iterator[Row]:
    """Yield each entry; of one that ticks in every tenant's zone, the tenant's, or of all the nearest ticks."""
    ticks = queries.read_ticks(connection)
    tenant_zones = [zone] if zone else queries.list_zones(connection) or ["UTC"]
    for entry in entries:
        names = tenant_zones if entry.zone == "tenant" else [entry.zone]
        lasts = [ticks[entry.job, name] for name in names if (entry.job, name) in ticks]
        yield Row(
            job=entry.job,
            when=str(entry.when),
            per=entry.per,
            zone=names[0] if len(names) == 1 else "tenant's",
            catch_up=entry.catch_up,
            args=entry.args,
            last_tick_at=max(lasts, default=None),
            next_tick_at=min(next_tick(entry, ZoneInfo(name), now) for name in names),
        )


def _clock(moment: datetime | None, zone: ZoneInfo) -> str | None:
    return None if moment is None else f"{moment.astimezone(zone):%a %d %b %H:%M:%S}"


def jobs(as_json: JsonOption = False) -> None:
    """List the jobs of this release: what `run` takes. `*` marks an argument that must be given."""
    from jobs.job import definitions

    found = sorted(definitions(), key=lambda each: str(each["job"]))
    if as_json:
        for each in found:
            print_json(each)
        return
    print_table(
        ("job", "queue", "for", "arguments", "what it does"),
        (
            (
                each["job"],
                each["queue"],
                "a tenant" if each["scope"] == "tenant" else "the platform",
                " ".join(
                    f"{name}{'*' if rule['required'] else ''}:{rule['type']}"
                    for name, rule in each["parameters"].items()
                ),
                each["description"],
            )
            for each in found
        ),
    )
