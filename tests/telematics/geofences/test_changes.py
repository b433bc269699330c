"""Who changes a fence, and what a worker makes of it: versions, problems, presences, tenants."""

import json
import math
import threading
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, text

from db.engine import Database
from db.queries import geofences as queries
from jobs.telematics.geofences import cache, pages
from tests import servers
from tests.telematics.geofences.places import Fleet, at, circle, draw, make_fleet, pack, polygon, report, square, told

YARD = polygon(square(0, 0, 2, 2))
BOWTIE = polygon([[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]])
INSIDE, OUTSIDE = (1.0, 1.0), (5.0, 5.0)


def version(admin: psycopg.Connection, fleet: Fleet) -> UUID | None:
    row = admin.execute("SELECT version FROM geofence_versions WHERE tenant_id = %s", [fleet.tenant_id]).fetchone()
    return None if row is None else row[0]


def go(engine: Database, fleet: Fleet, *fixes: tuple[int, float, tuple[float, float]]) -> dict[str, int]:
    """Commit a page as a sync does: vehicle, minute, where."""
    cache.refresh(engine, fleet.tenant_id)
    with engine.tenant_transaction(fleet.tenant_id) as connection:
        return report(connection, fleet, [(vehicle, at(minute), *place) for vehicle, minute, place in fixes])


def apply(database: servers.Database, fleet: Fleet, statement: str) -> None:
    """Change the tenant's fences as an application does."""
    with psycopg.connect(database.app_url) as application:
        application.execute("SELECT set_config('app.tenant_id', %s, true)", [str(fleet.tenant_id)])
        application.execute(statement.encode())


def kinds(admin: psycopg.Connection) -> list[tuple[str, datetime]]:
    rows = admin.execute("SELECT kind, time FROM geofence_events ORDER BY time, kind").fetchall()
    return [(row[0], row[1].astimezone(UTC)) for row in rows]


def count(admin: psycopg.Connection, table: str) -> int:
    row = admin.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("statement", "changes"),
    [
        ("INSERT INTO geofences (tenant_id, name, boundary) SELECT tenant_id, 'New', boundary FROM geofences", True),
        ("UPDATE geofences SET name = 'Renamed'", True),
        ("UPDATE geofences SET alert_recipients = '{a@b.example}'", True),
        ("UPDATE geofences SET dwell_s = 60", True),
        ("UPDATE geofences SET is_active = false", True),
        ("UPDATE geofences SET deleted_at = now()", True),
        ("DELETE FROM geofences", True),
        ("UPDATE geofences SET name = name", False),
        ("UPDATE geofences SET name = 'x' WHERE false", False),
        ("DELETE FROM geofences WHERE false", False),
    ],
)
def test_the_version_changes_with_every_change_and_with_no_other(
    database: servers.Database, admin: psycopg.Connection, fleet: Fleet, statement: str, changes: bool
) -> None:
    other = make_fleet(admin, "other")
    draw(admin, fleet, **YARD)
    draw(admin, other, **YARD)
    before, theirs = version(admin, fleet), version(admin, other)
    apply(database, fleet, statement)
    assert (version(admin, fleet) != before) is changes
    assert version(admin, other) == theirs


def test_a_fence_that_moves_between_two_pages_is_where_it_is_for_the_second(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    yard = draw(admin, fleet, **YARD)
    go(engine, fleet, (0, 0, INSIDE), (1, 0, OUTSIDE))
    moved = Jsonb({"type": "Polygon", "coordinates": [square(4, 4, 6, 6)]})
    admin.execute("UPDATE geofences SET boundary = %s WHERE id = %s", [moved, yard])

    go(engine, fleet, (0, 1, INSIDE), (1, 1, OUTSIDE))

    assert kinds(admin) == [("entry", at(0)), ("entry", at(1)), ("exit", at(1))]


def test_a_fence_that_moves_after_a_page_was_located_is_asked_again(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    yard = draw(admin, fleet, **YARD)
    points = pack(fleet, [(0, at(0), *INSIDE), (1, at(0), *OUTSIDE)])
    with engine.tenant_transaction(fleet.tenant_id) as connection:
        located = pages.locate(connection, fleet.tenant_id, points)
    moved = Jsonb({"type": "Polygon", "coordinates": [square(4, 4, 6, 6)]})
    admin.execute("UPDATE geofences SET boundary = %s WHERE id = %s", [moved, yard])

    assert located is not None
    with engine.tenant_transaction(fleet.tenant_id) as connection:
        pages.cross(connection, fleet.tenant_id, located, at(0))

    [(vehicle, *_)] = admin.execute("SELECT vehicle_id FROM geofence_events").fetchall()
    assert vehicle == fleet.vehicles[1]


@pytest.mark.parametrize(
    "end",
    ["UPDATE geofences SET is_active = false", "UPDATE geofences SET deleted_at = now()", "DELETE FROM geofences"],
)
def test_a_fence_that_is_gone_holds_nobody_inside_and_tells_no_exit(
    engine: Database, admin: psycopg.Connection, fleet: Fleet, end: str
) -> None:
    draw(admin, fleet, alert_on_entry=True, **YARD)
    go(engine, fleet, (0, 0, INSIDE))
    assert (count(admin, "geofence_presence"), count(admin, "alerts WHERE resolved_at IS NULL")) == (1, 1)

    admin.execute(end.encode())
    go(engine, fleet, (0, 1, OUTSIDE))

    assert (count(admin, "geofence_presence"), count(admin, "alerts WHERE resolved_at IS NULL")) == (0, 0)
    assert ("exit", at(1)) not in kinds(admin)


def test_a_presence_that_a_page_wrote_while_its_fence_went_is_dropped_by_the_next(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    yard = draw(admin, fleet, **YARD)
    admin.execute("UPDATE geofences SET is_active = false")
    admin.execute(
        "INSERT INTO geofence_presence (tenant_id, vehicle_id, geofence_id, entered_at) VALUES (%s, %s, %s, %s)",
        [fleet.tenant_id, fleet.vehicles[0], yard, at(0)],
    )
    draw(admin, fleet, "Another", **polygon(square(40, 40, 41, 41)))

    go(engine, fleet, (0, 1, INSIDE))

    assert (count(admin, "geofence_presence"), kinds(admin)) == (0, [])


EDITS = [
    "UPDATE geofences SET is_active = false WHERE name = 'Yard'",
    "UPDATE geofences SET deleted_at = now() WHERE name = 'Yard'",
    "DELETE FROM geofences WHERE name = 'Yard'",
]


@pytest.mark.parametrize("edit", EDITS)
def test_a_fence_that_ends_between_a_pages_look_and_its_writing_has_no_event_of_it(
    engine: Database, admin: psycopg.Connection, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    draw(admin, fleet, alert_on_entry=True, **YARD)
    other = draw(admin, fleet, "Other", **YARD)
    read_presence = queries.read_presence

    def edit_then_read(connection: Connection, vehicles: list[UUID]) -> list[queries.PresenceRow]:
        admin.execute(edit.encode())
        return read_presence(connection, vehicles)

    monkeypatch.setattr(queries, "read_presence", edit_then_read)
    go(engine, fleet, (0, 0, INSIDE))

    assert [row[0] for row in admin.execute("SELECT geofence_id FROM geofence_events").fetchall()] == [other]
    assert (count(admin, "geofence_presence"), count(admin, "alerts")) == (1, 0)


@pytest.mark.parametrize("edit", EDITS)
def test_a_fence_that_ends_while_a_page_is_written_waits_for_it_and_leaves_nothing_open(
    engine: Database, database: servers.Database, admin: psycopg.Connection, fleet: Fleet, edit: str
) -> None:
    draw(admin, fleet, alert_on_entry=True, **YARD)
    ended = threading.Event()

    def end() -> None:
        apply(database, fleet, edit)
        ended.set()

    ending = threading.Thread(target=end)
    with engine.tenant_transaction(fleet.tenant_id) as connection:
        assert report(connection, fleet, [(0, at(0), *INSIDE)]) == {"geofence_events": 1}
        ending.start()
        assert not ended.wait(0.3), "it waits for the page"
    ending.join(20)

    assert ended.is_set()
    assert (count(admin, "geofence_presence"), count(admin, "alerts WHERE resolved_at IS NULL")) == (0, 0)


@pytest.mark.parametrize("edit", EDITS)
def test_a_page_waits_for_a_fence_that_is_ending_and_opens_nothing(
    engine: Database, database: servers.Database, admin: psycopg.Connection, fleet: Fleet, edit: str
) -> None:
    draw(admin, fleet, alert_on_entry=True, **YARD)
    done: list[dict[str, int]] = []
    page = threading.Thread(target=lambda: done.append(go(engine, fleet, (0, 0, INSIDE))))
    with psycopg.connect(database.app_url) as application:
        application.execute("SELECT set_config('app.tenant_id', %s, true)", [str(fleet.tenant_id)])
        application.execute(edit.encode())
        page.start()
        page.join(0.3)
        assert done == [], "it waits for the edit"
    page.join(20)

    assert len(done) == 1
    assert (count(admin, "geofence_presence"), count(admin, "alerts WHERE resolved_at IS NULL")) == (0, 0)


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_that_begins_while_a_page_writes_its_crossings_waits_and_stops_nothing(
    engine: Database,
    database: servers.Database,
    admin: psycopg.Connection,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    edit: str,
) -> None:
    draw(admin, fleet, alert_on_entry=True, **YARD)
    go(engine, fleet, (1, 0, INSIDE))
    failed: list[psycopg.Error] = []

    def end() -> None:
        try:
            apply(database, fleet, edit)
        except psycopg.Error as error:
            failed.append(error)

    ending = threading.Thread(target=end)
    hold_version = queries.hold_version

    def hold_then_begin(connection: Connection) -> UUID | None:
        held = hold_version(connection)
        ending.start()
        ending.join(0.3)
        return held

    monkeypatch.setattr(queries, "hold_version", hold_then_begin)

    assert go(engine, fleet, (0, 1, INSIDE), (1, 1, OUTSIDE)) == {"geofence_events": 2}
    ending.join(20)

    assert failed == []
    assert (count(admin, "geofence_presence"), count(admin, "alerts WHERE resolved_at IS NULL")) == (0, 0)


def test_pages_and_edits_of_several_fences_at_once_never_wait_in_a_circle(
    engine: Database, database: servers.Database, admin: psycopg.Connection
) -> None:
    busy = make_fleet(admin, "busy", 300)
    for number in range(5):
        draw(admin, busy, f"Yard {number}", alert_on_entry=True, alert_on_exit=True, **YARD)
    failed: list[BaseException] = []
    until = time.monotonic() + 4
    edits = ("UPDATE geofences SET is_active = false", "UPDATE geofences SET is_active = true")

    def edit() -> None:
        try:
            while time.monotonic() < until:
                for statement in edits:
                    apply(database, busy, statement)
        except psycopg.Error as error:
            failed.append(error)

    editing = threading.Thread(target=edit)
    editing.start()
    minute = 0
    try:
        while time.monotonic() < until:
            minute += 1
            place = INSIDE if minute % 2 else OUTSIDE
            go(engine, busy, *((vehicle, minute, place) for vehicle in range(300)))
    finally:
        editing.join(20)

    assert (failed, minute > 5) == ([], True)
    apply(database, busy, edits[0])
    assert (count(admin, "geofence_presence"), count(admin, "alerts WHERE resolved_at IS NULL")) == (0, 0)


def test_what_a_fence_that_is_gone_left_open_is_resolved_with_its_presence(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    yard = draw(admin, fleet, **YARD)
    draw(admin, fleet, "Another", **polygon(square(40, 40, 41, 41)))
    admin.execute("UPDATE geofences SET is_active = false WHERE id = %s", [yard])
    admin.execute(
        "INSERT INTO geofence_presence (tenant_id, vehicle_id, geofence_id, entered_at) VALUES (%s, %s, %s, %s)",
        [fleet.tenant_id, fleet.vehicles[0], yard, at(0)],
    )
    admin.execute(
        "INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, subject, message, opened_at)"
        " VALUES (%s, 'geofence_entry', 'medium', %s, %s, '-', now())",
        [fleet.tenant_id, fleet.vehicles[0], f"geofence:{yard}:vehicle:{fleet.vehicles[0]}"],
    )

    go(engine, fleet, (0, 1, OUTSIDE))

    assert (count(admin, "geofence_presence"), count(admin, "alerts WHERE resolved_at IS NULL")) == (0, 0)


@pytest.mark.parametrize("column", ["problem = 'crosses itself'", "min_latitude = 50", "id = gen_random_uuid()"])
def test_what_workers_and_the_database_say_of_a_fence_is_not_for_applications_to_write(
    database: servers.Database, admin: psycopg.Connection, fleet: Fleet, column: str
) -> None:
    draw(admin, fleet, **YARD)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        apply(database, fleet, f"UPDATE geofences SET {column}")


@pytest.mark.parametrize("extra", ["[0, 0, 1e5000]", "[0, 0, 7]", f"[0, 0, {'[' * 1500}{']' * 1500}]"])
@pytest.mark.parametrize("kind", ["Polygon", "MultiPolygon"])
def test_the_database_keeps_of_a_boundary_what_we_read(
    database: servers.Database, admin: psycopg.Connection, fleet: Fleet, extra: str, kind: str
) -> None:
    outer, hole = square(0, 0, 2, 2), square(0.5, 0.5, 1, 1)
    polygons: list[Any] = [[outer, hole], [square(5, 5, 6, 6)]] if kind == "MultiPolygon" else [outer, hole]
    told = json.dumps({"type": kind, "coordinates": polygons}).replace("[0, 0]", extra, 1)
    deep = "[" * 1500 + "]" * 1500
    written = f'{{"crs": 1e5000, "bbox": {deep}, {told[1:]}'
    admin.execute(
        "INSERT INTO geofences (tenant_id, name, boundary) VALUES (%s, 'Yard', %s)", [fleet.tenant_id, written]
    )
    row = admin.execute("SELECT boundary, min_longitude, max_longitude FROM geofences").fetchone()
    assert row == ({"type": kind, "coordinates": polygons}, 0, 6 if kind == "MultiPolygon" else 2)


def test_a_boundary_that_is_written_again_with_altitudes_has_the_problem_that_it_had(
    engine: Database, database: servers.Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    draw(admin, fleet, **BOWTIE)
    admin.execute("UPDATE geofences SET problem = 'crosses itself'")
    before = version(admin, fleet)
    apply(database, fleet, "UPDATE geofences SET boundary = jsonb_set(boundary, '{coordinates,0,1}', '[2, 2, 9]')")
    assert version(admin, fleet) == before
    assert admin.execute("SELECT problem FROM geofences").fetchone() == ("crosses itself",)


@pytest.mark.parametrize("poison", ["1e5000", "[" * 1500 + "]" * 1500])
def test_json_that_cannot_be_read_is_its_fences_problem_and_nobody_elses(
    engine: Database, admin: psycopg.Connection, fleet: Fleet, poison: str
) -> None:
    if admin.execute("SELECT 1 FROM pg_extension WHERE extname = 'postgis'").fetchone():
        pytest.skip("PostGIS reads every boundary as it is written, and refuses this one")
    draw(admin, fleet, **YARD)
    draw(admin, fleet, "Bad", **YARD)
    with admin.transaction():
        admin.execute("SET LOCAL session_replication_role = replica")  # as before the trigger was there
        admin.execute(
            "UPDATE geofences SET boundary = jsonb_set(boundary, '{x}', CAST(%s AS jsonb)) WHERE name = 'Bad'", [poison]
        )

    go(engine, fleet, (0, 0, INSIDE))

    assert kinds(admin) == [("entry", at(0))]
    problems = admin.execute("SELECT problem FROM geofences ORDER BY name").fetchall()
    assert [problem is None for (problem,) in problems] == [False, True]


def test_an_invalid_fence_says_why_and_the_good_ones_beside_it_go_on(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    draw(admin, fleet, **YARD)
    bad = draw(admin, fleet, "Bad", **BOWTIE)
    before = version(admin, fleet)

    go(engine, fleet, (0, 0, INSIDE))

    assert kinds(admin) == [("entry", at(0))]
    row = admin.execute("SELECT problem FROM geofences WHERE id = %s", [bad]).fetchone()
    assert row == ("boundary.coordinates: crosses or touches itself at 1 1",)
    assert version(admin, fleet) == before, "to note a problem is no change"
    written = admin.execute("SELECT xmin::text FROM geofences WHERE id = %s", [bad]).fetchone()
    cache.forget()
    go(engine, fleet, (0, 1, OUTSIDE))
    assert admin.execute("SELECT xmin::text FROM geofences WHERE id = %s", [bad]).fetchone() == written, "written once"


def test_a_fence_that_is_mended_is_evaluated_again_and_has_no_problem(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    bad = draw(admin, fleet, **BOWTIE)
    go(engine, fleet, (0, 0, INSIDE))
    admin.execute("UPDATE geofences SET boundary = %s", [Jsonb(YARD["boundary"])])
    assert admin.execute("SELECT problem FROM geofences WHERE id = %s", [bad]).fetchone() == (None,)

    go(engine, fleet, (0, 1, INSIDE))

    assert kinds(admin) == [("entry", at(1))]


def test_a_fence_that_breaks_while_a_vehicle_is_inside_holds_it_no_longer(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    draw(admin, fleet, alert_on_entry=True, **YARD)
    draw(admin, fleet, "Other", **circle(20, 20, 10))
    go(engine, fleet, (0, 0, INSIDE))
    admin.execute("UPDATE geofences SET boundary = %s WHERE name = 'Yard'", [Jsonb(BOWTIE["boundary"])])

    go(engine, fleet, (0, 1, INSIDE))

    assert (count(admin, "geofence_presence"), count(admin, "alerts WHERE resolved_at IS NULL")) == (0, 0)
    assert kinds(admin) == [("entry", at(0))]


def test_a_page_that_rolls_back_halfway_leaves_nothing_and_then_gives_the_same(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    draw(admin, fleet, alert_on_entry=True, alert_on_exit=True, **YARD)
    go(engine, fleet, (0, 0, INSIDE))
    before = count(admin, "geofence_events"), count(admin, "alerts"), count(admin, "geofence_presence")
    page = [(0, at(1), *OUTSIDE), (0, at(2), *INSIDE), (1, at(1), *INSIDE)]
    with pytest.raises(ZeroDivisionError), engine.tenant_transaction(fleet.tenant_id) as connection:
        report(connection, fleet, page)
        raise ZeroDivisionError
    assert before == (count(admin, "geofence_events"), count(admin, "alerts"), count(admin, "geofence_presence"))

    go(engine, fleet, (0, 1, OUTSIDE), (0, 2, INSIDE), (1, 1, INSIDE))
    once = count(admin, "geofence_events"), count(admin, "alerts")
    assert go(engine, fleet, (0, 1, OUTSIDE), (0, 2, INSIDE), (1, 1, INSIDE)) == {}

    assert kinds(admin) == [("entry", at(0)), ("entry", at(1)), ("exit", at(1)), ("entry", at(2))]
    assert (count(admin, "geofence_events"), count(admin, "alerts")) == once


def test_an_event_that_is_there_already_is_not_there_twice_and_alerts_nobody(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    draw(admin, fleet, alert_on_entry=True, **YARD)
    go(engine, fleet, (0, 0, INSIDE))
    admin.execute("DELETE FROM geofence_presence")
    admin.execute("DELETE FROM alerts")
    admin.execute("UPDATE vehicle_positions SET fences_at = NULL")

    assert go(engine, fleet, (0, 0, INSIDE)) == {"geofence_events": 0}

    assert (kinds(admin), count(admin, "alerts")) == ([("entry", at(0))], 0)


def test_a_tenants_vehicles_meet_its_own_fences_only(engine: Database, admin: psycopg.Connection, fleet: Fleet) -> None:
    other = make_fleet(admin, "other")
    mine, theirs = draw(admin, fleet, **YARD), draw(admin, other, **YARD)
    go(engine, fleet, (0, 0, INSIDE))
    go(engine, other, (0, 0, INSIDE))
    rows = admin.execute("SELECT tenant_id, vehicle_id, geofence_id FROM geofence_events").fetchall()
    assert {tuple(row) for row in rows} == {
        (fleet.tenant_id, fleet.vehicles[0], mine),
        (other.tenant_id, other.vehicles[0], theirs),
    }
    with engine.tenant_transaction(fleet.tenant_id) as connection:
        assert [event[1] for event in told(connection)] == [mine]
        assert connection.execute(text("SELECT tenant_id FROM geofence_presence")).scalars().all() == [fleet.tenant_id]


def test_a_tenant_without_fences_pays_one_statement_and_no_watermark(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    with engine.tenant_transaction(fleet.tenant_id) as connection:
        assert pages.locate(connection, fleet.tenant_id, pack(fleet, [(0, at(0), *INSIDE)])) is None
    assert count(admin, "vehicle_positions") == 0


def test_memory_is_bounded_by_corners_and_keeps_what_was_used_last(
    engine: Database, admin: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MOST_POSITIONS", 12)
    fleets = [make_fleet(admin, f"t{number}") for number in range(4)]
    for each in fleets:
        draw(admin, each, **YARD)
    for each in (*fleets[:2], fleets[0], *fleets[2:]):
        with engine.tenant_transaction(each.tenant_id) as connection:
            cache.find_index(connection, each.tenant_id)
    assert list(cache._indexes) == [fleets[2].tenant_id, fleets[3].tenant_id]
    assert sum(index.positions for index in cache._indexes.values()) <= 12


def test_a_large_boundary_is_checked_by_the_database_in_a_moment(admin: psycopg.Connection, fleet: Fleet) -> None:
    ring = [[math.cos(n / 3000), math.sin(n / 3000)] for n in range(int(math.tau * 3000))]
    draw(admin, fleet, **polygon([*ring, ring[0]]))
    row = admin.execute("SELECT max_latitude FROM geofences").fetchone()
    assert row is not None
    assert row[0] == pytest.approx(1, abs=1e-6)


def test_json_of_another_application_may_hold_more_than_we_read(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    extra = {"crs": {"x": 1}, "bbox": [0, 0, 2, 2], "id": str(uuid4())}
    draw(admin, fleet, kind="polygon", boundary={**YARD["boundary"], **extra})
    go(engine, fleet, (0, 0, INSIDE))
    assert kinds(admin) == [("entry", at(0))]


@pytest.mark.parametrize("is_new", [True, False])
def test_two_who_evaluate_the_same_fixes_at_once_tell_them_once(
    engine: Database, admin: psycopg.Connection, fleet: Fleet, is_new: bool
) -> None:
    draw(admin, fleet, alert_on_entry=True, **YARD)
    if not is_new:
        go(engine, fleet, (0, 0, OUTSIDE), (1, 0, OUTSIDE))
    page = [(vehicle, at(minute), *place) for vehicle in (0, 1) for minute, place in ((1, INSIDE), (2, OUTSIDE))]
    told_twice: list[dict[str, int]] = []

    def second() -> None:
        with engine.tenant_transaction(fleet.tenant_id) as connection:
            told_twice.append(report(connection, fleet, page))

    with engine.tenant_transaction(fleet.tenant_id) as connection:
        assert report(connection, fleet, page) == {"geofence_events": 4}
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.3)
        assert told_twice == [], "it waits for the one who came first"
    waiting.join(20)

    assert told_twice == [{}]
    assert len(kinds(admin)) == 4
