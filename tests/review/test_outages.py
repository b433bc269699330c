"""A server that goes away makes work late, never lost: what has no row yet waits in the broker."""

from uuid import uuid4

import pytest

from tests.ledger.conftest import private  # noqa: F401
from tests.ledger.ledger import Platform
from tests.ledger.processes import wait_until
from tests.ledger.test_doors import _send
from tests.servers import PrivateServers


@pytest.mark.kill
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_foreign_message_that_comes_while_postgresql_is_down_is_recorded_when_it_is_back(
    private: Platform,  # noqa: F811
    private_servers: PrivateServers,
    pool: str,
) -> None:
    tenant_id, before, during = private.ledger.tenant(), uuid4(), uuid4()
    private.ledger.admin.execute("ALTER DATABASE fleet SET synchronous_commit = on")  # else a crash takes back promises
    private.processes.worker(pool=pool)
    _send(private, "test.effect", {"tenant_id": str(tenant_id)}, task_id=str(before))
    wait_until(lambda: private.ledger.runs(tenant_id))
    private.ledger.close()
    private_servers.postgres.kill()
    _send(private, "test.effect", {"tenant_id": str(tenant_id)}, task_id=str(during))
    wait_until(lambda: "foreign_message_waits" in private.processes.log("worker"))
    private_servers.postgres.start()
    private.ledger.reconnect()
    wait_until(lambda: {run["id"] for run in private.ledger.runs(tenant_id)} == {before, during})
