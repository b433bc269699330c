"""`fleet-jobs maintenance` and `fleet-jobs work-orders`, as an operator types them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.cli.conftest import Cli
from tests.factories import make_tenant


@pytest.fixture
def van(admin: psycopg.Connection) -> UUID:
    """A van of Acme, with a service that is due today, and one of another tenant."""
    for slug in ("other", "acme"):
        tenant_id = make_tenant(admin, slug)
        vehicle = _value(
            admin, "INSERT INTO vehicles (tenant_id, name) VALUES (%s, %s) RETURNING id", tenant_id, f"Van of {slug}"
        )
        admin.execute(
            "INSERT INTO maintenance_schedules (tenant_id, vehicle_id, name, interval_days, start_on)"
            " VALUES (%s, %s, 'inspection', 30, %s)",
            [tenant_id, vehicle, datetime.now(UTC).date() - timedelta(days=30)],
        )
    return UUID(str(vehicle))


def _value(admin: psycopg.Connection, statement: str, *values: Any) -> Any:
    row = admin.execute(statement.encode(), values).fetchone()
    return row and row[0]


def _check(admin: psycopg.Connection, slug: str = "acme") -> None:
    """Do what the worker does with a check."""
    from sqlalchemy import create_engine

    from db.engine import set_tenant
    from jobs.maintenance.check import rehearse
    from jobs.settings import get_settings

    engine = create_engine(get_settings().database_url.get_secret_value())
    with engine.begin() as connection:
        set_tenant(connection, _value(admin, "SELECT id FROM tenants WHERE slug = %s", slug))
        rehearse(connection, datetime.now(UTC))
    engine.dispose()


def test_a_rehearsal_prints_what_would_be_opened_and_changes_nothing(
    cli: Cli, admin: psycopg.Connection, van: UUID
) -> None:
    answer = cli("maintenance", "check", "--tenant", "acme", "--dry-run")
    assert "WO-000001" in answer.out and "Van of acme" in answer.out
    assert "Van of other" not in answer.out
    assert "maintenance_due" in answer.out
    assert answer.out.endswith("would open 1 work orders and 1 alerts; nothing was changed\n")
    order, alert = cli("maintenance", "check", "--tenant", "acme", "--dry-run", "--json").objects
    assert (order["reference"], order["schedule"], order["priority"]) == ("WO-000001", "inspection", "medium")
    assert (alert["kind"], alert["severity"], alert["message"]) == (
        *("maintenance_due", "medium"),
        "Van of acme: inspection: due today",
    )
    for table in ("work_orders", "work_order_counters", "maintenance_triggers", "alerts", "meter_readings"):
        assert _value(admin, f"SELECT count(*) FROM {table}") == 0, table


def test_a_rehearsal_prints_what_is_only_due_soon_too(cli: Cli, admin: psycopg.Connection, van: UUID) -> None:
    admin.execute("UPDATE maintenance_schedules SET start_on = start_on + 7")
    answer = cli("maintenance", "check", "--tenant", "acme", "--dry-run")
    assert "maintenance_due_soon" in answer.out
    assert answer.out.endswith("would open 0 work orders and 1 alerts; nothing was changed\n")


def test_what_is_due_is_listed_as_people_count_and_no_further_than_asked(
    cli: Cli, admin: psycopg.Connection, van: UUID
) -> None:
    admin.execute(
        "WITH v AS (INSERT INTO vehicles (tenant_id, name)"
        "           SELECT tenant_id, 'Van ' || n FROM vehicles, unnest(ARRAY[2, 10, 1]) n WHERE id = %s"
        "           RETURNING tenant_id, id)"
        " INSERT INTO maintenance_schedules (tenant_id, vehicle_id, name, interval_days, start_on)"
        " SELECT tenant_id, id, 'inspection', 30, current_date - 30 FROM v",
        [van],
    )
    _check(admin)
    _check(admin, "other")

    def listed(*options: Any) -> list[str]:
        return [each["vehicle"] for each in cli("maintenance", "--json", *options).objects]

    assert listed("--tenant", "acme") == ["Van 1", "Van 2", "Van 10", "Van of acme"]
    assert listed("-n", 2) == ["Van 1", "Van 2"]
    assert listed("-n", 5) == ["Van 1", "Van 2", "Van 10", "Van of acme", "Van of other"]
    assert listed("--status", "overdue") == []
    assert listed("--status", "due", "-n", 1) == ["Van 1"]


def test_an_alert_of_a_time_that_no_calendar_has_is_listed(cli: Cli, admin: psycopg.Connection, van: UUID) -> None:
    admin.execute(
        "INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at, resolved_at)"
        " SELECT tenant_id, 'offline', 'low', o::text, 'is ' || o, o, r FROM vehicles,"
        " (VALUES ('infinity'::timestamptz, NULL::timestamptz), ('-infinity', 'infinity'), (now(), NULL)) AS x (o, r)"
        " WHERE id = %s",
        [van],
    )
    assert "is infinity" in cli("alerts", "--all").out
    found = cli("alerts", "--all", "--json").objects
    assert sorted(each["opened_at"] is None for each in found) == [False, True, True]
    assert [each["resolved_at"] for each in found] == [None] * 3


def test_runs_are_limited_as_everything_else_is(cli: Cli, admin: psycopg.Connection, van: UUID) -> None:
    for slug in ("acme", "other"):
        cli("maintenance", "check", "--tenant", slug)
    assert len(cli("runs", "-n", 1, "--json").objects) == 1


def test_a_check_is_enqueued_for_its_tenant(cli: Cli, admin: psycopg.Connection, van: UUID) -> None:
    run_id = cli("maintenance", "check", "--tenant", "acme").out.strip()
    row = admin.execute(
        "SELECT job, t.slug FROM job_runs r JOIN tenants t ON t.id = r.tenant_id WHERE r.id = %s", [run_id]
    )
    assert row.fetchone() == ("maintenance.check_due", "acme")
    assert "no such tenant" in cli("maintenance", "check", "--tenant", "nobody").line


def test_what_is_due_is_listed_by_tenant_with_its_order(cli: Cli, admin: psycopg.Connection, van: UUID) -> None:
    assert cli("maintenance").out == "nothing is due\n"
    _check(admin)
    _check(admin, "other")

    told = cli("maintenance", "--json").objects
    assert [(each["tenant"], each["vehicle"], each["status"], each["work_order"]) for each in told] == [
        ("acme", "Van of acme", "due", "WO-000001"),
        ("other", "Van of other", "due", "WO-000001"),
    ]
    [mine] = cli("maintenance", "--tenant", "acme", "--json").objects
    assert mine["reason"] == "inspection: due today"
    assert "inspection: due today" in cli("maintenance").out
    assert cli("maintenance", "--status", "overdue").out == "nothing is due\n"
    assert "--status: expected overdue" in cli("maintenance", "--status", "late").line


def test_a_service_is_put_off(cli: Cli, admin: psycopg.Connection, van: UUID) -> None:
    _check(admin)
    [told] = cli("maintenance", "--json").objects
    until = datetime.now(UTC).date() + timedelta(days=9)
    assert cli("maintenance", "snooze", told["trigger_id"][:13], "--until", until).status == 0
    [told] = cli("maintenance", "--json").objects
    assert (told["status"], told["snoozed_until"]) == ("snoozed", str(until))
    assert str(until) in cli("maintenance").out
    assert "not a day" in cli("maintenance", "snooze", told["trigger_id"], "--until", "soon").line
    assert "too far away" in cli("maintenance", "snooze", told["trigger_id"], "--until", "2200-01-01").line
    today = datetime.now(UTC).date()
    for day in (today, today - timedelta(days=900)):
        refused = cli("maintenance", "snooze", told["trigger_id"], "--until", day).line
        assert refused == f"fleet-jobs: --until: {day} is not ahead: it is {today} for the tenant"
    assert "give --until" in cli("maintenance", "snooze", told["trigger_id"]).line
    assert "'--until-km'" in cli("maintenance", "snooze", told["trigger_id"], "--until-km", "nan").line
    assert "no such service" in cli("maintenance", "snooze", "0" * 8, "--until", until).line


def test_a_service_is_put_off_until_a_day_or_a_meter(cli: Cli, admin: psycopg.Connection, van: UUID) -> None:
    admin.execute(
        "INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at)"
        " SELECT tenant_id, id, 'odometer_km', 50000, now() - interval '1 hour' FROM vehicles WHERE id = %s",
        [van],
    )
    _check(admin)
    [told] = cli("maintenance", "--json").objects
    until = datetime.now(UTC).date() + timedelta(days=9)
    for options, status in (
        (("--until-km", "51000", "--until", until), "snoozed"),
        (("--until-km", "50001"), "snoozed"),
    ):
        assert cli("maintenance", "snooze", told["trigger_id"], *options).status == 0
        [now] = cli("maintenance", "--json").objects
        assert now["status"] == status, options
    for options, problem in (
        (("--until-km", "50000"), "--until-km: 50,000 km is not ahead: the meter shows 50,000 km by now"),
        (("--until-km", "5", "--until", until), "--until-km: 5 km is not ahead: the meter shows 50,000 km by now"),
        (("--until-hours", "900"), "--until-hours: nobody knows this meter of the vehicle: give --until"),
    ):
        assert cli("maintenance", "snooze", told["trigger_id"], *options).line == f"fleet-jobs: {problem}"
    _meter(admin, van, "engine_hours", 100, days=10, per_day=10)
    refused = cli("maintenance", "snooze", told["trigger_id"], "--until-hours", "200").line
    assert refused == "fleet-jobs: --until-hours: 200 h is not ahead: the meter shows 200 h by now"
    said = cli("maintenance", "snooze", told["trigger_id"], "--until-km", "51000", "--until-hours", "900").out
    assert said == f"service {told['trigger_id']} is put off until 51,000 km or 900 h\n"


def _meter(admin: psycopg.Connection, van: UUID, meter: str, value: float, *, days: float, per_day: float) -> None:
    admin.execute(
        "INSERT INTO vehicle_meters (tenant_id, vehicle_id, meter, value, read_at, per_day)"
        " SELECT tenant_id, id, %s, %s, now() - %s, %s FROM vehicles WHERE id = %s",
        [meter, value, timedelta(days=days), per_day, van],
    )


def test_a_reading_that_was_set_aside_is_shown_and_accepted(cli: Cli, admin: psycopg.Connection, van: UUID) -> None:
    assert cli("maintenance", "meters").out == "no meter was read yet\n"
    assert cli("maintenance", "meters", "--quarantined").out == "no reading waits\n"
    for days, km in ((2, 50_000), (1, 150_000)):
        admin.execute(
            "INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at)"
            " SELECT tenant_id, id, 'odometer_km', %s, now() - %s FROM vehicles WHERE id = %s",
            [km, timedelta(days=days), van],
        )
    _check(admin)

    [waiting] = cli("maintenance", "meters", "--quarantined", "--json").objects
    assert (waiting["value"], waiting["accepted_value"], waiting["reason"]) == (
        *(150_000, 50_000),
        "jumps by 100000.0 in 1.0 days",
    )
    assert "150,000.0" in cli("maintenance", "meters", "--quarantined", "--tenant", "acme").out
    assert cli("maintenance", "meters", "accept", waiting["id"]).status == 0
    assert "does not wait" in cli("maintenance", "meters", "accept", waiting["id"]).line
    [told] = cli("maintenance", "meters", "--json").objects
    assert (told["value"], told["vehicle"]) == (150_000, "Van of acme")
    assert "150,000.0" in cli("maintenance", "meters").out


def test_a_work_order_is_put_on_hold_and_completed(cli: Cli, admin: psycopg.Connection, van: UUID) -> None:
    assert cli("work-orders").out == "no open work orders\n"
    _check(admin)
    [told] = cli("work-orders", "--json").objects
    assert (told["reference"], told["status"], told["tenant"]) == ("WO-000001", "open", "acme")
    assert "inspection" in cli("work-orders", "--tenant", "acme").out

    assert cli("work-orders", "hold", "WO-000001", "--tenant", "acme").status == 0
    assert cli("work-orders", "start", told["id"]).out == "work order WO-000001 is in progress\n"
    assert cli("work-orders", "complete", "wo-1", "--tenant", "acme", "--odometer-km", "1234").status == 0
    assert cli("work-orders").out == "no open work orders\n"
    [told] = cli("work-orders", "--all", "--json").objects
    assert told["status"] == "completed"
    assert _value(admin, "SELECT completion_odometer_km FROM work_orders") == 1234

    again = cli("work-orders", "complete", told["id"], "--odometer-km", "77777").line
    assert again == "fleet-jobs: work order WO-000001 is completed already"

    refused = cli("work-orders", "cancel", told["id"])
    assert (refused.status, refused.line) == (
        1,
        "fleet-jobs: work order WO-000001: status: completed cannot become cancelled",
    )
    assert "give --tenant SLUG" in cli("work-orders", "cancel", "WO-000001").line
    assert "no such work order" in cli("work-orders", "cancel", "WO-000002", "--tenant", "acme").line
    assert "no such work order" in cli("work-orders", "cancel", "0" * 8).line
