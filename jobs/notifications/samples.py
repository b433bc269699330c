"""What a preview shows: an invented alert of every kind, with everything that a real one may carry."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from db.queries.deliveries import Notice
from db.queries.folded import Folded, Line

AT = datetime(2026, 11, 20, 6, 32, tzinfo=UTC)
_ID = UUID("0193f1a0-0000-7000-8000-000000000001")
_SERVICE: dict[str, Any] = {
    "schedule_id": str(_ID),
    "schedule_name": "Oil change",
    "vehicle_id": str(_ID),
    "vehicle_name": "Van 12",
    "work_order_id": str(_ID),
    "work_order_number": "WO-000042",
    "status": "due",
    "reason": "Oil change: 15,020 of 15,000 km",
    "due_on": "2026-11-24",
    "due_km": 120000.0,
    "due_engine_hours": None,
    "predicted_on": "2026-11-20",
    "vendor_name": "Garage Lindner",
    "checklist": ["Change oil and filter", "Check the brake fluid", "Look for leaks below the engine"],
}
_FLAGGED = "completed without an odometer: the distance counts from the next reading"
_EARLIER = (AT - timedelta(minutes=25)).isoformat()
_DETAILS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "offline": (
        "connectivity",
        "medium",
        {"last_reported_at": (AT - timedelta(minutes=42)).isoformat(), "threshold_s": 1800},
    ),
    "connection_silent": (
        "connectivity",
        "high",
        {
            "state": "not_read",
            "silent": 412,
            "vehicles": 480,
            "last_reported_at": _EARLIER,
            "last_synced_at": _EARLIER,
        },
    ),
    "connection_rejected": ("connectivity", "high", {}),
    "low_fuel": (
        "vehicle_health",
        "medium",
        {"percent": 8.5, "threshold_percent": 15, "measured_at": AT.isoformat()},
    ),
    "low_battery": (
        "vehicle_health",
        "medium",
        {"percent": 11.0, "threshold_percent": 20, "measured_at": AT.isoformat()},
    ),
    "fault_code": ("vehicle_health", "critical", {"code": "P0217", "protocol": "obdii", "source": ""}),
    "safety_event": ("safety", "critical", {"kind": "crash"}),
    "geofence_entry": ("geofence", "medium", {"geofence": "Depot North", "time": AT.isoformat()}),
    "geofence_exit": ("geofence", "medium", {"geofence": "Depot North", "time": AT.isoformat()}),
    "maintenance_due_soon": (
        "maintenance",
        "low",
        _SERVICE
        | {"work_order_id": None, "work_order_number": None, "status": "due_soon"}
        | {"reason": "Oil change: 14,600 of 15,000 km", "due_on": "2026-12-18", "predicted_on": "2026-12-01"},
    ),
    "maintenance_due": ("maintenance", "medium", _SERVICE),
    "maintenance_overdue": (
        "maintenance",
        "high",
        _SERVICE
        | {"status": "overdue", "reason": "Oil change: 15,820 of 15,000 km; due since 2026-11-03"}
        | {"due_on": "2026-11-03", "predicted_on": "2026-11-03"},
    ),
    "maintenance_meter_quarantined": (
        "maintenance",
        "medium",
        {
            "vehicle_id": str(_ID),
            "vehicle_name": "Van 12",
            "meter": "odometer_km",
            "value": 220180.4,
            "read_at": _EARLIER,
            "reason": "jumps by 100160.4 in 1.0 days",
        },
    ),
    "work_order_opened": (
        "maintenance",
        "high",
        {
            "work_order_id": str(_ID),
            "work_order_number": "WO-000043",
            "title": "Brake pads worn",
            "source": "inspection",
            "reason": "Front left below 3 mm",
        },
    ),
    "work_order_flagged": (
        "maintenance",
        "low",
        {name: _SERVICE[name] for name in ("schedule_id", "schedule_name", "vehicle_id", "vehicle_name")}
        | {"work_order_id": str(_ID), "work_order_number": "WO-000042", "status": "completed", "reason": _FLAGGED},
    ),
    "endpoint_disabled": ("other", "high", {"name": "ERP", "reason": "it answered 410 Gone"}),
    "alert": ("other", "medium", {}),
    "summary": ("connectivity", "high", {}),
    "digest": ("all", "high", {}),
    "test": ("other", "low", {}),
}
_MESSAGES = {"fault_code": "Van 12 reports fault code P0217: Engine overheating"}
KINDS = tuple(_DETAILS)
"""Every kind that has words of its own; `alert` stands for all others."""
RAISED = tuple(kind for kind in KINDS if kind not in ("alert", "summary", "digest", "test"))
"""Of these the alerts that the platform raises."""


def sample(kind: str, locale: str = "en", *, tenant: str = "Lindner Logistics", zone: str = "Europe/Berlin") -> Notice:
    """Return a notification of a kind, to a reader on the clock of `zone`."""
    category, severity, details = _DETAILS[kind]
    of_vehicle = category not in ("connectivity",) or kind == "offline"
    return Notice(
        id=_ID,
        tenant_id=_ID,
        tenant=tenant,
        channel="email",
        address="fleet.manager@example.com",
        endpoint_id=None,
        is_named=kind == "test",
        category=category,
        kind=kind,
        severity=severity,
        attempts=1,
        created_at=AT,
        expires_at=AT + timedelta(days=1),
        locale=locale,
        tenant_locale="en",
        time_zone=zone,
        tenant_zone="UTC",
        units=None,
        alert_id=None if kind in ("summary", "digest", "test") else _ID,
        subject=f"vehicle:{_ID}",
        message=_MESSAGES.get(kind, "The rear door of Van 12 has been open for 20 minutes"),
        details=details,
        opened_at=AT,
        resolved_at=None,
        vehicle="Van 12" if of_vehicle else None,
        connection=None if of_vehicle else "Samsara main account",
        provider=None if of_vehicle else "samsara",
    )


def sample_folded(kind: str) -> Folded | None:
    """Return what was folded into a sample; None where it is of a kind that folds nothing."""
    if kind == "summary":
        offline = [_line("offline", number) for number in range(1, 19)]
        counts = {("connectivity", "connection_silent"): 2, ("connectivity", "offline"): 498}
        return Folded(counts, [_line("connection_silent", 1), _line("connection_silent", 2), *offline])
    if kind == "digest":
        told = {"maintenance_overdue": (3, 12), "work_order_opened": (7,), "maintenance_due": (2, 4, 31)}
        told |= {"low_fuel": (9,), "geofence_exit": (5,), "offline": (1, 6)}
        counts = {(_DETAILS[each][0], each): len(vans) for each, vans in told.items()}
        return Folded(counts, [_line(each, van) for each, vans in told.items() for van in vans])
    return None


def _line(kind: str, number: int) -> Line:
    category, severity, details = _DETAILS[kind]
    at = AT - timedelta(minutes=30 + 3 * number)
    told = dict(details)
    if kind == "offline":
        told["last_reported_at"] = at.isoformat()
    if told.get("work_order_number"):
        told["work_order_number"] = f"WO-{40 + number:06d}"
    of_vehicle = kind != "connection_silent"
    connection = None if of_vehicle else ("Samsara main account", "Samsara south")[number - 1]
    vehicle = f"Van {number}" if of_vehicle else None
    return Line(category, kind, severity, _ID, None, None, told, at, vehicle, connection, None)
