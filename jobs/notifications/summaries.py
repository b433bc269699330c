"""What a summary or digest shows: its alerts by kind, the worst first, each with its work order and a link to it."""

from dataclasses import dataclass
from uuid import UUID

from db.queries.folded import Folded, Line
from jobs.notifications.telling import View, clip
from jobs.notifications.views import view_of
from jobs.notifications.words import Words

_MOST_KINDS = 20
_LONGEST_META = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """One alert, on a line or two."""

    title: str
    meta: str
    severity: str
    url: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """The alerts of a kind: how many, the first of them, and how many more; what is None is not said."""

    name: str
    count: str | None
    entries: list[Entry]
    more: str | None


def groups_of(folded: Folded, words: Words, tenant: str, app_url: str | None) -> tuple[list[Group], str | None]:
    """Return the groups, in the order of their first line, and how many alerts are in none of them."""
    lines: dict[tuple[str, str], list[Line]] = {}
    for line in folded.lines:
        lines.setdefault((line.category, line.kind), []).append(line)
    kinds = [*lines, *(each for each in folded.counts if each not in lines)]
    groups = []
    for kind in kinds[:_MOST_KINDS]:
        shown = lines.get(kind, [])
        count = folded.counts.get(kind, len(shown))
        groups.append(
            Group(
                _name(kind[1], words),
                words.number(count) if count > 1 else None,
                [_entry(line, words, tenant, app_url) for line in shown],
                words.number(count - len(shown)) if shown and count > len(shown) else None,
            )
        )
    left = sum(folded.counts.get(kind, 0) for kind in kinds[_MOST_KINDS:])
    return groups, words.number(left) if left else None


def order_id(view: View) -> UUID | None:
    """Return the work order that a view is about; None where there is none, or what is written is no id."""
    try:
        return UUID(view.work_order_id) if view.work_order_id else None
    except ValueError:
        return None


def link_to(alert_id: UUID | None, view: View, app_url: str | None) -> str | None:
    """Return where the application shows the work order, else the alert."""
    if app_url is None:
        return None
    order = order_id(view)
    if order is not None and view.work_order_number:
        return f"{app_url}/work-orders/{order}"
    return f"{app_url}/alerts/{alert_id}" if alert_id is not None else None


def _entry(line: Line, words: Words, tenant: str, app_url: str | None) -> Entry:
    view = view_of(line, words, tenant)
    number = view.work_order_number if view.work_order_number not in (None, view.brief) else None
    meta = clip(" · ".join(each for each in (number, view.brief) if each), _LONGEST_META)
    return Entry(view.title, meta, line.severity, link_to(line.alert_id, view, app_url))


def _name(kind: str, words: Words) -> str:
    key = f"kind.{kind}"
    return words.t(key) if words.has(key) else clip(kind.replace("_", " "), 60)
