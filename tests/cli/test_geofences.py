"""Fences from the command line: files of all sorts in, the same out again, and what happened at them."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.cli.conftest import Cli, run_process, settings_of
from tests.factories import make_tenant
from tests.servers import Database
from tests.telematics.geofences.places import square
from tests.telematics.geofences.shared_data import neighbourhoods

BOX = {"type": "Polygon", "coordinates": [square(0, 0, 2, 2)]}
BOWTIE = {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}


@pytest.fixture
def tenant_id(cli: Cli, admin: psycopg.Connection) -> UUID:
    return make_tenant(admin)


def feature(name: Any, geometry: Any = BOX, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": {"name": name, **properties}}


def write(path: Path, *features: Any) -> Path:
    file = path / "fences.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return file


def rows(admin: psycopg.Connection, columns: str = "name") -> list[Any]:
    return admin.execute(f"SELECT {columns} FROM geofences WHERE deleted_at IS NULL ORDER BY name".encode()).fetchall()


def test_features_become_fences_and_a_second_time_change_nothing(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path
) -> None:
    disc = feature("Disc", {"type": "Point", "coordinates": [5, 6]}, radius_m=250)
    options = {"alert_on_entry": True, "alert_recipients": ["a@b.example"], "confirm_fixes": 2, "dwell_s": 60}
    file = write(tmp_path, feature("Yard", **options, exit_distance_m=12.5), disc)

    assert cli("geofences", "import", file, "--tenant", "acme").out == (
        "2 created, 0 updated, 0 unchanged, 0 refused\n"
    )
    assert "0 created, 0 updated, 2 unchanged" in cli("geofences", "import", file, "--tenant", "acme").out

    columns = "name, kind, radius_m, alert_on_entry, alert_recipients, confirm_fixes, exit_distance_m, dwell_s"
    assert rows(admin, columns) == [
        ("Disc", "circle", 250, False, [], 1, 0, None),
        ("Yard", "polygon", None, True, ["a@b.example"], 2, 12.5, 60),
    ]


def test_what_a_file_does_not_say_stays_and_what_it_says_is_changed(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path
) -> None:
    cli("geofences", "import", write(tmp_path, feature("Yard", dwell_s=60, alert_on_exit=True)), "--tenant", "acme")
    moved = {"type": "Polygon", "coordinates": [square(5, 5, 6, 6)]}

    told = cli("geofences", "import", write(tmp_path, feature("Yard", moved, dwell_s=None)), "--tenant", "acme").out

    assert "0 created, 1 updated" in told
    assert rows(admin, "boundary, dwell_s, alert_on_exit") == [(moved, None, True)]


def test_a_dry_run_says_what_would_be_and_changes_nothing(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path
) -> None:
    cli("geofences", "import", write(tmp_path, feature("Old"), feature("Same")), "--tenant", "acme")
    before = rows(admin, "name, dwell_s, updated_at")
    file = write(tmp_path, feature("Old", dwell_s=5), feature("Same"), feature("New"))

    answer = cli("geofences", "import", file, "--tenant", "acme", "--dry-run")

    assert answer.out.splitlines() == [
        "updated: Old",
        "unchanged: Same",
        "created: New",
        "1 created, 1 updated, 1 unchanged, 0 refused: nothing was changed",
    ]
    assert rows(admin, "name, dwell_s, updated_at") == before


def test_one_bad_feature_keeps_all_out_unless_it_is_to_be_skipped(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path
) -> None:
    file = write(tmp_path, feature("Good"), feature("Bad", BOWTIE))

    answer = cli("geofences", "import", file, "--tenant", "acme")
    assert answer.status == 1
    assert answer.out == ("refused: feature 1 (Bad): boundary.coordinates: crosses or touches itself at 1 1\n")
    assert answer.line == "fleet-jobs: nothing imported: 1 of 2 features refused: --skip-refused?"
    assert rows(admin) == []

    answer = cli("geofences", "import", file, "--tenant", "acme", "--skip-refused")
    assert (answer.status, answer.out.splitlines()[-1]) == (0, "1 created, 0 updated, 0 unchanged, 1 refused")
    assert rows(admin) == [("Good",)]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (feature(None), "properties.name: missing"),
        (feature("  "), "properties.name: missing"),
        (feature("x" * 201), "properties.name: longer than 200"),
        (feature("Good"), "properties.name: another feature of this file has this name"),
        (feature("A", None), "geometry: missing"),
        (feature("A", {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}), "geometry.type: expected Polygon"),
        (feature("A", {"type": "Polygon", "coordinates": []}), "boundary.coordinates: is empty"),
        (feature("A", {"type": "Polygon", "coordinates": [square(0, 0, 2, 2)[:-1]]}), "is open"),
        (feature("A", {"type": "Polygon", "coordinates": [square(51, 151, 52, 152)]}), "latitude, longitude?"),
        (feature("A", {"type": "Polygon", "coordinates": [square(-180, -90, 180, 90)]}), "encloses no area"),
        (feature("A", {"type": "Polygon", "coordinates": [square(-90, -80, 90, 80)]}), "taller than 90"),
        (feature("A", {"type": "Point", "coordinates": [1, 2]}), "properties.radius_m: a Point is a circle"),
        (feature("A", {"type": "Point", "coordinates": [1, 2]}, radius_m=0), "radius_m: 0 is not between 1"),
        (feature("A", {"type": "Point", "coordinates": ["1", 2]}, radius_m=9), "geometry.coordinates: expected two"),
        (feature("A", {"type": "Point", "coordinates": [1, 91]}, radius_m=9), "center: latitude 91"),
        (feature("A", alert_on_entry="yes"), "properties.alert_on_entry: expected true or false"),
        (feature("A", alert_recipients="a@b.example"), "properties.alert_recipients"),
        (feature("A", confirm_fixes=0), "properties.confirm_fixes: expected 1 to 10"),
        (feature("A", confirm_fixes=1.5), "properties.confirm_fixes"),
        (feature("A", exit_distance_m=-1), "properties.exit_distance_m"),
        (feature("A", dwell_s=True), "properties.dwell_s"),
        ("no object", "type: expected a Feature"),
        ({"type": "Feature", "geometry": BOX, "properties": []}, "properties.name: missing"),
        ({"type": "Feature", "geometry": BOX, "properties": [1]}, "properties: expected an object"),
    ],
)
def test_each_bad_feature_is_named_by_number_field_and_reason(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path, bad: Any, said: str
) -> None:
    file = write(tmp_path, feature("Good"), bad)
    answer = cli("geofences", "import", file, "--tenant", "acme", "--skip-refused")
    assert answer.status == 0
    [refused, _] = answer.out.splitlines()
    assert refused.startswith("refused: feature 1")
    assert said in refused
    assert len(refused) < 250
    assert rows(admin) == [("Good",)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "type: expected a FeatureCollection, a Feature or a geometry"),
        (b'{"type": "FeatureCollection", "features": 5}', "features: expected an array"),
        (b"\xff\xfe", "is no JSON"),
        (b"", "is no JSON"),
    ],
)
def test_what_is_no_geojson_at_all_is_one_line(
    cli: Cli, tenant_id: UUID, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "bad").write_bytes(content)
    answer = cli("geofences", "import", tmp_path / "bad", "--tenant", "acme")
    assert (answer.status, said in answer.line) == (1, True), answer.line


def test_a_file_or_a_tenant_that_is_not_there_is_one_line(cli: Cli, tenant_id: UUID, tmp_path: Path) -> None:
    assert "no such file" in cli("geofences", "import", tmp_path / "none", "--tenant", "acme").line
    assert "no such tenant" in cli("geofences", "import", write(tmp_path, feature("A")), "--tenant", "else").line


def test_a_polygon_that_crosses_itself_can_be_mended(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path
) -> None:
    file = write(tmp_path, feature("Bowtie", BOWTIE), feature("Good"))
    told = cli("geofences", "import", file, "--tenant", "acme", "--mend").out
    assert told == "2 created, 0 updated, 0 unchanged, 0 refused, 1 mended\n"
    assert rows(admin, "boundary ->> 'type', jsonb_array_length(boundary -> 'coordinates')")[0] == ("MultiPolygon", 2)


def test_what_is_exported_can_be_imported_and_is_the_same(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path
) -> None:
    make_tenant(admin, "other")
    around = {"type": "Polygon", "coordinates": [[[170, 0], [-170, 0], [-170, 10], [170, 10], [170, 0]]]}
    first = write(
        tmp_path,
        feature("Yard", alert_on_exit=True, dwell_s=90, alert_recipients=["a@b.example"]),
        feature("Disc", {"type": "Point", "coordinates": [5, 6]}, radius_m=250, is_active=False),
        feature("Pacific", around),
    )
    cli("geofences", "import", first, "--tenant", "acme")
    exported = cli("geofences", "export", "--tenant", "acme").out
    (tmp_path / "out.geojson").write_text(exported)

    cli("geofences", "import", tmp_path / "out.geojson", "--tenant", "other")

    def features(slug: str) -> list[Any]:
        found = json.loads(cli("geofences", "export", "--tenant", slug).out)["features"]
        return [{name: value for name, value in each.items() if name != "id"} for each in found]

    assert features("acme") == features("other")
    pacific = features("acme")[1]
    assert (pacific["properties"]["name"], pacific["geometry"]["type"]) == ("Pacific", "MultiPolygon")
    assert "3 unchanged" in cli("geofences", "import", tmp_path / "out.geojson", "--tenant", "acme").out


def test_a_feature_alone_and_standard_input_are_taken_too(
    database: Database, redis_url: str, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path
) -> None:
    alone = json.dumps({"type": "Feature", "geometry": BOX, "properties": {"title": "Yard"}})
    arguments = ("geofences", "import", "-", "--tenant", "acme", "--name-property", "title")
    answer = run_process(tmp_path, settings_of(database, redis_url), *arguments, stdin=alone)
    assert answer.status == 0, answer.err
    assert rows(admin) == [("Yard",)]


def test_fences_are_listed_with_who_is_inside_and_removed(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path
) -> None:
    assert "no fences" in cli("geofences").out
    cli("geofences", "import", write(tmp_path, feature("Yard", alert_on_entry=True)), "--tenant", "acme")
    row = admin.execute(
        "WITH v AS (INSERT INTO vehicles (tenant_id, name) VALUES (%s, 'Van') RETURNING id, tenant_id),"
        " p AS (INSERT INTO geofence_presence (tenant_id, vehicle_id, geofence_id, entered_at)"
        " SELECT v.tenant_id, v.id, g.id, now() FROM v, geofences g)"
        " INSERT INTO geofence_events (tenant_id, vehicle_id, geofence_id, time, kind, latitude, longitude)"
        " SELECT v.tenant_id, v.id, g.id, now(), 'entry', 1, 1 FROM v, geofences g RETURNING geofence_id",
        [tenant_id],
    ).fetchone()
    assert row is not None

    [told] = cli("geofences", "--tenant", "acme", "--json").objects
    assert (told["name"], told["inside"], told["id"]) == ("Yard", 1, str(row[0]))
    assert "Yard" in cli("geofences").out
    [event] = cli("geofences", "events", "--tenant", "acme", "--json").objects
    assert (event["kind"], event["vehicle"], event["geofence"]) == ("entry", "Van", "Yard")
    assert "Van" in cli("geofences", "events", "--tenant", "acme").out

    assert "give --yes" in cli("geofences", "remove", "Yard", "--tenant", "acme").line
    assert cli("geofences", "remove", "Yard", "--tenant", "acme", "--yes").status == 0
    assert "no fence of that name" in cli("geofences", "remove", "Yard", "--tenant", "acme", "--yes").line
    assert rows(admin) == []
    assert admin.execute("SELECT count(*) FROM geofence_presence").fetchone() == (0,)
    assert cli("geofences", "events", "--tenant", "acme", "--json").objects, "what happened stays"


def test_real_neighbourhoods_are_imported_and_the_three_that_cross_themselves_mended(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path
) -> None:
    file = write(tmp_path, *(feature(name, boundary) for name, boundary in neighbourhoods().items()))
    assert "nothing imported: 3 of 37" in cli("geofences", "import", file, "--tenant", "acme").line
    told = cli("geofences", "import", file, "--tenant", "acme", "--mend").out
    assert told == "37 created, 0 updated, 0 unchanged, 0 refused, 3 mended\n"
    assert len(rows(admin)) == 37
