"""Integrations: a tenant's accounts at providers, how far they were read, and what could not be read."""

from db.migrations.rules import execute, grant, isolate_tenants, touch_updated_at

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    execute(
        """
        CREATE TABLE connections (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            provider text NOT NULL,
            name text NOT NULL,
            base_url text,
            credentials_encrypted bytea NOT NULL,
            settings jsonb NOT NULL DEFAULT '{}',
            status text NOT NULL DEFAULT 'active'
                CONSTRAINT ck_connections_status CHECK (status IN ('active', 'paused', 'reconnect')),
            status_reason text,
            last_synced_at timestamptz,
            newest_point_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            deleted_at timestamptz,
            CONSTRAINT uq_connections_tenant UNIQUE (tenant_id, id)
        );
        CREATE UNIQUE INDEX uq_connections_name ON connections (tenant_id, provider, name) WHERE deleted_at IS NULL;

        CREATE TABLE sync_cursors (
            connection_id uuid NOT NULL,
            tenant_id uuid NOT NULL,
            feed text NOT NULL,
            cursor text,
            completed_at timestamptz,
            pages bigint NOT NULL DEFAULT 0,
            points bigint NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (connection_id, feed),
            FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
        );
        CREATE INDEX ix_sync_cursors_tenant ON sync_cursors (tenant_id);

        -- `fingerprint` makes a page that is read twice reject its records once.
        CREATE TABLE rejected_records (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL,
            connection_id uuid NOT NULL,
            feed text NOT NULL,
            reason text NOT NULL,
            field text NOT NULL,
            device_id text,
            payload text NOT NULL CONSTRAINT ck_rejected_records_payload CHECK (octet_length(payload) <= 16384),
            fingerprint bytea NOT NULL,
            occurrences bigint NOT NULL DEFAULT 1,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_rejected_records UNIQUE (connection_id, fingerprint),
            FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
        );
        CREATE INDEX ix_rejected_records_tenant ON rejected_records (tenant_id, connection_id, created_at);
        COMMENT ON COLUMN rejected_records.payload IS 'personal: redact text';
        """
    )
    for table in ("connections", "sync_cursors", "rejected_records"):
        touch_updated_at(table)
        isolate_tenants(table)
    columns = "id, tenant_id, provider, name, base_url, settings, status, status_reason, "
    columns += "last_synced_at, newest_point_at, created_at, updated_at, deleted_at"
    execute(
        f"""
        GRANT SELECT ON connections TO fleet_worker;
        GRANT UPDATE (status, status_reason, last_synced_at, newest_point_at,
                      credentials_encrypted) ON connections TO fleet_worker;
        GRANT SELECT, INSERT, UPDATE, DELETE ON connections TO fleet_system;
        GRANT SELECT ({columns}) ON connections TO fleet_app, fleet_readonly;
        """
    )
    grant("sync_cursors", worker="SELECT, INSERT, UPDATE", app="SELECT")
    grant("rejected_records", worker="SELECT, INSERT, UPDATE, DELETE", app="SELECT")
