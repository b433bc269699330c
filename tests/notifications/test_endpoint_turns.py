"""No queue, and no endpoint that hangs, keeps another tenant's endpoint waiting, or another channel."""

import threading
import time
from collections.abc import Iterator

import pytest

from db.encryption import Keyring
from integrations.webhooks_out import WebhookSender
from tests.factories import ENCRYPTION_KEY
from tests.notifications.conftest import Desk
from tests.notifications.hook import Hook, listening
from tests.notifications.test_endpoints import CALL, Endpoint
from tests.notifications.test_recorder import cut_off

# Apprise loads a plugin that asks for `imghdr`, and has its own where Python no longer does.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening() as opened:
        yield opened


def test_a_backlog_of_webhooks_keeps_no_chat_waiting(desk: Desk, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.settings import get_settings

    monkeypatch.setenv("FLEET_SLICE_S", "2")
    get_settings.cache_clear()
    hook.answers = [0.02]
    Endpoint(desk, hook.url)
    desk.alerts(3000, "offline", "low")
    with listening() as chat:
        other = Desk(desk.platform, "other")
        Endpoint(other, f"json://127.0.0.1:{chat.port}/x", channel="apprise", name="pager")
        other.alert("fault_code", "critical")
        other.deliver_plan()

        desk.platform.work(desk.platform.enqueue(CALL), slices=1)

        assert len(chat.calls) == 1
        assert 1 < len(hook.calls) < 3000, "the webhooks are not over"


def test_hanging_endpoints_of_one_tenant_keep_no_other_tenants_waiting(desk: Desk, hook: Hook) -> None:
    hook.answers = [3.0]
    for number in range(24):
        Endpoint(desk, hook.url, name=f"slow {number}")
    desk.alert("fault_code", "critical")
    with listening() as quick:
        other = Desk(desk.platform, "other")
        Endpoint(other, quick.url)
        running = threading.Thread(target=lambda: desk.platform.run(CALL))
        running.start()
        while not hook.calls:
            time.sleep(0.01)
        began = time.monotonic()
        other.alert("fault_code", "critical")
        while not quick.calls:
            time.sleep(0.01)
            assert time.monotonic() - began < 2.9, "as long as one of them hangs"
        running.join()

    assert len(hook.calls) == 24
    assert desk.states() == {"sent": 25}


def test_who_works_is_called_before_who_fails_and_tenants_take_turns(desk: Desk, hook: Hook) -> None:
    from datetime import UTC, datetime
    from uuid import uuid4

    from db.queries import deliveries
    from jobs import process

    failing, working = Endpoint(desk, hook.url, name="failing"), Endpoint(desk, hook.url, name="working")
    third = Endpoint(desk, hook.url, name="third")
    desk.admin.execute("UPDATE webhook_endpoints SET failing_since = now() WHERE id = %s", [failing.id])
    desk.alerts(30, severity="low")
    theirs = Endpoint(Desk(desk.platform, "other"), hook.url)
    theirs.desk.alert(severity="low")
    late = Endpoint(Desk(desk.platform, "late"), hook.url)
    late.desk.alert(severity="critical")

    def claimed(endpoints: int, of_tenant: int, *busy: Endpoint) -> dict[object, int]:
        with process.get_database().system_transaction() as connection:
            taken, _ = deliveries.claim_of_endpoints(
                connection,
                "webhook",
                uuid4(),
                datetime.now(UTC),
                endpoints=endpoints,
                each=25,
                of_tenant=of_tenant,
                busy=[each.id for each in busy],
            )
            connection.rollback()
        return {each: sum(n.endpoint_id == each for n in taken) for each in {n.endpoint_id for n in taken}}

    first = claimed(3, 8)
    assert first.keys() - {working.id, third.id} == {late.id, theirs.id}
    assert sorted(first.values()) == [1, 1, 25]
    assert claimed(9, 8).keys() == {failing.id, working.id, third.id, theirs.id, late.id}
    assert claimed(9, 1).keys() & {failing.id, working.id, third.id} == first.keys() - {late.id, theirs.id}
    assert claimed(9, 2, working).keys() == {third.id, theirs.id, late.id}
    assert claimed(9, 1, working, late).keys() == {theirs.id}


def test_a_database_that_is_away_for_a_moment_costs_no_second_call(desk: Desk, hook: Hook) -> None:
    from jobs import process
    from jobs.notifications.endpoints import SCHEDULES, call_due, webhooks

    hook.answers = [0.5]
    Endpoint(desk, hook.url)
    desk.alerts(3)
    told: list[dict[str, int]] = []

    def call() -> None:
        with WebhookSender(allow_loopback=True) as sender:
            send = webhooks(Keyring.from_settings([ENCRYPTION_KEY]), sender)
            until = time.monotonic() + 60
            told.append(
                call_due(process.get_database(), "webhook", send, until=until, schedule_s=SCHEDULES["webhook"])[0]
            )

    calling = threading.Thread(target=call)
    calling.start()
    while not hook.calls:
        time.sleep(0.01)
    assert cut_off(desk) > 0
    calling.join()

    assert told == [{"sent": 3}]
    assert len(hook.calls) == 3
