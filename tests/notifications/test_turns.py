"""No tenant's long queue keeps another's mails waiting: within a severity tenants take turns."""

from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from uuid import UUID, uuid4

import psycopg
from sqlalchemy import text

from db.queries import attempts, deliveries
from db.queries.attempts import Outcome
from db.queries.deliveries import Notice
from jobs import process
from tests.notifications.conftest import Desk, Inbox


def wait(admin: psycopg.Connection, tenant_id: UUID, number: int, *, priority: int = 3, since_s: int = 3600) -> None:
    """Let mails of a tenant wait to be sent, the oldest since a while; the tenant is made where it is not yet."""
    admin.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, %s, '') ON CONFLICT DO NOTHING", [tenant_id] * 2)
    admin.execute(
        "INSERT INTO notifications (tenant_id, category, kind, severity, priority, channel, address, dedupe_key,"
        " expires_at, next_attempt_at, state)"
        " SELECT %s, 'other', 'x', (ARRAY['critical', 'high', 'medium', 'low'])[%s + 1], %s, 'email',"
        " 'a' || g || '@acme.example', gen_random_uuid()::text, now() + INTERVAL '1 day',"
        " now() - make_interval(secs => %s) + g * INTERVAL '1 ms', 'ready' FROM generate_series(1, %s) AS g",
        [tenant_id, priority, priority, since_s, number],
    )


def claim(batch: int, at: datetime | None = None) -> list[Notice]:
    from jobs import process

    with process.get_database().system_transaction() as connection:
        return deliveries.claim(connection, "email", uuid4(), at or datetime.now(UTC), batch=batch)[0]


def numbers(notices: list[Notice]) -> dict[UUID, int]:
    return {each: sum(n.tenant_id == each for n in notices) for each in {n.tenant_id for n in notices}}


def test_one_mail_is_among_the_first_however_many_another_tenant_waits_with(desk: Desk) -> None:
    other = uuid4()
    wait(desk.admin, desk.tenant_id, 5_000)
    wait(desk.admin, other, 1, since_s=1)

    assert numbers(claim(200)) == {desk.tenant_id: 199, other: 1}


def test_tenants_have_equal_shares_and_what_one_leaves_goes_to_the_others(desk: Desk) -> None:
    long, short, one = uuid4(), uuid4(), uuid4()
    wait(desk.admin, long, 500)
    wait(desk.admin, short, 500, since_s=1)
    wait(desk.admin, one, 20)

    assert numbers(claim(100)) == {long: 40, short: 40, one: 20}


def test_more_tenants_than_a_claim_takes_are_all_come_to(desk: Desk) -> None:
    tenants = [uuid4() for _ in range(30)]
    for tenant_id in tenants:
        wait(desk.admin, tenant_id, 3)
    wait(desk.admin, desk.tenant_id, 1_000)

    first = claim(10)
    assert len(numbers(first)) == 10, "one of each"
    found = {n.id for n in first}
    while len(found) < 1_090:
        found |= {n.id for n in claim(100)}

    assert claim(100) == []


def test_who_comes_first_is_by_chance(desk: Desk) -> None:
    for _ in range(40):
        wait(desk.admin, uuid4(), 30)

    assert len({claim(1)[0].tenant_id for _ in range(20)}) > 5


def test_a_severity_goes_before_the_turn_and_age_within_a_tenant(desk: Desk) -> None:
    others = [uuid4() for _ in range(20)]
    for tenant_id in others:
        wait(desk.admin, tenant_id, 5, priority=3)
    wait(desk.admin, desk.tenant_id, 10, priority=0, since_s=1)
    wait(desk.admin, others[0], 2, priority=2)

    taken = claim(15)

    assert numbers(taken[:10]) == {desk.tenant_id: 10}
    ages = [n.address for n in taken[:10]]
    assert ages == [f"a{number}@acme.example" for number in range(1, 11)]
    assert [n.severity for n in taken] == ["critical"] * 10 + ["medium"] * 2 + ["low"] * 3


def test_a_tenant_whose_mails_all_wait_for_later_is_passed_over(desk: Desk) -> None:
    from jobs import process

    wait(desk.admin, desk.tenant_id, 500, since_s=-3600)
    with process.get_database().system_transaction() as connection:
        assert not deliveries.is_due(connection, "email", datetime.now(UTC))
    other = uuid4()
    wait(desk.admin, other, 5)
    with process.get_database().system_transaction() as connection:
        assert deliveries.is_due(connection, "email", datetime.now(UTC))

    assert numbers(claim(200)) == {other: 5}
    assert numbers(claim(200, datetime.now(UTC) + timedelta(hours=2))) == {desk.tenant_id: 200}


def test_several_who_claim_at_once_share_what_there_is(desk: Desk) -> None:
    wait(desk.admin, desk.tenant_id, 300)
    for _ in range(10):
        wait(desk.admin, uuid4(), 10)
    found: list[UUID] = []
    ready = Barrier(4)

    def take() -> None:
        ready.wait()
        for _ in range(3):
            found.extend(n.id for n in claim(50))

    racing = [Thread(target=take) for _ in range(4)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()

    assert len(found) == len(set(found))
    while taken := claim(200):
        found.extend(n.id for n in taken)
    assert len(set(found)) == len(found) == 400


def test_a_mail_that_was_put_off_takes_its_turn_again(desk: Desk) -> None:
    from jobs import process

    wait(desk.admin, desk.tenant_id, 3)
    now, token = datetime.now(UTC), uuid4()
    with process.get_database().system_transaction() as connection:
        taken, _ = deliveries.claim(connection, "email", token, now, batch=3)
        later = [Outcome(n.id, "ready", "deferred", now, next_at=now + timedelta(minutes=5)) for n in taken]
        assert attempts.record(connection, token, later) == 3

    assert claim(10, now + timedelta(minutes=4)) == []
    assert {n.id for n in claim(10, now + timedelta(minutes=6))} == {n.id for n in taken}


def test_the_whole_way_one_tenants_storm_does_not_delay_anothers_mail(desk: Desk, inbox: Inbox) -> None:
    desk.alerts(400, "geofence_entry", "low", recipients=["gate@acme.example"])
    desk.admin.execute("UPDATE notifications SET state = 'ready', address = id || '@acme.example'")
    other = Desk(desk.platform, "other")
    other.alert("geofence_entry", "low", recipients=["bob@other.example"])

    desk.deliver()

    assert len(inbox.mails) == 401
    assert inbox.to.index("bob@other.example") < 201


def test_a_claim_finds_its_rows_by_their_id_whatever_the_statistics_say(told: Desk) -> None:
    told.alerts(2_000, "geofence_entry", recipients=["gate@acme.example"])
    told.admin.execute("ANALYZE notifications")  # when none was ready: then an index of those that are looks empty
    told.admin.execute("UPDATE notifications SET state = 'ready', planned_at = now()")
    values = {"channel": "email", "token": uuid4(), "now": datetime.now(UTC), "batch": 200}

    with process.get_database().system_transaction() as connection:
        plan = "\n".join(connection.execute(text(f"EXPLAIN {deliveries._CLAIM_IN_TURN.text}"), values).scalars())

    locked = plan[plan.index("LockRows") :]
    assert "notifications_pkey" in locked.splitlines()[1]
