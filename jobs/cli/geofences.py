"""`fleet-jobs geofences`: fences from GeoJSON files and back, and what vehicles did at them."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import IntegrityError

from db.queries import geofence_drawings as queries
from jobs.cli.arguments import JsonOption, TenantOption, YesOption, confirm, find_tenant_id, get_tenant
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import ago, at, print_json, print_table, say

cli = typer.Typer(help="List the tenants' fences, or import, export and remove them.")

OfTenant = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose fences they are.")]


@cli.callback(invoke_without_command=True)
def geofences(context: typer.Context, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """List the tenants' fences, or import, export and remove them."""
    if context.invoked_subcommand is not None:
        return
    with system_database() as database, database.statement() as connection:
        found = queries.list_fences(connection, find_tenant_id(connection, tenant))
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no fences: `fleet-jobs geofences import FILE --tenant SLUG` draws some")
    else:
        print_table(
            ("name", "tenant", "kind", "state", "inside", "newest event", "alerts", "id", "problem"),
            (
                (
                    each.name,
                    each.tenant,
                    each.kind,
                    "active" if each.is_active else "inactive",
                    each.inside,
                    ago(each.newest_event_at, each.now) or "none",
                    " ".join(["entry"] * each.alert_on_entry + ["exit"] * each.alert_on_exit),
                    each.id,
                    each.problem,
                )
                for each in found
            ),
            right=("inside",),
        )


@cli.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="GeoJSON; `-` for standard input.")],
    tenant: OfTenant,
    name_property: Annotated[
        str, typer.Option(metavar="NAME", help="The property of a feature that is the fence's name.")
    ] = "name",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be, and change nothing.")] = False,
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="Import the others where some features are refused.")
    ] = False,
    mend: Annotated[bool, typer.Option("--mend", help="Mend polygons that cross themselves.")] = False,
) -> None:
    """Draw a file's features as fences: new names are created, known ones changed. All of them, or none.

    A Point with `radius_m` is a circle. Other properties: `alert_on_entry`, `alert_on_exit`, `alert_recipients`,
    `confirm_fixes`, `exit_distance_m`, `dwell_s`, `is_active`; one that is not there leaves what is.
    """
    from jobs.telematics.geofences.geojson import read_features
    from jobs.telematics.geofences.shapes import ShapeError

    try:
        read = read_features(_content(file), name_property=name_property, mend=mend)
    except ShapeError as error:
        raise OperatorError(f"{file}: {error}") from None
    for each in read.refused:
        say(f"refused: feature {each.index}{f' ({each.name})' if each.name else ''}: {each.reason}")
    if read.refused and not skip_refused:
        total = len(read.refused) + len(read.drawings)
        raise OperatorError(f"nothing imported: {len(read.refused)} of {total} features refused: --skip-refused?")
    with system_database() as database:
        try:
            with database.system_transaction() as connection:
                outcome = queries.draw_fences(connection, get_tenant(connection, tenant).id, read.drawings)
                if dry_run:
                    connection.rollback()
        except IntegrityError as error:
            said = getattr(getattr(error.orig, "diag", None), "message_primary", None) or "a constraint"
            raise OperatorError(f"nothing imported: the database refuses it: {said[:200]}") from None
    if dry_run:
        for drawing in read.drawings:
            say(f"{outcome.get(drawing.name, 'unchanged')}: {drawing.name}")
    words = list(outcome.values())
    created, updated = words.count("created"), words.count("updated")
    unchanged = len(read.drawings) - created - updated
    told = f"{created} created, {updated} updated, {unchanged} unchanged, {len(read.refused)} refused"
    say(told + (f", {read.mended} mended" if mend else "") + (": nothing was changed" if dry_run else ""))


def _content(file: Path) -> bytes:
    from jobs.telematics.geofences.geojson import MOST_BYTES

    if str(file) == "-":
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    with file.open("rb") as content:
        return content.read(MOST_BYTES + 1)


@cli.command("export")
def export(tenant: OfTenant) -> None:
    """Print a tenant's fences as GeoJSON, which `import` reads again."""
    from jobs.telematics.geofences.geojson import write_features

    with system_database() as database, database.statement() as connection:
        drawn = queries.read_drawn(connection, get_tenant(connection, tenant).id)
    typer.echo(write_features(drawn).decode())


@cli.command("remove")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The fence's name.")],
    tenant: OfTenant,
    yes: YesOption = False,
) -> None:
    """Remove a fence: nobody is inside any more, its alerts are resolved, its events stay."""
    confirm(f"Remove the fence {name} of {tenant}?", yes=yes)
    with system_database() as database, database.system_transaction() as connection:
        was_there = queries.remove_fence(connection, get_tenant(connection, tenant).id, name)
    if not was_there:
        raise OperatorError(f"{tenant} has no fence of that name: {name}: `fleet-jobs geofences` lists them")
    say(f"fence {name} removed")


@cli.command("events")
def events(
    tenant: OfTenant,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List a tenant's newest entries, exits and stays."""
    with system_database() as database, database.statement() as connection:
        found = queries.list_events(connection, get_tenant(connection, tenant).id, limit)
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no events yet")
    else:
        print_table(
            ("time", "kind", "vehicle", "geofence", "latitude", "longitude"),
            ((at(e.time), e.kind, e.vehicle, e.geofence, e.latitude, e.longitude) for e in found),
            right=("latitude", "longitude"),
        )
