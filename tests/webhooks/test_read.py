"""What a kept delivery becomes: from the provider's POST to rows, and back to nothing after a week."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.queries import ledger
from integrations.registry import PROVIDERS
from integrations.webhooks import Pushed
from jobs import process
from jobs.outcomes import ClaimLost
from jobs.run import Claim, Run
from jobs.webhooks.read import read_delivery
from tests.inprocess import Platform
from tests.webhooks.conftest import Hook
from tests.webhooks.schemes import Samsara, Smartcar

READ, SYNC = "telematics.read_webhook", "telematics.sync_connection"
TRUCK = "281474977075805"


@pytest.fixture
def smartcar(platform: Platform, receiver_url: str) -> Hook:
    """A connection at Smartcar."""
    return Hook(platform.admin, receiver_url, Smartcar())


def add_vehicle(hook: Hook, device_id: str) -> UUID:
    """Give a connection's device a vehicle."""
    row = hook.admin.execute(
        "INSERT INTO vehicles (tenant_id, connection_id, external_id, name) VALUES (%s, %s, %s, %s) RETURNING id",
        [hook.tenant_id, hook.id, device_id, f"vehicle {device_id}"],
    ).fetchone()
    assert row
    return UUID(str(row[0]))


def fault(event_id: str | None = None, **changes: Any) -> bytes:
    """Return Samsara's event of an engine fault that came on."""
    data = {
        "vehicle": {"id": TRUCK, "name": "Truck 1"},
        "fault": {
            "j1939": {
                "txId": "0",
                "spn": {"id": "100", "description": "Engine Oil Pressure"},
                "fmi": {"id": "1", "description": "Data Valid But Below Normal"},
                "occurrenceCount": "2",
                "lamps": {"stop": True},
            }
        },
    }
    return Samsara().event(event_id, eventType="EngineFaultOn", data=data, **changes)


def deliver(hook: Hook, platform: Platform, body: bytes) -> dict[str, Any]:
    """Push a body and execute the run that reads it."""
    assert hook.post(body).status_code == 200
    return platform.work(hook.runs()[-1])


def unread(platform: Platform) -> int:
    """Return how many deliveries still have their payload."""
    number: int = platform.value("SELECT count(*) FROM webhook_deliveries WHERE payload IS NOT NULL")
    return number


def test_what_a_car_reports_is_a_point_and_its_latest_position(smartcar: Hook, platform: Platform) -> None:
    body = smartcar.scheme.event()
    vehicle_id = add_vehicle(smartcar, Smartcar.car)

    row = deliver(smartcar, platform, body)

    assert (row["state"], row["counts"]["stored"]) == ("succeeded", 1)
    stored = platform.admin.execute("SELECT vehicle_id, odometer_km::float FROM telemetry").fetchall()
    assert [(each[0], round(each[1], 1)) for each in stored] == [(vehicle_id, 12345.6)]
    assert platform.value("SELECT odometer_km IS NOT NULL FROM vehicle_positions") is True
    assert unread(platform) == 0
    assert platform.value("SELECT read_at IS NOT NULL FROM webhook_deliveries") is True


def test_a_fault_that_came_on_is_there_before_any_sync(samsara: Hook, platform: Platform) -> None:
    vehicle_id = add_vehicle(samsara, TRUCK)

    row = deliver(samsara, platform, fault())

    assert row["state"] == "succeeded"
    faults = platform.admin.execute("SELECT vehicle_id, protocol, spn, fmi, cleared_at FROM vehicle_faults").fetchall()
    assert faults == [(vehicle_id, "j1939", 100, 1, None)]


def test_deliveries_that_tell_of_more_wake_one_sync(samsara: Hook, platform: Platform) -> None:
    for number in range(3):
        deliver(samsara, platform, fault(str(number)))

    syncs = platform.admin.execute(
        "SELECT state, tenant_id, args, requested_by, parent_id FROM job_runs WHERE job = %s", [SYNC]
    ).fetchall()
    assert syncs == [("pending", samsara.tenant_id, {"connection_id": str(samsara.id)}, "webhook", samsara.runs()[0])]


def test_a_delivery_that_tells_all_wakes_none(smartcar: Hook, platform: Platform) -> None:
    deliver(smartcar, platform, smartcar.scheme.event())
    assert platform.value("SELECT count(*) FROM job_runs WHERE job = %s", SYNC) == 0


def test_a_device_without_a_vehicle_waits_for_one_as_after_a_sync(smartcar: Hook, platform: Platform) -> None:
    platform.admin.execute(
        "INSERT INTO unmatched_devices (connection_id, external_id, tenant_id) VALUES (%s, %s, %s)",
        [smartcar.id, Smartcar.car, smartcar.tenant_id],
    )

    row = deliver(smartcar, platform, smartcar.scheme.event())

    assert (row["state"], row["counts"]["unmatched"]) == ("succeeded", 1)
    assert platform.value("SELECT count(*) FROM telemetry") == 0
    assert platform.value("SELECT external_id FROM unmatched_devices WHERE connection_id = %s", smartcar.id)
    assert platform.value("SELECT reason FROM rejected_records WHERE feed = 'webhook'") == "unmatched_device"


def test_of_a_vehicle_that_the_account_has_never_listed_nothing_is_kept_but_a_count(
    smartcar: Hook, platform: Platform
) -> None:
    for other in (
        Hook(smartcar.admin, smartcar.url, smartcar.scheme, smartcar.tenant_id),
        Hook(smartcar.admin, smartcar.url, smartcar.scheme),
    ):
        add_vehicle(other, Smartcar.car)
    row = deliver(smartcar, platform, smartcar.scheme.event())

    assert (row["state"], row["counts"]["unmatched"], row["counts"]["rejected"]) == ("succeeded", 0, 1)
    assert platform.value("SELECT count(*) FROM telemetry") == 0
    kept = platform.admin.execute("SELECT connection_id, reason, device_id, payload FROM rejected_records").fetchall()
    assert kept == [(smartcar.id, "foreign_device", None, "")], "it may be another owner's"


@pytest.mark.parametrize(
    "changes",
    [
        {"eventType": "VEHICLE_ERROR"},
        {"data": {"vehicle": {"id": Smartcar.car}, "signals": [{"code": "location-preciselocation", "body": "51.5"}]}},
        {"data": {"vehicle": {}, "signals": [{"code": "location-preciselocation", "body": "51.5"}]}, "vehicleId": None},
    ],
)
def test_of_another_owners_records_that_cannot_be_read_nothing_is_kept_either(
    smartcar: Hook, platform: Platform, changes: dict[str, Any]
) -> None:
    row = deliver(smartcar, platform, smartcar.scheme.event(**changes))

    assert row["state"] == "succeeded"
    kept = platform.admin.execute("SELECT DISTINCT payload, device_id FROM rejected_records").fetchall()
    assert kept == [("", None)]


def test_an_event_that_is_older_than_what_is_known_moves_nothing_back(smartcar: Hook, platform: Platform) -> None:
    add_vehicle(smartcar, Smartcar.car)
    now = datetime.now(UTC)
    deliver(smartcar, platform, smartcar.scheme.event(at=now))
    known = platform.value("SELECT odometer_at FROM vehicle_positions")

    deliver(smartcar, platform, smartcar.scheme.event(at=now - timedelta(seconds=60)))

    assert platform.value("SELECT count(*) FROM telemetry") == 2
    assert platform.value("SELECT odometer_at FROM vehicle_positions") == known


def test_reading_twice_stores_once(smartcar: Hook, platform: Platform) -> None:
    add_vehicle(smartcar, Smartcar.car)
    deliver(smartcar, platform, smartcar.scheme.event("once"))
    before = platform.admin.execute("SELECT * FROM telemetry").fetchall()

    row = platform.run(READ, smartcar.tenant_id, connection_id=smartcar.id, event_id="once")

    assert (row["state"], row["counts"]) == ("succeeded", {"read_before_or_purged": 1})
    assert platform.admin.execute("SELECT * FROM telemetry").fetchall() == before


def test_a_worker_that_lost_its_run_leaves_the_delivery_as_it_was(smartcar: Hook, platform: Platform) -> None:
    add_vehicle(smartcar, Smartcar.car)
    smartcar.post(smartcar.scheme.event("once"))
    run_id, token, worker_id = smartcar.runs()[0], uuid4(), uuid4()
    database = process.get_database()
    with database.statement() as connection:
        ledger.beat(connection, worker_id, "here", 1, "worker", [token])
        (row,) = ledger.claim(connection, READ, [run_id], token, worker_id)
    late = Run(row, Claim(database, row.tenant_id, token, [run_id]))
    platform.admin.execute("UPDATE job_runs SET claim_token = %s WHERE id = %s", [uuid4(), run_id])

    with pytest.raises(ClaimLost):
        read_delivery(late, smartcar.id, "once")

    assert unread(platform) == 1
    assert platform.value("SELECT count(*) FROM telemetry") == 0


@pytest.mark.parametrize(
    "data", [None, [], {}, "x", 1, {"vehicle": 5}, {"vehicle": {"id": None}}, {"vehicle": {"id": "x" * 999}}]
)
def test_a_fault_that_makes_no_sense_is_kept_aside_and_holds_nothing_up(
    samsara: Hook, platform: Platform, data: Any
) -> None:
    row = deliver(samsara, platform, samsara.scheme.event(eventType="EngineFaultOn", data=data))

    assert row["state"] == "succeeded"
    assert row["counts"]["rejected"] >= 1
    assert unread(platform) == 0


@pytest.mark.parametrize("vehicle", [None, {}, {"id": None}, {"id": 5}, {"id": "x" * 999}])
def test_a_car_that_cannot_be_is_kept_aside_and_holds_nothing_up(
    smartcar: Hook, platform: Platform, vehicle: Any
) -> None:
    row = deliver(smartcar, platform, smartcar.scheme.event(vehicleId=None, data={"vehicle": vehicle, "signals": []}))

    assert row["state"] == "succeeded"
    assert row["counts"]["rejected"] == 1
    assert unread(platform) == 0


class Broken:
    """A scheme whose reading has a bug."""

    def __init__(self, of: Any) -> None:
        self.secret_name = of.secret_name
        self.verify = of.verify

    def read(self, body: bytes, now: datetime) -> Pushed:
        raise ZeroDivisionError(body.decode())


def test_a_bug_of_ours_is_a_dead_letter_that_can_be_run_again(
    smartcar: Hook, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_vehicle(smartcar, Smartcar.car)
    right = PROVIDERS["smartcar"]
    monkeypatch.setitem(PROVIDERS, "smartcar", right._replace(webhooks=Broken(right.webhooks)))
    row = deliver(smartcar, platform, smartcar.scheme.event("late"))
    assert (row["state"], row["error"]["type"]) == ("failed", "ZeroDivisionError")
    assert Smartcar.car not in str(row["error"])
    assert unread(platform) == 1

    monkeypatch.setitem(PROVIDERS, "smartcar", right)
    again = platform.run(READ, smartcar.tenant_id, connection_id=smartcar.id, event_id="late")

    assert (again["state"], again["counts"]["stored"]) == ("succeeded", 1)
    assert unread(platform) == 0


def test_what_a_paused_connection_was_sent_is_read_when_it_is_resumed(smartcar: Hook, platform: Platform) -> None:
    add_vehicle(smartcar, Smartcar.car)
    smartcar.admin.execute("UPDATE connections SET status = 'paused' WHERE id = %s", [smartcar.id])
    row = deliver(smartcar, platform, smartcar.scheme.event())
    assert (row["state"], row["snoozes"], row["attempt"]) == ("pending", 1, 0)
    assert unread(platform) == 1

    smartcar.admin.execute("UPDATE connections SET status = 'active' WHERE id = %s", [smartcar.id])
    smartcar.admin.execute("UPDATE job_runs SET run_at = now()")
    assert platform.work(smartcar.runs()[0])["counts"]["stored"] == 1


def test_what_a_cut_off_connection_was_sent_is_read(smartcar: Hook, platform: Platform) -> None:
    add_vehicle(smartcar, Smartcar.car)
    smartcar.admin.execute("UPDATE connections SET status = 'reconnect' WHERE id = %s", [smartcar.id])
    assert deliver(smartcar, platform, smartcar.scheme.event())["counts"]["stored"] == 1


def test_what_a_connection_was_sent_before_it_was_removed_is_not_read(smartcar: Hook, platform: Platform) -> None:
    add_vehicle(smartcar, Smartcar.car)
    smartcar.post(smartcar.scheme.event())
    smartcar.admin.execute("UPDATE connections SET deleted_at = now(), status = 'paused' WHERE id = %s", [smartcar.id])

    row = platform.work(smartcar.runs()[0])

    assert (row["state"], row["counts"]) == ("succeeded", {"connection_removed": 1})
    assert platform.value("SELECT count(*) FROM telemetry") == 0


def test_a_delivery_is_forgotten_after_a_week_read_or_not(samsara: Hook, platform: Platform) -> None:
    for event_id in ("read", "unread", "young"):
        samsara.post(samsara.scheme.event(event_id))
    platform.work(samsara.runs()[0])
    samsara.admin.execute(
        "UPDATE webhook_deliveries SET created_at = now() - INTERVAL '8 days' WHERE event_id <> 'young'"
    )

    row = platform.run("retention.purge_history")

    assert (row["state"], row["counts"]["webhook_deliveries"]) == ("succeeded", 2)
    assert samsara.rows() == [("young", 0)]
    assert platform.run("retention.purge_history")["counts"]["webhook_deliveries"] == 0


def test_forgetting_takes_bounded_bites_until_all_are_gone(samsara: Hook, platform: Platform) -> None:
    samsara.admin.execute(
        "INSERT INTO webhook_deliveries (connection_id, event_id, tenant_id, kind, created_at)"
        " SELECT %s, g::text, %s, 'Ping', now() - INTERVAL '8 days' FROM generate_series(1, 5001) g",
        [samsara.id, samsara.tenant_id],
    )
    run_id = platform.enqueue("retention.purge_history")
    assert platform.work(run_id, slices=1)["state"] == "pending"
    assert len(samsara.rows()) == 1
    assert platform.work(run_id)["counts"]["webhook_deliveries"] == 5001
    assert samsara.rows() == []
