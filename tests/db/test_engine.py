"""How a process holds on to the database: not for ever, and without telling what it asked."""

import socket

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import engine
from jobs.execution import _may_work_later
from tests.servers import Database


def test_a_server_that_vanished_is_noticed_within_seconds(database: Database) -> None:
    opened = engine.Database(database.worker_url, database.system_url, pool_size=1)
    with opened.statement() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.socket(fileno=socket.dup(driver.fileno())) as wire:
            assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 15_000
            probes = [
                wire.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ]
            assert probes[0] + probes[1] * probes[2] <= 30
    opened.close()


def test_an_error_does_not_tell_what_was_asked_with(database: Database) -> None:
    opened = engine.Database(database.worker_url, database.system_url, pool_size=1)
    with pytest.raises(DBAPIError) as failed, opened.statement() as connection:
        connection.execute(text("SELECT 1 / 0 WHERE :name <> ''"), {"name": "Ada Lovelace"})
    assert "Ada" not in str(failed.value)
    opened.close()


def test_a_primary_that_became_a_replica_is_waited_for(database: Database) -> None:
    opened = engine.Database(database.worker_url, database.system_url, pool_size=1)
    with pytest.raises(DBAPIError) as failed, opened.system_transaction() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(text("DELETE FROM job_controls"))
    assert _may_work_later(failed.value)
    opened.close()
