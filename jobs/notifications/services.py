"""What there is to say of maintenance: services that are due, orders that need a look, meters that nobody believes."""

from jobs.notifications.reasons import say
from jobs.notifications.telling import LONGEST_NAME, Telling, View, clip

_MOST_STEPS = 20
_METERS = ("odometer_km", "engine_hours")


def service(telling: Telling) -> View:
    """Return the view of a service that is due, soon or since long."""
    t, kind = telling.words.t, telling.of.kind
    name = telling.text("schedule_name", longest=LONGEST_NAME) or t("word.some_service")
    number = telling.text("work_order_number", longest=40)
    reason, due_on = _reason(telling, name), telling.day("due_on")
    steps = telling.details.get("checklist")
    named = [each.get("name") if isinstance(each, dict) else each for each in steps] if isinstance(steps, list) else []
    is_open = kind == "maintenance_due" and number is None
    return telling.view(
        t(f"{kind}.title", service=name, vehicle=telling.vehicle),
        t(f"{kind}.lead_unordered" if is_open else f"{kind}.lead"),
        ("vehicle", telling.vehicle),
        ("service", name),
        ("reason", reason),
        ("due_on", due_on),
        ("due_at", telling.at_meters("due_km", "due_engine_hours")),
        ("predicted_on", None if due_on and kind != "maintenance_due_soon" else telling.day("predicted_on")),
        ("work_order", number),
        ("vendor", telling.text("vendor_name", "vendor", longest=LONGEST_NAME)),
        brief=reason or due_on or "",
        steps=[clip(each) for each in named[:_MOST_STEPS] if each],
        work_order_id=telling.text("work_order_id", longest=40),
        work_order_number=number,
    )


def opened_order(telling: Telling) -> View:
    """Return the view of an order that an inspection or another application has asked for."""
    t = telling.words.t
    number = telling.text("work_order_number", longest=40)
    title, reason = telling.text("title", longest=LONGEST_NAME), _reason(telling, "")
    task = say(telling.words, title) if title else None
    source = telling.text("source", longest=50)
    if source is not None:
        source = t(f"source.{source}") if telling.words.has(f"source.{source}") else source.replace("_", " ")
    return telling.view(
        t("work_order_opened.title", task=task or number or t("kind.work_order_opened"), vehicle=telling.vehicle),
        t("work_order_opened.lead"),
        ("vehicle", telling.vehicle),
        ("task", task),
        ("reason", reason if reason != task else None),
        ("source", source),
        ("work_order", number),
        brief=reason or source or "",
        work_order_id=telling.text("work_order_id", longest=40),
        work_order_number=number,
    )


def flagged_order(telling: Telling) -> View:
    """Return the view of an order whose completion lacks something."""
    t = telling.words.t
    number = telling.text("work_order_number", longest=40)
    reason = _reason(telling, "")
    return telling.view(
        t("work_order_flagged.title", number=number or "", vehicle=telling.vehicle).replace("  ", " "),
        t("work_order_flagged.lead"),
        ("vehicle", telling.vehicle),
        ("service", telling.text("schedule_name", longest=LONGEST_NAME)),
        ("reason", reason),
        ("work_order", number),
        brief=reason or "",
        work_order_id=telling.text("work_order_id", longest=40),
        work_order_number=number,
    )


def doubted_meter(telling: Telling) -> View:
    """Return the view of a meter whose newest reading cannot be."""
    t = telling.words.t
    meter = telling.text("meter", longest=40)
    named = t(f"meter.{meter}") if meter in _METERS else t("meter.other")
    shown = telling.at_meters("value", "") if meter == "odometer_km" else telling.at_meters("", "value")
    reason = telling.text("reason")
    said = say(telling.words, reason, meter) if reason else None
    return telling.view(
        t("maintenance_meter_quarantined.title", vehicle=telling.vehicle, meter=named),
        t("maintenance_meter_quarantined.lead"),
        ("vehicle", telling.vehicle),
        ("meter", named),
        ("read", shown),
        ("time", telling.moment("read_at")),
        ("reason", said),
        brief=said or "",
    )


def _reason(telling: Telling, service_name: str) -> str | None:
    written = telling.text("reason")
    return say(telling.words, written.removeprefix(f"{service_name}: ")) if written else None
