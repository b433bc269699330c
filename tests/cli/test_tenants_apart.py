"""The command's role sees every tenant; what it is asked about one is about that one only."""

import psycopg

from tests.cli.conftest import Cli
from tests.factories import make_connection, make_tenant


def test_what_is_asked_about_one_tenant_shows_nothing_of_another(cli: Cli, admin: psycopg.Connection) -> None:
    ours, theirs = make_tenant(admin, "ours"), make_tenant(admin, "theirs")
    for tenant_id in (ours, theirs):
        connection_id = make_connection(admin, tenant_id, "https://api.samsara.com")
        admin.execute(
            "INSERT INTO unmatched_devices (connection_id, external_id, tenant_id) VALUES (%s, 'device', %s)",
            [connection_id, tenant_id],
        )
        admin.execute(
            "SELECT enqueue_job('telematics.sync_connection', jsonb_build_object('connection_id', %s::uuid),"
            " tenant_id => %s)",
            [connection_id, tenant_id],
        )
    for command in (("runs",), ("connections",), ("devices", "unmatched")):
        assert {each["tenant"] for each in cli(*command, "--json").objects} == {"ours", "theirs"}, command
        assert {each["tenant"] for each in cli(*command, "--tenant", "ours", "--json").objects} == {"ours"}, command


def test_a_job_of_one_tenant_does_nothing_to_a_connection_of_another(cli: Cli, admin: psycopg.Connection) -> None:
    make_tenant(admin, "ours")
    connection_id = make_connection(admin, make_tenant(admin, "theirs"), "https://api.samsara.com")

    cli("run", "telematics.sync_connection", "--tenant", "ours", "--arg", f"connection_id={connection_id}")

    row = admin.execute("SELECT t.slug FROM job_runs r JOIN tenants t ON t.id = r.tenant_id").fetchone()
    assert row == ("ours",), "the run is the tenant's that was named, so row-level security hides the connection"
