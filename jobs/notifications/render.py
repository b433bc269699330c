"""Templates: compiled once, in a sandbox, a missing variable an error, and HTML escaped."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from jobs.notifications.telling import clip

_FILES = Path(__file__).parent / "templates"
TEMPLATES = tuple(sorted(path.name for path in _FILES.iterdir() if path.is_dir()))
OF_KIND = {
    "maintenance_due_soon": "maintenance",
    "maintenance_due": "maintenance",
    "maintenance_overdue": "maintenance",
    "maintenance_meter_quarantined": "maintenance",
    "work_order_opened": "maintenance",
    "work_order_flagged": "maintenance",
    "summary": "summary",
    "digest": "summary",
}
"""Which template says what happened; every other kind is an `alert`."""
_LONGEST_SUBJECT = 180


class RenderError(Exception):
    """A template cannot be filled: it asks for what nobody gave. A bug of ours, that names the template only."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message as people read it; the subject is one line of bounded length."""

    subject: str
    text: str
    html: str


def render(template: str, context: Mapping[str, Any]) -> Rendered:
    """Fill the three files of a template.

    Raises:
        RenderError: it asks for what the context does not have.
    """
    subject, text, html = _compiled(template)
    try:
        return Rendered(clip(subject.render(context), _LONGEST_SUBJECT), text.render(context), html.render(context))
    except (TemplateError, KeyError) as error:
        raise RenderError(f"{template}: {type(error).__name__}") from error


@cache
def _compiled(template: str) -> tuple[Template, Template, Template]:
    get = environment().get_template
    return get(f"{template}/subject.txt"), get(f"{template}/body.txt"), get(f"{template}/body.html")


@cache
def environment() -> ImmutableSandboxedEnvironment:
    """Return the environment of all templates."""
    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(_FILES),
        undefined=StrictUndefined,
        autoescape=lambda name: name is not None and name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
