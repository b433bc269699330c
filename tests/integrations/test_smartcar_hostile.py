"""Whatever Smartcar's bytes are, reading them ends in records, in rejections or in an error of ours."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.bounds import BROKEN
from integrations.errors import CursorRefused, IntegrationError
from integrations.http import Refusal
from integrations.smartcar import SmartcarWebhooks
from integrations.smartcar.batch import PATHS, take_batch
from integrations.smartcar.listing import read_connections, read_ids
from integrations.smartcar.refusals import judge
from integrations.smartcar.schedule import Schedule, pack_id, unpack_id
from integrations.smartcar.signals import decode_answer, take_resources
from integrations.smartcar.values import SIGNALS, Values
from integrations.telematics import Page
from integrations.webhooks import WebhookRefused

NOW = datetime(2026, 11, 16, 12, tzinfo=UTC)
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["kilometers", "percent", "CHARGING", "2026-11-16T11:00:00Z", "SUCCESS", "COMPATIBILITY"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
BODY = ODD | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("value", "unit", "latitude", "longitude", "heading", "values", "status"), ODD)
)
META = ODD | st.fixed_dictionaries({}, optional=dict.fromkeys(("oemUpdatedAt", "retrievedAt"), ODD))
CODE = st.sampled_from([*SIGNALS, "closure-doors"])


def check(page: Page) -> None:
    """Hold what was read against what the database can store."""
    for reading in page.readings:
        assert reading.time.tzinfo is not None
        assert (reading.latitude is None) == (reading.longitude is None)
    for aside in page.rejected:
        assert len(aside.payload.encode()) <= 4096
        assert "\0" not in aside.payload + aside.field + aside.reason
    msgspec.json.encode([*page.readings, *page.ev_readings, *page.fault_reports, *page.rejected])


@given(st.lists(st.tuples(CODE, BODY, META, ODD), max_size=4))
def test_signals(told: list[tuple[str, Any, Any, Any]]) -> None:
    resources = [
        {"attributes": {"code": code, "body": body, "status": {"value": "SUCCESS"} if len(told) % 2 else status}}
        | {"meta": meta}
        for code, body, meta, status in told
    ]
    values = Values("v", NOW)
    take_resources(values, decode_answer(msgspec.json.encode({"data": resources})).data)
    check(values.page(None, False))


@given(
    st.lists(
        st.fixed_dictionaries({"path": st.sampled_from(PATHS) | st.text(), "code": st.just(200) | ODD, "body": BODY})
        | ODD
    )
)
def test_batches(items: list[Any]) -> None:
    values = Values("v", NOW)
    try:
        take_batch(values, msgspec.json.encode({"responses": items}), "POST x /batch")
    except IntegrationError:
        return
    check(values.page(None, False))


@given(
    st.binary(max_size=200) | ODD.map(msgspec.json.encode) | st.dictionaries(st.text(), ODD).map(msgspec.json.encode)
)
def test_bodies_of_any_kind(body: bytes) -> None:
    judged = judge(Refusal(500, {}, body, "GET x /y"))
    assert judged is None or isinstance(judged, IntegrationError)
    for read in (lambda: read_connections(body, 1, "u"), lambda: read_ids(body, 0), lambda: decode_answer(body)):
        with suppress(*BROKEN):
            read()
    webhooks = SmartcarWebhooks()
    for ask in (lambda: webhooks.verify(body, {}, "secret", NOW), lambda: webhooks.read(body, NOW)):
        with suppress(WebhookRefused):
            ask()


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("eventId", "eventType", "data", "meta", "vehicleId"), ODD)))
def test_pushes(told: dict[str, Any]) -> None:
    try:
        check(SmartcarWebhooks().read(msgspec.json.encode(told), NOW).page)
    except WebhookRefused:
        return


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64))
def test_an_id_is_unpacked_as_it_was_packed(vehicle_id: str) -> None:
    assert unpack_id(pack_id(vehicle_id)) == vehicle_id


@given(st.text(max_size=60) | ODD.map(lambda told: msgspec.json.encode(told).decode()))
def test_a_cursor_is_read_or_refused(cursor: str) -> None:
    try:
        schedule = Schedule(cursor)
    except CursorRefused:
        return
    assert Schedule(schedule.write()).due == schedule.due


@pytest.mark.parametrize("depth", [100, 10_000, 1_000_000])
def test_depth_ends_in_a_refusal(depth: int) -> None:
    with pytest.raises(BROKEN):
        decode_answer(b'{"data":' + b"[" * depth)
