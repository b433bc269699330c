"""Accounts whose credentials run out and are exchanged, and what providers push to us."""

from db.migrations.rules import execute, grant, isolate_tenants

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    execute(
        """
        ALTER TABLE connections
            ADD COLUMN renewal_claim uuid,
            ADD COLUMN renewal_claimed_at timestamptz,
            ADD COLUMN renew_before timestamptz,
            ADD CONSTRAINT ck_connections_renewal
                CHECK (num_nulls(renewal_claim, renewal_claimed_at) IN (0, 2));
        COMMENT ON COLUMN connections.renewal_claim IS
            'Whoever asks the provider for new credentials right now; left behind by one that was killed meanwhile.';
        COMMENT ON COLUMN connections.renew_before IS
            'When the credentials end for good unless they are exchanged before; NULL where they do not.';
        CREATE INDEX ix_connections_renew ON connections (renew_before)
            WHERE deleted_at IS NULL AND renew_before IS NOT NULL;

        -- A repeat of an event finds its row. `payload` goes once it was read, the row when no repeat can come.
        CREATE TABLE webhook_deliveries (
            connection_id uuid NOT NULL,
            event_id text NOT NULL CONSTRAINT ck_webhook_deliveries_event CHECK (length(event_id) BETWEEN 1 AND 200),
            tenant_id uuid NOT NULL,
            kind text NOT NULL,
            sent_at timestamptz,
            payload bytea CONSTRAINT ck_webhook_deliveries_payload CHECK (octet_length(payload) <= 262144),
            repeats integer NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT now(),
            read_at timestamptz,
            PRIMARY KEY (connection_id, event_id),
            FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id) ON DELETE CASCADE
        );
        CREATE INDEX ix_webhook_deliveries_tenant ON webhook_deliveries (tenant_id, created_at);
        CREATE INDEX ix_webhook_deliveries_created ON webhook_deliveries (created_at);
        COMMENT ON COLUMN webhook_deliveries.payload IS 'personal: null';

        GRANT UPDATE (renewal_claim, renewal_claimed_at, renew_before) ON connections TO fleet_worker;
        GRANT SELECT (renewal_claim, renewal_claimed_at, renew_before) ON connections TO fleet_app, fleet_readonly;
        """
    )
    isolate_tenants("webhook_deliveries")
    grant("webhook_deliveries", worker="SELECT, INSERT, UPDATE, DELETE", app="")
