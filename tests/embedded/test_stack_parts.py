from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from db.roles import LOGIN_ROLES
from jobs.embedded import keys, programs
from jobs.embedded.demo import Summary, line, succeeded
from jobs.embedded.demo_providers import account_start
from jobs.embedded.errors import EmbeddedServerError
from jobs.embedded.figures import Connection, Figures, count_points, read_clock, read_figures
from jobs.queues import QUEUES
from tests.servers import Database


def test_every_queue_has_exactly_one_worker() -> None:
    served = [worker.argv[worker.argv.index("-Q") + 1] for worker in programs.workers({})]
    assert sorted(",".join(served).split(",")) == sorted(QUEUES)


def test_flowers_password_is_in_its_environment_only() -> None:
    flower = programs.flower({}, 5555, "fleet", "secret")
    assert "secret" not in " ".join(flower.argv)
    assert flower.environment["FLOWER_BASIC_AUTH"] == "fleet:secret"
    assert "secret" not in repr(flower)


def test_another_flowers_settings_do_not_reach_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_ADDRESS", "0.0.0.0")
    assert "FLOWER_ADDRESS" not in programs.child_environment({})


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made = keys.keep(path, ("north",))
    assert sorted(made.roles) == sorted(LOGIN_ROLES)
    assert path.stat().st_mode & 0o077 == 0
    assert keys.keep(path, ("north",)) == made
    later = keys.keep(path, ("north", "south"))
    assert later.accounts["north"] == made.accounts["north"]
    assert later.encryption == made.encryption


def test_keys_that_cannot_be_read_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{")
    with pytest.raises(EmbeddedServerError, match=f"^cannot read the keys in {path}"):
        keys.keep(path, ())
    assert path.read_text() == "{"


def test_the_fleets_history_starts_once(tmp_path: Path) -> None:
    first = account_start(tmp_path / "demo.start")
    assert account_start(tmp_path / "demo.start") == first


def test_figures_of_an_empty_database_are_zeros(database: Database) -> None:
    with psycopg.connect(database.system_url, autocommit=True) as connection:
        figures = read_figures(connection, read_clock(connection))
        assert count_points(connection) == 0
    assert (figures.vehicles, figures.points, figures.dead_letters, figures.rejected) == (0, 0, 0, 0)
    assert (figures.geofence_events, figures.work_orders, figures.notifications) == (0, 0, {})
    assert (figures.runs, figures.connections, figures.alerts) == ({}, [], {})


def test_a_line_says_what_happened_and_what_died() -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    runs = {"a.b": {"succeeded": 2, "pending": 1}, "c.d": {"succeeded": 1}}
    connection = Connection("North", "samsara", "active", None, None, 12_345)
    figures = Figures(
        now, 5, 12_345, 1, 7, 1_002, 8, {"sent": 5}, runs, [connection], {"offline": (3, 2), "fault_code": (4, 4)}
    )
    assert line(figures, 1234.4, 9.0, {"beat": 2}) == (
        "    9 s  |  12,345 points (1,234/s)  |  runs: 1 pending, 3 succeeded  |  crossings: 1,002  |  open alerts: 6"
        "  |  work orders: 8  |  dead letters: 1  |  rejected: 7  |  died: beat 2x"
    )


WORKED = Summary(
    10.0, 5, 100, 10.0, {"succeeded": 1}, 0, 0, 12, {"offline": 1}, {"samsara": 90, "traccar": 10}, 2, {"sent": 3}, 3
)


@pytest.mark.parametrize(
    ("summary", "deaths", "expected"),
    [
        (WORKED, {}, True),
        (replace(WORKED, points=0), {}, False),
        (replace(WORKED, runs={"running": 3}), {}, False),
        (replace(WORKED, providers={"samsara": 100, "traccar": 0}), {}, False),
        (WORKED, {"beat": 1}, False),
    ],
)
def test_a_demo_succeeds_when_work_was_done_and_nothing_died(
    summary: Summary, deaths: dict[str, int], expected: bool
) -> None:
    assert succeeded(summary, deaths) is expected
