"""Fences in the memory of a worker: one index per tenant, rebuilt when the tenant's version changes."""

import threading
from collections import OrderedDict
from uuid import UUID

from sqlalchemy import Connection

from db.queries import geofences as queries
from jobs.telematics.geofences.index import FenceIndex

MOST_TENANTS = 1_000
MOST_POSITIONS = 2_000_000  # some hundred megabytes of corners

_lock = threading.Lock()
_indexes: "OrderedDict[UUID, FenceIndex]" = OrderedDict()


def find_index(connection: Connection, tenant_id: UUID) -> FenceIndex:
    """Return the transaction's tenant's fences as they are now."""
    version = queries.read_version(connection)
    if version is None:
        return _NONE
    with _lock:
        known = _indexes.get(tenant_id)
        if known is not None and known.version == version:
            _indexes.move_to_end(tenant_id)
            return known
    return load_index(connection, tenant_id)


def load_index(connection: Connection, tenant_id: UUID) -> FenceIndex:
    """Read the tenant's fences, keep them, and write down which of them cannot be evaluated."""
    version, fences = queries.load_fences(connection)
    if version is None:
        return _NONE
    index = FenceIndex(version, fences)
    if index.problems:
        queries.note_problems(connection, version, index.problems)
    with _lock:
        _indexes.pop(tenant_id, None)
        _indexes[tenant_id] = index
        while len(_indexes) > 1 and (
            len(_indexes) > MOST_TENANTS or sum(each.positions for each in _indexes.values()) > MOST_POSITIONS
        ):
            _indexes.popitem(last=False)
    return index


def forget() -> None:
    """Forget every tenant's fences."""
    with _lock:
        _indexes.clear()


_NONE = FenceIndex(None, [])
