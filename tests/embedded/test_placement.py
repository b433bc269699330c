import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from jobs.embedded import placement
from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.placement import NAMESPACE, passable, place
from jobs.embedded.postgres import EmbeddedPostgres
from tests.servers import passable_directory

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")

NOBODY = (65534, 65534)


@pytest.fixture
def home() -> Iterator[Path]:
    directory = passable_directory()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def closed(home: Path) -> Iterator[Path]:
    """A directory that only root enters, on a machine that forbids user namespaces."""
    directory = home / "closed"
    directory.mkdir(mode=0o700)
    yield directory / "data"
    shutil.rmtree(placement._elsewhere(directory / "data"), ignore_errors=True)


def test_an_open_directory_is_used_as_another_user(home: Path) -> None:
    chosen = place(home, home)
    assert chosen.directory == home
    assert chosen.account is not None
    assert chosen.account[0] != 0
    assert chosen.prefix == ()


def test_data_that_exists_belongs_to_whom_it_belonged(home: Path) -> None:
    (home / "cluster").mkdir()
    assert place(home, home).prefix == NAMESPACE
    os.chown(home / "cluster", *NOBODY)
    assert place(home, home).account == NOBODY


def test_one_closed_parent_is_enough_to_keep_another_user_out(home: Path) -> None:
    inner = home / "a" / "b"
    inner.mkdir(parents=True)
    assert passable(inner, NOBODY)
    (home / "a").chmod(0o700)
    assert not passable(inner, NOBODY)
    os.chown(home / "a", *NOBODY)
    assert passable(inner, NOBODY)


def test_below_a_closed_directory_without_namespaces_the_data_goes_elsewhere_and_stays(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_namespaces_work", lambda: False)
    with EmbeddedPostgres(closed) as server, psycopg.connect(server.admin_url) as connection:
        assert server.directory == placement._elsewhere(closed)
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(closed) as server, psycopg.connect(server.admin_url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_strangers_directory_elsewhere_is_not_used(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_namespaces_work", lambda: False)
    stranger = placement._elsewhere(closed)
    stranger.mkdir()
    os.chown(stranger, *NOBODY)
    with pytest.raises(EmbeddedServerError, match=f"^{stranger} belongs to somebody else$"):
        EmbeddedPostgres(closed).start()
