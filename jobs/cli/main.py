"""The `fleet-jobs` command: what an operator types. This module only wires; each command has its own."""

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from jobs.cli import (
    alerts,
    connections,
    devices,
    doctor,
    geofences,
    maintenance,
    notifications,
    platform,
    run,
    runs,
    schedule,
    simulate,
    steer,
    tenants,
    users,
    webhooks,
    work_orders,
)
from jobs.cli.errors import explain
from jobs.settings import SettingsError, exit_on_bad_settings

_NAME = "fleet-jobs"
_INTERRUPTED = 130

cli = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)

_PANELS: dict[str, list[Callable[..., None]]] = {
    "Run the platform": [
        platform.up,
        platform.bootstrap,
        platform.migrate,
        platform.relay,
        platform.keygen,
        doctor.doctor,
    ],
    "Jobs and runs": [
        schedule.schedule,
        schedule.jobs,
        run.run,
        runs.runs,
        runs.show,
        steer.replay,
        steer.cancel,
        steer.pause,
        steer.resume,
        steer.paused,
    ],
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        cli.command(rich_help_panel=_panel)(_command)
for _group_name, _group in (
    *(("tenants", tenants), ("users", users)),
    *(("connections", connections), ("devices", devices)),
):
    cli.add_typer(_group.cli, name=_group_name, rich_help_panel="Fleets")
cli.add_typer(alerts.cli, name="alerts", rich_help_panel="Fleets")
cli.add_typer(geofences.cli, name="geofences", rich_help_panel="Fleets")
cli.add_typer(maintenance.cli, name="maintenance", rich_help_panel="Fleets")
cli.add_typer(work_orders.cli, name="work-orders", rich_help_panel="Fleets")
cli.add_typer(notifications.cli, name="notifications", rich_help_panel="Fleets")
cli.command(rich_help_panel="Fleets")(simulate.simulate)
cli.add_typer(webhooks.cli, name="webhooks", rich_help_panel="Run the platform")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("fleet-jobs"))
        raise typer.Exit


@cli.callback()
def _fleet_jobs(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Background jobs of a fleet-management system.

    Settings come from the environment or from `.env`; `.env.example` explains them all. Without any, `fleet-jobs up
    --demo` shows the whole platform at work.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what an operator can mend is one line on standard error, any other error a traceback.

    Raises:
        SystemExit: always. 0 done, 1 not done, 2 asked wrongly or bad settings, 130 interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        status = cli(given or ["--help"], prog_name=_NAME, standalone_mode=False)
    except SettingsError as error:
        exit_on_bad_settings(error)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else _NAME
        said = error.format_message().rstrip(".").replace("Value error, ", "")
        _leave(f"{said[:1].lower()}{said[1:]}: see `{path} --help`", 2)
    except (typer.Abort, KeyboardInterrupt):
        raise SystemExit(_INTERRUPTED) from None
    except BrokenPipeError:
        sys.stderr.close()  # nobody reads on: neither is there anybody to tell
        raise SystemExit(1) from None
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        _leave(line, 1)
    raise SystemExit(status or 0)


def _leave(line: str, status: int) -> None:
    typer.echo(f"{_NAME}: {' '.join(line.split())}", err=True)
    raise SystemExit(status)
