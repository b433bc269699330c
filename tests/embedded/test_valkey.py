import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.process import HOST
from jobs.embedded.valkey import EmbeddedValkey
from tests.embedded.test_postgres import ends_within

OWNER = """
import sys, time
from pathlib import Path
from jobs.embedded.valkey import EmbeddedValkey
server = EmbeddedValkey(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


def test_a_restart_keeps_the_data(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set("kept", "42")
        server.restart()
        assert client.get("kept") == b"42"


def test_has_64_databases_and_evicts_nothing(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server, redis.Redis.from_url(server.url, db=63) as client:
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_asks_for_a_password_that_no_command_line_shows(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server:
        with (
            redis.Redis(host=HOST, port=server.port, retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
        password = (tmp_path / "valkey.password").read_text()
        assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()
        assert (tmp_path / "valkey.conf").stat().st_mode & 0o077 == 0


def test_a_killed_owner_leaves_no_server(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    assert ends_within(pid, 10)


def test_a_second_owner_is_told_who_has_the_directory(tmp_path: Path) -> None:
    with (
        EmbeddedValkey(tmp_path),
        pytest.raises(EmbeddedServerError, match=f"is in use by process {os.getpid()}$"),
    ):
        EmbeddedValkey(tmp_path).start()


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedServerError) as failure:
            EmbeddedValkey(tmp_path, port).start()
    assert str(failure.value) == f"port {port} on 127.0.0.1, wanted for Valkey in {tmp_path}, is in use"
