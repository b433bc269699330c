"""A recipient's language: the words of a catalogue, and dates, numbers and units as they are written there."""

import re
import tomllib
from datetime import date, datetime
from decimal import ROUND_FLOOR, Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time
from babel.numbers import format_decimal, format_percent
from babel.units import format_unit

from jobs.notifications.moments import zone_of

_FILES = Path(__file__).parent / "locales"
FALLBACK = "en"
LANGUAGES = tuple(sorted(path.stem for path in _FILES.glob("*.toml")))
_KM_PER_MILE = 1.609344
_UNITS = {"km": "length-kilometer", "mi": "length-mile"}
_MILES_IN = ("US", "GB", "LR", "MM")
_LONGEST_NAME = 32


@cache
def catalogue(language: str) -> dict[str, str]:
    """Return a language's texts by `section.key`; no line is broken before a colon that has a space before it."""
    with (_FILES / f"{language}.toml").open("rb") as file:
        sections: dict[str, dict[str, str]] = tomllib.load(file)
    return {
        f"{section}.{key}": re.sub(" (?=[:;?!])", "\xa0", text)
        for section, texts in sections.items()
        for key, text in texts.items()
    }


@lru_cache(maxsize=256)
def _locale(name: str) -> Locale | None:
    """Return a locale whose language we speak: with its country where that is known, `de_AT`."""
    parts = name[:_LONGEST_NAME].replace("-", "_").split("_")
    for count in (len(parts), 1):
        try:
            found = Locale.parse("_".join(parts[:count]))
        except (UnknownLocaleError, ValueError, TypeError):
            continue
        if found.language in LANGUAGES:
            return found
    return None


@lru_cache(maxsize=1024)
def words_of(
    user_locale: str | None,
    tenant_locale: str | None,
    user_zone: str | None = None,
    tenant_zone: str | None = None,
    units: str | None = None,
) -> "Words":
    """Return the words of the first locale that we speak, in the first zone that there is.

    Args:
        units: `miles` or `km`, as the tenant has set it; otherwise as in the locale's country.
    """
    names = [name for name in (user_locale, tenant_locale, FALLBACK) if name]
    locale = next(found for name in names if (found := _locale(name)))
    return Words(locale, zone_of(user_zone, tenant_zone), units)


class Words:
    """What templates call: `t` for texts, the others for values."""

    def __init__(self, locale: Locale, zone: ZoneInfo, units: str | None) -> None:
        self.locale = locale
        self.language: str = locale.language
        self.zone = zone
        self.uses_miles = units == "miles" if units in ("miles", "km") else locale.territory in _MILES_IN
        self._texts = catalogue(FALLBACK) | catalogue(locale.language)

    def t(self, key: str, **values: Any) -> str:
        """Return a text with its values put in.

        Raises:
            KeyError: there is no such text, or it asks for a value that is not given.
        """
        return self._texts[key].format_map(values)

    def has(self, key: str) -> bool:
        """Tell whether there is such a text."""
        return key in self._texts

    def moment(self, at: datetime) -> str:
        """Return an instant on the recipient's clock: `20.11.2026, 07:32`."""
        local = at.astimezone(self.zone)
        return f"{self.date(local)}, {format_time(local, 'short', locale=self.locale)}"

    def in_sentence(self, at: datetime) -> dict[str, str]:
        """Return an instant on the recipient's clock as `day` and `clock`: `20.11.2026` and `um 07:32 Uhr`."""
        local = at.astimezone(self.zone)
        time = format_time(local, "short", locale=self.locale)
        key = "word.clock_one" if re.match(r"0?1\D", time) else "word.clock"  # Spanish: a la 1:32, a las 2:32
        return {"day": self.date(local), "clock": self.t(key, time=time)}

    def day(self, on: date) -> str:
        """Return a date, with its weekday."""
        return _ordinal(self.language, on, format_date(on, "full", self.locale))

    def number(self, value: float) -> str:
        """Return a number, to one decimal."""
        return format_decimal(round(value, 1), locale=self.locale)

    def percent(self, value: float) -> str:
        """Return percent of 100, to one decimal: a level is never rounded up to the limit that it is below."""
        share = Decimal(str(value)).quantize(Decimal("0.1"), ROUND_FLOOR) / 100
        return format_percent(share, locale=self.locale, decimal_quantization=False)

    def date(self, on: date) -> str:
        """Return a date, short: `20.11.2026`."""
        return _ordinal(self.language, on, format_date(on, "medium", self.locale))

    def in_unit(self, value: float, unit: str) -> str:
        """Return a whole number of `km`, `mi` or `engine hours`."""
        if unit not in _UNITS:
            return self.t("word.engine_hours", value=format_decimal(round(value), locale=self.locale))
        return format_unit(round(value), _UNITS[unit], length="short", locale=self.locale)

    def days(self, count: float) -> str:
        """Return a number of days: `1 day`, `2.5 days`."""
        return format_unit(round(count, 1), "duration-day", length="long", locale=self.locale)

    def distance(self, km: float) -> str:
        """Return a distance in whole kilometres, or in whole miles."""
        unit, value = ("length-mile", km / _KM_PER_MILE) if self.uses_miles else ("length-kilometer", km)
        return format_unit(round(value), unit, length="short", locale=self.locale)


def _ordinal(language: str, on: date, written: str) -> str:
    """Return a date with the first of a month as the French write it, and no pattern of Babel's does: `1er`."""
    return re.sub(r"\b1\b", "1er", written, count=1) if language == "fr" and on.day == 1 else written
