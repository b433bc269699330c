"""What every table of the schema has: written once, used by the migrations."""

from alembic import op

_TENANT = "tenant_id = (SELECT app_tenant_id())"


def execute(statements: str) -> None:
    """Run literal SQL; a colon is a colon."""
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def server_version() -> int:
    """Return the server's major version, 15 to 18."""
    return int(op.get_bind().exec_driver_sql("SHOW server_version_num").scalar_one()) // 10000


def has_extension(name: str) -> bool:
    """Tell whether an extension is installed in this database."""
    found = op.get_bind().exec_driver_sql("SELECT 1 FROM pg_extension WHERE extname = %s", (name,))
    return found.first() is not None


def touch_updated_at(table: str) -> None:
    """Keep `updated_at` by trigger."""
    execute(
        f"CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION touch_updated_at()"
    )


def isolate_tenants(table: str, *, column: str = "tenant_id") -> None:
    """Let a role see and write one tenant's rows. The sub-select makes the setting a constant of the scan."""
    rule = _TENANT.replace("tenant_id", column, 1)
    execute(
        f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY tenant_isolation ON {table} USING ({rule}) WITH CHECK ({rule});
        """
    )


def grant(table: str, *, worker: str, app: str, system: str = "SELECT, INSERT, UPDATE, DELETE") -> None:
    """Give each role what it needs and nothing else; an empty string gives nothing. Readers may read what apps read."""
    for role, rights in (("fleet_worker", worker), ("fleet_system", system), ("fleet_app", app)):
        if rights:
            execute(f"GRANT {rights} ON {table} TO {role}")
    if app:
        execute(f"GRANT SELECT ON {table} TO fleet_readonly")
