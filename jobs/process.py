"""What one process holds: its pool of database connections, its heartbeat. Made at first use, anew after a fork."""

import os
import threading
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from db.engine import Database
from jobs.settings import get_settings

if TYPE_CHECKING:
    from jobs.heartbeat import Heartbeat

_lock = threading.RLock()  # threads of one pool start together
_database: Database | None = None
_heartbeat: "Heartbeat | None" = None


def get_database() -> Database:
    """Return the database of this process."""
    global _database
    with _lock:
        if _database is None:
            settings = get_settings()
            _database = Database(
                settings.database_url.get_secret_value(),
                settings.system_database_url.get_secret_value(),
                settings.read_database_url.get_secret_value() if settings.read_database_url else None,
            )
        return _database


def get_heartbeat() -> "Heartbeat":
    """Return the heartbeat of this process, beating."""
    global _heartbeat
    with _lock:
        if _heartbeat is None:
            from jobs.heartbeat import Heartbeat

            starting = Heartbeat(get_database(), get_settings().heartbeat_s)
            starting.start()  # where the database is away it raises, and the next message tries again
            _heartbeat = starting
        return _heartbeat


def try_heartbeat() -> None:
    """Begin to beat, unless the database is away: then the first claim does."""
    try:
        get_heartbeat()
    except SQLAlchemyError:
        return


def current_id() -> int:
    """Return a number that changes with a fork: what a client of a forked parent is filed under."""
    return os.getpid()


def leave() -> None:
    """Leave in order: what this process still holds goes back to pending at once."""
    if _heartbeat is not None:
        _heartbeat.stop()


def close() -> None:
    """Leave in order and close every connection; the next use begins anew."""
    global _database, _heartbeat
    leave()
    if _database is not None:
        _database.close()
    _database = _heartbeat = None


def _after_fork() -> None:
    global _database, _heartbeat, _lock
    _lock = threading.RLock()
    if _database is not None:
        _database.forget()
    _database = _heartbeat = None


os.register_at_fork(after_in_child=_after_fork)
