import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.postgres import EmbeddedPostgres
from jobs.embedded.process import HOST, free_port
from tests.servers import passable_directory

OWNER = """
import sys, time
from pathlib import Path
from jobs.embedded.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    directory = passable_directory()
    yield directory
    subprocess.run(["rm", "-rf", str(directory)], check=True)


def one(server: EmbeddedPostgres, statement: str) -> object:
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_restart_keeps_the_data_and_the_port(home: Path) -> None:
    server = EmbeddedPostgres(home)
    with server:
        one(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        url = server.admin_url
    with server:
        assert one(server, "SELECT answer FROM kept") == 42
        assert server.admin_url == url


def test_another_object_finds_the_same_data(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        one(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(home) as server:
        assert one(server, "SELECT answer FROM kept") == 42


def test_what_was_committed_survives_the_death_of_the_server(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        one(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        server.kill()
        assert server.pid is None
        server.start()
        assert one(server, "SELECT answer FROM kept") == 42


def test_speaks_utf8_and_utc_and_asks_for_a_password(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        assert one(server, "SHOW server_encoding") == "UTF8"
        assert one(server, "SHOW timezone") == "UTC"
        assert one(server, "SELECT upper('é')") == "É"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url("postgres", "wrong", "postgres"))


def test_a_killed_owner_leaves_no_server(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(home)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    assert ends_within(pid, 10)


def test_a_server_that_a_killed_owner_left_is_ended_first(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(home)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        os.kill(pid, signal.SIGSTOP)  # it cannot follow its owner
        owner.kill()
        owner.wait()
        os.kill(pid, signal.SIGCONT)
        with EmbeddedPostgres(home) as server:
            assert one(server, "SELECT 1") == 1
            assert server.pid != pid


def test_a_second_owner_is_told_who_has_the_directory(home: Path) -> None:
    with (
        EmbeddedPostgres(home),
        pytest.raises(EmbeddedServerError, match=f"^{home} is in use by process {os.getpid()}$"),
    ):
        EmbeddedPostgres(home).start()


def test_a_port_in_use_is_one_clear_line(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedServerError) as failure:
            EmbeddedPostgres(home, port).start()
    assert str(failure.value) == f"port {port} on 127.0.0.1, wanted for PostgreSQL in {home}, is in use"


def test_a_wanted_port_is_used(home: Path) -> None:
    port = free_port()
    with EmbeddedPostgres(home, port) as server:
        assert server.port == port
        assert one(server, "SHOW port") == str(port)


def test_a_directory_that_cannot_be_made_is_one_clear_line(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match=r"^cannot write to .*/file/data: Not a directory$"):
        EmbeddedPostgres(home / "file" / "data").start()


def test_a_bad_setting_is_reported_with_the_servers_own_words(home: Path) -> None:
    server = EmbeddedPostgres(home, settings={"shared_buffers": "lots"})
    with pytest.raises(EmbeddedServerError, match="shared_buffers") as failure:
        server.start()
    assert "\n" not in str(failure.value)


def test_creating_that_was_cut_off_starts_afresh(home: Path) -> None:
    (home / "cluster.partial").mkdir()
    (home / "cluster.partial" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(home) as server:
        assert one(server, "SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_may_keep_data_below_a_closed_directory(home: Path) -> None:
    (home / "closed").mkdir(mode=0o700)
    with EmbeddedPostgres(home / "closed" / "data") as server:
        assert one(server, "SELECT 1") == 1
