"""A recipient that an alert names is known as the user who has left, and not as a stranger's address."""

from alembic import op

from db.migrations.rules import execute

revision = "0017"
down_revision = "0016"

# Only what changes is written here: all else of the two functions stays as the migration before left it.
_BEFORE = """LEFT JOIN users u ON u.tenant_id = t.tenant_id AND lower(u.email) = lower(n.address)
                 AND u.deleted_at IS NULL"""
_AFTER = """LEFT JOIN LATERAL (
                    SELECT u.id FROM users u
                    WHERE u.tenant_id = t.tenant_id AND lower(u.email) = lower(n.address)
                    ORDER BY u.deleted_at IS NOT NULL, u.deleted_at DESC LIMIT 1  -- who is there before who has left
                ) u ON true"""


def upgrade() -> None:
    execute("CREATE INDEX ix_users_email ON users (tenant_id, lower(email))")
    for function in ("write_notifications", "write_notifications_again"):
        found = op.get_bind().exec_driver_sql("SELECT pg_get_functiondef(%s::regproc)", (function,)).scalar_one()
        if found.count(_BEFORE) != 1:
            raise RuntimeError(f"{function} is not what this migration changes")
        execute(found.replace(_BEFORE, _AFTER))
