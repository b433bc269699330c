import socket

import psycopg
import pytest
import redis

from tests.servers import Database, PostgresServer, PrivateServers


def test_the_shared_cluster_answers(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.admin_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("role", ["worker", "system", "app", "readonly", "migrator"])
def test_every_role_can_connect_to_a_fresh_database(database: Database, role: str) -> None:
    with psycopg.connect(getattr(database, f"{role}_url")) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (f"fleet_{role}",)
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_logical_database_starts_empty(redis_url: str, attempt: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", str(attempt))


@pytest.mark.kill
def test_private_servers_can_be_killed_and_started_again(private_servers: PrivateServers) -> None:
    private_servers.postgres.kill()
    private_servers.postgres.start()
    with psycopg.connect(private_servers.database.system_url) as connection:
        assert connection.execute("SELECT count(*) FROM tenants").fetchone() == (0,)
    private_servers.valkey.kill()
    private_servers.valkey.start()
    with redis.Redis.from_url(private_servers.redis_url) as client:
        assert client.ping()


def test_no_connection_leaves_the_machine() -> None:
    with socket.socket() as outside, pytest.raises(RuntimeError, match="only the loopback"):
        outside.connect(("192.0.2.1", 80))
