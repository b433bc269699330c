"""Who may push is remembered for seconds: a flood of forgeries asks little, and a new secret is soon believed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import OperationalError

from db import engine
from integrations.webhooks import WebhookRefused
from jobs.webhooks.refusals import Refusals
from jobs.webhooks.senders import Senders
from tests.factories import make_tenant
from tests.inprocess import Platform
from tests.webhooks.conftest import RING, Hook, give_credentials
from tests.webhooks.schemes import Samsara


@contextmanager
def remembering(platform: Platform, seconds: float) -> Iterator[Senders]:
    """Lend senders that remember for some seconds."""
    database = engine.Database(platform.urls.worker_url, platform.urls.worker_url)
    yield Senders(database, RING, remembered_s=seconds)
    database.close()


def why_not(senders: Senders, tenant_id: UUID, connection_id: UUID) -> str:
    """Return the word with which a sender is refused."""
    with pytest.raises(WebhookRefused) as refused:
        senders.get(tenant_id, connection_id)
    return refused.value.reason


def test_what_was_found_and_what_was_not_are_remembered_for_a_while(platform: Platform) -> None:
    hook = Hook(platform.admin, "", Samsara())
    with remembering(platform, 2.0) as senders:
        assert senders.get(hook.tenant_id, hook.id).secret == hook.scheme.secret
        give_credentials(platform.admin, hook.tenant_id, hook.id, {"token": "simulated"})
        assert senders.get(hook.tenant_id, hook.id).secret == hook.scheme.secret
        time.sleep(2.05)
        assert why_not(senders, hook.tenant_id, hook.id) == "secret_missing"
        give_credentials(platform.admin, hook.tenant_id, hook.id, {hook.scheme.secret_name: "bmV3"})
        assert why_not(senders, hook.tenant_id, hook.id) == "secret_missing"
        time.sleep(2.05)
        assert senders.get(hook.tenant_id, hook.id).secret == "bmV3"


def test_a_connection_is_remembered_for_its_own_tenant_only(platform: Platform) -> None:
    hook = Hook(platform.admin, "", Samsara())
    other = make_tenant(platform.admin, "other")
    with remembering(platform, 60) as senders:
        senders.get(hook.tenant_id, hook.id)
        assert why_not(senders, other, hook.id) == "connection_unknown"


def test_a_forger_who_repeats_himself_asks_the_database_once(platform: Platform) -> None:
    tenant_id, connection_id = uuid4(), uuid4()
    with remembering(platform, 60) as senders:
        assert why_not(senders, tenant_id, connection_id) == "connection_unknown"
        platform.admin.execute(f"REVOKE CONNECT ON DATABASE {platform.urls.name} FROM fleet_worker")
        platform.admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'fleet_worker' AND datname = current_database()"
        )

        assert why_not(senders, tenant_id, connection_id) == "connection_unknown"
        with pytest.raises(OperationalError):
            senders.get(tenant_id, uuid4())


def test_a_secret_is_not_shown_by_its_sender(platform: Platform) -> None:
    hook = Hook(platform.admin, "", Samsara())
    with remembering(platform, 60) as senders:
        assert hook.scheme.secret not in repr(senders.get(hook.tenant_id, hook.id))


def test_a_flood_of_refusals_is_a_line_for_each_reason_and_none_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    refusals, connection_id = Refusals(said_every_s=60), uuid4()
    for _ in range(1000):
        refusals.add("signature_wrong", connection_id)
        refusals.add("connection_unknown")
    refusals.say()

    lines = [line for line in capsys.readouterr().out.splitlines() if "webhooks_refused" in line]
    assert len(lines) == 3
    assert "times=1" in lines[0]
    assert sum(int(line.rpartition("times=")[2].split()[0]) for line in lines) == 2000
