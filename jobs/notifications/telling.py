"""One alert in one recipient's words, and how what it carries is read.

What an alert carries was written by many hands: every value is bounded, and may be absent or of another kind.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Protocol

from jobs.notifications.words import Words

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_SPACES = re.compile(r"\s{2,}")
"""One alone stays as it is: a line is not broken between a number and its unit."""
LONGEST_NAME = 120
LONGEST_TEXT = 600
LONGEST_TITLE = 160


class Happening(Protocol):
    """What a view is made of: a claimed notification, or one that was folded into another."""

    @property
    def category(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def message(self) -> str | None: ...
    @property
    def details(self) -> dict[str, Any] | None: ...
    @property
    def opened_at(self) -> datetime | None: ...
    @property
    def vehicle(self) -> str | None: ...
    @property
    def connection(self) -> str | None: ...
    @property
    def provider(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class View:
    """What is said of one alert. `facts` are labels and values; `steps` what is to be done, of a service.

    `brief` is what to say beside the title where there is one line for it.
    """

    title: str
    lead: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    brief: str = ""
    steps: list[str] = field(default_factory=list)
    work_order_id: str | None = None
    work_order_number: str | None = None


def clip(value: object, longest: int = LONGEST_NAME) -> str:
    """Return others' words as one line of bounded length, without what commands a reader's screen."""
    words = _SPACES.sub(" ", _CONTROL.sub(" ", str(value)[: longest * 4])).strip()
    return words if len(words) <= longest else words[: longest - 1].rstrip() + "…"


class Telling:
    """One alert in one recipient's words, and how a view reads it."""

    def __init__(self, happening: Happening, words: Words, tenant: str) -> None:
        self.of = happening
        self.words = words
        self.tenant = clip(tenant)
        self.details: Mapping[str, Any] = happening.details or {}
        self.vehicle = clip(happening.vehicle) if happening.vehicle else words.t("word.some_vehicle")
        self.opened = words.moment(happening.opened_at) if happening.opened_at else None

    def text(self, *names: str, longest: int = LONGEST_TEXT) -> str | None:
        """Return the first detail of these that is there."""
        for name in names:
            value = self.details.get(name)
            if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
                return clip(value, longest)
        return None

    def instant(self, name: str) -> datetime | None:
        """Return a detail that is an instant, of those that every clock has."""
        try:
            at = datetime.fromisoformat(str(self.details[name]))
            return at.astimezone(self.words.zone) if at.tzinfo is not None else None
        except (KeyError, ValueError, OverflowError):
            return None

    def moment(self, name: str) -> str | None:
        """Return a detail that is an instant, on the recipient's clock."""
        at = self.instant(name)
        return self.words.moment(at) if at is not None else None

    def day(self, name: str) -> str | None:
        """Return a detail that is a date."""
        try:
            return self.words.day(date.fromisoformat(str(self.details[name])[:10]))
        except (KeyError, ValueError):
            return None

    def percent(self, name: str) -> str | None:
        """Return a detail that is a share of 100."""
        value = self.details.get(name)
        usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6
        return self.words.percent(float(value)) if usable and value is not None else None

    def number(self, name: str) -> float | None:
        """Return a detail that is a number."""
        value = self.details.get(name)
        usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
        return float(value) if usable and value is not None else None

    def at_meters(self, km: str, hours: str) -> str | None:
        """Return details that are a distance and engine hours, those that are there."""
        said = [
            None if (at_km := self.number(km)) is None else self.words.distance(at_km),
            None if (at_hours := self.number(hours)) is None else self.words.in_unit(at_hours, "engine hours"),
        ]
        return ", ".join(each for each in said if each) or None

    def facts(self, *facts: tuple[str, str | None]) -> list[tuple[str, str]]:
        """Return the facts that are known, with their labels."""
        return [(self.words.t(f"label.{label}"), value) for label, value in facts if value]

    def view(self, title: str, lead: str, *facts: tuple[str, str | None], **more: Any) -> View:
        """Return the view of what was put together."""
        return View(clip(title, LONGEST_TITLE), lead, self.facts(*facts), **{"brief": self.opened or ""} | more)
