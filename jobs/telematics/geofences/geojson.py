"""Fences in a GeoJSON file: read feature by feature, each taken or refused with its reason; and written again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import shapely

from db.queries.geofence_drawings import Drawing, DrawnFence
from jobs.telematics.geofences.shapes import Circle, ShapeError, normalise

MOST_BYTES = 64 * 1024 * 1024
MOST_FEATURES = 10_000
_LONGEST_NAME = 200
_MOST_RECIPIENTS = 50


@dataclass(frozen=True, slots=True)
class Refused:
    """A feature that is no fence: its number in the file, its name where it has one, and why."""

    index: int
    name: str | None
    reason: str


@dataclass
class Read:
    """What a file brings."""

    drawings: list[Drawing] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    mended: int = 0


def read_features(content: bytes, *, name_property: str = "name", mend: bool = False) -> Read:
    """Read a FeatureCollection, a Feature or a bare geometry.

    Args:
        name_property: which property is the fence's name.
        mend: make valid what crosses itself instead of refusing it.

    Raises:
        ShapeError: it is no GeoJSON at all, or larger than what is read at once.
    """
    if len(content) > MOST_BYTES:
        raise ShapeError("file", f"is larger than {MOST_BYTES // 1024**2} MB")
    try:
        told = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ShapeError("file", f"is no JSON: {str(error)[:200]}") from None
    read = Read()
    names: set[str] = set()
    for index, feature in enumerate(_list_features(told)):
        name: str | None = None
        try:
            properties = _properties(feature)
            name = _name(properties, name_property)
            if name in names:
                raise ShapeError(f"properties.{name_property}", "another feature of this file has this name")
            shape, was_mended = _shape(feature.get("geometry"), properties, mend)
            read.drawings.append(Drawing(name, **shape, options=_options(properties)))
        except ShapeError as error:
            read.refused.append(Refused(index, name, str(error)))
        else:
            names.add(name)
            read.mended += was_mended
    return read


def write_features(fences: Sequence[DrawnFence]) -> bytes:
    """Return fences as a FeatureCollection that `read_features` reads again."""
    return msgspec.json.encode({"type": "FeatureCollection", "features": [_feature(fence) for fence in fences]})


def _feature(fence: DrawnFence) -> dict[str, Any]:
    properties: dict[str, Any] = {"name": fence.name, **{name: getattr(fence, name) for name in OPTIONS}}
    geometry: Any = fence.boundary
    if fence.kind == "circle":
        geometry = {"type": "Point", "coordinates": [fence.center_longitude, fence.center_latitude]}
        properties["radius_m"] = fence.radius_m
    return {"type": "Feature", "id": str(fence.id), "geometry": geometry, "properties": properties}


def _list_features(told: Any) -> Iterator[Any]:
    kind = told.get("type") if isinstance(told, dict) else None
    if kind == "FeatureCollection":
        features = told.get("features")
        if not isinstance(features, list):
            raise ShapeError("features", "expected an array")
        if len(features) > MOST_FEATURES:
            raise ShapeError("features", f"more than {MOST_FEATURES:,}")
        yield from features
    elif kind == "Feature":
        yield told
    elif isinstance(kind, str):
        yield {"type": "Feature", "geometry": told, "properties": told.get("properties") or {}}
    else:
        raise ShapeError("type", "expected a FeatureCollection, a Feature or a geometry")


def _properties(feature: Any) -> dict[str, Any]:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise ShapeError("type", "expected a Feature")
    properties = feature.get("properties") or {}
    if not isinstance(properties, dict):
        raise ShapeError("properties", "expected an object")
    return properties


def _name(properties: dict[str, Any], name_property: str) -> str:
    field_name = f"properties.{name_property}"
    name = properties.get(name_property)
    if not isinstance(name, str) or not name.strip():
        raise ShapeError(field_name, "missing: every fence has a name; --name-property says where it is")
    if len(name.strip()) > _LONGEST_NAME:
        raise ShapeError(field_name, f"longer than {_LONGEST_NAME} characters")
    if "\0" in name:
        raise ShapeError(field_name, "holds a character that no text holds")
    return name.strip()


def _shape(geometry: Any, properties: dict[str, Any], mend: bool) -> tuple[dict[str, Any], bool]:
    """Return the shape's columns, and whether it had to be mended."""
    if not isinstance(geometry, dict):
        raise ShapeError("geometry", "missing")
    if geometry.get("type") == "Point":
        return _circle(geometry, properties.get("radius_m")), False
    if geometry.get("type") not in ("Polygon", "MultiPolygon"):
        raise ShapeError("geometry.type", "expected Polygon, MultiPolygon, or Point with properties.radius_m")
    try:
        return {"kind": "polygon", "boundary": normalise(geometry)}, False
    except ShapeError as error:
        mended = _mend(geometry) if mend and error.reason.startswith("crosses") else None
        if mended is None:
            raise
        return {"kind": "polygon", "boundary": normalise(mended)}, True


def _mend(geometry: dict[str, Any]) -> dict[str, Any] | None:
    """Return a geometry without self-crossings that covers the same places; None where nothing is left."""
    valid = shapely.make_valid(shapely.geometry.shape(geometry), method="structure")
    parts = [part for part in shapely.get_parts(valid) if part.geom_type == "Polygon" and part.area > 0]
    rings = [[[list(xy) for xy in ring.coords] for ring in (part.exterior, *part.interiors)] for part in parts]
    return {"type": "MultiPolygon", "coordinates": rings} if rings else None


def _circle(geometry: dict[str, Any], radius_m: Any) -> dict[str, Any]:
    if isinstance(radius_m, bool) or not isinstance(radius_m, int | float):
        raise ShapeError("properties.radius_m", "a Point is a circle: expected its radius in metres")
    center = geometry.get("coordinates")
    if not isinstance(center, list) or len(center) < 2:
        raise ShapeError("geometry.coordinates", "expected [longitude, latitude]")
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in center[:2]):
        raise ShapeError("geometry.coordinates", "expected two numbers")
    circle = Circle(center[1], center[0], radius_m)
    return {
        "kind": "circle",
        "center_latitude": circle.latitude,
        "center_longitude": circle.longitude,
        "radius_m": circle.radius_m,
    }


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_list_of_recipients(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_RECIPIENTS
        and all(isinstance(each, str) and 0 < len(each) <= 320 and "\0" not in each for each in value)
    )


def _is_whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_distance(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 10_000


OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "alert_on_entry": (_is_flag, "expected true or false"),
    "alert_on_exit": (_is_flag, "expected true or false"),
    "alert_recipients": (_is_list_of_recipients, f"expected up to {_MOST_RECIPIENTS} addresses"),
    "confirm_fixes": (_is_whole(1, 10), "expected 1 to 10"),
    "exit_distance_m": (_is_distance, "expected 0 to 10,000 metres"),
    "dwell_s": (lambda value: value is None or _is_whole(1, 2_592_000)(value), "expected 1 to 2,592,000 seconds"),
    "is_active": (_is_flag, "expected true or false"),
}
"""The properties of a feature that are options of its fence, and what they may be."""


def _options(properties: dict[str, Any]) -> dict[str, Any]:
    given = {name: properties[name] for name in OPTIONS if name in properties}
    for name, value in given.items():
        is_good, expected = OPTIONS[name]
        if not is_good(value):
            raise ShapeError(f"properties.{name}", expected)
    return given
