"""What a person has set for the platform, for processes that work in a directory of their own and see no `.env`."""

import os
from pathlib import Path

from dotenv import dotenv_values

_PREFIX = "FLEET_"
_THE_STACKS = {
    *("FLEET_DATABASE_URL", "FLEET_SYSTEM_DATABASE_URL", "FLEET_MIGRATION_DATABASE_URL", "FLEET_ADMIN_DATABASE_URL"),
    *("FLEET_READ_DATABASE_URL", "FLEET_REDIS_URL", "FLEET_ENCRYPTION_KEYS", "FLEET_DATA_DIR"),
}
"""Of these the stack has its own, because it has servers and keys of its own."""


def read_given(file: Path = Path(".env")) -> dict[str, str]:
    """Return the settings of the file and of the environment, which comes first; none that the stack decides itself.

    Raises:
        OSError: the file cannot be read; one that is absent is empty.
    """
    written = dotenv_values(file) if file.is_file() else {}
    given = {name.upper(): value for name, value in (*written.items(), *os.environ.items())}  # as settings are read
    return {
        name: value
        for name, value in given.items()
        if name.startswith(_PREFIX) and name not in _THE_STACKS and value is not None
    }
