"""Fences within a sync: what a provider's feeds bring, to the end and in slices, against what was stored."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from integrations.simulator import SimulatorThread
from integrations.simulator.fleet import Account
from jobs.telematics.geofences import cache
from tests.inprocess import Platform
from tests.telematics.geofences import oracle
from tests.telematics.geofences.places import Fleet as Drawn
from tests.telematics.geofences.places import circle, draw, polygon, square
from tests.telematics.test_sync import Fleet
from tests.webhooks.conftest import Hook, receiving
from tests.webhooks.schemes import Smartcar

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def simulator() -> Iterator[SimulatorThread]:
    with SimulatorThread(Account("simulated", 6, start=NOW - timedelta(minutes=12), end=NOW)) as running:
        yield running


@pytest.fixture
def fleet(platform: Platform, simulator: SimulatorThread) -> Iterator[Fleet]:
    yield Fleet(platform, simulator)
    cache.forget()


def draw_where_they_drive(fleet: Fleet) -> dict[UUID, dict[str, Any]]:
    """Sync once to see where the vehicles drive, draw fences there, and forget that anything was read."""
    fleet.sync()
    admin = fleet.platform.admin
    fixes = admin.execute(
        "SELECT latitude, longitude FROM telemetry WHERE latitude IS NOT NULL ORDER BY vehicle_id, time"
    ).fetchall()
    drawn: dict[UUID, dict[str, Any]] = {}
    tenant = Drawn(fleet.tenant_id, [])
    for number, (latitude, longitude) in enumerate(fixes[:: max(1, len(fixes) // 12)]):
        size = 0.0005 * (1 + number % 4)
        shape = polygon(square(longitude - size, latitude - size, longitude + size, latitude + size))
        shape = circle(longitude, latitude, 90.0 + number) if number % 3 == 2 else shape
        options = {"dwell_s": 60} if number % 4 == 1 else {"confirm_fixes": 2} if number % 4 == 3 else {}
        fence_id = draw(admin, tenant, f"Fence {number}", alert_on_entry=True, alert_on_exit=True, **shape, **options)
        drawn[fence_id] = {**shape, **options}
    for table in ("telemetry", "vehicle_positions", "sync_cursors"):
        admin.execute(f"DELETE FROM {table}".encode())
    return drawn


def expected(fleet: Fleet, drawn: dict[UUID, dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Evaluate every stored fix, vehicle by vehicle and fence by fence."""
    tracks: dict[UUID, list[tuple[datetime, float, float]]] = {}
    for vehicle_id, *fix in fleet.platform.admin.execute(
        "SELECT vehicle_id, time, latitude, longitude FROM telemetry WHERE latitude IS NOT NULL ORDER BY time"
    ):
        tracks.setdefault(vehicle_id, []).append((fix[0], fix[1], fix[2]))
    return sorted(
        (vehicle_id, fence_id, kind, time)
        for vehicle_id, track in tracks.items()
        for fence_id, fence in drawn.items()
        for kind, time, *_ in oracle.events_of(fence, track)
    )


def found(fleet: Fleet) -> list[tuple[Any, ...]]:
    rows = fleet.platform.admin.execute("SELECT vehicle_id, geofence_id, kind, time FROM geofence_events")
    return sorted(tuple(row) for row in rows)


@pytest.mark.parametrize(("slice_s", "gathered"), [("30", 100_000), ("0.001", 1)])
def test_a_sync_tells_every_crossing_between_its_ticks_however_it_is_sliced(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, slice_s: str, gathered: int
) -> None:
    from jobs.settings import get_settings

    drawn = draw_where_they_drive(fleet)
    # Only the feeds: a snapshot would show where the vehicles end before it is known how they came there.
    for feed in ("gps", "engine", "health"):
        fleet.platform.admin.execute(
            "INSERT INTO sync_cursors (connection_id, tenant_id, feed, completed_at) VALUES (%s, %s, %s, now())",
            [fleet.id, fleet.tenant_id, f"snapshot:{feed}"],
        )
    monkeypatch.setenv("FLEET_SLICE_S", slice_s)
    monkeypatch.setattr("jobs.telematics.sync._GATHER_READINGS", gathered)
    get_settings.cache_clear()

    row = fleet.sync(slices=500)

    assert row["state"] == "succeeded"
    assert found(fleet) == expected(fleet, drawn)
    assert row["counts"]["geofence_events"] == len(found(fleet)) > 10
    assert {event[2] for event in found(fleet)} >= {"entry", "exit"}


def test_a_sync_that_reads_everything_again_tells_nothing_again(fleet: Fleet) -> None:
    draw_where_they_drive(fleet)
    fleet.sync()
    before, alerts = found(fleet), fleet.platform.value("SELECT count(*) FROM alerts")
    fleet.platform.admin.execute("DELETE FROM sync_cursors")

    row = fleet.sync()

    assert row["counts"].get("geofence_events", 0) == 0
    assert (found(fleet), fleet.platform.value("SELECT count(*) FROM alerts")) == (before, alerts)


def test_a_sync_reads_large_fences_and_writes_their_problems_while_no_transaction_is_open(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_where_they_drive(fleet)
    bowtie = polygon([[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]])
    draw(fleet.platform.admin, Drawn(fleet.tenant_id, []), "Bowtie", **bowtie)
    monkeypatch.setattr(cache, "_QUICK_BYTES", -1)
    cache.forget()

    row = fleet.sync()

    assert (row["state"], row["counts"]["geofence_events"] > 0) == ("succeeded", True)
    assert fleet.platform.value("SELECT problem IS NOT NULL FROM geofences WHERE name = 'Bowtie'") is True


def test_a_delivery_waits_for_large_fences_outside_of_its_transaction_and_is_read(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_QUICK_BYTES", -1)
    cache.forget()
    with receiving(platform.urls.worker_url) as url:
        hook = Hook(platform.admin, url, Smartcar())
        platform.admin.execute(
            "INSERT INTO vehicles (tenant_id, connection_id, external_id, name) VALUES (%s, %s, %s, 'Car')",
            [hook.tenant_id, hook.id, Smartcar.car],
        )
        draw(platform.admin, Drawn(hook.tenant_id, []), **polygon(square(0, 0, 2, 2)))
        assert hook.post(hook.scheme.event()).status_code == 200

        row = platform.work(hook.runs()[-1])

    assert (row["state"], row["counts"]["stored"], row["attempt"]) == ("succeeded", 1, 1)
    assert list(cache._indexes) == [hook.tenant_id]
    cache.forget()
