"""How many tasks were done, counted across processes: a byte appended for each, for queues that keep no record."""

import os
from pathlib import Path

VARIABLE = "BENCH_TALLY"


def add() -> None:
    """Count one task of this process; a microsecond or two."""
    global _file
    if _file is None:
        _file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_file, b".")


def count(path: Path) -> int:
    """Return how many tasks were counted in a file so far."""
    return path.stat().st_size if path.exists() else 0


_file: int | None = None
