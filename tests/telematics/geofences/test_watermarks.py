"""Up to where fences were evaluated, for vehicles whose positions are older than the column that says so."""

import psycopg
import pytest

from db.engine import Database
from db.timeseries.positions import pack_position, store_positions
from db.timeseries.staging import stage
from jobs.telematics.geofences import pages
from tests.telematics.geofences.places import Fleet, at, draw, pack
from tests.telematics.geofences.test_changes import INSIDE, OUTSIDE, YARD, kinds


@pytest.mark.parametrize(("watermark", "told"), [(None, ["entry"]), (10, [])])
def test_late_fixes_do_not_go_in_and_out_of_a_fence(
    engine: Database, admin: psycopg.Connection, fleet: Fleet, watermark: int | None, told: list[str]
) -> None:
    draw(admin, fleet, **YARD)
    vehicle = fleet.vehicles[0]
    admin.execute(
        "INSERT INTO vehicle_positions (tenant_id, vehicle_id, time, latitude, longitude, fences_at)"
        " VALUES (%s, %s, %s, 5, 5, %s)",
        [fleet.tenant_id, vehicle, at(10), None if watermark is None else at(watermark)],
    )

    for minute, place in ((8, INSIDE), (4, OUTSIDE), (6, INSIDE), (2, OUTSIDE)):
        with engine.tenant_transaction(fleet.tenant_id) as connection:
            stage(connection)
            located = pages.locate(connection, fleet.tenant_id, pack(fleet, [(0, at(minute), *place)]))
            assert located is not None
            pages.cross(connection, fleet.tenant_id, located, at(10))
            fix = (at(minute), *place, None, None)
            store_positions(connection, [pack_position(vehicle.bytes, fix, None, None, None, None, None)])

    assert [kind for kind, _ in kinds(admin)] == told
