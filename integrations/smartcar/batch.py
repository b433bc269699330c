"""The batch of v2.0 into the same signals: a code for each item, whatever the status of the whole.

Source: smartcar.com/docs/api-reference (v2.0), read 2026-11. Percent is 0 to 1 here; the age is a header of each item.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from integrations.bounds import BROKEN
from integrations.errors import IntegrationError
from integrations.smartcar.refusals import VehicleRefused, Verdict, failure
from integrations.smartcar.values import BadValue, Record, Values

PATHS = ("/location", "/odometer", "/fuel", "/battery", "/charge")
"""What a vehicle is asked; each counts as a request of the vehicle. The order is kept in cursors, as bits."""


class _Item(msgspec.Struct):
    path: str
    code: int
    body: Any = None
    headers: dict[str, Any] = {}

    @property
    def field(self) -> str:
        """How what is set aside names it: only paths that we know are repeated."""
        return self.path if self.path in PATHS else "responses"


class _Answer(msgspec.Struct):
    responses: list[msgspec.Raw]


_decode = msgspec.json.Decoder(_Answer).decode
_decode_item = msgspec.json.Decoder(_Item).decode


def take_batch(values: Values, body: bytes, request: str) -> list[str]:
    """Take the items of a batch. Returns the paths that this vehicle will never answer.

    Raises:
        One of `BROKEN`: no batch at all. IntegrationError: an item says something of the account, or no item says
        anything better of the vehicle.
    """
    never: list[str] = []
    failures: list[IntegrationError] = []
    taken = 0
    for raw in map(bytes, itertools.islice(_decode(body).responses, 2 * len(PATHS))):
        try:
            item = _decode_item(raw)
        except BROKEN:
            values.refuse("wrong_type", "responses", raw)
            continue
        if item.code == 200:
            taken += 1
            _take(values, item, raw)
            continue
        error = _failure(item, request)
        if isinstance(error, VehicleRefused) and error.verdict is Verdict.NEXT_DAY and item.path in PATHS:
            never.append(item.path)
            if error.type != "COMPATIBILITY":
                told = msgspec.json.encode({"path": item.path, "type": error.type, "error": error.code})
                values.refuse("not_permitted", item.path, told)
        elif error is not None:
            failures.append(error)
        else:
            values.refuse("item_failed", item.field, raw)
    of_account = [error for error in failures if not isinstance(error, VehicleRefused)]
    if of_account or (failures and not taken):
        raise (of_account or failures)[0]
    return never


def read_attributes(body: bytes) -> dict[str, Any]:
    """Return what `/` and `/vin` of a batch say; what they refuse is absent. Raises: one of `BROKEN`."""
    told: dict[str, Any] = {}
    for raw in map(bytes, itertools.islice(_decode(body).responses, 2)):
        item = _decode_item(raw)
        if item.code == 200 and isinstance(item.body, dict):
            told |= item.body
    return told


def _failure(item: _Item, request: str) -> IntegrationError | None:
    if not isinstance(item.body, dict):
        return None
    type_, code = item.body.get("type"), item.body.get("code")
    if not isinstance(type_, str):
        return None
    headers = {name.lower(): str(value) for name, value in item.headers.items()}
    return failure(type_, code if isinstance(code, str) else "", request, headers)


def _take(values: Values, item: _Item, raw: bytes) -> None:
    if not isinstance(item.body, dict):
        values.refuse("wrong_type", f"{item.field}.body", raw)
        return
    headers = {name.lower(): value for name, value in item.headers.items()}
    try:
        at = values.instant(headers.get("sc-data-age"), headers.get("sc-fetched-at"))
    except BadValue as bad:
        values.refuse(bad.reason, f"{item.field}.sc-data-age", raw)
        return
    unit = "miles" if headers.get("sc-unit-system") == "imperial" else "kilometers"
    for code, body in _as_signals(item.path, item.body, unit):
        values.take(Record(code, body, at, raw))


def _as_signals(path: str, body: Mapping[str, Any], unit: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    match path:
        case "/location":
            yield "location-preciselocation", body
        case "/odometer":
            yield "odometer-traveleddistance", {"value": body.get("distance"), "unit": unit}
        case "/fuel":
            yield "internalcombustionengine-fuellevel", _percent(body.get("percentRemaining"))
        case "/battery":
            yield "tractionbattery-stateofcharge", _percent(body.get("percentRemaining"))
            yield "tractionbattery-range", {"value": body.get("range"), "unit": unit}
        case "/charge":
            yield "charge-detailedchargingstatus", {"value": body.get("state")}


def _percent(told: object) -> Mapping[str, Any]:
    is_number = isinstance(told, int | float) and not isinstance(told, bool)
    return {"value": told * 100 if is_number else told, "unit": "percent"}  # type: ignore[operator]
