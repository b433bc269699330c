"""`fleet-jobs simulate`: a provider, simulated over real HTTP, with faults on demand."""

import os
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_type_hints

import typer

from jobs.cli.errors import OperatorError
from jobs.cli.output import say

_HOST = "127.0.0.1"


def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")] = 8100,
    vehicles: Annotated[int, typer.Option(min=1, max=100_000, help="How many each account has.")] = 100,
    token: Annotated[
        list[str] | None, typer.Option(help="The token of an account; give it once for each. `simulated` without.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another one makes other fleets.")] = 1,
    backlog: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="For how long they have reported when you connect them.")
    ] = 600,
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=CHANCE", help="A fault and its chance from 0 to 1, such as server_error=0.05."),
    ] = None,
) -> None:
    """Serve a simulated Samsara on this machine, until interrupted.

    It has vehicles, their positions and meters, batteries, fault codes and safety events.

    Faults of an answer: rate_limit, server_error, expired_token, redirect, html, empty, truncated, malformed,
    broken_off, dripping, huge, zip_bomb, loop. Faults of a record: impossible, null_island, missing_time,
    future_time, wrong_types, nul, not_a_number, late, duplicate, backfill. Besides: latency_s, retry_after_s, seed.
    """
    from integrations.simulator.fleet import Account
    from integrations.simulator.server import serve

    tokens = token or ["simulated"]
    if len(set(tokens)) < len(tokens):
        raise OperatorError("--token: given twice")
    start = datetime.now(UTC) - timedelta(seconds=backlog)
    accounts = [Account(each, vehicles, seed + number, start=start) for number, each in enumerate(tokens)]
    plan = parse_faults(fault or [])

    def ready(url: str) -> None:
        say(f"a simulated Samsara at {url}: {vehicles} vehicles, {len(tokens)} account{'s' if len(tokens) > 1 else ''}")
        say(f"connections may name it where FLEET_PROVIDER_ORIGINS={url}")

    try:
        serve(_HOST, port, faults=plan, ready=ready, accounts=accounts)
    except OSError as error:
        said = os.strerror(error.errno or 0).lower()
        raise OperatorError(f"cannot listen: {said}: {_HOST}:{port}") from error


def parse_faults(given: list[str]) -> Any:
    """Return `name=value` texts as a plan of faults.

    Raises:
        OperatorError: not of that form, no such fault, or not a chance.
    """
    from integrations.simulator.faults import FaultPlan

    kinds = {name: kind for name, kind in get_type_hints(FaultPlan).items() if kind in (int, float)}
    values: dict[str, Any] = {}
    for each in given:
        name, found, value = each.partition("=")
        if not found:
            raise OperatorError(f"--fault {each}: expected NAME=CHANCE")
        if name not in kinds:
            raise OperatorError(f"no such fault: {name}: expected one of {', '.join(kinds)}")
        try:
            values[name] = kinds[name](value)
        except ValueError:
            raise OperatorError(f"--fault {name}: expected a number, got {value!r}") from None
        is_chance = name not in ("latency_s", "retry_after_s", "seed")
        if not (0 <= values[name] <= 1 if is_chance else values[name] >= 0):
            raise OperatorError(f"--fault {name}: expected {'0 to 1' if is_chance else '0 or more'}, got {value}")
    return FaultPlan(**values)
