"""Events: alerts, one open per subject and kind."""

from db.migrations.rules import execute, grant, isolate_tenants, touch_updated_at

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    execute(
        """
        CREATE TABLE alerts (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            tenant_id uuid NOT NULL REFERENCES tenants (id),
            kind text NOT NULL,
            severity text NOT NULL CONSTRAINT ck_alerts_severity
                CHECK (severity IN ('low', 'medium', 'high', 'critical')),
            vehicle_id uuid,
            connection_id uuid,
            subject text NOT NULL,
            message text NOT NULL,
            details jsonb NOT NULL DEFAULT '{}',
            opened_at timestamptz NOT NULL,
            resolved_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            FOREIGN KEY (tenant_id, vehicle_id) REFERENCES vehicles (tenant_id, id),
            FOREIGN KEY (tenant_id, connection_id) REFERENCES connections (tenant_id, id)
        );
        CREATE UNIQUE INDEX uq_alerts_open ON alerts (tenant_id, kind, subject) WHERE resolved_at IS NULL;
        CREATE INDEX ix_alerts_tenant ON alerts (tenant_id, opened_at DESC);
        COMMENT ON COLUMN alerts.subject IS 'What the alert is about, as kind:id; one open alert per kind and subject.';
        """
    )
    touch_updated_at("alerts")
    isolate_tenants("alerts")
    grant("alerts", worker="SELECT, INSERT, UPDATE", app="SELECT, INSERT, UPDATE")
