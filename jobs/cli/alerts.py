"""`fleet-jobs alerts`: what the platform noticed, and from when on it does."""

from dataclasses import asdict
from typing import Annotated

import typer

from db.queries import alerts as queries
from jobs.cli.arguments import JsonOption, TenantOption, find_tenant_id, get_id, get_tenant
from jobs.cli.database import system_database
from jobs.cli.errors import OperatorError
from jobs.cli.output import at, print_json, print_table, say, span
from jobs.telematics.liveness import DEFAULTS

cli = typer.Typer(help="List the alerts, resolve one, set their thresholds.")
thresholds_cli = typer.Typer(help="Show from when on a tenant's vehicles raise which alert, or set it.")
cli.add_typer(thresholds_cli, name="thresholds")

_SEVERITIES = ("low", "medium", "high", "critical")
_PERCENT = (1.0, 95.0)
_SECONDS = (30, 365 * 86_400)
_OFF = {
    "offline": "offline_after_s",
    "low_fuel": "low_fuel_percent",
    "low_battery": "low_battery_percent",
    "fault_code": "fault_severity",
}
"""By kind of alert, the threshold that NULL turns off."""

SetTenantOption = Annotated[str, typer.Option("--tenant", metavar="SLUG", help="Whose vehicles.")]
VehicleKindOption = Annotated[str, typer.Option("--kind", metavar="KIND", help=f"Which ones: {' or '.join(DEFAULTS)}.")]


@cli.callback(invoke_without_command=True)
def alerts(
    context: typer.Context,
    tenant: TenantOption = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only this kind, such as offline.")] = None,
    with_resolved: Annotated[bool, typer.Option("--all", help="Also those that are resolved.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, the newest.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List the open alerts, newest first."""
    if context.invoked_subcommand is not None:
        return
    with system_database() as database, database.statement() as connection:
        tenant_id = find_tenant_id(connection, tenant)
        found = queries.list_alerts(
            connection, tenant_id=tenant_id, kind=kind, with_resolved=with_resolved, limit=limit
        )
    if as_json:
        for each in found:
            print_json(each)
    elif not found:
        say("no alerts" if with_resolved else "no open alerts")
    else:
        print_table(
            (
                "id",
                "since",
                *(("resolved",) if with_resolved else ()),
                "tenant",
                "kind",
                "severity",
                "about",
                "message",
            ),
            (
                (
                    each.id,
                    at(each.opened_at),
                    *((at(each.resolved_at),) if with_resolved else ()),
                    each.tenant,
                    each.kind,
                    each.severity,
                    each.about or each.subject,
                    each.message,
                )
                for each in found
            ),
        )


@cli.command("resolve")
def resolve(
    alert: Annotated[
        str, typer.Argument(metavar="ID", help="The alert's id, or the first 8 or more characters of it.")
    ],
) -> None:
    """Resolve an alert by hand. The same silence opens no second one; a level that stays low does at its next value."""
    with system_database() as database, database.system_transaction() as connection:
        alert_id = get_id(connection, "alerts", alert)
        resolved = queries.resolve_alert(connection, alert_id)
    say(f"alert {alert_id} is resolved" if resolved else f"alert {alert_id} was resolved already")


@thresholds_cli.callback(invoke_without_command=True)
def thresholds(context: typer.Context, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """Show the thresholds that hold, by tenant and kind of vehicle."""
    if context.invoked_subcommand is not None:
        return
    with system_database() as database, database.statement() as connection:
        found = queries.list_thresholds(connection, find_tenant_id(connection, tenant), list(DEFAULTS))
    rows = [(each, each.thresholds or DEFAULTS[each.vehicle_kind]) for each in found]
    if as_json:
        for each, held in rows:
            is_default = each.thresholds is None
            print_json({"tenant": each.tenant, "kind": each.vehicle_kind, "is_default": is_default} | asdict(held))
    elif not rows:
        say("no tenants: `fleet-jobs tenants add SLUG NAME` adds one")
    else:
        print_table(
            ("tenant", "kind", "offline after", "low fuel", "low battery", "fault codes from", "set by"),
            (
                (
                    each.tenant,
                    each.vehicle_kind,
                    "off" if held.offline_after_s is None else span(held.offline_after_s),
                    _percent(held.low_fuel_percent),
                    _percent(held.low_battery_percent),
                    held.fault_severity or "off",
                    "default" if each.thresholds is None else "tenant",
                )
                for each, held in rows
            ),
        )


def _percent(value: float | None) -> str:
    return "off" if value is None else f"{value:g} %"


@thresholds_cli.command("set")
def set_(
    tenant: SetTenantOption,
    kind: VehicleKindOption,
    offline_after_s: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="Silent for longer than this: offline.")
    ] = None,
    low_fuel_percent: Annotated[float | None, typer.Option(metavar="PERCENT", help="Below this: low fuel.")] = None,
    low_battery_percent: Annotated[
        float | None, typer.Option(metavar="PERCENT", help="Below this: low battery.")
    ] = None,
    fault_severity: Annotated[
        str | None, typer.Option(metavar="SEVERITY", help=f"From this on a fault code: {', '.join(_SEVERITIES)}.")
    ] = None,
    off: Annotated[
        list[str] | None, typer.Option(metavar="ALERT", help=f"Never: {', '.join(_OFF)}. May be repeated.")
    ] = None,
) -> None:
    """Set some of a tenant's thresholds for a kind of vehicle; what is not named stays as it is."""
    _check_kind(kind)
    given = {
        "offline_after_s": _within("--offline-after-s", offline_after_s, _SECONDS),
        "low_fuel_percent": _within("--low-fuel-percent", low_fuel_percent, _PERCENT),
        "low_battery_percent": _within("--low-battery-percent", low_battery_percent, _PERCENT),
        "fault_severity": _one_of("--fault-severity", fault_severity, _SEVERITIES),
    }
    changes: dict[str, float | str | None] = {name: value for name, value in given.items() if value is not None}
    for each in off or ():
        name = _OFF[_one_of("--off", each, tuple(_OFF)) or ""]
        if changes.get(name) is not None:
            raise OperatorError(f"--off {each}: there is a threshold for it too: give one of them")
        changes[name] = None
    if not changes:
        raise OperatorError("alerts thresholds set: name a threshold, or --off ALERT")
    with system_database() as database, database.system_transaction() as connection:
        tenant_id = get_tenant(connection, tenant).id
        queries.set_thresholds(connection, tenant_id, kind, changes, DEFAULTS[kind])
    say(f"set for the {kind}s of {tenant}: they hold from the next minute on")


@thresholds_cli.command("reset")
def reset(tenant: SetTenantOption, kind: VehicleKindOption) -> None:
    """Let the defaults hold again for a tenant's kind of vehicle."""
    _check_kind(kind)
    with system_database() as database, database.system_transaction() as connection:
        changed = queries.unset_thresholds(connection, get_tenant(connection, tenant).id, kind)
    say(f"the {kind}s of {tenant} have the defaults" + ("" if changed else " already"))


def _check_kind(kind: str) -> None:
    _one_of("--kind", kind, tuple(DEFAULTS))


def _one_of(option: str, value: str | None, known: tuple[str, ...]) -> str | None:
    if value is not None and value not in known:
        raise OperatorError(f"{option} {value}: expected one of {', '.join(known)}")
    return value


def _within(option: str, value: float | None, bounds: tuple[float, float]) -> float | None:
    low, high = bounds
    if value is not None and not low <= value <= high:  # also what is not a number
        raise OperatorError(f"{option} {value}: expected {low:g} to {high:.0f}")
    return value
