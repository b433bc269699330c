"""Fences in the memory of a worker: one index per tenant, rebuilt when the tenant's version changes.

Large ones take longer to read and to build than a transaction may stay open: `refresh` opens short ones of its own.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from uuid import UUID

from sqlalchemy import Connection

from db.engine import Database
from db.queries import geofences as queries
from db.queries.geofences import Fence, ListedFence
from jobs.outcomes import Snooze
from jobs.telematics.geofences import index as indexes
from jobs.telematics.geofences.index import FenceIndex
from jobs.telematics.geofences.shapes import count_positions

MOST_TENANTS = 1_000
MOST_POSITIONS = 2_000_000  # some hundred megabytes of corners
_MOST_AT_ONCE = 500
_MOST_BYTES_AT_ONCE = 1_000_000  # as stored: compressed, up to a hundred times smaller
_QUICK_BYTES = 250_000
_QUICK_FENCES = 2_000

Transaction = Callable[[], AbstractContextManager[Connection]]

_lock = threading.Lock()
_indexes: "OrderedDict[UUID, FenceIndex]" = OrderedDict()


class FencesNotRead(Snooze):
    """The tenant's fences are not in memory, and too large to be read while a transaction is open."""

    def __init__(self) -> None:
        super().__init__(1.0, "the tenant's fences have to be read first")


def find_known(tenant_id: UUID, version: UUID | None) -> FenceIndex | None:
    """Return the tenant's fences of a version, None where they have to be read."""
    if version is None:
        return _NONE
    with _lock:
        known = _indexes.get(tenant_id)
        if known is None or known.version != version:
            return None
        _indexes.move_to_end(tenant_id)
        return known


def find_index(connection: Connection, tenant_id: UUID) -> FenceIndex:
    """Return the transaction's tenant's fences as they are now.

    Raises:
        FencesNotRead: `refresh` has to read them, outside of a transaction.
    """
    version = queries.read_version(connection)
    known = find_known(tenant_id, version)
    if known is not None:
        return known
    listed = queries.list_fences(connection)
    if len(listed) > _QUICK_FENCES or sum(each.stored_bytes for each in listed) > _QUICK_BYTES:
        raise FencesNotRead
    return _keep(tenant_id, FenceIndex(version, _read(lambda: nullcontext(connection), listed)))


def refresh(database: Database, tenant_id: UUID) -> FenceIndex:
    """Return the tenant's fences as they are now, and write down which of them cannot be evaluated.

    Not while a transaction is open: it may take long. What changes meanwhile is seen the next time.
    """
    transaction = partial(database.tenant_transaction, tenant_id)
    with transaction() as connection:
        version = queries.read_version(connection)
        index = find_known(tenant_id, version)
        listed = queries.list_fences(connection) if index is None else []
    if index is None:
        index = _keep(tenant_id, FenceIndex(version, _read(transaction, listed)))
    if index.problems and not index.is_noted:
        with transaction() as connection:
            queries.note_problems(connection, index.version, index.problems)
        index.is_noted = True
    return index


def forget() -> None:
    """Forget every tenant's fences."""
    with _lock:
        _indexes.clear()


def read_fences(database: Database, tenant_id: UUID, fences: Sequence[UUID]) -> Iterator[Fence]:
    """Read fences again, a few at a time."""
    transaction = partial(database.tenant_transaction, tenant_id)
    with transaction() as connection:
        wanted = set(fences)
        listed = [each for each in queries.list_fences(connection) if each.id in wanted]
    for piece in _cut(listed):
        with transaction() as connection:
            found = queries.load_fences(connection, [each.id for each in piece])
        yield from found


def _read(transaction: Transaction, listed: Sequence[ListedFence]) -> Iterator[Fence]:
    """Read listed fences piece by piece, until there are more positions than an index takes: the rest stays bare."""
    positions = 0
    for piece in _cut(listed):
        if positions > indexes.MOST_POSITIONS:
            yield from (_bare(each) for each in piece)
            continue
        with transaction() as connection:
            found = queries.load_fences(connection, [each.id for each in piece])
        for fence in found:
            positions += count_positions(fence.boundary)
            yield fence


def _cut(listed: Sequence[ListedFence]) -> Iterator[list[ListedFence]]:
    piece: list[ListedFence] = []
    size = 0
    for each in listed:
        if piece and (len(piece) == _MOST_AT_ONCE or size + each.stored_bytes > _MOST_BYTES_AT_ONCE):
            yield piece
            piece, size = [], 0
        piece.append(each)
        size += each.stored_bytes
    if piece:
        yield piece


def _bare(listed: ListedFence) -> Fence:
    return Fence(listed.id, "", "polygon", None, None, None, None, False, False, [], 1, 0.0, None, listed.problem)


def _keep(tenant_id: UUID, index: FenceIndex) -> FenceIndex:
    with _lock:
        _indexes.pop(tenant_id, None)
        _indexes[tenant_id] = index
        while len(_indexes) > 1 and (
            len(_indexes) > MOST_TENANTS or sum(each.positions for each in _indexes.values()) > MOST_POSITIONS
        ):
            _indexes.popitem(last=False)
    return index


_NONE = FenceIndex(None, [])
