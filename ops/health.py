"""Is the relay or beat of this container alive? `python ops/health.py SECONDS`: 0 if PostgreSQL has heard of it.

Both speak to the database all the time: the relay several times a second, beat every five seconds. A process that is
there and does nothing is found by that, and so is one that cannot reach its database.
"""

import os
import sys
from pathlib import Path

import psycopg

_ANSWER_S = 5
_HEARD = """
    SELECT coalesce(max(state_change) > clock_timestamp() - make_interval(secs => %s), false)
    FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND usename = current_user AND client_addr IS NOT DISTINCT FROM inet_client_addr()
"""


def database_url() -> str:
    """Return the URL of role fleet_system, from the environment or its file."""
    name, directory = "FLEET_SYSTEM_DATABASE_URL", os.environ.get("FLEET_SECRETS_DIR")
    if given := os.environ.get(name):
        return given
    if directory is None:
        raise OSError(f"{name}: missing")
    return (Path(directory) / name.lower()).read_text().strip()


def main(arguments: list[str]) -> int:
    """Return 0 if this address's sessions have run a statement within that many seconds, else 1 and one line."""
    within_s = float(arguments[0])
    try:
        with psycopg.connect(database_url(), autocommit=True, connect_timeout=_ANSWER_S) as connection:
            row = connection.execute(_HEARD, [within_s]).fetchone()
    except (psycopg.Error, OSError) as error:
        sys.stderr.write(f"health: {type(error).__name__}\n")
        return 1
    if row is None or not row[0]:
        sys.stderr.write(f"health: not heard of for {within_s:g} s\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
