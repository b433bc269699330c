"""What an operator is told of a completion that is entered twice, and of a reading that nobody can believe."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from tests.cli.conftest import Cli
from tests.factories import make_tenant


@pytest.fixture
def van(admin: psycopg.Connection) -> UUID:
    tenant_id = make_tenant(admin, "acme")
    row = admin.execute("INSERT INTO vehicles (tenant_id, name) VALUES (%s, 'Van 1') RETURNING id", [tenant_id])
    return UUID(str(row.fetchone()[0]))  # type: ignore[index]


def test_what_is_completed_is_not_completed_again(cli: Cli, admin: psycopg.Connection, van: UUID) -> None:
    admin.execute(
        "INSERT INTO work_orders (tenant_id, vehicle_id, type, title)"
        " SELECT tenant_id, id, 'corrective', 'brakes' FROM vehicles"
    )
    complete = ("work-orders", "complete", "WO-1", "--tenant", "acme", "--odometer-km")
    assert cli(*complete, "500").out == "work order WO-000001 is completed\n"
    assert cli(*complete, "700").line == "fleet-jobs: work order WO-000001 is completed already"
    assert admin.execute("SELECT completion_odometer_km FROM work_orders").fetchall() == [(500,)]


@pytest.fixture
def reading(admin: psycopg.Connection, van: UUID) -> str:
    row = admin.execute(
        "INSERT INTO meter_readings (tenant_id, vehicle_id, meter, value, read_at, state, reason)"
        " SELECT tenant_id, id, 'odometer_km', 7, %s, 'quarantined', 'read in the future' FROM vehicles RETURNING id",
        [datetime.now(UTC) + timedelta(days=365)],
    )
    return str(row.fetchone()[0])  # type: ignore[index]


def test_a_reading_of_next_year_is_dismissed_and_not_accepted(cli: Cli, reading: str) -> None:
    refused = cli("maintenance", "meters", "accept", reading)
    assert refused.status == 1
    assert "was read in the future" in refused.line and "meters reject" in refused.line
    assert cli("maintenance", "meters", "reject", reading).out == f"reading {reading} is dismissed\n"
    assert "does not wait for anybody" in cli("maintenance", "meters", "reject", reading).line
    assert cli("maintenance", "meters", "--quarantined").out == "no reading waits\n"
