"""Foundation: what every table uses."""

from db.migrations.rules import execute

revision = "0001"
down_revision = None


def upgrade() -> None:
    execute(
        """
        CREATE EXTENSION IF NOT EXISTS btree_gist;

        CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            NEW.updated_at := now();
            RETURN NEW;
        END $$;

        GRANT SELECT ON alembic_version TO fleet_system;

        -- PgBouncer leaves '' behind a SET LOCAL, hence nullif. No tenant: no rows, not an error.
        CREATE FUNCTION app_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
            $$ SELECT nullif(current_setting('app.tenant_id', true), '')::uuid $$;
        """
    )
