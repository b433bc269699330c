"""What there is to say of each kind of alert: a title, a sentence, and facts. No markup, no templates."""

from collections.abc import Callable
from dataclasses import replace

from jobs.notifications import services
from jobs.notifications.reasons import say
from jobs.notifications.telling import LONGEST_NAME, LONGEST_TEXT, LONGEST_TITLE, Happening, Telling, View, clip
from jobs.notifications.words import Words


def view_of(happening: Happening, words: Words, tenant: str) -> View:
    """Return what is said of an alert; of a kind that has no words of its own, its own message."""
    telling = Telling(happening, words, tenant)
    view = _VIEWS.get(happening.kind, _plain)(telling)
    if (telling.number("reminders") or 0) < 1:
        return view
    return replace(view, title=clip(words.t("reminder.title", title=view.title), LONGEST_TITLE))


def _plain(telling: Telling) -> View:
    message = clip(telling.of.message or telling.words.t("kind.other"), LONGEST_TEXT)
    lead = message if len(message) > LONGEST_NAME else telling.words.t("alert.lead", tenant=telling.tenant)
    vehicle = telling.vehicle if telling.of.vehicle else None
    return telling.view(clip(message), lead, ("vehicle", vehicle), ("time", telling.opened))


def _offline(telling: Telling) -> View:
    t, at = telling.words.t, telling.instant("last_reported_at")
    lead = t("offline.lead", **telling.words.in_sentence(at)) if at else t("offline.lead_unknown")
    when = telling.moment("last_reported_at")
    return telling.view(
        t("offline.title", vehicle=telling.vehicle),
        lead,
        ("vehicle", telling.vehicle),
        ("last_report", when),
        brief=f"{t('label.last_report')}{t('word.colon')} {when}" if when else telling.opened or "",
    )


_STATES = ("not_read", "not_reporting", "recovering")


def _connection(telling: Telling) -> View:
    t, kind = telling.words.t, telling.of.kind
    name = clip(telling.of.connection) if telling.of.connection else t("word.some_connection")
    silent, vehicles = telling.number("silent"), telling.number("vehicles")
    share = None
    if silent is not None and vehicles is not None:
        share = t("word.of", part=telling.words.number(silent), whole=telling.words.number(vehicles))
    state = telling.text("state", longest=40)
    lead = f"{kind}.{state}" if kind == "connection_silent" and state in _STATES else f"{kind}.lead"
    return telling.view(
        t(f"{kind}.title", connection=name),
        t(lead),
        ("connection", name),
        ("provider", _provider(telling.of.provider)),
        ("silent", share),
        ("last_report", telling.moment("last_reported_at")),
        ("last_sync", telling.moment("last_synced_at")),
        ("since", telling.opened),
    )


def _provider(name: str | None) -> str | None:
    """Return how a provider writes its name: the platform knows it by a word of small letters."""
    return clip(name)[:1].upper() + clip(name)[1:] if name else None


def _level(telling: Telling) -> View:
    t, kind = telling.words.t, telling.of.kind
    level = telling.percent("percent")
    title = t(f"{kind}.title", vehicle=telling.vehicle, level=level) if level else None
    return telling.view(
        title or t(f"{kind}.title_unknown", vehicle=telling.vehicle),
        t(f"{kind}.lead"),
        ("vehicle", telling.vehicle),
        ("level", level),
        ("limit", telling.percent("threshold_percent")),
        ("measured", telling.moment("measured_at") or telling.opened),
    )


def _fault(telling: Telling) -> View:
    t = telling.words.t
    code = telling.text("code", longest=40)
    description = telling.text("description")
    if description is None and code and telling.of.message and f"{code}: " in telling.of.message:
        description = clip(telling.of.message.partition(f"{code}: ")[2], LONGEST_TEXT)
    return telling.view(
        t("fault_code.title", vehicle=telling.vehicle, code=code or "").rstrip(),
        t("fault_code.lead"),
        ("vehicle", telling.vehicle),
        ("code", code),
        ("description", description),
        ("first_seen", telling.opened),
        brief=description or telling.opened or "",
    )


def _safety(telling: Telling) -> View:
    t = telling.words.t
    named = telling.text("kind", longest=LONGEST_NAME) or "other"
    event = t(f"event.{named}") if telling.words.has(f"event.{named}") else named.replace("_", " ")
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
    at = telling.instant("time") or telling.of.opened_at
    when = telling.words.moment(at) if at else ""
    return telling.view(
        t(f"{kind}.title", vehicle=telling.vehicle, place=place),
        t(f"{kind}.lead", **telling.words.in_sentence(at)) if at else t(f"{kind}.lead_unknown"),
        ("vehicle", telling.vehicle),
        ("place", place),
        ("time", when),
        brief=when,
    )


def _endpoint(telling: Telling) -> View:
    t, reason = telling.words.t, telling.text("reason")
    return telling.view(
        t("endpoint_disabled.title", name=telling.text("name", longest=LONGEST_NAME) or t("word.some_endpoint")),
        t("endpoint_disabled.lead"),
        ("reason", say(telling.words, reason) if reason else None),
        ("time", telling.opened),
    )


def _test(telling: Telling) -> View:
    t, zone = telling.words.t, telling.words.zone.key
    sent = f"{telling.opened} ({zone})" if telling.opened else None
    return telling.view(t("test.title"), t("test.lead"), ("sent", sent))


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
    "maintenance_due_soon": services.service,
    "maintenance_due": services.service,
    "maintenance_overdue": services.service,
    "maintenance_meter_quarantined": services.doubted_meter,
    "work_order_opened": services.opened_order,
    "work_order_flagged": services.flagged_order,
    "endpoint_disabled": _endpoint,
    "test": _test,
}
