import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.embedded.process import DirectoryLock
from tests.servers import passable_directory

UP = (
    "import sys; from pathlib import Path; from jobs.embedded.up import run_up; sys.exit(run_up({}, Path(sys.argv[1])))"
)


@pytest.fixture
def home() -> Iterator[Path]:
    directory = passable_directory()
    yield directory
    subprocess.run(["rm", "-rf", str(directory)], check=True)


@dataclass
class Platform:
    home: Path
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """A platform without fleets, that the tests of this file share; it was started where there is an `.env`."""
    home, here = passable_directory(), passable_directory()
    (here / ".env").write_text(
        "fleet_mail_from='Joe\\'s Fleet <fleet@jobs.example>'\nFLEET_DATABASE_URL=postgresql://x@y/z\n"
    )
    with up(home, demo=False, here=here) as process:
        lines_until(process, "environment")
        yield Platform(home, process)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0
    assert working_below(home) == []
    subprocess.run(["rm", "-rf", str(home), str(here)], check=True)


def up(
    home: Path, *, demo: bool = True, seconds: float | None = None, here: Path | None = None
) -> subprocess.Popen[str]:
    """Start the platform with none of this process's own settings, in the directory `here`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    command = [sys.executable, "-c", UP.format(f"{demo}, {seconds}"), str(home)]
    return subprocess.Popen(
        command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def working_below(home: Path) -> list[str]:
    """Return the commands of the processes that work in `home`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(home):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def lines_until(process: subprocess.Popen[str], word: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(f"ended before {word!r}: {lines} {process.stderr and process.stderr.read()}")


def status_of(url: str, password: str = "", method: str = "GET") -> int:
    login = base64.b64encode(f"fleet:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {login}"} if password else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def flower_url(lines: list[str]) -> str:
    """Return where Flower is, as the demo said, once it answers."""
    url = next(word for line in lines if "Flower" in line for word in line.split() if word.startswith("http://"))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            status_of(f"{url}/healthcheck")
        except OSError:
            time.sleep(0.2)
        else:
            return url
    raise AssertionError("Flower does not answer")


@pytest.mark.timeout(240)
@pytest.mark.kill
def test_the_demo_works_stops_in_order_and_goes_on_where_it_was(home: Path) -> None:
    with up(home) as demo:
        lines = lines_until(demo, "succeeded")
        assert len(working_below(home)) >= 8  # two servers, relay, three workers, beat, simulator
        url, password = flower_url(lines), (home / "flower.password").read_text().strip()
        assert status_of(f"{url}/workers") == 401
        assert status_of(f"{url}/workers", password) == 200
        assert status_of(f"{url}/api/worker/shutdown/compute@nowhere", password, "POST") == 403
        shown = " ".join(working_below(home))
        for secret in ("password", *secrets_of(home)):
            assert secret not in shown
        demo.send_signal(signal.SIGINT)
        output, errors = demo.communicate()
    assert demo.returncode == 0, errors
    first = json.loads(output.splitlines()[-1])
    assert first["vehicles"] == 2000
    assert first["points"] > 0
    assert first["runs"]["succeeded"] > 0
    assert first["dead_letters"] == 0
    assert working_below(home) == []

    with up(home, seconds=0.1) as again:
        assert again.stdout is not None
        before = [line for line in again.stdout if " points (" in line]
    assert points_in(before[0]) >= first["points"]
    assert working_below(home) == []


def points_in(line: str) -> int:
    """Return the points that a line of the demo shows."""
    return int(line.partition(" points (")[0].rpartition(" ")[2].replace(",", ""))


def secrets_of(home: Path) -> list[str]:
    kept = json.loads((home / "keys.json").read_text())
    return [kept["encryption"], kept["flower"], *kept["roles"].values(), *kept["accounts"].values()]


def pid_of(home: Path, words: str) -> int:
    """Return the process below `home` whose command has `words`, once there is one."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_text().replace("\0", " ")
                if (process / "cwd").readlink().is_relative_to(home) and words in command:
                    return int(process.name)
            except OSError:
                continue
        time.sleep(0.1)
    raise AssertionError(f"no process {words!r}")


@pytest.mark.timeout(240)
def test_what_is_set_where_it_was_started_reaches_every_process_and_other_terminals(platform: Platform) -> None:
    sender = "Joe's Fleet <fleet@jobs.example>"
    for words in ("-n network@", "main() relay", "main() webhooks"):
        environment = Path(f"/proc/{pid_of(platform.home, words)}/environ").read_text().split("\0")
        assert f"FLEET_MAIL_FROM={sender}" in environment
        assert "FLEET_DATABASE_URL=postgresql://x@y/z" not in environment
    told = subprocess.run(
        [
            "sh",
            "-c",
            'set -a; . "$1"; echo "$FLEET_MAIL_FROM"; echo "$FLEET_DATABASE_URL"',
            "sh",
            platform.home / "environment",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert told[0] == sender
    assert "fleet_worker" in told[1]


@pytest.mark.timeout(240)
@pytest.mark.kill
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("relay", "main() relay"),
        ("worker-telematics", "-n telematics@"),
        ("postgres", "postgres -D"),
        ("valkey", "valkey-server"),
    ],
)
def test_what_is_killed_is_started_again(platform: Platform, name: str, words: str) -> None:
    killed = pid_of(platform.home, words)
    os.kill(killed, signal.SIGKILL)
    lines_until(platform.process, f"{name} died and is started again")
    assert pid_of(platform.home, words) != killed


@pytest.mark.timeout(240)
@pytest.mark.kill
def test_a_killed_demo_leaves_nothing_running(home: Path) -> None:
    with up(home, demo=False) as platform:
        lines_until(platform, "environment")
        assert len(working_below(home)) >= 4
        platform.kill()
    deadline = time.monotonic() + 20
    while working_below(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert working_below(home) == []


def test_a_second_one_is_told_who_has_the_directory(home: Path) -> None:
    lock = DirectoryLock(home)
    lock.acquire()
    try:
        with up(home) as second:
            output, errors = second.communicate()
    finally:
        lock.release()
    assert second.returncode == 2
    assert output == ""
    assert errors == f"fleet-jobs: {home} is in use by process {os.getpid()}\n"
