"""Why something is so, in the reader's words: our producers write it in English, a sentence or a list of them."""

import re
from collections.abc import Callable
from datetime import date

from jobs.notifications.telling import LONGEST_TEXT, clip
from jobs.notifications.words import Words

# What is written by `db/queries/maintenance.py`, `roll_forward.py`, `meters.py` and `jobs/notifications/endpoints.py`.
_WHOLE = {
    "due today": "due_today",
    "the odometer of its completion cannot be and was set aside": "km_doubted",
    "the engine hours of its completion cannot be and were set aside": "hours_doubted",
    "completed without an odometer: the distance counts from the next reading": "km_missing",
    "completed without engine hours: they count from the next reading": "hours_missing",
    "completed before the service that it follows: nothing moves": "before_last",
    "read in the future": "in_future",
    "it answered 410 Gone": "gone",
    "the URL leads to an address that is not the internet's": "private",
    "the URL leads to no address": "nowhere",
    "the URL is not https": "not_https",
    "the URL is not one": "no_url",
    "the URL has a login in it": "login",
}
_NUMBER = r"(-?\d[\d,]{0,14}(?:\.\d+)?)"


def _used(words: Words, used: str, whole: str, unit: str, days: str | None) -> str:
    said = words.t("word.of", part=words.number(_float(used)), whole=words.in_unit(_float(whole), unit))
    return f"{said} ({words.t('reason.forecast', days=days)})" if days else said


def _due(words: Words, since: str, on: str) -> str:
    return words.t("reason.due_since" if since == "since" else "reason.due_by", day=words.date(date.fromisoformat(on)))


def _meter(key: str) -> Callable[..., str]:
    def say(words: Words, value: str, other: str) -> str:
        return words.t(f"reason.{key}", value=words.number(_float(value)), other=words.number(_float(other)))

    return say


_PATTERNS: tuple[tuple[re.Pattern[str], Callable[..., str]], ...] = (
    (
        re.compile(
            r"(\d[\d,]{0,14}) of (\d[\d,]{0,14}) (km|mi|engine hours)"
            r"(?:, forecast: the last reading is (\d{1,5}) days old)?"
        ),
        _used,
    ),
    (re.compile(r"due (since|on) (\d{4}-\d{2}-\d{2})"), _due),
    (re.compile(rf"runs backwards: {_NUMBER} after {_NUMBER}"), _meter("backwards")),
    (re.compile(rf"jumps by {_NUMBER} in {_NUMBER} days"), _meter("jump")),
    (re.compile(rf"more than a later reading: {_NUMBER} before {_NUMBER}"), _meter("later")),
    (re.compile(r"it failed for days, at last: (.{1,200})"), lambda words, why: words.t("reason.failed", why=why)),
)


def say(words: Words, written: str) -> str:
    """Return what we know the words of in the reader's language, and all else as it was written."""
    return clip("; ".join(_say_part(words, part) for part in written.split("; ")), LONGEST_TEXT)


def _say_part(words: Words, part: str) -> str:
    if key := _WHOLE.get(part):
        return words.t(f"reason.{key}")
    for pattern, said in _PATTERNS:
        if found := pattern.fullmatch(part):
            try:
                return said(words, *found.groups())
            except ValueError:
                return part
    return part


def _float(written: str) -> float:
    return float(written.replace(",", ""))
