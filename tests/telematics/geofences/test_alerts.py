"""Alerts of crossings: opened for those who asked, resolved by what ends them, never twice and never late."""

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from sqlalchemy import text

from db.engine import Database
from tests.telematics.geofences.places import Fleet, at, draw, polygon, report, scratch, square

YARD = polygon(square(0, 0, 2, 2))
PLACES = {"in": (1.0, 1.0), "out": (5.0, 5.0)}
Alert = tuple[str, datetime, datetime | None]


def go(engine: Database, fleet: Fleet, now: float, *fixes: tuple[float, str], vehicle: int = 0) -> None:
    with engine.tenant_transaction(fleet.tenant_id) as connection:
        page = [(vehicle, at(minute), *PLACES[place]) for minute, place in fixes]
        report(connection, fleet, page, now=at(now))


def alerts(admin: psycopg.Connection) -> list[Alert]:
    rows = admin.execute("SELECT kind, opened_at, resolved_at FROM alerts ORDER BY opened_at, kind").fetchall()
    return [(row[0], row[1].astimezone(UTC), row[2] and row[2].astimezone(UTC)) for row in rows]


def test_an_entry_alerts_those_who_asked_until_the_exit(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    yard = draw(admin, fleet, alert_on_entry=True, alert_recipients=["yard@acme.example"], **YARD)
    go(engine, fleet, 2, (0, "out"), (1, "in"))

    with admin.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute("SELECT * FROM alerts").fetchone()
    assert row is not None
    assert (row["kind"], row["severity"], row["resolved_at"]) == ("geofence_entry", "medium", None)
    assert row["subject"] == f"geofence:{yard}:vehicle:{fleet.vehicles[0]}"
    assert (row["vehicle_id"], row["recipients"]) == (fleet.vehicles[0], ["yard@acme.example"])
    assert row["message"] == "Van 1 entered Yard"
    assert (row["details"]["geofence_id"], row["details"]["geofence"]) == (str(yard), "Yard")
    assert datetime.fromisoformat(row["details"]["time"]) == at(1)

    go(engine, fleet, 5, (3, "in"), (4, "out"))

    assert alerts(admin) == [("geofence_entry", at(1), at(4))]


def test_an_exit_alerts_until_the_vehicle_is_back(engine: Database, admin: psycopg.Connection, fleet: Fleet) -> None:
    draw(admin, fleet, alert_on_exit=True, **YARD)
    go(engine, fleet, 2, (0, "in"), (1, "out"))
    assert alerts(admin) == [("geofence_exit", at(1), None)]

    go(engine, fleet, 5, (3, "in"))

    assert alerts(admin) == [("geofence_exit", at(1), at(3))]


def test_a_fence_that_asks_for_none_alerts_nobody(engine: Database, admin: psycopg.Connection, fleet: Fleet) -> None:
    draw(admin, fleet, dwell_s=60, **YARD)
    go(engine, fleet, 2, (0, "in"), (1, "in"), (2, "out"))
    assert alerts(admin) == []


@pytest.mark.parametrize(("age", "told"), [(15, 1), (15.01, 0), (600, 0)])
def test_a_crossing_of_more_than_a_quarter_of_an_hour_ago_is_stored_and_not_announced(
    engine: Database, admin: psycopg.Connection, fleet: Fleet, age: float, told: int
) -> None:
    draw(admin, fleet, alert_on_entry=True, **YARD)
    go(engine, fleet, 1 + age, (1, "in"))
    assert len(alerts(admin)) == told
    row = admin.execute("SELECT count(*) FROM geofence_events").fetchone()
    assert row == (1,)


def test_a_late_exit_still_ends_what_is_open(engine: Database, admin: psycopg.Connection, fleet: Fleet) -> None:
    draw(admin, fleet, alert_on_entry=True, alert_on_exit=True, **YARD)
    go(engine, fleet, 1, (0, "in"))
    go(engine, fleet, 60, (2, "out"))
    assert alerts(admin) == [("geofence_entry", at(0), at(2))]


def test_an_alert_that_is_no_longer_asked_for_is_resolved_all_the_same(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    draw(admin, fleet, alert_on_entry=True, **YARD)
    go(engine, fleet, 1, (0, "in"))
    admin.execute("UPDATE geofences SET alert_on_entry = false")
    go(engine, fleet, 2, (1, "out"))
    assert alerts(admin) == [("geofence_entry", at(0), at(1))]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    track=st.lists(st.sampled_from(["in", "out"]), min_size=1, max_size=14),
    cuts=st.lists(st.integers(0, 14), max_size=4),
    asked=st.tuples(st.booleans(), st.booleans()),
)
def test_any_sequence_of_crossings_leaves_the_alerts_of_each_in_turn(
    engine: Database, fleet: Fleet, track: list[str], cuts: list[int], asked: tuple[bool, bool]
) -> None:
    expected: list[list[Any]] = []
    open_alert: dict[str, list[Any]] = {}
    was = "out"
    for minute, place in enumerate(track):
        if place != was:
            kind, other = ("geofence_entry", "geofence_exit") if place == "in" else ("geofence_exit", "geofence_entry")
            if ended := open_alert.pop(other, None):
                ended[2] = at(minute)
            if asked[0 if place == "in" else 1]:
                open_alert[kind] = [kind, at(minute), None]
                expected.append(open_alert[kind])
        was = place
    edges = sorted({0, len(track), *(cut for cut in cuts if cut <= len(track))})
    with scratch(engine, fleet) as connection:
        connection.execute(
            text(
                "INSERT INTO geofences (tenant_id, name, boundary, alert_on_entry, alert_on_exit)"
                " VALUES (app_tenant_id(), 'Yard', CAST(:boundary AS jsonb), :entry, :exit)"
            ),
            {"boundary": json.dumps(YARD["boundary"]), "entry": asked[0], "exit": asked[1]},
        )
        for start, stop in pairwise(edges):
            page = [(0, at(minute), *PLACES[track[minute]]) for minute in range(start, stop)]
            report(connection, fleet, page, now=at(14))
        found = connection.execute(text("SELECT kind, opened_at, resolved_at FROM alerts ORDER BY opened_at")).all()
    assert [list(row) for row in found] == expected


def test_what_is_open_is_resolved_by_the_first_crossing_of_a_page_that_has_several(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    draw(admin, fleet, alert_on_exit=True, **YARD)
    go(engine, fleet, 2, (0, "in"), (1, "out"))
    go(engine, fleet, 6, (2, "in"), (3, "out"), (4, "in"), (5, "out"))
    assert alerts(admin) == [
        ("geofence_exit", at(1), at(2)),
        ("geofence_exit", at(3), at(4)),
        ("geofence_exit", at(5), None),
    ]


def test_two_vehicles_in_one_fence_have_an_alert_each(
    engine: Database, admin: psycopg.Connection, fleet: Fleet
) -> None:
    draw(admin, fleet, alert_on_entry=True, **YARD)
    for vehicle in (0, 1):
        go(engine, fleet, 1, (0, "in"), vehicle=vehicle)
    rows = admin.execute("SELECT vehicle_id FROM alerts WHERE resolved_at IS NULL").fetchall()
    assert {UUID(str(row[0])) for row in rows} == set(fleet.vehicles[:2])
