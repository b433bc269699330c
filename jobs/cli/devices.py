"""`fleet-jobs devices`: devices that report and have no vehicle yet."""

from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from db.engine import set_tenant
from db.queries import connections as queries
from db.queries.schedule import read_clock
from db.timeseries.points import adopt_points
from jobs.cli.arguments import JsonOption, TenantOption, find_tenant_id, get_id
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import ago, print_json, print_table, say

cli = typer.Typer(help="Devices that report and have no vehicle: list them, give them one.", no_args_is_help=False)

_COLUMNS = (
    *("device", "connection", "tenant", "provider", "name", "VIN", "plate"),
    *("make", "model", "year", "points", "newest"),
)


@cli.command("unmatched")
def unmatched(tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """List the devices that no vehicle is known for, and how many points of theirs are kept aside."""
    with system_database() as database, database.statement() as connection:
        found = queries.list_unmatched(connection, find_tenant_id(connection, tenant))
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("every device has its vehicle")
    else:
        print_table(
            _COLUMNS,
            (
                (
                    each.external_id,
                    each.connection_id,
                    each.tenant,
                    each.provider,
                    each.name,
                    each.vin,
                    each.license_plate,
                    each.make,
                    each.model,
                    each.year,
                    each.points,
                    ago(each.newest_at, each.now),
                )
                for each in found
            ),
            right=("year", "points"),
        )


@cli.command("match")
def match(
    connection: Annotated[str, typer.Argument(metavar="CONNECTION", help="The connection's id, or its beginning.")],
    device: Annotated[str, typer.Argument(metavar="EXTERNAL_ID", help="The device, as the provider names it.")],
    vehicle: Annotated[
        str | None, typer.Option(metavar="ID", help="The vehicle that carries it: its id, or its beginning.")
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Make a vehicle of what the provider says of it.")] = False,
) -> None:
    """Give a device its vehicle, and print the vehicle's id: what it reported and will report is stored."""
    from jobs.telematics.adopt import adopt_records  # what it needs takes a while to load: not for every command
    from jobs.telematics.page import KEPT_FOR

    if (vehicle is None) == (not create):
        raise OperatorError("devices match: give either --vehicle ID or --create")
    with system_database() as database:
        try:
            with database.system_transaction() as transaction:
                connection_id = get_id(transaction, "connections", connection)
                if queries.find_unmatched(transaction, connection_id, device) is None:
                    raise OperatorError(f"no such unmatched device of connection {connection_id}: {device}")
                vehicle_id = _match(transaction, connection_id, device, vehicle)
                now = read_clock(transaction)
                adopted = adopt_points(transaction, connection_id, device, vehicle_id, now - KEPT_FOR)
                set_tenant(transaction, queries.get_stored(transaction, connection_id).tenant_id)
                beside = adopt_records(transaction, connection_id, device, vehicle_id, now - KEPT_FOR, now)
                queries.forget_unmatched(transaction, connection_id, device)
        except IntegrityError as error:
            raise OperatorError(_conflict(error, device)) from None
    say(str(vehicle_id))
    typer.echo(f"{adopted} points and {beside} other records that were kept aside are stored", err=True)


def _match(transaction: Connection, connection_id: UUID, device: str, vehicle: str | None) -> UUID:
    if vehicle is None:
        return queries.create_vehicle(transaction, connection_id, device)
    vehicle_id = get_id(transaction, "vehicles", vehicle)
    if not queries.bind_vehicle(transaction, connection_id, device, vehicle_id):
        raise OperatorError(f"vehicle {vehicle_id} is another tenant's, or has another device already")
    return vehicle_id


def _conflict(error: IntegrityError, device: str) -> str:
    match getattr(getattr(error.orig, "diag", None), "constraint_name", None):
        case "uq_vehicles_external":
            return f"device {device} has a vehicle already"
        case "uq_vehicles_vin":
            return f"the tenant has a vehicle with the VIN of device {device} already: give it with --vehicle ID"
        case constraint:
            return f"device {device} cannot be matched: {constraint}"
