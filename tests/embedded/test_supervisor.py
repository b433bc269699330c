import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.embedded import supervisor as module
from jobs.embedded.supervisor import Program, Supervisor
from tests.embedded.test_postgres import ends_within

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "from signal import *; import time; signal(SIGTERM, SIG_IGN); print('up', flush=True); time.sleep(60)",
]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess as s, time; print(s.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)",
]
OWNER = """
import sys, time
from pathlib import Path
from jobs.embedded.supervisor import Program, Supervisor
supervisor = Supervisor(Path(sys.argv[1]), Path(sys.argv[1]))
supervisor.start(Program("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"]))
print(supervisor.pid("sleeper"), flush=True)
time.sleep(60)
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path, tmp_path)
    yield made
    made.stop(drain_s=0.1)


def said(log: Path) -> str:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if log.exists() and (text := log.read_text()).endswith("\n"):
            return text
        time.sleep(0.02)
    raise AssertionError(f"{log.name} stays empty")


def pid_of(supervisor: Supervisor, name: str) -> int:
    pid = supervisor.pid(name)
    assert pid is not None
    return pid


def test_what_dies_is_counted_and_started_again_after_a_pause(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.1)
    supervisor.start(Program("sleeper", SLEEPER))
    said(tmp_path / "sleeper.log")
    first = pid_of(supervisor, "sleeper")
    os.kill(first, signal.SIGKILL)
    assert ends_within(first, 5)
    assert supervisor.watch() == ["sleeper"]
    assert supervisor.pid("sleeper") is None
    assert supervisor.watch() == []
    time.sleep(0.15)
    supervisor.watch()
    assert pid_of(supervisor, "sleeper") != first
    assert supervisor.deaths == {"sleeper": 1}


def test_the_pause_doubles_while_it_keeps_dying(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.2)
    supervisor.start(Program("broken", [sys.executable, "-c", "raise SystemExit(3)"]))
    deadline = time.monotonic() + 1.2  # pauses of 0.2, 0.4 and 0.8 s: at most three deaths, many more without
    while time.monotonic() < deadline:
        supervisor.watch()
        time.sleep(0.01)
    assert 2 <= supervisor.deaths["broken"] <= 3


def test_stopping_waits_for_those_who_leave_by_themselves(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Program("sleeper", SLEEPER))
    said(tmp_path / "sleeper.log")
    assert supervisor.stop() == []
    assert supervisor.pid("sleeper") is None
    assert supervisor.deaths == {}


def test_what_does_not_leave_is_killed_and_named(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Program("deaf", DEAF))
    said(tmp_path / "deaf.log")
    pid = pid_of(supervisor, "deaf")
    assert supervisor.stop(["deaf", "never started"], drain_s=0.3) == ["deaf"]
    assert ends_within(pid, 5)


def test_children_of_what_died_do_not_linger(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Program("parent", PARENT))
    grandchild = int(said(tmp_path / "parent.log"))
    os.kill(pid_of(supervisor, "parent"), signal.SIGKILL)
    deadline = time.monotonic() + 5
    while not supervisor.watch() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ends_within(grandchild, 5)


def test_a_killed_supervisor_leaves_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    assert ends_within(pid, 10)


def test_a_program_that_is_not_there_says_so_in_its_log(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Program("absent", ["/nowhere/absent"]))
    assert "cannot run /nowhere/absent: No such file or directory" in said(tmp_path / "absent.log")
