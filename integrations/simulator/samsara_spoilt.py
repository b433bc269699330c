"""Bad fault reports and bad safety events, to be added to good pages: each is one record that cannot be read."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

Record = dict[str, Any]
_AHEAD = timedelta(days=365)


def _without(*keys: str) -> Callable[[Record], Record]:
    return lambda record: {key: value for key, value in record.items() if key not in keys}


def _ahead(record: Record) -> Record:
    key = _time_of(record)
    return record | {key: (datetime.fromisoformat(record[key]) + _AHEAD).isoformat()}


def _time_of(record: Record) -> str:
    return "startMs" if "startMs" in record else "time"


REPORT_FAULTS: dict[str, Callable[[Record], Record]] = {
    "missing_time": _without("time"),
    "future_time": _ahead,
    "wrong_types": lambda report: report | {key: "none" for key in ("j1939", "obdii") if key in report},
    "nul": lambda report: report | {"time": "\0"},
}
EVENT_FAULTS: dict[str, Callable[[Record], Record]] = {
    "missing_time": _without("startMs", "time"),
    "future_time": _ahead,
    "wrong_types": lambda event: event | {key: {"id": 17} for key in ("asset", "vehicle") if key in event},
    "nul": lambda event: event | {"id": f"{event['id']}\0"},
    "duplicate": lambda event: event,
}
