"""Make the secrets of `compose.yaml`, one file each: `python3 ops/make_secrets.py`. Needs Python and nothing else.

Everything is random and new, so it refuses to write where secrets are already: the encryption key among them unlocks
the providers' tokens, and losing it loses them. Keep a copy of the directory where you keep your backups' keys.
"""

import base64
import secrets
import sys
from pathlib import Path

DIRECTORY = Path(__file__).parent / "secrets"


def contents() -> dict[str, str]:
    """Return every file and what is in it. Passwords are hexadecimal: they stand in URLs and in a Valkey file."""
    password = {
        name: secrets.token_hex(24)
        for name in ("postgres", "fleet_migrator", "fleet_worker", "fleet_system", "fleet_app", "valkey", "flower")
    }

    def url(role: str, server: str) -> str:
        return f"postgresql://{role}:{password[role]}@{server}/fleet\n"

    return {
        "postgres_password": password["postgres"] + "\n",
        "fleet_admin_database_url": url("postgres", "db:5432"),
        "fleet_migration_database_url": url("fleet_migrator", "db:5432"),
        "fleet_system_database_url": url("fleet_system", "db:5432"),
        "fleet_database_url": url("fleet_worker", "pgbouncer:6432"),
        "fleet_app_database_url": url("fleet_app", "pgbouncer:6432"),  # mounted nowhere: for your applications
        "fleet_app_password": password["fleet_app"] + "\n",
        "pgbouncer_userlist": "".join(f'"{role}" "{password[role]}"\n' for role in ("fleet_worker", "fleet_app")),
        "fleet_redis_url": f"redis://:{password['valkey']}@valkey:6379/0\n",
        "valkey_auth": f"requirepass {password['valkey']}\n",
        "fleet_encryption_keys": base64.b64encode(secrets.token_bytes(32)).decode() + "\n",
        "fleet_smtp_url": "\n",  # to be filled in; mail waits until it is
        "flower_basic_auth": f"fleet:{password['flower']}\n",
    }


def main(directory: Path = DIRECTORY) -> int:
    """Write the files into a directory that only its owner enters; they are mounted one by one, for any user."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        if any(directory.iterdir()):
            sys.stderr.write(f"make_secrets: {directory}: there are secrets already, nothing was written\n")
            return 1
        for name, text in contents().items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o444)
    except OSError as error:
        sys.stderr.write(f"make_secrets: {error.filename}: {error.strerror}\n")
        return 1
    sys.stdout.write(f"made {len(contents())} secrets in {directory}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
