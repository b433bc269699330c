"""Real tracks and real places, where this checkout lies beside them; their licences keep them out of the repository."""

import csv
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("FLEET_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")


def _path(name: str) -> Path:
    if not (FOLDER / name).exists():
        pytest.skip(f"{FOLDER / name} is not there: FLEET_TEST_DATA names another folder")
    return FOLDER / name


def buses() -> dict[str, list[tuple[datetime, float, float]]]:
    """Return time, latitude, longitude of the fixes of each of 8 buses in Liverpool, in time order."""
    tracks: dict[str, dict[datetime, tuple[float, float]]] = {}
    with _path("liverpool_buses.csv").open() as file:
        for row in csv.DictReader(file):
            time = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)
            fix = (float(row["latitude"]), float(row["longitude"]))
            tracks.setdefault(row["vehicle_id"], {}).setdefault(time, fix)
    return {bus: [(time, *fixes[time]) for time in sorted(fixes)] for bus, fixes in tracks.items()}


def neighbourhoods() -> dict[str, dict[str, Any]]:
    """Return the boundaries of San Francisco's neighbourhoods, by name."""
    features = json.loads(_path("san_francisco_neighbourhoods.geojson").read_text())["features"]
    return {feature["properties"]["name"]: feature["geometry"] for feature in features}
