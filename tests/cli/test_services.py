"""Schedules from the command line: files of all sorts in, the same out again, and what will be due of them."""

import csv
import io
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine

from db.engine import set_tenant
from db.queries.schedule_files import judge_schedules, put_schedules
from jobs.cli.service_files import read_schedules
from tests.cli.conftest import COMMAND, Answer, Cli, run_process, settings_of
from tests.factories import make_tenant
from tests.servers import Database

EXAMPLE = Path(__file__).parents[2] / "examples" / "schedules.csv"


@pytest.fixture
def tenant_id(cli: Cli, admin: psycopg.Connection) -> UUID:
    """Acme with two vans and two trucks of one name; and another tenant with a van of Acme's names."""
    for slug, vehicles in (
        ("other", [("Van 1", "WDB00000000000001", "van")]),
        ("acme", [("Van 1", "WDB00000000000001", "van"), ("Van 2", None, "van"), *[("Twin", None, "truck")] * 2]),
    ):
        tenant_id = make_tenant(admin, slug)
        for vehicle in vehicles:
            admin.execute(
                "INSERT INTO vehicles (tenant_id, name, vin, vehicle_type) VALUES (%s, %s, %s, %s)",
                [tenant_id, *vehicle],
            )
        admin.execute("INSERT INTO vendors (tenant_id, name) VALUES (%s, 'Garage; Sons')", [tenant_id])
        admin.execute("INSERT INTO facilities (tenant_id, name) VALUES (%s, 'Depot')", [tenant_id])
    return tenant_id


@pytest.fixture
def bring(cli: Cli, tmp_path: Path) -> Any:
    """Import a text, or a list as JSON, for Acme."""

    def importing(content: Any, *options: str) -> Answer:
        file = tmp_path / "given"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return cli("maintenance", "schedules", "import", file, "--tenant", "acme", *options)

    return importing


def rows(admin: psycopg.Connection, columns: str = "name") -> list[Any]:
    return admin.execute(
        f"SELECT {columns} FROM maintenance_schedules WHERE deleted_at IS NULL ORDER BY name, id".encode()
    ).fetchall()


def check(admin: psycopg.Connection, slug: str = "acme") -> None:
    """Do what the worker does with a check."""
    from jobs.maintenance.check import rehearse
    from jobs.settings import get_settings

    engine = create_engine(get_settings().database_url.get_secret_value())
    [tenant] = admin.execute("SELECT id FROM tenants WHERE slug = %s", [slug]).fetchall()
    with engine.begin() as connection:
        set_tenant(connection, tenant[0])
        rehearse(connection, datetime.now(UTC))
    engine.dispose()


def test_rows_become_schedules_and_a_second_time_change_nothing(
    bring: Any, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    file = (
        "vehicle,vehicle_type,name,interval_months,interval_distance,distance_unit,anchor,start_on,checklist,vendor\n"
        ",van,oil change,12,10000,mi,,,drain the oil; replace the filter,Garage; Sons\n"
        "wdb00000000000001,,inspection,12,,,schedule,2026-04-30,,\n"
    )
    answer = bring(file)
    assert (answer.status, answer.out) == (0, "2 added, 0 changed, 0 unchanged, 0 refused\n")
    assert "fleet-jobs maintenance check --tenant acme" in answer.err
    before = rows(admin, "id, updated_at")

    again = bring(file)
    assert (again.out, again.err) == ("0 added, 0 changed, 2 unchanged, 0 refused\n", "")
    assert rows(admin, "id, updated_at") == before
    columns = (
        "s.tenant_id, v.name, s.vehicle_type, s.name, s.interval_months, s.interval_distance, s.distance_unit,"
        " s.anchor, s.start_on::text, s.checklist, d.name"
    )
    found = admin.execute(
        f"SELECT {columns} FROM maintenance_schedules s LEFT JOIN vehicles v ON v.id = s.vehicle_id"
        " LEFT JOIN vendors d ON d.id = s.vendor_id AND d.tenant_id = s.tenant_id ORDER BY s.name".encode()
    ).fetchall()
    assert found == [
        (tenant_id, "Van 1", None, "inspection", 12, None, "km", "schedule", "2026-04-30", [], None),
        (
            *(tenant_id, None, "van", "oil change", 12, 10_000, "mi", "completion", None),
            *(["drain the oil", "replace the filter"], "Garage; Sons"),
        ),
    ]


def test_what_a_file_leaves_out_stays_and_what_it_leaves_empty_is_the_default(
    bring: Any, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    bring([{"vehicle_type": "van", "name": "oil", "interval_days": 90, "soon_days": 30, "start_km": 5, "vendor": None}])
    columns = "interval_days, interval_months, soon_days, start_km"

    answer = bring([{"vehicle_type": "van", "name": " oil ", "interval_months": 6, "start_km": None}])
    assert answer.out == "0 added, 1 changed, 0 unchanged, 0 refused\n"
    assert rows(admin, columns) == [(90, 6, 30, None)]

    assert "1 changed" in bring("vehicle_type,name,soon_days,interval_days\nvan,oil,,\n").out
    assert rows(admin, columns) == [(None, 6, 14, None)]


def test_an_empty_cell_is_the_default_of_the_table(bring: Any, admin: psycopg.Connection, tenant_id: UUID) -> None:
    header = "vehicle,vehicle_type,name,description,interval_days,interval_months,interval_distance,distance_unit,"
    header += "interval_engine_hours,anchor,start_on,start_km,start_engine_hours,soon_days,soon_km,soon_engine_hours,"
    header += "tolerance_days,tolerance_km,tolerance_engine_hours,checklist,priority,vendor,facility,is_active"
    assert "1 added" in bring(f"{header}\n,van,a,,7{',' * 19}\n").out
    admin.execute(
        "INSERT INTO maintenance_schedules (tenant_id, vehicle_type, name, interval_days) VALUES (%s, 'van', 'b', 7)",
        [tenant_id],
    )
    with admin.cursor(row_factory=dict_row) as cursor:
        by_file, by_table = cursor.execute("SELECT * FROM maintenance_schedules ORDER BY name").fetchall()
    different = {name for name in by_file if by_file[name] != by_table[name]}
    assert different <= {"id", "name", "created_at", "updated_at"}


def test_a_dry_run_says_what_would_be_and_changes_nothing(
    bring: Any, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    bring("vehicle_type,name,interval_days\nvan,old,7\nvan,same,7\n")
    before = rows(admin, "id, name, interval_days, updated_at")

    answer = bring("vehicle_type,name,interval_days\nvan,old,9\nvan,same,7\nvan,new,7\n", "--dry-run")

    assert answer.out.splitlines() == [
        "changed: line 2: old",
        "unchanged: line 3: same",
        "added: line 4: new",
        "1 added, 1 changed, 1 unchanged, 0 refused: nothing was changed",
    ]
    assert rows(admin, "id, name, interval_days, updated_at") == before


def test_one_bad_row_keeps_all_out_unless_it_is_to_be_skipped(
    bring: Any, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    file = 'vehicle_type,name,interval_days,description\nvan,good,7,"two\nlines"\nvan,bad,0,\nvan,good,9,\n'

    answer = bring(file)
    assert answer.status == 1
    assert answer.out.splitlines() == [
        "refused: line 4: interval_days: expected a whole number from 1 to 36,525, got 0",
        "refused: line 5: name: the same as in line 2",
    ]
    assert answer.line == "fleet-jobs: nothing imported: 2 of 3 rows refused: --skip-refused?"
    assert rows(admin) == []

    answer = bring(file, "--skip-refused")
    assert (answer.status, answer.out.splitlines()[-1]) == (0, "1 added, 0 changed, 0 unchanged, 2 refused")
    assert rows(admin, "name, interval_days, description") == [("good", 7, "two\nlines")]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("a text", "item 1: expected an object, got a text of 6 characters"),
        ({"nmae": "x"}, "item 1: nmae: a schedule has no such column: did you mean name?"),
        ({"name": None}, "name: missing"),
        ({"name": " "}, "name: expected a text, got a text of 1 characters"),
        ({"name": "x" * 201}, "name: longer than 200 characters: 201"),
        ({"name": "x\0"}, "name: holds a character that no text holds"),
        ({"vehicle": "Van 1"}, "vehicle, vehicle_type: expected one of them, got both"),
        ({"vehicle_type": None}, "vehicle, vehicle_type: expected one of them, got none"),
        ({"vehicle_type": None, "vehicle": "Van 9"}, "vehicle: none has this VIN, id or name"),
        ({"vehicle_type": None, "vehicle": "Twin"}, "vehicle: 2 have this name: give the VIN or the id"),
        ({"vendor": "Nobody"}, "vendor: none has this name"),
        ({"facility": "Nowhere"}, "facility: none has this name"),
        ({"interval_days": None}, "interval_engine_hours: all are missing"),
        ({"interval_days": 1.5}, "interval_days: expected a whole number from 1 to 36,525, got 1.5"),
        ({"interval_days": "soon"}, "interval_days: expected a whole number from 1 to 36,525, got a text of 4 char"),
        ({"interval_days": True}, "interval_days: expected a whole number from 1 to 36,525, got true"),
        ({"interval_days": 10**400}, "interval_days: expected a whole number from 1 to 36,525"),
        ({"interval_distance": "nan"}, "interval_distance: expected a number from 1 to 10,000,000, got a text of 3"),
        ({"interval_distance": "1e999"}, "interval_distance: expected a number from 1 to 10,000,000, got inf"),
        ({"interval_distance": -1}, "interval_distance: expected a number from 1 to 10,000,000, got -1"),
        ({"distance_unit": "miles"}, "distance_unit: expected km or mi, got a text of 5 characters"),
        ({"anchor": 7}, "anchor: expected completion or schedule, got 7"),
        ({"start_on": "30.04.2026"}, "start_on: expected a day such as 2026-04-30, got a text of 10 characters"),
        ({"start_on": "2026-02-30"}, "start_on: expected a day such as 2026-04-30"),
        ({"start_on": "1949-12-31"}, "start_on: expected a day such as 2026-04-30"),
        ({"checklist": [1]}, "checklist: expected texts, got a list of 1"),
        ({"checklist": {"a": 1}}, "checklist: expected texts, got an object"),
        ({"checklist": "[1"}, "checklist: expected texts with `;` between them, or a JSON list"),
        ({"checklist": ["x"] * 201}, "checklist: more than 200 texts: 201"),
        ({"checklist": ["é" * 40_000]}, "checklist: longer than 60000 bytes in all: 80004"),
        ({"description": "é" * 5_001}, "description: longer than 10000 bytes: 10002"),
        ({"priority": "urgent"}, "priority: expected low, medium, high or critical, got a text of 6 characters"),
        ({"is_active": "perhaps"}, "is_active: expected true or false, got a text of 7 characters"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_field(
    bring: Any, admin: psycopg.Connection, tenant_id: UUID, bad: Any, said: str
) -> None:
    row = {"vehicle_type": "van", "name": "a", "interval_days": 7} | bad if isinstance(bad, dict) else bad
    answer = bring([row])
    assert answer.status == 1
    assert answer.out.startswith("refused: item 1: ")
    assert said in answer.out
    assert rows(admin) == []


def test_the_longest_texts_fit(bring: Any, admin: psycopg.Connection, tenant_id: UUID) -> None:
    longest = {"checklist": ["é" * 29_998], "description": "é" * 5_000}
    assert bring([{"vehicle_type": "van", "name": "a", "interval_days": 7} | longest]).status == 0
    assert rows(admin, "octet_length(checklist::text), octet_length(description)") == [(60_000, 10_000)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no header row"),
        ("name,interval_days\n", "line 1: expected a column name, and vehicle or vehicle_type"),
        ("vehicle_type,name,interval_km\n", "line 1: interval_km: a schedule has no such column"),
        ("vehicle_type,name,\n", "line 1: column 3 has no name"),
        ("vehicle_type,name,Name\n", "line 1: name: is there twice"),
        (b"vehicle_type,name\nvan,\xe9\n", "line 2: is not UTF-8"),
        ('vehicle_type,name\nvan,"a"b\n', "line 2: is no CSV"),
        ('vehicle_type,name\nvan,"a\n', "is no CSV"),
        ("{}", "expected a list of objects, got an object"),
        ("[" * 100_000, "is no JSON"),
        ("[{]", "is no JSON"),
        (b" " * (32 * 1024 * 1024 + 1), "is larger than 32 MB"),
        (b"vehicle_type,name\n" + b"a,b\n" * 100_001, "has more than 100,000 schedules"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(bring: Any, tenant_id: UUID, content: Any, said: str) -> None:
    answer = bring(content)
    assert (answer.status, answer.out) == (1, "")
    assert said in answer.line


def test_a_row_of_other_length_than_the_header_is_refused_and_an_empty_one_passed_over(
    bring: Any, tenant_id: UUID
) -> None:
    answer = bring("vehicle_type,name,interval_days\n\n,,\nvan,a\nvan,b,7,8\n")
    assert answer.out.splitlines() == [
        "refused: line 4: has 2 cells, where the header has 3",
        "refused: line 5: has 4 cells, where the header has 3",
    ]


def test_what_spreadsheets_save_is_read(bring: Any, admin: psycopg.Connection, tenant_id: UUID) -> None:
    saved = '\ufeffVehicle;Name;Interval_Days;Checklist;Is_Active\r\n Van 2 ;oil;7.0;"wash; wax";TRUE\r\n'
    assert "1 added" in bring(saved).out
    assert "1 unchanged" in bring(saved.replace(";", "\t").replace("wash\t wax", "wash;wax")).out
    assert rows(admin, "name, interval_days, checklist, is_active") == [("oil", 7, ["wash", "wax"], True)]


BOUNDS = {
    "interval_days": (1, 36_525),
    "interval_months": (1, 1_200),
    "interval_distance": (1, 10_000_000),
    "interval_engine_hours": (1, 1_000_000),
    "start_km": (0, 10_000_000),
    "start_engine_hours": (0, 1_000_000),
    "soon_days": (0, 3_660),
    "soon_km": (0, 1_000_000),
    "soon_engine_hours": (0, 100_000),
    "tolerance_days": (0, 3_660),
    "tolerance_km": (0, 1_000_000),
    "tolerance_engine_hours": (0, 100_000),
}


@pytest.mark.parametrize("column", BOUNDS)
def test_a_file_is_held_to_the_bounds_of_the_table(
    bring: Any, admin: psycopg.Connection, tenant_id: UUID, column: str
) -> None:
    whole = column.endswith(("_days", "_months"))
    least, most = BOUNDS[column]
    for value in BOUNDS[column]:
        row = {"vehicle_type": "van", "name": f"{value}", "interval_days": 7, column: value}
        assert "1 added" in bring([row]).out, value
    for beyond in (least - 1, most + 1) if whole else (least - 0.01, most + 0.01):
        [reason] = read_schedules(
            json.dumps([{"vehicle_type": "van", "name": "x", "interval_days": 7, column: beyond}]).encode()
        ).refused.values()
        assert reason.startswith(f"{column}: expected")
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            admin.execute(f"UPDATE maintenance_schedules SET {column} = %s".encode(), [beyond])
        assert refused.value.diag.constraint_name == f"ck_maintenance_schedules_{column}"


def test_what_is_exported_is_taken_back_unchanged(
    cli: Cli, bring: Any, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    names = [
        "=SUM(A1)",
        "'quoted",
        'comma, "quote"; semicolon',
        "two\r\nlines",
        "\u00a0padded ",
        "-1",
        "[x]",
        "Ölwechsel",
    ]
    lists = [[], ["a; b"], ["=x", "y"], [" padded "], [""], ["[x"], ["two\nlines", "z"], ["a", "b"]]
    for name, checklist in zip(names, lists, strict=True):
        admin.execute(
            "INSERT INTO maintenance_schedules (tenant_id, vehicle_type, name, description, interval_distance,"
            " distance_unit, start_on, checklist, priority, is_active)"
            " VALUES (%s, 'van', %s, %s, 1609.344, 'mi', '2026-04-30', %s, 'high', %s)",
            [tenant_id, name, name, json.dumps(checklist), len(name) > 5],
        )
    admin.execute(
        "INSERT INTO maintenance_schedules (tenant_id, vehicle_id, name, interval_engine_hours, soon_km, vendor_id,"
        " facility_id, anchor)"
        " SELECT v.tenant_id, v.id, 'of each', 0.1 + 250, 0.1, d.id, f.id, 'schedule'"
        " FROM vehicles v JOIN vendors d USING (tenant_id) JOIN facilities f USING (tenant_id)"
    )
    admin.execute("UPDATE vendors SET deleted_at = now()")
    before = rows(admin, "*")

    exported = cli("maintenance", "schedules", "export", "--tenant", "acme").out
    assert "'=SUM(A1)" in exported  # a spreadsheet shows it, and runs nothing
    answer = bring(exported)
    assert answer.out == "0 added, 0 changed, 12 unchanged, 0 refused\n"
    assert rows(admin, "*") == before

    admin.execute("DELETE FROM maintenance_schedules WHERE tenant_id = %s", [tenant_id])
    assert "12 added" in bring(exported).out
    assert _cells(cli("maintenance", "schedules", "export", "--tenant", "acme").out) == _cells(exported)


def _cells(exported: str) -> list[list[str]]:
    """What blanks stood around a name is not kept."""
    return sorted([cell.strip() for cell in line] for line in csv.reader(io.StringIO(exported, newline="")))


def test_of_two_imports_at_once_the_second_finds_what_the_first_has_put(
    database: Database, redis_url: str, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path
) -> None:
    (tmp_path / "one.csv").write_text("vehicle_type,name,interval_days\nvan,oil,7\n")
    read = read_schedules((tmp_path / "one.csv").read_bytes()).rows
    engine = create_engine(database.system_url)
    with ThreadPoolExecutor(1) as other, engine.connect() as first:
        with first.begin():
            set_tenant(first, tenant_id)
            now = datetime.now(UTC)
            assert [each.outcome for each in judge_schedules(first, read)] == ["added"]
            assert put_schedules(first, read, now) == (1, 0)
            second = other.submit(
                run_process,
                tmp_path,
                settings_of(database, redis_url),
                *("maintenance", "schedules", "import", "one.csv", "--tenant", "acme"),
            )
            _until_somebody_waits(admin)
        assert second.result().out == "0 added, 0 changed, 1 unchanged, 0 refused\n"
    engine.dispose()
    assert rows(admin) == [("oil",)]


def test_who_reads_slowly_what_an_import_would_do_holds_nobody_up(
    database: Database, redis_url: str, admin: psycopg.Connection, tenant_id: UUID, tmp_path: Path
) -> None:
    """More than a pipe takes is printed only as it is read."""
    (tmp_path / "big.csv").write_text(
        "vehicle_type,name,interval_days\n" + "".join(f"van,service {n},30\n" for n in range(5_000))
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    with (
        subprocess.Popen(
            [*COMMAND, "maintenance", "schedules", "import", "big.csv", "--tenant", "acme", "--dry-run"],
            cwd=tmp_path,
            env={**inherited, "PYTHONPATH": str(EXAMPLE.parents[1]), **settings_of(database, redis_url)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as importing,
        psycopg.connect(database.app_url) as app,
    ):
        assert importing.stdout is not None
        first = importing.stdout.readline()
        assert first == b"added: line 2: service 0\n"
        app.execute(
            "SELECT set_config('app.tenant_id', %s, true), set_config('lock_timeout', '1s', true)", [str(tenant_id)]
        )
        app.execute(
            "INSERT INTO work_orders (tenant_id, vehicle_id, type, title)"
            " SELECT app_tenant_id(), id, 'corrective', 'x' FROM vehicles LIMIT 1"
        )
        out, err = importing.communicate(timeout=60)
    assert (importing.returncode, err) == (0, b"")
    assert out.endswith(b"5000 added, 0 changed, 0 unchanged, 0 refused: nothing was changed\n")


def _until_somebody_waits(admin: psycopg.Connection) -> None:
    deadline = monotonic() + 30
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while admin.execute(waiting.encode()).fetchall() == [(0,)]:
        assert monotonic() < deadline, "the second import waits for nobody"
        sleep(0.05)


def test_schedules_are_listed_with_what_is_due_of_them(
    cli: Cli, bring: Any, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    assert "schedules import FILE" in cli("maintenance", "schedules").out
    long_ago = datetime.now(UTC).date() - timedelta(days=30)
    bring(
        "vehicle,vehicle_type,name,interval_months,interval_days,interval_distance,distance_unit,start_on\n"
        f",van,wash,,30,,,{long_ago}\n"
        f"Van 2,,brakes,,20,12500.5,mi,{long_ago}\n"
        ",boat,paint,1,,,,\n"
    )
    check(admin)
    listed = {each["name"]: each for each in cli("maintenance", "schedules", "--tenant", "acme", "--json").objects}
    assert {name: (each["vehicles"], each["due"], each["overdue"]) for name, each in listed.items()} == {
        "brakes": (1, 0, 1),
        "paint": (0, 0, 0),
        "wash": (2, 2, 0),
    }
    assert (listed["wash"]["vehicle"], listed["wash"]["vehicle_type"], listed["wash"]["tenant"]) == (
        None,
        "van",
        "acme",
    )
    shown = cli("maintenance", "schedules").out
    assert "20 days, 12,500.5 mi" in shown and "1 month " in shown and "type boat (0)" in shown
    assert len(cli("maintenance", "schedules", "--limit", "2", "--json").objects) == 2
    assert cli("maintenance", "schedules", "--tenant", "other", "--json").objects == []


def test_a_schedule_is_paused_resumed_and_removed_and_its_orders_stay(
    cli: Cli, bring: Any, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    bring(f"vehicle_type,name,interval_days,start_on\nvan,wash,30,{datetime.now(UTC).date() - timedelta(days=30)}\n")
    check(admin)
    [listed] = cli("maintenance", "schedules", "--json").objects
    given, full = listed["id"][:8], listed["id"]
    assert full[:8] in cli("maintenance", "schedules").out

    assert cli("maintenance", "schedules", "pause", given).out == f"schedule {full} is paused from the next check on\n"
    assert cli("maintenance", "schedules", "pause", given).out == f"schedule {full} was paused already\n"
    check(admin)
    assert cli("maintenance").out == "nothing is due\n"
    assert "paused" in cli("maintenance", "schedules").out
    assert "is active" in cli("maintenance", "schedules", "resume", given).out
    assert "was active already" in cli("maintenance", "schedules", "resume", given).out

    refused = cli("maintenance", "schedules", "remove", given)
    assert refused.line == (
        "fleet-jobs: remove the schedule 'wash' of every van (acme); its 2 open work orders stay?:"
        " give --yes, there is nobody to ask"
    )
    assert len(rows(admin)) == 1
    told = cli("maintenance", "schedules", "remove", given, "--yes")
    assert told.out == f"schedule {full} removed; its 2 open work orders stay\n"
    assert rows(admin) == []
    check(admin)
    assert cli("maintenance").out == "nothing is due\n"
    assert len(cli("work-orders", "--json").objects) == 2
    assert "no such schedule" in cli("maintenance", "schedules", "remove", given, "--yes").line
    assert "not a schedule id: wash" in cli("maintenance", "schedules", "pause", "wash").line


@pytest.fixture
def outlook(bring: Any, admin: psycopg.Connection, tenant_id: UUID) -> None:
    """Van 1 drives 100 km and 2 hours a day, and stands at 49,000 km and 900 h; nothing is known of Van 2."""
    today = datetime.now(UTC).date()
    admin.execute(
        "INSERT INTO vehicle_meters (vehicle_id, meter, tenant_id, value, read_at, per_day)"
        " SELECT v.id, m.meter, v.tenant_id, m.value, now(), m.per_day FROM vehicles v,"
        " (VALUES ('odometer_km', 49000, 100), ('engine_hours', 900, 2)) AS m (meter, value, per_day)"
        " WHERE v.tenant_id = %s AND v.name = 'Van 1'",
        [tenant_id],
    )
    bring(
        [
            {"vehicle": "Van 1", "name": "tyres", "interval_distance": 10_000, "start_km": 40_000},
            {"vehicle": "Van 1", "name": "belt", "interval_engine_hours": 1000, "start_engine_hours": 0},
            {
                "vehicle": "Van 1",
                "name": "oil",
                "interval_days": 365,
                "start_on": str(today - timedelta(345)),
                "interval_distance": 10_000,
                "distance_unit": "mi",
                "start_km": 48_000,
            },
            {"vehicle": "Van 1", "name": "late", "interval_days": 10, "start_on": str(today - timedelta(11))},
            {"vehicle": "Van 1", "name": "far", "interval_days": 365},
            {"vehicle": "Van 1", "name": "paused", "interval_days": 5, "is_active": False},
            {"vehicle": "Van 2", "name": "unknown", "interval_distance": 10_000},
            {"vehicle_type": "boat", "name": "nobody's", "interval_days": 5},
        ]
    )
    check(admin)


def test_what_will_be_due_is_shown_with_the_interval_that_comes_first(
    cli: Cli, admin: psycopg.Connection, outlook: None
) -> None:
    today = datetime.now(UTC).date()
    answer = cli("maintenance", "upcoming", "--json")
    told = [(each["schedule"], each["predicted_on"], each["first"]) for each in answer.objects]
    assert told == [
        ("late", str(today - timedelta(1)), "date"),
        ("tyres", str(today + timedelta(10)), "distance"),
        ("oil", str(today + timedelta(20)), "date"),
        ("belt", str(today + timedelta(50)), "engine hours"),
    ]
    oil = answer.objects[2]
    assert (oil["left_days"], round(oil["left_km"], 2), oil["left_engine_hours"]) == (20, 15_093.44, None)
    assert (oil["vehicle"], oil["tenant"], oil["due_on"]) == ("Van 1", "acme", str(today + timedelta(20)))
    assert answer.err == "services without a meter or a use a day, so that nothing is known: 1\n"

    shown = cli("maintenance", "upcoming").out
    assert "20 days, 9,379 mi" in shown and "1,000 km" in shown and "100 h" in shown and "-1 days" in shown
    assert [each["schedule"] for each in cli("maintenance", "upcoming", "--days", "10", "--json").objects] == [
        *("late", "tyres"),
    ]
    assert len(cli("maintenance", "upcoming", "--limit", "1", "--json").objects) == 1
    assert cli("maintenance", "upcoming", "--tenant", "other").out == "nothing will be due within 90 days\n"


def test_of_several_tenants_what_is_due_first_is_shown_first(
    cli: Cli, admin: psycopg.Connection, outlook: None
) -> None:
    admin.execute(
        "INSERT INTO maintenance_schedules (tenant_id, vehicle_id, name, interval_days)"
        " SELECT v.tenant_id, v.id, 'of the other', days FROM tenants t JOIN vehicles v ON v.tenant_id = t.id,"
        " unnest(ARRAY[15, 40]) days WHERE t.slug = 'other'"
    )
    check(admin, "other")
    told = [each["schedule"] for each in cli("maintenance", "upcoming", "--json").objects]
    assert told == ["late", "tyres", "of the other", "oil", "of the other", "belt"]
    assert [each["schedule"] for each in cli("maintenance", "upcoming", "-n", "3", "--json").objects] == told[:3]


def test_what_is_retired_paused_or_removed_is_not_expected_any_more_even_before_a_check(
    cli: Cli, admin: psycopg.Connection, outlook: None
) -> None:
    admin.execute("UPDATE maintenance_schedules SET is_active = false WHERE name = 'tyres'")
    admin.execute("UPDATE maintenance_schedules SET deleted_at = now() WHERE name = 'belt'")
    assert [each["schedule"] for each in cli("maintenance", "upcoming", "--json").objects] == ["late", "oil"]
    admin.execute("UPDATE vehicles SET status = 'retired'")
    assert cli("maintenance", "upcoming", "--json").objects == []


def test_what_is_put_off_is_expected_all_the_same_and_says_so(
    cli: Cli, admin: psycopg.Connection, outlook: None
) -> None:
    tyres = cli("maintenance", "upcoming", "--json").objects[1]
    assert (tyres["schedule"], tyres["is_snoozed"]) == ("tyres", False)
    assert "put off" not in cli("maintenance", "upcoming").out
    assert cli("maintenance", "snooze", tyres["trigger_id"], "--until-km", "51000").status == 0
    told = cli("maintenance", "upcoming", "--json").objects[1]
    assert (told["predicted_on"], told["is_snoozed"], told["snoozed_until_km"]) == (tyres["predicted_on"], True, 51_000)
    assert "1,000 km, put off" in cli("maintenance", "upcoming").out


def test_a_schedule_that_no_check_has_seen_is_said_to_wait(cli: Cli, bring: Any, tenant_id: UUID) -> None:
    bring("vehicle_type,name,interval_days\nvan,wash,7\nboat,paint,7\n")
    answer = cli("maintenance", "upcoming")
    assert answer.out == "nothing will be due within 90 days\n"
    assert answer.line == "schedules that wait for their first check: 1: `fleet-jobs maintenance check`"


def test_the_example_is_imported(cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
    assert "0 refused" in cli("maintenance", "schedules", "import", EXAMPLE, "--tenant", "acme").out
    assert {unit for (unit,) in rows(admin, "distance_unit")} == {"km", "mi"}
    assert {anchor for (anchor,) in rows(admin, "anchor")} == {"completion", "schedule"}
    assert "no such tenant" in cli("maintenance", "schedules", "import", EXAMPLE, "--tenant", "nobody").line
    assert "no such file" in cli("maintenance", "schedules", "import", "missing.csv", "--tenant", "acme").line
