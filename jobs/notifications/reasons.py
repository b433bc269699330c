"""Why something is so, in the reader's words: our producers write it in English, a sentence or a list of them."""

import re
from collections.abc import Callable
from datetime import date

from jobs.notifications.telling import LONGEST_TEXT, clip
from jobs.notifications.words import Words

# What is written by `db/queries/`: `maintenance.py`, `roll_forward.py`, `meters.py`, `work_orders.py`, and by
# `jobs/notifications/calls.py`.
_WHOLE = {
    "due today": "due_today",
    "the odometer of its completion cannot be and was set aside": "km_doubted",
    "the engine hours of its completion cannot be and were set aside": "hours_doubted",
    "completed without an odometer: the distance counts from the next reading": "km_missing",
    "completed without engine hours: they count from the next reading": "hours_missing",
    "completed before the service that it follows: nothing moves": "before_last",
    "read in the future": "in_future",
    "Failed pre-trip inspection": "failed_pre_trip",
    "Failed post-trip inspection": "failed_post_trip",
    "Failed periodic inspection": "failed_periodic",
    "Failed safety inspection": "failed_safety",
    "Failed inspection": "failed_inspection",
    "it answered 410 Gone": "gone",
    "the URL leads to an address that is not the internet's": "private",
    "the URL leads to no address": "nowhere",
    "the URL is not https": "not_https",
    "the URL is not one": "no_url",
    "the URL has a login in it": "login",
}
_NUMBER = r"(-?\d[\d,]{0,14}(?:\.\d+)?)"


def _used(words: Words, _: str | None, used: str, whole: str, unit: str, days: str | None) -> str:
    said = words.t("word.of", part=words.number(_float(used)), whole=words.in_unit(_float(whole), unit))
    return f"{said} ({words.t('reason.forecast', age=words.days(int(days)))})" if days else said


def _due(words: Words, _: str | None, since: str, on: str) -> str:
    return words.t("reason.due_since" if since == "since" else "reason.due_by", day=words.date(date.fromisoformat(on)))


def _two(key: str) -> Callable[..., str]:
    def said(words: Words, meter: str | None, value: str, other: str) -> str:
        return words.t(f"reason.{key}", value=_read(words, meter, value), other=_read(words, meter, other))

    return said


def _jump(words: Words, meter: str | None, value: str, days: str) -> str:
    return words.t("reason.jump", value=_read(words, meter, value), age=words.days(_float(days)))


def _read(words: Words, meter: str | None, value: str) -> str:
    if meter == "odometer_km":
        return words.distance(_float(value))
    return words.in_unit(_float(value), "engine hours") if meter == "engine_hours" else words.number(_float(value))


_PATTERNS: tuple[tuple[re.Pattern[str], Callable[..., str]], ...] = (
    (
        re.compile(
            r"(\d[\d,]{0,14}) of (\d[\d,]{0,14}) (km|mi|engine hours)"
            r"(?:, forecast: the last reading is (\d{1,5}) days old)?"
        ),
        _used,
    ),
    (re.compile(r"due (since|on) (\d{4}-\d{2}-\d{2})"), _due),
    (re.compile(rf"runs backwards: {_NUMBER} after {_NUMBER}"), _two("backwards")),
    (re.compile(rf"jumps by {_NUMBER} in {_NUMBER} days"), _jump),
    (re.compile(rf"more than a later reading: {_NUMBER} before {_NUMBER}"), _two("later")),
    (re.compile(r"Fault code (\S{1,40})"), lambda words, _, code: words.t("reason.fault", code=code)),
    (re.compile(r"Anomaly: (.{1,100})"), lambda words, _, kind: words.t("reason.anomaly", kind=kind.replace("_", " "))),
    (re.compile(r"it failed for days, at last: (.{1,200})"), lambda words, _, why: words.t("reason.failed", why=why)),
)


def say(words: Words, written: str, meter: str | None = None) -> str:
    """Return what we know the words of in the reader's language, and all else as it was written.

    Args:
        meter: whose values are in it, `odometer_km` or `engine_hours`; None where it has none of a meter.
    """
    between = f"{words.t('word.semicolon')} "
    return clip(between.join(_say_part(words, part, meter) for part in written.split("; ")), LONGEST_TEXT)


def _say_part(words: Words, part: str, meter: str | None) -> str:
    if key := _WHOLE.get(part):
        return words.t(f"reason.{key}")
    for pattern, said in _PATTERNS:
        if found := pattern.fullmatch(part):
            try:
                return said(words, meter, *found.groups())
            except ValueError:
                return part
    return part


def _float(written: str) -> float:
    return float(written.replace(",", ""))
