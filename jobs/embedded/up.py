"""`fleet-jobs up`: start the whole platform here, watch it, stop it in order."""

import json
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import structlog

from jobs.embedded import demo_fleet, demo_providers, programs
from jobs.embedded.demo import Demo, say, succeeded
from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.given import read_given
from jobs.embedded.process import HOST, free_port
from jobs.embedded.stack import FLOWER_USER, RECEIVER_PORT, Stack, usual_or_free
from jobs.embedded.supervisor import Program

LOOK_EVERY_S = 0.5
EVERY_S = {
    "telematics.sync_connection": demo_fleet.SYNC_EVERY_S,
    "telematics.check_liveness": 10,
    "telematics.watch_geofences": 30,
    "notifications.deliver": 5,
    "work_orders.open_corrective": 15,
    "work_orders.roll_forward": 15,
}
"""The demo's intervals: nobody watches a screen for five minutes."""


def run_up(demo: bool, seconds: float | None, data_dir: Path) -> int:
    """Run the platform below `data_dir` until Ctrl-C, SIGTERM, or for `seconds`.

    With `demo` there are simulated fleets, nothing of `.env` is believed, so that no mail leaves this machine, and the
    last line printed is a JSON summary.

    Returns:
        0 when all went well; with `demo` and `seconds`, only if work was done and no process died, else 1.
        2 when the platform could not start.
    """
    ports = Ports()
    extra = {
        "FLEET_SCHEDULE_EVERY": ",".join(f"{job}={seconds}" for job, seconds in EVERY_S.items()),
        "FLEET_PROVIDER_ORIGINS": f"http://{HOST}:{ports.providers}",
        "FLEET_SMTP_URL": f"smtp://{HOST}:{ports.smtp}",
        "FLEET_MAIL_FROM": "Fleet Jobs <fleet@fleet.example>",
        "FLEET_WEBHOOK_ORIGIN": f"http://{HOST}:{ports.receiver}",
    }
    stack = Stack(
        data_dir,
        accounts=demo_fleet.TOKENS if demo else (),
        extra=extra if demo else read_given(),
        receiver_port=ports.receiver,
        say=say,
    )
    _let_signals_interrupt()
    try:
        stack.acquire()
        with (stack.logs / "up.log").open("a", buffering=1) as log:
            structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
            try:
                return _run(stack, ports if demo else None, seconds)
            finally:
                _ignore_signals()
                stack.stop_processes()
                stack.stop_servers()
                structlog.reset_defaults()
    except KeyboardInterrupt:
        return 130  # before there was anything to show
    except EmbeddedServerError as error:
        sys.stderr.write(f"fleet-jobs: {error}\n")
        return 2


@dataclass(frozen=True)
class Ports:
    """Where the receiver of webhooks listens, and the demo's own servers."""

    receiver: int = field(default_factory=lambda: usual_or_free(RECEIVER_PORT))
    providers: int = field(default_factory=free_port)
    inbox: int = field(default_factory=free_port)
    smtp: int = field(default_factory=free_port)


def _run(stack: Stack, ports: Ports | None, seconds: float | None) -> int:
    stack.start_servers()
    if ports is None:
        stack.start_processes()
        _watch(stack, seconds)
        _finish(stack)
        return 0
    stack.supervisor.start(programs.inbox(stack.environment(), ports.inbox, ports.smtp))
    _start_providers(stack, ports.providers)
    stack.start_processes()
    with Demo(stack, f"http://{HOST}:{ports.inbox}") as demo:
        _watch_demo(stack, demo, seconds)
        _finish(stack)
        summary = demo.summary()
    stack.stop_servers()
    say(json.dumps(asdict(summary)))
    return 0 if seconds is None or succeeded(summary, stack.deaths) else 1


def _finish(stack: Stack) -> None:
    _ignore_signals()
    say("stopping: the workers finish what they are doing")
    for name in stack.stop_processes():
        say(f"{name} did not finish in time and was killed; its work runs again at the next start")


def _start_providers(stack: Stack, port: int) -> None:
    say("starting the simulated providers")
    start = demo_providers.account_start(stack.data_dir / "demo.start")
    told = demo_providers.provider_settings(stack.keys.accounts, start, port)
    command = [sys.executable, "-m", "jobs.embedded.demo_providers"]
    stack.supervisor.start(Program(programs.SIMULATOR, command, programs.child_environment(told)))
    demo_providers.wait_until_served(port, lambda: stack.supervisor.pid(programs.SIMULATOR) is not None)
    demo_fleet.seed(stack.system_url, f"http://{HOST}:{port}", stack.keys.accounts, stack.keys.encryption)


def _watch_demo(stack: Stack, demo: Demo, seconds: float | None) -> None:
    """Show the screen until the time is up or somebody interrupts."""
    with suppress(KeyboardInterrupt), demo.screen():
        while seconds is None or demo.seconds < seconds:
            stack.watch()
            demo.show()
            time.sleep(LOOK_EVERY_S)
    demo.stop_clock()


def _watch(stack: Stack, seconds: float | None) -> None:
    """Say what dies until the time is up or somebody interrupts."""
    say(f"up: Flower at {stack.flower_url}, user {FLOWER_USER}, password in {stack.flower_password_file}")
    say(f"webhooks are received at http://{HOST}:{stack.receiver_port}/webhooks/")
    say(f"in another terminal: set -a; . {stack.environment_file}")
    started = time.monotonic()
    with suppress(KeyboardInterrupt):
        while seconds is None or time.monotonic() - started < seconds:
            for name in stack.watch():
                say(f"{name} died and is started again; see {stack.logs}/{name}.log")
            time.sleep(LOOK_EVERY_S)


def _let_signals_interrupt() -> None:
    """Make every polite way of ending this process raise KeyboardInterrupt, also where a shell ignores Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
