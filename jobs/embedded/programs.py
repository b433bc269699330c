"""The processes of the platform on one machine, and the environment that tells them where everything is."""

import os
import sys
from collections.abc import Mapping

from jobs.embedded.process import HOST
from jobs.embedded.supervisor import Program
from jobs.queues import QUEUES, THREADED

CELERY = (sys.executable, "-m", "celery", "-A", "jobs.app")
QUIET = ("--without-mingle", "--without-gossip", "-E")
RELAY, BEAT, FLOWER, SIMULATOR, WORKER = "relay", "beat", "flower", "simulator", "worker-"
WEBHOOKS, INBOX = "webhooks", "inbox"
_NOT_FOR_THE_RECEIVER = tuple(f"FLEET_{each}_" for each in ("SYSTEM", "MIGRATION", "ADMIN", "READ", "REDIS", "SMTP"))


def command_line(*arguments: str) -> list[str]:
    """Return the command that runs `fleet-jobs` with the interpreter of this process."""
    return [sys.executable, "-c", "from jobs.cli.main import main; main()", *arguments]


def child_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with `settings` over it; another Flower's settings stay behind."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLOWER_")}
    return {**inherited, "PYTHONUNBUFFERED": "1", **settings}


def workers(environment: Mapping[str, str]) -> list[Program]:
    """Return one worker for telematics, one for the rest that waits on networks, one for what computes."""
    waiting = ",".join(queue for queue in QUEUES if queue in THREADED and queue != "telematics")
    computing = ",".join(queue for queue in QUEUES if queue not in THREADED)
    groups = (
        ("telematics", "telematics", "threads", 8),
        ("network", waiting, "threads", 4),
        ("compute", computing, "prefork", 2),
    )
    return [
        Program(
            WORKER + name,
            [*CELERY, "worker", "-Q", queues, "--pool", pool, "-c", str(size), "-n", f"{name}@%h", *QUIET],
            environment,
        )
        for name, queues, pool, size in groups
    ]


def relay(environment: Mapping[str, str]) -> Program:
    """Return the relay."""
    return Program(RELAY, command_line("relay"), environment)


def beat(environment: Mapping[str, str]) -> Program:
    """Return beat; its scheduler is named in the application's settings."""
    return Program(BEAT, [*CELERY, "beat"], environment)


def webhooks(environment: Mapping[str, str], port: int) -> Program:
    """Return the receiver of webhooks; it faces the internet, so it gets the URL of one tenant's work and no other."""
    settings = {name: value for name, value in environment.items() if not name.startswith(_NOT_FOR_THE_RECEIVER)}
    return Program(WEBHOOKS, command_line("webhooks", "--host", HOST, "--port", str(port)), settings)


def inbox(environment: Mapping[str, str], port: int, smtp_port: int) -> Program:
    """Return the inbox that catches every mail of the demo."""
    arguments = ("notifications", "inbox", "--port", str(port), "--smtp-port", str(smtp_port))
    return Program(INBOX, command_line(*arguments), environment)


def flower(environment: Mapping[str, str], port: int, user: str, password: str) -> Program:
    """Return Flower: to look at only, behind a password, from this machine.

    Start it after the workers: it asks them who they are once.
    """
    options = {
        "FLOWER_ADDRESS": HOST,
        "FLOWER_PORT": str(port),
        "FLOWER_BASIC_AUTH": f"{user}:{password}",
        "FLOWER_READ_ONLY": "true",
        "FLOWER_TASKS_COLUMNS": "name,kwargs,state,received,started,runtime,worker,uuid",  # kwargs name the tenant
    }
    return Program(FLOWER, [*CELERY, "flower"], {**environment, **options})
