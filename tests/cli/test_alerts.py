"""Alerts and their thresholds from the command line."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.cli.conftest import Cli
from tests.factories import make_connection, make_tenant

NO_ALERT = "0192f0c1-0000-7000-8000-000000000000"


@pytest.fixture
def tenant_id(cli: Cli, admin: psycopg.Connection) -> UUID:
    return make_tenant(admin)


def vehicle(admin: psycopg.Connection, tenant_id: UUID, name: str = "Truck 7") -> UUID:
    statement = "INSERT INTO vehicles (tenant_id, name) VALUES (%s, %s) RETURNING id"
    row = admin.execute(statement, [tenant_id, name]).fetchone()
    assert row is not None
    return UUID(str(row[0]))


def alert(admin: psycopg.Connection, tenant_id: UUID, subject: str = "vehicle:x", **given: Any) -> UUID:
    values = {"kind": "offline", "severity": "medium", "message": "a message", "opened_at": "2026-11-01 06:30Z"} | given
    row = admin.execute(
        f"INSERT INTO alerts (tenant_id, subject, {', '.join(values)})"
        f" VALUES (%s, %s, {', '.join(['%s'] * len(values))}) RETURNING id",
        [tenant_id, subject, *values.values()],
    ).fetchone()
    assert row is not None
    return UUID(str(row[0]))


class TestList:
    def test_shows_what_is_open_newest_first(self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
        assert cli("alerts").out == "no open alerts\n"
        truck = vehicle(admin, tenant_id)
        account = make_connection(admin, tenant_id, "https://api.samsara.com")
        alert(admin, tenant_id, vehicle_id=truck, message="Truck 7 has not reported")
        alert(admin, tenant_id, kind="connection_silent", connection_id=account, opened_at="2026-11-02 06:30Z")
        alert(admin, tenant_id, kind="low_fuel", resolved_at="2026-11-03 06:30Z")

        header, newest, oldest = cli("alerts").out.splitlines()

        assert header.split() == ["id", "since", "tenant", "kind", "severity", "about", "message"]
        assert f"acme    connection_silent  medium    samsara {account}  a message" in newest
        assert "2026-11-01 06:30:00Z  acme    offline            medium    Truck 7" in oldest
        assert oldest.endswith("Truck 7 has not reported")

    def test_narrows_by_tenant_kind_and_number(self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
        other = make_tenant(admin, "other")
        alert(admin, tenant_id, "vehicle:1")
        alert(admin, tenant_id, "vehicle:1", kind="low_fuel", opened_at="2026-11-02Z")
        alert(admin, other, "vehicle:2", opened_at="2026-11-03Z")
        alert(admin, tenant_id, "vehicle:3", opened_at="2026-11-04Z", resolved_at="2026-11-05Z")

        def subjects(*options: object) -> list[tuple[str, str]]:
            told = cli("alerts", "--json", *options).objects
            return [(each["tenant"], each["subject"]) for each in told]

        assert subjects() == [("other", "vehicle:2"), ("acme", "vehicle:1"), ("acme", "vehicle:1")]
        assert subjects("--tenant", "other") == [("other", "vehicle:2")]
        assert subjects("--kind", "low_fuel") == [("acme", "vehicle:1")]
        assert subjects("--limit", "1", "--tenant", "acme", "--all") == [("acme", "vehicle:3")]
        assert len(subjects("--all")) == 4
        assert subjects("--kind", "nothing") == []
        assert "no such tenant: nobody" in cli("alerts", "--tenant", "nobody").line

    def test_all_says_when_each_was_resolved(self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
        alert(admin, tenant_id, resolved_at="2026-11-05 01:02:03Z")
        header, line = cli("alerts", "--all").out.splitlines()
        assert "resolved" in header
        assert "2026-11-05 01:02:03Z" in line

    def test_a_name_cannot_command_the_terminal(self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
        alert(admin, tenant_id, vehicle_id=vehicle(admin, tenant_id, "\x1b[2JTruck"), message="\x1b[31m")
        assert "\x1b" not in cli("alerts").out


class TestResolve:
    def test_resolves_one_by_the_beginning_of_its_id(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID
    ) -> None:
        mine, other = alert(admin, tenant_id, "vehicle:1"), alert(admin, tenant_id, "vehicle:2")

        assert cli("alerts", "resolve", str(mine)[:13]).out == f"alert {mine} is resolved\n"
        assert cli("alerts", "resolve", mine).out == f"alert {mine} was resolved already\n"

        assert [each["id"] for each in cli("alerts", "--json").objects] == [str(other)]
        row = admin.execute("SELECT resolved_at, details FROM alerts WHERE id = %s", [mine]).fetchone()
        assert row is not None
        assert abs(row[0] - datetime.now(UTC)).total_seconds() < 60
        assert row[1] == {"resolved_by": "operator"}

    def test_refuses_what_names_no_alert_or_several(self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
        for last in "12":
            alert(admin, tenant_id, f"vehicle:{last}", id=NO_ALERT[:-1] + last)

        assert "not an alert id: 0192" in cli("alerts", "resolve", "0192").line
        assert "not an alert id: vehicle:" in cli("alerts", "resolve", "vehicle:1").line
        assert f"no such alert: {NO_ALERT}" in cli("alerts", "resolve", NO_ALERT).line
        assert "several alerts begin with 0192f0c1" in cli("alerts", "resolve", "0192f0c1").line
        assert len(cli("alerts", "--json").objects) == 2


class TestThresholds:
    def told(self, cli: Cli, kind: str = "vehicle") -> dict[str, Any]:
        found = cli("alerts", "thresholds", "--tenant", "acme", "--json").objects
        [one] = [each for each in found if each["kind"] == kind]
        return one

    def test_shows_the_defaults_where_a_tenant_has_set_nothing(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID
    ) -> None:
        make_tenant(admin, "other")
        assert len(cli("alerts", "thresholds", "--json").objects) == 4
        _, vehicles, robots = cli("alerts", "thresholds", "--tenant", "acme").out.splitlines()
        assert " ".join(vehicles.split()) == "acme vehicle 30 min 15 % 20 % medium default"
        assert " ".join(robots.split()) == "acme robot 5 min 15 % 20 % medium default"

    def test_sets_what_is_named_and_keeps_the_rest(self, cli: Cli, tenant_id: UUID) -> None:
        acme = ("alerts", "thresholds", "set", "--tenant", "acme", "--kind", "vehicle")
        defaults = {"low_battery_percent": 20.0, "fault_severity": "medium"}

        assert cli(*acme, "--offline-after-s", 900).status == 0
        expected = {"tenant": "acme", "kind": "vehicle", "is_default": False, "offline_after_s": 900}
        assert self.told(cli) == expected | defaults | {"low_fuel_percent": 15.0}

        assert (
            cli(*acme, "--low-fuel-percent", 12.5, "--fault-severity", "critical", "--off", "low_battery").status == 0
        )
        changed = {"low_fuel_percent": 12.5, "low_battery_percent": None, "fault_severity": "critical"}
        assert self.told(cli) == expected | changed
        assert self.told(cli, "robot")["is_default"] is True

        assert cli(*acme, "--off", "offline", "--off", "low_fuel", "--off", "fault_code").status == 0
        _, line, _ = cli("alerts", "thresholds", "--tenant", "acme").out.splitlines()
        assert " ".join(line.split()) == "acme vehicle off off off off tenant"

    def test_reset_lets_the_defaults_hold_again(self, cli: Cli, tenant_id: UUID) -> None:
        acme = ("--tenant", "acme", "--kind", "robot")
        cli("alerts", "thresholds", "set", *acme, "--low-battery-percent", 40)
        assert self.told(cli, "robot")["low_battery_percent"] == 40

        assert cli("alerts", "thresholds", "reset", *acme).out == "the robots of acme have the defaults\n"
        assert cli("alerts", "thresholds", "reset", *acme).out == "the robots of acme have the defaults already\n"

        assert self.told(cli, "robot")["is_default"] is True

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ((), "name a threshold, or --off ALERT"),
            (("--offline-after-s", "29"), "--offline-after-s 29: expected 30 to 31536000"),
            (("--offline-after-s", "31536001"), "--offline-after-s 31536001: expected 30 to 31536000"),
            (("--low-fuel-percent", "0.9"), "--low-fuel-percent 0.9: expected 1 to 95"),
            (("--low-battery-percent", "95.1"), "--low-battery-percent 95.1: expected 1 to 95"),
            (("--low-battery-percent", "nan"), "--low-battery-percent nan: expected 1 to 95"),
            (("--fault-severity", "terrible"), "terrible: expected one of low, medium, high, critical"),
            (("--off", "everything"), "everything: expected one of offline, low_fuel, low_battery, fault_code"),
            (("--off", "offline", "--offline-after-s", "60"), "--off offline: there is a threshold for it too"),
            (("--offline-after-s", "60", "--kind", "boat"), "--kind boat: expected one of vehicle, robot"),
            (("--offline-after-s", "60", "--tenant", "nobody"), "no such tenant: nobody"),
        ],
    )
    def test_refuses_what_makes_no_sense_and_changes_nothing(
        self, cli: Cli, tenant_id: UUID, options: tuple[str, ...], said: str
    ) -> None:
        answer = cli("alerts", "thresholds", "set", "--tenant", "acme", "--kind", "vehicle", *options)

        assert answer.status == 1
        assert said in answer.line
        assert self.told(cli)["is_default"] is True

    @pytest.mark.parametrize(
        ("option", "bounds"),
        [
            ("--offline-after-s", (30, 31_536_000)),
            ("--low-fuel-percent", (1, 95)),
            ("--low-battery-percent", (1, 95)),
        ],
    )
    def test_the_bounds_are_those_of_the_database(
        self, cli: Cli, tenant_id: UUID, option: str, bounds: tuple[int, int]
    ) -> None:
        for bound in bounds:
            answer = cli("alerts", "thresholds", "set", "--tenant", "acme", "--kind", "vehicle", option, bound)
            assert answer.status == 0, answer.err
