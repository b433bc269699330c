"""Whatever one of our jobs raises is said in the reader's own words: nothing of ours is left in English."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from jobs.notifications.compose import write
from jobs.notifications.samples import KINDS, sample
from jobs.notifications.words import LANGUAGES, catalogue
from tests.notifications.conftest import Desk, Inbox

ROOT = Path(__file__).parents[2]
RAISED = {
    "db/queries/endpoints.py": {"endpoint_disabled"},
    "db/queries/faults.py": {"fault_code"},
    "db/queries/geofences.py": {"geofence_entry", "geofence_exit"},
    "db/queries/liveness.py": {"offline", "low_fuel", "low_battery", "connection_silent"},
    "db/queries/maintenance.py": {"maintenance_due_soon", "maintenance_due", "maintenance_overdue"},
    "db/queries/quarantine.py": {"maintenance_meter_quarantined"},
    "db/queries/roll_forward.py": {"work_order_flagged"},
    "db/queries/safety_events.py": {"safety_event"},
    "db/queries/telematics.py": {"connection_rejected"},
    "db/queries/work_orders.py": {"work_order_opened"},
}
"""What each module raises that inserts into `alerts`."""
KINDS_RAISED = sorted(set().union(*RAISED.values()))

# What the tenant wrote is in no language of ours, so that what is English is ours.
THEIRS: dict[str, Any] = {"schedule_name": "Xyzzy", "vendor_name": "Qux", "checklist": ["Plugh"], "name": "Foo"}
THEIRS |= {"title": "Xyzzy", "reason": "Plugh"}
THEIRS |= {"geofence": "Bar", "code": "P0217"}
ENGLISH = re.compile(
    r"\b(the|of|is|and|without|completed|due|answered|reading|hours|reports|since|fault|vehicle|overdue|odometer|meter"
    r"|service|backwards|jumps|days|failed|crash|braking|event|alert|connection|unknown|other)\b",
    re.IGNORECASE,
)
SAME = {"de": {"service"}, "fr": {"service"}, "es": set()}
"""Words of the language that are English ones too."""


def variants(kind: str) -> list[dict[str, Any]]:
    """Return what an alert of a kind may carry instead of what its sample does."""
    if kind == "connection_silent":
        return [{"state": state} for state in ("not_read", "not_reporting", "recovering")]
    if kind == "safety_event":
        return [{"kind": event} for event in ("crash", "collision", "accident", "sos")]
    if kind == "work_order_flagged":
        flagged = re.findall(r"'((?:the|completed) [^']{20,})'", (ROOT / "db/queries/roll_forward.py").read_text())
        assert len(flagged) >= 5
        return [{"reason": reason} for reason in [*flagged, "; ".join(flagged)]]
    if kind == "maintenance_meter_quarantined":
        reasons = ["runs backwards: 10.0 after 120000.4", "jumps by 100160.4 in 1.0 days", "read in the future"]
        reasons += ["more than a later reading: 130000.0 before 120000.4"]
        return [{"reason": reason, "meter": meter} for reason in reasons for meter in ("odometer_km", "engine_hours")]
    if kind == "work_order_opened":
        found = [f"Failed {each}inspection" for each in ("", "pre-trip ", "post-trip ", "periodic ", "safety ")]
        told = [{"title": title, "reason": title, "source": "inspection"} for title in found]
        return [*told, {"title": "Fault code P0217", "source": "fault_code"}, {"title": "Anomaly: xyzzy"}]
    if kind.startswith("maintenance_"):
        reasons = ["15,020 of 15,000 km", "due today", "due since 2026-11-02", "due on 2026-12-24"]
        reasons += ["510 of 500 engine hours, forecast: the last reading is 5 days old; 9,020 of 9,000 mi"]
        return [{"reason": f"Xyzzy: {reason}", "due_engine_hours": 500.0} for reason in reasons]
    if kind == "endpoint_disabled":
        reasons = ["it answered 410 Gone", "it failed for days, at last: status 500", "the URL is not https"]
        reasons += ["the URL leads to an address that is not the internet's"]
        return [{"reason": reason} for reason in reasons]
    return [{}]


def read(kind: str, locale: str, details: dict[str, Any], **given: Any) -> str:
    """Return all that a mail says: its subject, and both twins without markup."""
    notice = replace(sample(kind, locale), **given)
    known = {name: value for name, value in THEIRS.items() if name in (notice.details or {})}
    notice = replace(notice, details=(notice.details or {}) | known | details, message="An English sentence of ours")
    mail = write(notice, None, None, None)
    page = re.sub(r"<style>.*?</style>|<[^>]+>", " ", mail.html, flags=re.DOTALL)
    return f"{mail.subject}\n{mail.text}\n{unescape(page)}"


def test_the_kinds_are_all_that_are_raised() -> None:
    """A module that begins to raise alerts names its kinds here, and with that they are rendered below."""
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "db").rglob("*.py")}
    sources |= {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "jobs").rglob("*.py")}
    assert {path for path, source in sources.items() if "INSERT INTO alerts" in source} == set(RAISED)
    for path, kinds in RAISED.items():
        for kind in kinds:
            assert kind in sources[path], kind
    assert set(KINDS_RAISED) <= set(KINDS)
    for kind in KINDS_RAISED:
        assert {f"{kind}.title", f"{kind}.lead", f"kind.{kind}"} <= set(catalogue("en")), kind
        assert f"| `{kind}`" in _table() or f", `{kind}`" in _table(), f"{kind} is not in docs/alerts.md"


def _table() -> str:
    text = (ROOT / "docs/alerts.md").read_text()
    return text[text.index("| kind |") : text.index("## Columns")]


@pytest.mark.parametrize("locale", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS_RAISED)
def test_what_is_raised_has_words_of_its_own(kind: str, locale: str) -> None:
    for details in variants(kind):
        text = read(kind, locale, details)

        assert "An English sentence of ours" not in text
        assert not re.search(r"\bNone\b|\?|[a-z]_[a-z]|\{|\bnull\b", text), text
        if locale != "en":
            left = {found.lower() for found in ENGLISH.findall(text)} - SAME[locale]
            assert left == set(), text


@pytest.mark.parametrize("locale", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS_RAISED)
def test_what_lacks_its_details_is_still_said_in_the_readers_words(kind: str, locale: str) -> None:
    details = dict.fromkeys(sample(kind).details or {})
    text = read(kind, locale, details, vehicle=None, connection=None, provider=None, opened_at=None)

    assert not re.search(r"\bNone\b|\?|[a-z]_[a-z]|\{|  \S+:", text.splitlines()[0])
    if locale != "en":
        assert {found.lower() for found in ENGLISH.findall(text)} - SAME[locale] == set(), text


def test_what_a_service_carries_is_in_its_mail(told: Desk, inbox: Inbox) -> None:
    told.admin.execute("UPDATE users SET locale = 'de'")
    told.alert("maintenance_overdue", "high", details=sample("maintenance_overdue").details)
    told.deliver()

    (mail,) = inbox.mails
    assert mail.parsed["Subject"] == "[WO-000042] Oil change ist überfällig: Van 12"
    text = mail.part("plain").replace("\xa0", " ")
    for line in ("Fällig am: Dienstag, 3. November 2026", "Fällig bei: 120.000 km", "Auftrag: WO-000042"):
        assert line in text
    assert "[ ] Check the brake fluid" in text
