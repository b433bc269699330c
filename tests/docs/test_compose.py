"""`compose.yaml`: it starts what exists, with settings that exist, and every queue has exactly one kind of worker."""

import re
import tomllib
from collections import Counter
from typing import Any

import pytest
import yaml
from celery.bin.celery import celery as celery_command
from typer.main import get_command

from jobs.app import SOFT_SHUTDOWN_S
from jobs.cli.main import cli
from jobs.embedded import programs
from jobs.queues import QUEUES, THREADED
from jobs.settings import ReceiverSettings, Settings
from ops.make_secrets import contents
from tests.docs.pages import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("fleet-jobs:")}
SERVERS = SERVICES.keys() - OURS.keys()
STAYING = {name: service for name, service in SERVICES.items() if service["restart"] == "unless-stopped"}
WORKERS = {name: service for name, service in OURS.items() if name.startswith("worker-")}
SETTINGS = {f"FLEET_{name}".upper() for name in Settings.model_fields} | {"FLEET_SECRETS_DIR"}


def _option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize(
    "commands",
    [
        [service["command"] for service in WORKERS.values()],
        [list(program.argv) for program in programs.workers({})],
    ],
    ids=["compose.yaml", "the embedded stack"],
)
def test_every_queue_is_consumed_by_exactly_one_kind_of_worker_with_its_pool(commands: list[list[str]]) -> None:
    pools = {}
    consumed: Counter[str] = Counter()
    for command in commands:
        for queue in _option(command, "-Q").split(","):
            consumed[queue] += 1
            pools[queue] = _option(command, "--pool")
    assert consumed == Counter(QUEUES)
    assert pools == {queue: "threads" if queue in THREADED else "prefork" for queue in QUEUES}


def test_the_workers_are_those_of_the_embedded_stack() -> None:
    embedded = {_option(list(program.argv), "-n"): list(program.argv) for program in programs.workers({})}
    for service in WORKERS.values():
        same = embedded[_option(service["command"], "-n")]
        assert service["command"][1:] == same[same.index("-A") :]


@pytest.mark.parametrize("name", OURS)
def test_every_command_exists(name: str) -> None:
    program, *arguments = OURS[name].get("command", ["fleet-jobs"])
    if program == "celery":
        assert arguments[:2] == ["-A", "jobs.app"]
        assert arguments[2] in celery_command.commands
    else:
        assert program == "fleet-jobs"
        assert not arguments or arguments[0] in get_command(cli).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", OURS)
def test_every_setting_exists_and_no_secret_is_in_the_environment(name: str) -> None:
    environment, secrets = OURS[name]["environment"], OURS[name]["secrets"]
    assert {key for key in environment if key.startswith("FLEET_")} <= SETTINGS
    assert {secret.upper() for secret in secrets if secret.startswith("fleet_")} <= SETTINGS
    assert not [value for value in environment.values() if "change" in value or re.search(r"://[^/]*:[^/]*@", value)]
    needed = ReceiverSettings if name == "webhooks" else Settings
    required = {f"FLEET_{key}".upper() for key, field in needed.model_fields.items() if field.is_required()}
    assert required <= {secret.upper() for secret in secrets} | environment.keys()


def test_every_secret_that_is_mounted_is_one_that_make_secrets_makes() -> None:
    mounted = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert mounted == COMPOSE["secrets"].keys() <= contents().keys()
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"ops/secrets/{name}"}


def test_only_who_reads_tokens_has_their_key_and_only_who_migrates_the_owner() -> None:
    def having(secret: str) -> set[str]:
        return {name for name, service in SERVICES.items() if secret in service.get("secrets", [])}

    assert having("fleet_encryption_keys") == {*WORKERS, "webhooks", "cli"}
    assert having("fleet_admin_database_url") == {"bootstrap"}
    assert having("fleet_migration_database_url") == {"bootstrap", "migrate"}


def test_an_operator_tests_mail_with_what_the_worker_sends_it_with() -> None:
    worker, cli = SERVICES["worker-network"], SERVICES["cli"]
    assert worker["environment"] == cli["environment"]
    assert "FLEET_MAIL_FROM" in cli["environment"]
    assert "fleet_smtp_url" in worker["secrets"]
    assert "fleet_smtp_url" in cli["secrets"]


def test_what_faces_the_internet_sees_one_tenant_at_a_time_and_no_redis() -> None:
    assert SERVICES["webhooks"]["secrets"] == ["fleet_database_url", "fleet_encryption_keys"]
    assert not [name for name in SERVICES["webhooks"]["environment"] if name.endswith("_URL")]
    assert "valkey" not in SERVICES["webhooks"]["depends_on"]


@pytest.mark.parametrize("name", OURS)
def test_the_platform_runs_as_nobody_and_writes_nowhere(name: str) -> None:
    service = OURS[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize("name", STAYING)
def test_what_stays_up_is_watched_bounded_and_its_log_turned_over(name: str) -> None:
    service = STAYING[name]
    assert service["healthcheck"]["test"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_a_worker_has_time_to_drain() -> None:
    for service in WORKERS.values():
        assert _seconds(service["stop_grace_period"]) >= SOFT_SHUTDOWN_S + 15
    assert "export REMAP_SIGTERM=SIGQUIT" in (ROOT / "ops" / "entrypoint.sh").read_text()


def test_there_are_two_of_what_must_not_be_away() -> None:
    assert {name for name, service in SERVICES.items() if service.get("deploy", {}).get("replicas") == 2} >= {
        "beat",
        "relay",
    }


def test_nothing_but_flower_and_the_receiver_is_to_be_reached_and_that_from_this_machine_only() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "flower": ["127.0.0.1:5555:5555"],
        "webhooks": ["127.0.0.1:8600:8600"],
    }
    flower = SERVICES["flower"]
    assert flower["environment"]["FLOWER_READ_ONLY"] == "true"
    assert "flower_basic_auth" in flower["secrets"]
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert all(SERVICES[name]["networks"] == ["data"] for name in SERVERS)


def test_every_image_has_a_version() -> None:
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {service["image"] for service in OURS.values()} == {f"fleet-jobs:${{TAG:-{release}}}"}
    for name in SERVERS:
        assert re.search(r":[a-z]*\d+\.\d+", SERVICES[name]["image"]), name


def test_valkey_throws_nothing_away_and_keeps_what_it_has() -> None:
    command = SERVICES["valkey"]["command"]
    assert _option(command, "--maxmemory-policy") == "noeviction"
    assert _option(command, "--appendonly") == "yes"


def test_the_pooler_pools_transactions_and_only_tenant_work_goes_through_it() -> None:
    settings = (ROOT / "ops" / "pgbouncer" / "pgbouncer.ini").read_text()
    assert "\npool_mode = transaction\n" in settings
    hosts = {
        name: text.partition("@")[2].partition(":")[0] for name, text in contents().items() if name.endswith("_url")
    }
    assert {name for name, host in hosts.items() if host == "pgbouncer"} == {
        "fleet_database_url",
        "fleet_app_database_url",
    }


def test_what_the_files_name_is_there() -> None:
    for name in re.findall(r"\./(ops/[\w./]+):", (ROOT / "compose.yaml").read_text()):
        assert (ROOT / name).is_file(), name
    makefile = re.search(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    dockerfile = (ROOT / "ops" / "Dockerfile").read_text()
    assert makefile
    assert f"UV_VERSION={makefile[1]}\n" in dockerfile
    for line in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
            ignored = (ROOT / "ops" / "Dockerfile.dockerignore").read_text().splitlines()
            assert f"!{name}" in ignored, name
