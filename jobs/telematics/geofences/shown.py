"""Fences in Redis for the applications beside us: `geofence:{id}` is the geometry that is evaluated now.

Best effort. `fleet:{tenant_id}:geofences` lists the ids, so that a fence that is gone takes its key with it;
`fleet:{tenant_id}:geofences:version` says what is shown, and is written last.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec

from db.queries.geofences import Fence
from jobs import watchers

_BATCH_BYTES = 1_000_000
_BATCH_KEYS = 1_000


def is_shown(tenant_id: UUID, version: UUID) -> bool:
    """Tell whether Redis has this version of a tenant's fences; also where Redis is down: nothing can be shown."""

    def look() -> bool:
        told = watchers.client().get(f"{_list(tenant_id)}:version")
        return told is not None and bytes(told) == str(version).encode()  # type: ignore[arg-type]

    return watchers.attempt(look, lambda: True)


def show(tenant_id: UUID, version: UUID, fences: Iterable[Fence]) -> int:
    """Write a tenant's fences and remove those that are gone. Returns how many are shown; 0 where Redis is down."""

    def write() -> int:
        client = watchers.client()
        shown = {member.decode() for member in client.smembers(_list(tenant_id))}  # type: ignore[union-attr]
        now: list[str] = []
        for batch in _batches(tenant_id, fences):
            client.mset(batch)
            now += [key.removeprefix("geofence:") for key in batch]
        for gone in _chunks(sorted(shown - set(now))):
            client.delete(*(f"geofence:{fence_id}" for fence_id in gone))
            client.srem(_list(tenant_id), *gone)
        for there in _chunks(now):
            client.sadd(_list(tenant_id), *there)
        client.set(f"{_list(tenant_id)}:version", str(version))
        return len(now)

    return watchers.attempt(write, lambda: 0)


def _list(tenant_id: UUID) -> str:
    return f"fleet:{tenant_id}:geofences"


def _batches(tenant_id: UUID, fences: Iterable[Fence]) -> Iterator[dict[str, bytes]]:
    batch: dict[str, bytes] = {}
    size = 0
    for fence in fences:
        told = msgspec.json.encode(_told(tenant_id, fence))
        if batch and size + len(told) > _BATCH_BYTES:
            yield batch
            batch, size = {}, 0
        batch[f"geofence:{fence.id}"] = told
        size += len(told)
    if batch:
        yield batch


def _told(tenant_id: UUID, fence: Fence) -> dict[str, Any]:
    told: dict[str, Any] = {"id": fence.id, "tenant_id": tenant_id, "name": fence.name, "kind": fence.kind}
    if fence.kind == "circle":
        center = [fence.center_longitude, fence.center_latitude]
        return told | {"geometry": {"type": "Point", "coordinates": center}, "radius_m": fence.radius_m}
    return told | {"geometry": fence.boundary}


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _BATCH_KEYS):
        yield ids[start : start + _BATCH_KEYS]
