"""What people read: in four languages, in both twins, from the best alert to the worst."""

import re
import string
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from html.parser import HTMLParser
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.queries.deliveries import Notice
from db.queries.folded import Folded
from integrations.mime import Mail, UnsendableMail, build, check_address
from jobs.notifications import render as rendering
from jobs.notifications.compose import Letterhead, compose, write
from jobs.notifications.moments import next_digest, quiet_until, zone_of
from jobs.notifications.render import TEMPLATES, Rendered, RenderError, environment, render
from jobs.notifications.samples import AT, KINDS, sample, sample_folded
from jobs.notifications.unsubscribe import Unsubscriber
from jobs.notifications.words import LANGUAGES, catalogue, words_of

LETTERHEAD = Letterhead(
    "Flotte Müller",
    "fleet@jobs.example",
    "https://app.example",
    Unsubscriber([b"k" * 32], "https://hooks.example"),
    "stop@jobs.example",
)
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """A mail as a reader of HTML takes it: balanced, with its headings, links and visible words."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.problems: list[str] = []
        self.headings: list[str] = []
        self.links: dict[str, str] = {}
        self.words = ""
        self.hidden = ""
        self.styles: list[str] = []
        self.feed(html)
        self.close()
        assert self.problems == []
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.styles.append(given.get("style") or "")
        if tag not in VOID:
            self.open.append((tag, given))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1][0] != tag:
            self.problems.append(f"</{tag}>")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self.open]
        if "style" in tags or "head" in tags:
            return
        if any("display:none" in (attrs.get("style") or "") for _, attrs in self.open):
            self.hidden += data
            return
        self.words += data
        if tags[-1:] in (["h1"], ["h2"]):
            self.headings.append(data.strip())
        for tag, attrs in self.open:
            if tag == "a" and data.strip():
                self.links[data.strip()] = attrs["href"] or ""


def written(kind: str, locale: str = "en") -> Rendered:
    return write(sample(kind, locale), sample_folded(kind), "https://app.example", "https://hooks.example/u")


@pytest.mark.parametrize("locale", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reads_well_in_every_language_and_both_twins_say_the_same(kind: str, locale: str) -> None:
    mail = written(kind, locale)
    page = Page(mail.html)

    title = page.headings[0]
    assert mail.subject.endswith(title)
    assert title in mail.text
    assert mail.html.startswith("<!DOCTYPE html>")
    assert f'<html lang="{locale}">' in mail.html
    assert "https://hooks.example/u" in page.links.values()
    assert "https://hooks.example/u" in mail.text
    for word in re.findall(r"[\w’]+", mail.text):
        assert word in page.words.replace("×", "x") or word in ("https", "x") or word in mail.html, word
    assert not re.search(r"None|Undefined|\{\w+\}|\[\]|&lt;|&amp;", page.words)
    assert "\n\n\n" not in mail.text
    assert [line for line in mail.text.splitlines() if line != line.rstrip()] == ["-- "], "a signature, and no blanks"
    assert all(len(line) <= 400 for line in mail.text.splitlines())
    assert len(page.hidden.strip()) > 20, "a preview"


@pytest.mark.parametrize("kind", KINDS)
def test_a_mail_fits_any_screen_and_keeps_its_colours_in_the_dark(kind: str) -> None:
    html = written(kind).html
    page = Page(html)

    widths = [int(found) for style in page.styles for found in re.findall(r"(?<![-\w])width:(\d+)px", style)]
    assert max(widths, default=0) <= 320, "nothing is wider than the narrowest screen"
    assert "max-width:600px" in html
    assert 'name="viewport"' in html
    assert 'name="color-scheme" content="light dark"' in html
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"#fff(fff)?\b|#000(000)?\b", html, re.IGNORECASE), "pure ones do not survive inversion"
    assert "<img" not in html
    assert "<script" not in html


def test_all_languages_have_the_same_texts_with_the_same_gaps() -> None:
    def gaps(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english = catalogue("en")
    assert {"en", "de", "fr", "es"} <= set(LANGUAGES)
    for language in LANGUAGES:
        texts = catalogue(language)
        assert set(texts) == set(english), language
        for key, text in texts.items():
            assert gaps(text) == gaps(english[key]), f"{language}: {key}"


def test_every_template_asks_only_for_what_every_mail_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(rendering.OF_KIND.values()) | {"alert"} == set(TEMPLATES)
    for template in TEMPLATES:
        with pytest.raises(RenderError, match=template):
            render(template, {})
        for file in ("subject.txt", "body.txt", "body.html"):
            source = environment().get_template(f"{template}/{file}")
            assert source.name


def test_a_template_that_fails_at_night_is_logged_and_the_alert_told_plainly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(rendering.OF_KIND, "offline", "summary_that_is_not_there")

    def broken(name: str) -> object:
        if name.endswith("not_there"):
            return environment().from_string("{{ nobody_gave_this }}"), *[environment().from_string("x")] * 2
        return compiled(name)

    compiled = rendering._compiled
    monkeypatch.setattr(rendering, "_compiled", broken)

    mail = written("offline")

    assert mail.subject == "The rear door of Van 12 has been open for 20 minutes"
    assert "template_failed" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("summary", "digest")])
@pytest.mark.parametrize(
    "details",
    [
        {},
        dict.fromkeys(
            ["last_reported_at", "percent", "code", "geofence", "time", "reason", "checklist", "due_on", "silent"],
            value,
        )
        if (value := [{"a": None}])
        else {},
        dict.fromkeys(["last_reported_at", "time", "measured_at", "due_on", "predicted_on"], "9999-99-99T00:00"),
        dict.fromkeys(["percent", "threshold_percent", "silent", "vehicles"], float("1e300")),
        {"last_reported_at": "0001-01-01T00:00:00+14:00", "percent": True, "checklist": [None, 3, {"name": "Oil"}]},
    ],
)
def test_details_that_are_missing_or_of_another_kind_make_no_mail_fail(kind: str, details: dict[str, object]) -> None:
    notice = sample(kind)
    bare = Notice(**{name: getattr(notice, name) for name in Notice.__slots__} | {"details": details, "vehicle": None})

    mail = write(bare, None, None, None)

    assert mail.subject
    Page(mail.html)


def test_what_others_wrote_is_text_and_never_markup() -> None:
    notice = sample("alert")
    evil = '<script>alert(1)</script>"><a href="https://evil.example">{{ 7 * 7 }}\u202e'
    given = {name: getattr(notice, name) for name in Notice.__slots__} | {"message": evil, "vehicle": evil}
    mail = write(Notice(**given | {"tenant": evil}), None, "https://app.example", None)
    page = Page(mail.html)

    assert "<script" not in mail.html
    assert "evil.example" not in "".join(page.links.values())
    assert "{{ 7 * 7 }}" in page.words
    assert "\u202e" not in mail.text + mail.html


@pytest.mark.parametrize(
    ("user", "tenant", "language", "zone", "moment"),
    [
        ("de", "en", "de", "Europe/Berlin", "20.11.2026, 07:32"),
        ("de-AT", "en", "de", "Europe/Vienna", "20.11.2026, 07:32"),
        ("fr_CA", None, "fr", "America/Toronto", "20 nov. 2026, 01 h 32"),
        ("xx", "es", "es", "Nowhere/City", "20 nov 2026, 6:32"),
        ("tlh-Kling", None, "en", None, "Nov 20, 2026, 6:32\u202fAM"),
        ("../../etc/passwd", "zz_ZZ", "en", "../../etc/passwd", "Nov 20, 2026, 6:32\u202fAM"),
        ("e" * 10_000, "", "en", "Z" * 10_000, "Nov 20, 2026, 6:32\u202fAM"),
        (None, "fr", "fr", "Asia/Kathmandu", "20 nov. 2026, 12:17"),
    ],
)
def test_an_unknown_locale_or_zone_falls_back_to_the_next(
    user: str | None, tenant: str | None, language: str, zone: str | None, moment: str
) -> None:
    words = words_of(user, tenant, zone, "UTC")
    assert words.language == language
    assert words.moment(AT) == moment


@pytest.mark.parametrize(
    ("locale", "units", "said"),
    [
        ("en_US", None, "9,333 mi"),
        ("en_GB", None, "9,333 mi"),
        ("de", None, "15.020 km"),
        ("fr", None, "15\u202f020\u202fkm"),
        ("en", None, "15,020 km"),
        ("en_US", "km", "15,020 km"),
        ("de", "miles", "9.333 mi"),
    ],
)
def test_distances_are_in_the_tenants_units_else_in_the_countrys(locale: str, units: str | None, said: str) -> None:
    assert words_of(locale, None, None, None, units).distance(15_020).replace("\xa0", " ") in (
        said,
        said.replace(" ", "\u202f"),
    )


@pytest.mark.parametrize(
    ("reason", "locale", "said"),
    [
        ("Oil change: 15,020 of 15,000 km", "de", "15.020 von 15.000 km"),
        ("Oil change: 9,020 of 9,000 mi; due today", "en_US", "9,020 of 9,000 mi; due today"),
        (
            "Oil change: 510 of 500 engine hours, forecast: the last reading is 5 days old",
            "fr",
            "510 sur 500 heures moteur (prévision : le dernier relevé date de 5 jours)",
        ),
        ("Oil change: due since 2026-11-02", "es", "vencido desde el 2 nov 2026"),
        ("Oil change: due since 2026-99-02", "es", "due since 2026-99-02"),
        ("the brakes squeak; badly", "de", "the brakes squeak; badly"),
        (",,, of , km", "de", ",,, of , km"),
        ("1,000 of 5 furlongs", "de", "1,000 of 5 furlongs"),
    ],
)
def test_why_a_service_is_due_is_said_in_the_readers_words(reason: str, locale: str, said: str) -> None:
    notice = sample("maintenance_due", locale)
    values = {name: getattr(notice, name) for name in Notice.__slots__}
    values["details"] = (notice.details or {}) | {"reason": reason}
    assert said in write(Notice(**values), None, None, None).text.replace("\xa0", " ")


def changed(kind: str, locale: str = "en", **details: Any) -> Rendered:
    """Return the mail of a sample with some of its details replaced."""
    notice = sample(kind, locale)
    return write(replace(notice, details=(notice.details or {}) | details), None, None, None)


@pytest.mark.parametrize(
    ("locale", "entered", "silent"),
    [
        ("en", "on Nov 20, 2026 at 7:32 AM.", "since Nov 20, 2026 at 7:32 AM."),
        ("de", "am 20.11.2026 um 07:32 Uhr überquert.", "Seit dem 20.11.2026 um 07:32 Uhr kam"),
        ("fr", "le 20 nov. 2026 à 07:32.", "depuis le 20 nov. 2026 à 07:32."),
        ("fr_CA", "le 20 nov. 2026 à 07 h 32.", "depuis le 20 nov. 2026 à 07 h 32."),
        ("es", "el 20 nov 2026 a las 7:32.", "desde el 20 nov 2026 a las 7:32."),
    ],
)
def test_an_instant_in_a_sentence_is_said_as_people_say_it(locale: str, entered: str, silent: str) -> None:
    assert entered in changed("geofence_entry", locale).text.replace("\u202f", " ")
    offline = changed("offline", locale, last_reported_at=AT.isoformat()).text
    assert silent in offline.replace("\u202f", " ").replace("\xa0", " ")


@pytest.mark.parametrize(
    ("at", "said"), [("00:15", "a la 1:15."), ("12:15", "a las 13:15."), ("09:15", "a las 10:15.")]
)
def test_one_oclock_is_singular_in_spanish(at: str, said: str) -> None:
    assert said in changed("geofence_entry", "es", time=f"2026-11-20T{at}:00+00:00").text


@pytest.mark.parametrize(
    ("locale", "level", "said"),
    [("en", 14.6, "14.6%"), ("de", 8.5, "8,5 %"), ("fr", 14.99, "14,9 %"), ("es", 11, "11 %"), ("en", 0, "0%")],
)
def test_a_level_never_reads_like_the_limit_that_it_is_below(locale: str, level: float, said: str) -> None:
    mail = changed("low_fuel", locale, percent=level, threshold_percent=15)
    assert mail.subject.replace("\xa0", " ").replace("\u202f", " ").endswith(f": {said}")
    assert re.search(r": 15\s?%$", mail.text, re.MULTILINE)


def test_the_first_of_a_month_is_an_ordinal_in_french() -> None:
    words = words_of("fr", None, "Europe/Paris")
    assert words.day(date(2026, 12, 1)) == "mardi 1er décembre 2026"
    assert words.day(date(2026, 12, 11)) == "vendredi 11 décembre 2026"
    assert words.moment(datetime(2026, 9, 1, 5, tzinfo=UTC)) == "1er sept. 2026, 07:00"
    assert words_of("fr_CA", None).date(date(2026, 1, 1)).startswith("1er ")
    assert words_of("es", None).day(date(2026, 12, 1)) == "martes, 1 de diciembre de 2026"


def test_a_level_that_nobody_measured_is_left_out() -> None:
    assert changed("low_fuel", percent=None).subject == "Van 12 is low on fuel"


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        ("en", "tells you about vehicle health."),
        ("de", "über den Fahrzeugzustand informiert."),
        ("fr", "qui vous informe sur l’état des véhicules."),
        ("es", "le informa sobre el estado de los vehículos."),
    ],
)
def test_why_a_mail_comes_is_a_sentence(locale: str, said: str) -> None:
    assert said in written("fault_code", locale).text


def test_a_subject_names_what_it_is_about_without_an_article() -> None:
    notice = replace(sample("summary", "fr"), category="maintenance")
    assert write(notice, sample_folded("summary"), None, None).subject == "500 alertes en un message\xa0: entretien"


def test_french_has_a_space_before_its_colons() -> None:
    text = written("maintenance_due", "fr").text
    assert "Véhicule\xa0: Van 12" in text, "and no line is broken there"
    assert written("low_fuel", "fr").subject == "Van 12 a peu de carburant\xa0: 8,5\xa0%"
    assert not re.search(r"\w:\s", text)


def test_a_provider_is_written_as_it_writes_itself() -> None:
    assert "Provider: Samsara" in written("connection_silent").text


@pytest.mark.parametrize(
    ("locale", "reason", "said"),
    [
        ("en", "jumps by 100160.4 in 1.0 days", "it jumps by 100,160 km within 1 day"),
        ("de", "jumps by 100160.4 in 2.5 days", "Sprung um 100.160 km, Abstand 2,5 Tage"),
        ("fr", "jumps by 100160.4 in 1.0 days", "il augmente de 100 160 km en 1 jour"),
        ("en_US", "runs backwards: 10.0 after 120000.4", "it runs backwards: 6 mi after 74,565 mi"),
    ],
)
def test_why_a_reading_is_doubted_has_its_unit(locale: str, reason: str, said: str) -> None:
    text = changed("maintenance_meter_quarantined", locale, reason=reason).text
    assert said in text.replace("\xa0", " ").replace("\u202f", " ")


def test_a_new_order_says_what_is_to_be_done_and_who_asks() -> None:
    mail = written("work_order_opened")
    assert mail.subject == "[WO-000043] Brake pads worn: Van 12"
    assert "Source: Inspection" in mail.text
    assert "https://app.example/work-orders/" in mail.text
    assert "Source: driver app" in changed("work_order_opened", source="driver_app").text
    assert changed("work_order_opened", title=None).subject == "WO-000043: Van 12"
    bare = changed("work_order_opened", title=None, work_order_number=None, source=None, reason=None)
    assert bare.subject == "Work order opened: Van 12"


def test_a_digest_is_by_kind_with_orders_and_links() -> None:
    mail = written("digest")
    page = Page(mail.html)
    headings = [heading for heading in page.headings[1:] if not heading.isdigit()]

    assert headings[:3] == ["Service overdue", "Work order opened", "Service due"]
    assert mail.text.index("Van 3\n  WO-000043 · 15,820 of 15,000 km") < mail.text.index("Van 12\n  WO-000052")
    assert page.links["Oil change is overdue: Van 3"].startswith("https://app.example/work-orders/")
    assert page.links["Van 9 is low on fuel: 8.5%"].startswith("https://app.example/alerts/")
    without = write(sample("digest"), sample_folded("digest"), None, None)
    assert "href" not in without.html
    assert "https://" not in without.text


def test_a_digest_of_many_kinds_counts_what_it_does_not_show() -> None:
    kinds = {("other", f"door_{number}"): number + 1 for number in range(30)}
    mail = write(sample("digest"), Folded(kinds, []), "https://app.example", None)
    assert mail.subject == "465 alerts since the last digest"
    assert "door 19 (20)" in mail.text
    assert "door 20" not in mail.text
    assert "... and 255 more" in mail.text


BERLIN, APIA, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Apia"), ZoneInfo("Australia/Lord_Howe")


@pytest.mark.parametrize(
    ("local", "begins", "ends", "zone", "until"),
    [
        ("2026-11-20 21:59", "22:00", "06:00", BERLIN, None),
        ("2026-11-20 22:00", "22:00", "06:00", BERLIN, "2026-11-21 06:00"),
        ("2026-11-21 05:59", "22:00", "06:00", BERLIN, "2026-11-21 06:00"),
        ("2026-11-21 06:00", "22:00", "06:00", BERLIN, None),
        ("2026-11-20 13:30", "13:00", "14:00", BERLIN, "2026-11-20 14:00"),
        ("2026-11-20 12:59", "13:00", "14:00", BERLIN, None),
        ("2026-03-28 23:30", "22:00", "02:30", BERLIN, "2026-03-29 03:00"),  # 02:30 is skipped
        ("2026-03-28 23:30", "22:00", "06:00", BERLIN, "2026-03-29 06:00"),
        ("2026-10-25 01:00", "22:00", "02:30", BERLIN, "2026-10-25 02:30"),  # happens twice: the first ends it
        ("2026-10-24 23:00", "22:00", "06:00", BERLIN, "2026-10-25 06:00"),
    ],
)
def test_quiet_hours_span_midnight_and_the_nights_when_the_clocks_change(
    local: str, begins: str, ends: str, zone: ZoneInfo, until: str | None
) -> None:
    now = datetime.fromisoformat(local).replace(tzinfo=zone).astimezone(UTC)
    expected = None if until is None else datetime.fromisoformat(until).replace(tzinfo=zone).astimezone(UTC)
    assert quiet_until(now, time.fromisoformat(begins), time.fromisoformat(ends), zone) == expected


def test_an_hour_that_happens_twice_does_not_begin_the_quiet_again() -> None:
    second = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 02:15 for the second time
    assert quiet_until(second, time(22), time(2, 30), BERLIN) is None


@given(
    st.integers(0, 2 * 365 * 86_400).map(lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)),
    st.times(),
    st.times(),
    st.sampled_from([BERLIN, APIA, LORD_HOWE, ZoneInfo("America/New_York"), ZoneInfo("UTC")]),
)
def test_quiet_hours_always_end_within_a_day_and_are_then_over(
    now: datetime, begins: time, ends: time, zone: ZoneInfo
) -> None:
    begins, ends = begins.replace(microsecond=0), ends.replace(microsecond=0)
    if begins == ends:
        return
    until = quiet_until(now, begins, ends, zone)
    if until is not None:
        assert now < until <= now + timedelta(hours=25)
        assert quiet_until(until, begins, ends, zone) is None
    assert now < next_digest(now, "daily", begins, zone) <= now + timedelta(hours=49)
    assert now < next_digest(now, "hourly", begins, zone) <= now + timedelta(hours=1)


def test_a_zone_that_is_none_is_passed_over() -> None:
    assert zone_of("Mars/Olympus", None, "", "Europe/Paris") == ZoneInfo("Europe/Paris")
    assert zone_of(None) == ZoneInfo("UTC")


def test_the_headers_say_what_machines_need() -> None:
    mail = compose(sample("maintenance_due"), None, LETTERHEAD, AT)
    raw = build(mail)

    from tests.notifications.conftest import Received

    parsed = Received("x", raw).parsed
    assert parsed["Message-ID"] == "<0193f1a0-0000-7000-8000-000000000001@jobs.example>"
    assert parsed["Auto-Submitted"] == "auto-generated"
    assert parsed["X-Auto-Response-Suppress"] == "All"
    assert parsed["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    one, two = str(parsed["List-Unsubscribe"]).split(", ")
    assert one.startswith("<https://hooks.example/unsubscribe/maintenance/")
    assert two == "<mailto:stop@jobs.example?subject=unsubscribe%20maintenance>"
    assert parsed["From"].addresses[0].display_name == "Flotte Müller"
    assert parsed["Date"].datetime == AT
    assert parsed.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in parsed.iter_parts()] == ["text/plain", "text/html"]


def test_mails_of_one_work_order_are_one_thread_and_of_another_are_not() -> None:
    def thread(kind: str, **details: object) -> str | None:
        notice = sample(kind)
        values = {name: getattr(notice, name) for name in Notice.__slots__}
        values["details"] = (notice.details or {}) | details
        return compose(Notice(**values), None, LETTERHEAD, AT).references

    assert thread("maintenance_due") == thread("maintenance_overdue")
    assert thread("maintenance_due") != thread("maintenance_due", work_order_id="another")
    assert thread("offline") == thread("fault_code"), "of one subject"


LINES = st.text(min_size=1, max_size=200).filter(
    lambda text: text.isprintable() and text == " ".join(text.split()) and "\ufffd" not in text
)


@given(LINES, st.text(max_size=3000))
def test_a_mail_reads_back_as_it_was_written(subject: str, body: str) -> None:
    from tests.notifications.conftest import Received

    body = body.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    mail = Mail(
        "a1@x.example", 'Müller, "Fleet"', "a@x.example", "b@y.example", subject, body, f"<p>{len(body)}</p>", AT
    )
    received = Received("b", build(mail))

    assert received.parsed["Subject"] == subject
    assert received.parsed["From"].addresses[0].display_name == 'Müller, "Fleet"'
    assert received.part("plain").replace("\r\n", "\n").rstrip("\n") == body.rstrip("\n")
    assert all(len(line) <= 998 for line in received.raw.split(b"\r\n"))
    assert received.raw.isascii()
    assert b"\n" not in received.raw.replace(b"\r\n", b"")


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x00", "\x85", "\u2028"])
@pytest.mark.parametrize("place", ["subject", "sender_name", "to", "sender", "message_id"])
def test_no_header_is_broken_out_of(end: str, place: str) -> None:
    values: dict[str, Any] = {
        "message_id": "a1@x.example",
        "sender_name": "F",
        "sender": "a@x.example",
        "to": "b@y.example",
    }
    values |= {"subject": "s"}
    values[place] += f"{end}Bcc: all@z.example"
    with pytest.raises(UnsendableMail) as caught:
        build(Mail(**values, text="t", html="h", at=AT))
    assert "z.example" not in str(caught.value)


def test_a_header_without_end_is_refused() -> None:
    with pytest.raises(UnsendableMail):
        build(Mail("a1@x.example", "F", "a@x.example", "b@y.example", "s" * 4_000_000, "t", "h", AT))


@pytest.mark.parametrize(
    ("address", "wire"),
    [
        ("ann@acme.example", "ann@acme.example"),
        ("a.b+c_d'e@x-y.example", "a.b+c_d'e@x-y.example"),
        ("ann@münchen.example", "ann@xn--mnchen-3ya.example"),
        ("ann@localhost", "ann@localhost"),
    ],
)
def test_addresses_that_mail_is_sent_to(address: str, wire: str) -> None:
    assert check_address(address) == wire


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ann",
        "@x.example",
        "ann@",
        "a b@x.example",
        "a..b@x.example",
        ".a@x.example",
        "a@x..example",
        "a@-x.example",
        "a@x.example\n",
        "\na@x.example",
        "a@x.example>",
        "<a@x.example",
        "a@b@x.example",
        "ü@x.example",
        "a@" + "x" * 300,
        "a@\u2028.example",
        '"a b"@x.example',
        "a@[127.0.0.1]",
        "a,b@x.example",
        "a@x.example,b@x.example",
        "a@..",
        "a\0@x",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UnsendableMail):
        check_address(address)
