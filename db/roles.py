"""The roles of the cluster: who may do what. Run once by an administrator, again at will.

| role | for | rows |
|---|---|---|
| fleet_owner | owns everything; nobody logs in as it | all |
| fleet_migrator | `fleet-jobs migrate` | becomes the owner |
| fleet_worker | job effects | one tenant at a time |
| fleet_system | ledger, relay, partitions, other cross-tenant jobs | all |
| fleet_app | the other applications | one tenant at a time |
| fleet_readonly | reports, read replicas | one tenant at a time |
"""

import psycopg
from psycopg import sql

LOGIN_ROLES = ("fleet_migrator", "fleet_worker", "fleet_system", "fleet_app", "fleet_readonly")

_ATTRIBUTES = {
    "fleet_owner": "NOLOGIN BYPASSRLS",
    "fleet_migrator": "LOGIN NOINHERIT",
    "fleet_worker": "LOGIN",
    "fleet_system": "LOGIN NOINHERIT BYPASSRLS",
    "fleet_app": "LOGIN",
    "fleet_readonly": "LOGIN",
}

# A transaction never spans a network call, so ten idle seconds inside one mean a frozen process: its locks must go.
# `row_security = off` turns a missing privilege into an error instead of an empty result.
_ROLE_SETTINGS = {
    "fleet_worker": {
        "statement_timeout": "60s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "10s",
    },
    "fleet_system": {
        "statement_timeout": "15min",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "10s",
        "row_security": "off",
    },
    "fleet_app": {"idle_in_transaction_session_timeout": "60s"},
    "fleet_readonly": {"statement_timeout": "5min", "default_transaction_read_only": "on"},
}

# Extensions that only a superuser may create. Trusted ones are created by the migrations.
_OPTIONAL_EXTENSIONS = ("timescaledb", "postgis")


def bootstrap(admin_url: str, passwords: dict[str, str]) -> None:
    """Create the roles in the cluster, and the rights of the owner in the database of `admin_url`.

    Twice is harmless. A role that is missing in `passwords` keeps the password that it has.

    Args:
        admin_url: a superuser's URL, with the name of the platform's database.
        passwords: by login role.

    Raises:
        psycopg.Error: the server refuses, or cannot be reached.
    """
    with psycopg.connect(admin_url.replace("+psycopg", ""), autocommit=True) as connection:
        for role, attributes in _ATTRIBUTES.items():
            _create_role(connection, role, attributes, passwords.get(role))
        for member in ("fleet_migrator", "fleet_system"):
            connection.execute(sql.SQL("GRANT fleet_owner TO {}").format(sql.Identifier(member)))
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        connection.execute(sql.SQL("GRANT CREATE, CONNECT, TEMPORARY ON DATABASE {} TO fleet_owner").format(database))
        logins = sql.SQL(", ").join(map(sql.Identifier, LOGIN_ROLES))
        connection.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(database, logins))
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        connection.execute("GRANT USAGE, CREATE ON SCHEMA public TO fleet_owner")
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(logins))
        for extension in _OPTIONAL_EXTENSIONS:
            _create_extension(connection, extension)


def _create_role(connection: psycopg.Connection, role: str, attributes: str, password: str | None) -> None:
    name = sql.Identifier(role)
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    verb = sql.SQL("ALTER" if exists else "CREATE")
    connection.execute(sql.SQL("{} ROLE {} " + attributes).format(verb, name))
    if password is not None:
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(password)))
    for setting, value in _ROLE_SETTINGS.get(role, {}).items():
        connection.execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.Identifier(setting), sql.Literal(value))
        )


def _create_extension(connection: psycopg.Connection, extension: str) -> None:
    available = connection.execute(
        """
        SELECT 1 FROM pg_available_extensions
        WHERE name = %s
          AND (name <> 'timescaledb' OR current_setting('shared_preload_libraries') LIKE '%%timescaledb%%')
        """,
        [extension],
    ).fetchone()
    if available:
        connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(extension)))
