"""The simulated Smartcar's words: signals, batch items, refusals, and how a good answer is spoilt."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from starlette.responses import JSONResponse, Response

from integrations.simulator.smartcar_fleet import Signal

_MILES_PER_KM = 1 / 1.609344
_FOREIGN = "00000000-0000-4000-8000-00000000f0e1"


def signal_resource(signal: Signal, now_ms: int) -> dict[str, Any]:
    """Return a signal as v3 words it."""
    return {
        "id": signal.code,
        "type": "signal",
        "attributes": {"code": signal.code, "status": {"value": "SUCCESS"}, "body": signal.body},
        "meta": {"oemUpdatedAt": signal.at_ms, "retrievedAt": now_ms},
    }


def batch_item(
    path: str, said: Mapping[str, Signal], papers: Mapping[str, Any], now_ms: int, unit_system: str
) -> dict[str, Any]:
    """Return one item of a batch of v2.0."""
    if path in ("/", "/vin"):
        vin = said["vehicleidentification-vin"].body["value"]
        return {"path": path, "code": 200, "body": dict(papers) if path == "/" else {"vin": vin}, "headers": {}}
    code = _SIGNAL_OF_PATH.get(path, "")
    if code not in said:
        return {"path": path, "code": 501, "headers": {}, "body": _error("COMPATIBILITY", "VEHICLE_NOT_CAPABLE", 501)}
    miles = _MILES_PER_KM if unit_system == "imperial" else 1.0
    value: Any = said[code].body.get("value", 0)
    body: dict[str, Any]
    match path:
        case "/location":
            body = {name: said[code].body[name] for name in ("latitude", "longitude")}
        case "/odometer":
            body = {"distance": value * miles}
        case "/fuel":
            body = {"percentRemaining": value / 100, "amountRemaining": None, "range": None}
        case "/battery":
            body = {"percentRemaining": value / 100, "range": said["tractionbattery-range"].body["value"] * miles}
        case _:
            body = {"isPluggedIn": value, "state": "CHARGING" if value else "NOT_CHARGING"}
    headers = {"sc-data-age": _iso(said[code].at_ms), "sc-fetched-at": _iso(now_ms), "sc-unit-system": unit_system}
    return {"path": path, "code": 200, "body": body, "headers": headers}


_SIGNAL_OF_PATH = {
    "/location": "location-preciselocation",
    "/odometer": "odometer-traveleddistance",
    "/fuel": "internalcombustionengine-fuellevel",
    "/battery": "tractionbattery-stateofcharge",
    "/charge": "charge-ischarging",
}


def _error(type_: str, code: str | None, status: int) -> dict[str, Any]:
    told = {"type": type_, "code": code, "description": "as asked for", "statusCode": status}
    return told | {"requestId": str(uuid4()), "resolution": {"type": None}}


def _refusing(type_: str, code: str | None, status: int) -> Callable[[float | None], Response]:
    def refuse(retry_after_s: float | None) -> Response:
        headers = None if retry_after_s is None else {"retry-after": f"{retry_after_s:g}"}
        return JSONResponse(_error(type_, code, status), status, headers)

    return refuse


def _refusing_v3(code: str, status: int) -> Callable[[float | None], Response]:
    def refuse(_: float | None) -> Response:
        error = {"status": str(status), "code": code, "title": "refused", "detail": "as asked for"}
        return JSONResponse({"errors": [error]}, status)

    return refuse


REFUSALS: dict[str, Callable[[float | None], Response]] = {
    "authentication": _refusing("AUTHENTICATION", None, 401),
    "missing_user": _refusing("VALIDATION", "MISSING_PARAMETER", 400),
    "not_found": _refusing("RESOURCE_NOT_FOUND", "VEHICLE_NOT_FOUND", 404),
    "permission": _refusing("PERMISSION", None, 403),
    "account_failed": _refusing("CONNECTED_SERVICES_ACCOUNT", "AUTHENTICATION_FAILED", 400),
    "vehicle_missing": _refusing("CONNECTED_SERVICES_ACCOUNT", "VEHICLE_MISSING", 400),
    "asleep": _refusing("VEHICLE_STATE", "ASLEEP", 409),
    "not_capable": _refusing("COMPATIBILITY", "VEHICLE_NOT_CAPABLE", 501),
    "v3_not_capable": _refusing_v3("VEHICLE_NOT_CAPABLE", 501),
    "v3_unauthenticated": _refusing_v3("INVALID_TOKEN", 401),
    "application_rate": _refusing("RATE_LIMIT", "SMARTCAR_API", 429),
    "vehicle_rate": _refusing("RATE_LIMIT", "VEHICLE", 429),
    "upstream_rate": _refusing("UPSTREAM", "RATE_LIMIT", 502),
    "upstream": _refusing("UPSTREAM", "NO_RESPONSE", 502),
    "vehicle_request_limit": _refusing("BILLING", "VEHICLE_REQUEST_LIMIT", 430),
    "vehicle_limit": _refusing("BILLING", "VEHICLE_LIMIT", 430),
    "suspended": _refusing("BILLING", "ACCOUNT_SUSPENDED", 430),
    "server": _refusing("SERVER", None, 500),
}


def _each_signal(told: dict[str, Any], code: str, change: Callable[[dict[str, Any]], None]) -> None:
    for resource in told["data"]:
        if resource["attributes"]["code"] == code:
            change(resource)


def _wrong_type(told: dict[str, Any]) -> None:
    _each_signal(told, "odometer-traveleddistance", lambda r: r["attributes"]["body"].update(value="far"))


def _unknown_unit(told: dict[str, Any]) -> None:
    _each_signal(told, "odometer-traveleddistance", lambda r: r["attributes"]["body"].update(unit="furlongs"))


def _impossible(told: dict[str, Any]) -> None:
    _each_signal(told, "location-preciselocation", lambda r: r["attributes"]["body"].update(latitude=91.0))


def _future(told: dict[str, Any]) -> None:
    _each_signal(told, "location-preciselocation", lambda r: r["meta"].update(oemUpdatedAt=9_000_000_000_000))


def _no_age(told: dict[str, Any]) -> None:
    for resource in told["data"]:
        resource["meta"] = {}


def _foreign_vehicle(told: dict[str, Any]) -> None:
    told["included"]["vehicle"]["id"] = _FOREIGN


def _signal_error(told: dict[str, Any]) -> None:
    def fail(resource: dict[str, Any]) -> None:
        resource["attributes"]["status"] = {"value": "ERROR", "error": {"type": "PERMISSION", "code": None}}

    _each_signal(told, "location-preciselocation", fail)


def _not_a_list(told: dict[str, Any]) -> None:
    told["data"] = {"odometer": 1}


SPOILS: dict[str, Callable[[dict[str, Any]], None]] = {
    "wrong_type": _wrong_type,
    "unknown_unit": _unknown_unit,
    "impossible": _impossible,
    "future": _future,
    "no_age": _no_age,
    "foreign_vehicle": _foreign_vehicle,
    "signal_error": _signal_error,
    "not_a_list": _not_a_list,
}


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
