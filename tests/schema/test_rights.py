"""What runs as the owner of the schema runs for the tables that it was made for, and for nobody's own."""

import psycopg
import pytest

from tests.servers import Database

PAYLOAD = """
    CREATE TYPE pg_temp.trap AS ENUM ('x');
    CREATE FUNCTION pg_temp.spring(pg_temp.trap) RETURNS uuid LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'runs as %', current_user;
    END $$;
    CREATE CAST (pg_temp.trap AS uuid) WITH FUNCTION pg_temp.spring(pg_temp.trap) AS IMPLICIT;
    CREATE TEMPORARY TABLE bait (tenant_id uuid, vehicle_id pg_temp.trap);
"""


@pytest.mark.parametrize("role", ["app_url", "worker_url", "readonly_url"])
def test_nobody_hangs_a_trigger_of_the_owner_on_a_table_whose_types_bring_code(database: Database, role: str) -> None:
    with psycopg.connect(getattr(database, role), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(PAYLOAD)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "CREATE TRIGGER t AFTER INSERT ON bait REFERENCING NEW TABLE AS written"
                " FOR EACH STATEMENT EXECUTE FUNCTION check_telemetry_owner()"
            )


def test_no_function_that_runs_as_its_owner_is_open_to_everybody(database: Database) -> None:
    with psycopg.connect(database.admin_url) as admin:
        rows = admin.execute(
            "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
            " AND has_function_privilege('public', oid, 'EXECUTE')"
            " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = pg_proc.oid AND d.deptype = 'e')"
        ).fetchall()
    assert rows == []
