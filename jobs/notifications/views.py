"""What there is to say of each kind of alert: a title, a sentence, and facts. No markup, no templates."""

import re
from collections.abc import Callable
from datetime import date

from jobs.notifications.telling import LONGEST_NAME, LONGEST_TEXT, Happening, Telling, View, clip
from jobs.notifications.words import Words

_MOST_STEPS = 20


def view_of(happening: Happening, words: Words, tenant: str) -> View:
    """Return what is said of an alert; of a kind that has no words of its own, its own message."""
    return _VIEWS.get(happening.kind, _plain)(Telling(happening, words, tenant))


def _plain(telling: Telling) -> View:
    message = clip(telling.of.message or telling.of.kind.replace("_", " "), LONGEST_TEXT)
    lead = message if len(message) > LONGEST_NAME else telling.words.t("alert.lead", tenant=telling.tenant)
    vehicle = telling.vehicle if telling.of.vehicle else None
    return telling.view(clip(message), lead, ("vehicle", vehicle), ("time", telling.opened))


def _offline(telling: Telling) -> View:
    t, when = telling.words.t, telling.moment("last_reported_at")
    lead = t("offline.lead", when=when) if when else t("offline.lead_unknown")
    return telling.view(
        t("offline.title", vehicle=telling.vehicle),
        lead,
        ("vehicle", telling.vehicle),
        ("last_report", when),
        brief=when or telling.opened or "",
    )


def _connection(telling: Telling) -> View:
    t, kind = telling.words.t, telling.of.kind
    name = clip(telling.of.connection) if telling.of.connection else t("word.some_connection")
    silent, vehicles = telling.number("silent"), telling.number("vehicles")
    share = None
    if silent is not None and vehicles is not None:
        share = t("word.of", part=telling.words.number(silent), whole=telling.words.number(vehicles))
    return telling.view(
        t(f"{kind}.title", connection=name),
        t(f"{kind}.lead"),
        ("connection", name),
        ("provider", clip(telling.of.provider) if telling.of.provider else None),
        ("silent", share),
        ("last_report", telling.moment("last_reported_at")),
        ("since", telling.opened),
    )


def _level(telling: Telling) -> View:
    t, kind = telling.words.t, telling.of.kind
    level = telling.percent("percent")
    return telling.view(
        t(f"{kind}.title", vehicle=telling.vehicle, level=level or "?"),
        t(f"{kind}.lead"),
        ("vehicle", telling.vehicle),
        ("level", level),
        ("limit", telling.percent("threshold_percent")),
        ("measured", telling.moment("measured_at") or telling.opened),
    )


def _fault(telling: Telling) -> View:
    t = telling.words.t
    code = telling.text("code", longest=40) or "?"
    description = telling.text("description")
    if description is None and telling.of.message and f"{code}: " in telling.of.message:
        description = clip(telling.of.message.partition(f"{code}: ")[2], LONGEST_TEXT)
    return telling.view(
        t("fault_code.title", vehicle=telling.vehicle, code=code),
        t("fault_code.lead"),
        ("vehicle", telling.vehicle),
        ("code", code),
        ("description", description),
        ("first_seen", telling.opened),
        brief=description or telling.opened or "",
    )


def _safety(telling: Telling) -> View:
    t = telling.words.t
    event = (telling.text("kind", longest=LONGEST_NAME) or t("kind.safety_event")).replace("_", " ")
    return telling.view(
        t("safety_event.title", vehicle=telling.vehicle, event=event),
        t("safety_event.lead"),
        ("vehicle", telling.vehicle),
        ("event", event),
        ("time", telling.opened),
    )


def _geofence(telling: Telling) -> View:
    t, kind = telling.words.t, telling.of.kind
    place = telling.text("geofence", longest=LONGEST_NAME) or t("word.some_place")
    when = telling.moment("time") or telling.opened or ""
    return telling.view(
        t(f"{kind}.title", vehicle=telling.vehicle, place=place),
        t(f"{kind}.lead", when=when),
        ("vehicle", telling.vehicle),
        ("place", place),
        ("time", when),
        brief=when,
    )


# The check of what is due writes its reasons in these words (`db/queries/maintenance.py`).
_USED = re.compile(
    r"(\d[\d,]{0,14}) of (\d[\d,]{0,14}) (km|mi|engine hours)(?:, forecast: the last reading is (\d{1,5}) days old)?"
)
_DUE = re.compile(r"due (since|on) (\d{4}-\d{2}-\d{2})")


def _reason(telling: Telling, service: str) -> str | None:
    """Return why a service is due, in the reader's words where we know what it says; else as it was written."""
    reason = telling.text("reason")
    if reason is None:
        return None
    parts = reason.removeprefix(f"{service}: ").split("; ")
    return clip("; ".join(_reason_part(telling.words, part) for part in parts), LONGEST_TEXT)


def _reason_part(words: Words, part: str) -> str:
    if part == "due today":
        return words.t("word.due_today")
    if found := _DUE.fullmatch(part):
        try:
            day = words.date(date.fromisoformat(found[2]))
        except ValueError:
            return part
        return words.t("word.due_since" if found[1] == "since" else "word.due_by", day=day)
    if found := _USED.fullmatch(part):
        used, whole = (float(each.replace(",", "")) for each in found.group(1, 2))
        said = words.t("word.of", part=words.number(used), whole=words.in_unit(whole, found[3]))
        return f"{said} ({words.t('word.forecast', days=found[4])})" if found[4] else said
    return part


def _maintenance(telling: Telling) -> View:
    t, kind = telling.words.t, telling.of.kind
    service = telling.text("schedule_name", longest=LONGEST_NAME) or t("word.some_service")
    number = telling.text("work_order_number", longest=40)
    reason, due_on = _reason(telling, service), telling.day("due_on")
    steps = telling.details.get("checklist")
    named = [each.get("name") if isinstance(each, dict) else each for each in steps] if isinstance(steps, list) else []
    return telling.view(
        t(f"{kind}.title", service=service, vehicle=telling.vehicle, number=number or ""),
        t(f"{kind}.lead"),
        ("vehicle", telling.vehicle),
        ("service", service),
        ("reason", reason),
        ("due_on", due_on),
        ("predicted_on", None if due_on and kind != "maintenance_due_soon" else telling.day("predicted_on")),
        ("work_order", number),
        ("vendor", telling.text("vendor_name", "vendor", longest=LONGEST_NAME)),
        brief=reason or due_on or "",
        steps=[clip(each) for each in named[:_MOST_STEPS] if each],
        work_order_id=telling.text("work_order_id", longest=40),
        work_order_number=number,
    )


def _endpoint(telling: Telling) -> View:
    t = telling.words.t
    return telling.view(
        t("endpoint_disabled.title", name=telling.text("name", longest=LONGEST_NAME) or "?"),
        t("endpoint_disabled.lead"),
        ("reason", telling.text("reason")),
        ("time", telling.opened),
    )


def _test(telling: Telling) -> View:
    t = telling.words.t
    return telling.view(t("test.title"), t("test.lead"), ("sent", telling.opened))


_VIEWS: dict[str, Callable[[Telling], View]] = {
    "offline": _offline,
    "connection_silent": _connection,
    "connection_rejected": _connection,
    "low_fuel": _level,
    "low_battery": _level,
    "fault_code": _fault,
    "safety_event": _safety,
    "geofence_entry": _geofence,
    "geofence_exit": _geofence,
    "maintenance_due_soon": _maintenance,
    "maintenance_due": _maintenance,
    "maintenance_overdue": _maintenance,
    "work_order_flagged": _maintenance,
    "endpoint_disabled": _endpoint,
    "test": _test,
}
