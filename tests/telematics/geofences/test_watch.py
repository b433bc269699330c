"""Vehicles whose points other applications store, and the fences in Redis; a minute is one run of the job."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis

from jobs.telematics.geofences import cache, watch
from tests.factories import make_connection
from tests.inprocess import Platform
from tests.servers import Database
from tests.telematics.geofences.places import Fleet, circle, draw, make_fleet, polygon, square

JOB = "telematics.watch_geofences"
YARD = polygon(square(0, 0, 2, 2))
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    global NOW
    NOW = datetime.now(UTC).replace(microsecond=0)  # a fix from before the run began may be too old
    yield
    cache.forget()


@pytest.fixture
def robots(platform: Platform) -> Fleet:
    return make_fleet(platform.admin)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def tell(database: Database, fleet: Fleet, *points: tuple[int, datetime, float]) -> None:
    """Store points as an application does: vehicle, time, longitude; all at latitude 1."""
    with psycopg.connect(database.app_url) as connection:
        connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(fleet.tenant_id)])
        for vehicle, time, longitude in points:
            connection.execute(
                "INSERT INTO telemetry (tenant_id, vehicle_id, time, latitude, longitude) VALUES (%s, %s, %s, 1, %s)",
                [fleet.tenant_id, fleet.vehicles[vehicle], time, longitude],
            )


def events(platform: Platform) -> list[tuple[str, datetime]]:
    rows = platform.admin.execute("SELECT kind, time FROM geofence_events ORDER BY time, kind")
    return [(row[0], row[1]) for row in rows]


def test_robots_are_evaluated_where_other_applications_store_their_points(platform: Platform, robots: Fleet) -> None:
    draw(platform.admin, robots, **YARD)
    tell(platform.urls, robots, (0, ago(5), 3), (0, ago(4), 1), (0, ago(3), 3), (1, ago(2), 1))

    row = platform.run(JOB, robots.tenant_id)

    assert row["state"] == "succeeded"
    assert (row["counts"]["fixes"], row["counts"]["geofence_events"]) == (4, 3)
    assert events(platform) == [("entry", ago(4)), ("exit", ago(3)), ("entry", ago(2))]
    assert platform.run(JOB, robots.tenant_id)["counts"] is None
    tell(platform.urls, robots, (1, ago(1), 3), (1, ago(3), 3), (0, ago(4.5), 1))
    platform.run(JOB, robots.tenant_id)
    assert events(platform)[3:] == [("exit", ago(1))], "what came late tells of no crossing"


def test_a_vehicle_that_was_never_evaluated_begins_a_quarter_of_an_hour_back(platform: Platform, robots: Fleet) -> None:
    tell(platform.urls, robots, (0, ago(60), 1), (0, ago(10), 3))
    platform.run(JOB, robots.tenant_id)
    draw(platform.admin, robots, **YARD)

    platform.run(JOB, robots.tenant_id)

    assert events(platform) == []
    assert platform.value("SELECT fences_at FROM vehicle_positions WHERE vehicle_id = %s", robots.vehicles[0]) == ago(
        10
    )


def test_a_fence_that_is_drawn_after_a_pause_tells_nothing_of_the_pause(platform: Platform, robots: Fleet) -> None:
    first = draw(platform.admin, robots, **YARD)
    tell(platform.urls, robots, (0, ago(600), 3), (0, ago(14), 3))
    platform.run(JOB, robots.tenant_id)
    platform.admin.execute("UPDATE vehicle_positions SET fences_at = %s", [ago(600)])
    platform.admin.execute("UPDATE geofences SET is_active = false WHERE id = %s", [first])
    tell(platform.urls, robots, (0, ago(300), 1), (0, ago(299), 3))
    platform.run(JOB, robots.tenant_id)
    draw(platform.admin, robots, "Another", **YARD)

    platform.run(JOB, robots.tenant_id)

    assert events(platform) == []


def test_what_does_not_fit_a_slice_is_evaluated_in_the_next_and_gives_the_same(
    platform: Platform, robots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_FIXES", 5)
    monkeypatch.setattr(watch, "_FIXES_OF_A_VEHICLE", 3)
    draw(platform.admin, robots, **YARD)
    track = [(vehicle, ago(12 - n), 1 if n % 3 else 3) for vehicle in range(3) for n in range(12)]
    tell(platform.urls, robots, *track)

    row = platform.run(JOB, robots.tenant_id)

    assert row["state"] == "succeeded"
    assert row["counts"]["fixes"] == 36
    per_vehicle = [(kind, ago(12 - n)) for n in range(12) for kind in {1: ["entry"], 0: ["exit"]}.get(n % 3, []) if n]
    assert events(platform) == sorted(per_vehicle * 3, key=lambda event: event[1])


def test_a_synced_vehicles_points_are_the_syncs(platform: Platform, robots: Fleet) -> None:
    draw(platform.admin, robots, **YARD)
    connection_id = make_connection(platform.admin, robots.tenant_id, "http://127.0.0.1:1")
    platform.admin.execute(
        "UPDATE vehicles SET connection_id = %s, external_id = '1' WHERE id = %s", [connection_id, robots.vehicles[0]]
    )
    tell(platform.urls, robots, (0, ago(5), 1), (1, ago(4), 1))

    platform.run(JOB, robots.tenant_id)

    assert events(platform) == [("entry", ago(4))]


class TestRedis:
    """`geofence:{id}` for other applications."""

    @pytest.fixture
    def client(self, platform: Platform, redis_url: str) -> Iterator["redis.Redis"]:
        with redis.Redis.from_url(redis_url, decode_responses=True) as client:
            yield client

    def shown(self, client: Any) -> dict[UUID, dict[str, Any]]:
        keys = list(client.scan_iter("geofence:*"))
        return {UUID(key.removeprefix("geofence:")): json.loads(client.get(key)) for key in keys}

    def test_has_the_geometry_that_is_evaluated_and_no_other(
        self, platform: Platform, robots: Fleet, client: Any
    ) -> None:
        yard = draw(platform.admin, robots, **YARD)
        disc = draw(platform.admin, robots, "Disc", **circle(5, 6, 100))
        bowtie = [[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]
        draw(platform.admin, robots, "Bowtie", **polygon(bowtie))
        draw(platform.admin, robots, "Off", is_active=False, **YARD)

        assert platform.run(JOB, robots.tenant_id)["counts"]["shown"] == 2

        found = self.shown(client)
        assert set(found) == {yard, disc}
        assert found[yard]["geometry"] == YARD["boundary"]
        assert found[disc]["geometry"] == {"type": "Point", "coordinates": [5, 6]}
        assert (found[disc]["radius_m"], found[disc]["name"]) == (100, "Disc")
        assert client.ttl(f"geofence:{yard}") == -1
        assert platform.run(JOB, robots.tenant_id)["counts"] is None, "nothing has changed"

    def test_loses_a_fence_that_is_gone_and_follows_one_that_moves(
        self, platform: Platform, robots: Fleet, client: Any
    ) -> None:
        yard, off, gone = (draw(platform.admin, robots, name, **YARD) for name in ("Yard", "Off", "Gone"))
        platform.run(JOB, robots.tenant_id)
        assert set(self.shown(client)) == {yard, off, gone}
        platform.admin.execute("UPDATE geofences SET is_active = false WHERE id = %s", [off])
        platform.admin.execute("DELETE FROM geofences WHERE id = %s", [gone])
        moved = {"type": "Polygon", "coordinates": [square(5, 5, 6, 6)]}
        platform.admin.execute("UPDATE geofences SET boundary = %s WHERE id = %s", [json.dumps(moved), yard])

        platform.run(JOB, robots.tenant_id)

        assert {key: told["geometry"] for key, told in self.shown(client).items()} == {yard: moved}

    def test_is_whole_again_a_minute_after_a_flush(self, platform: Platform, robots: Fleet, client: Any) -> None:
        yard = draw(platform.admin, robots, **YARD)
        platform.run(JOB, robots.tenant_id)
        client.flushdb()

        platform.run(JOB, robots.tenant_id)

        assert set(self.shown(client)) == {yard}

    def test_never_loses_the_last_fence_of_another_tenant(self, platform: Platform, robots: Fleet, client: Any) -> None:
        other = make_fleet(platform.admin, "other")
        mine, theirs = draw(platform.admin, robots, **YARD), draw(platform.admin, other, **YARD)
        for tenant_id in (robots.tenant_id, other.tenant_id):
            platform.run(JOB, tenant_id)
        platform.admin.execute("DELETE FROM geofences WHERE id = %s", [mine])

        platform.run(JOB, robots.tenant_id)

        assert set(self.shown(client)) == {theirs}

    def test_that_is_away_fails_nothing(
        self, platform: Platform, robots: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from jobs import settings, watchers

        draw(platform.admin, robots, **YARD)
        tell(platform.urls, robots, (0, ago(1), 1))
        monkeypatch.setenv("FLEET_REDIS_URL", "redis://127.0.0.1:1/0")
        settings.get_settings.cache_clear()
        watchers.forget()

        row = platform.run(JOB, robots.tenant_id)

        assert (row["state"], row["counts"]["geofence_events"]) == ("succeeded", 1)
