"""The signals of v3 and of webhooks into values: each is read alone, and a bad one costs only itself.

Source: smartcar.com/docs/api-reference/get-signals and .../webhooks/events, read 2026-11. In an answer a signal's words
are under `attributes`, in a push they are not.
"""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from integrations.bounds import BROKEN
from integrations.smartcar.refusals import Verdict, verdict_of
from integrations.smartcar.values import SIGNALS, BadValue, Record, Values

_PAGING = ("page", "pageSize", "page[number]", "page[size]")
_MOST_SIGNALS = 1000
_MOST_PAGES = 20


class _Fault(msgspec.Struct):
    type: str = ""
    code: str | None = None


class _Status(msgspec.Struct):
    value: str = "SUCCESS"
    error: _Fault | None = None


class _Times(msgspec.Struct, rename="camel"):
    oem_updated_at: Any = None
    retrieved_at: Any = None
    fetched_at: Any = None


class _Signal(msgspec.Struct):
    """A signal of a push; in an answer these are its attributes, and `meta` stands beside them."""

    code: str
    body: dict[str, Any] | None = None
    status: _Status | None = None
    meta: _Times | None = None


class _Resource(msgspec.Struct):
    attributes: _Signal
    meta: _Times | None = None


class _Links(msgspec.Struct):
    next: str | None = None


class _Vehicle(msgspec.Struct):
    id: str | None = None


class _Included(msgspec.Struct):
    vehicle: _Vehicle | None = None


class SignalsAnswer(msgspec.Struct):
    """A page of a vehicle's signals, of which nothing is believed but its outline."""

    data: list[msgspec.Raw]
    links: _Links | None = None
    included: _Included | None = None

    @property
    def vehicle_id(self) -> str | None:
        """Whose signals these are, where the answer says it."""
        return self.included.vehicle.id if self.included and self.included.vehicle else None

    @property
    def next_page(self) -> dict[str, str]:
        """The query of the next page, empty where this is the last. Only numbers are taken over, never a URL."""
        link = self.links.next if self.links else None
        try:
            told = parse_qsl(urlsplit(link).query)[:20] if link else []
        except ValueError:
            return {}
        found = {name: value for name, value in told if name in _PAGING and re.fullmatch(r"[0-9]{1,5}", value)}
        return found if 0 < int(found.get("page") or found.get("page[number]") or 0) <= _MOST_PAGES else {}


decode_answer = msgspec.json.Decoder(SignalsAnswer).decode
_decode_resource = msgspec.json.Decoder(_Resource).decode
_decode_signal = msgspec.json.Decoder(_Signal).decode


def take_resources(values: Values, resources: Iterable[msgspec.Raw]) -> None:
    """Take the signals of an answer."""
    for raw in map(bytes, list(resources)[:_MOST_SIGNALS]):
        try:
            resource = _decode_resource(raw)
        except BROKEN:
            values.refuse("wrong_type", "signal", raw)
            continue
        _take(values, resource.attributes, resource.meta or resource.attributes.meta, raw)


def take_pushed(values: Values, signals: Iterable[msgspec.Raw]) -> None:
    """Take the signals of a push."""
    for raw in map(bytes, list(signals)[:_MOST_SIGNALS]):
        try:
            signal = _decode_signal(raw)
        except BROKEN:
            values.refuse("wrong_type", "signal", raw)
            continue
        _take(values, signal, signal.meta, raw)


def read_vin(resource: bytes) -> str | None:
    """Return the VIN that one signal says. Raises: one of `BROKEN`."""
    told = (_decode_resource(resource).attributes.body or {}).get("value")
    return told.strip().upper()[:200] or None if isinstance(told, str) and "\0" not in told else None


def _take(values: Values, signal: _Signal, times: _Times | None, raw: bytes) -> None:
    if signal.code not in SIGNALS:
        return
    status = signal.status or _Status()
    if status.value != "SUCCESS":
        _note(values, signal.code, status, raw)
        return
    if signal.body is None:
        return
    times = times or _Times()
    try:
        at = values.instant(times.oem_updated_at, times.retrieved_at, times.fetched_at)
    except BadValue as bad:
        values.refuse(bad.reason, f"{signal.code}.oemUpdatedAt", raw)
        return
    values.take(Record(signal.code, signal.body, at, raw))


def _note(values: Values, code: str, status: _Status, raw: bytes) -> None:
    """Keep why a signal has no value, unless this vehicle never has one or is only asleep."""
    error = status.error or _Fault()
    if error.type in ("COMPATIBILITY", "VEHICLE_STATE") or status.value == "UNAVAILABLE":
        return
    verdict = verdict_of(error.type, error.code)
    is_refused = verdict is Verdict.NEXT_DAY or error.type == "PERMISSION"
    told = msgspec.json.encode({"code": code, "type": error.type[:64], "error": (error.code or "")[:64]})
    values.refuse("not_permitted" if is_refused else "signal_failed", code, told)
