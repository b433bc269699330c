"""A notification as a mail: its words, its headers, and what threads and unsubscribes it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from db.queries.deliveries import Notice
from db.queries.folded import Folded
from integrations.mime import Mail
from jobs.notifications.render import OF_KIND, Rendered, RenderError, render
from jobs.notifications.summaries import groups_of, link_to, order_id
from jobs.notifications.telling import View, clip
from jobs.notifications.unsubscribe import Unsubscriber
from jobs.notifications.views import view_of
from jobs.notifications.words import Words, words_of

_log = structlog.get_logger()

MOST_LINES = 20
"""Of what a summary tells of."""
FOLDING = ("summary", "digest")


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What every mail of this deployment has in common.

    Args:
        sender: the address; its domain is that of the Message-IDs.
        app_url: where buttons lead; None for none.
        unsubscribe_to: a mailbox that takes wishes to unsubscribe.
    """

    sender_name: str
    sender: str
    app_url: str | None = None
    unsubscriber: Unsubscriber | None = None
    unsubscribe_to: str | None = None

    @property
    def domain(self) -> str:
        """What is right of the @ in a Message-ID."""
        return self.sender.rpartition("@")[2]


def compose(notice: Notice, folded: Folded | None, letterhead: Letterhead, now: datetime) -> Mail:
    """Return a notification as a mail: the same Message-ID every time, so that a repeat is recognised as one.

    Raises:
        UnsendableMail: at `mime.build`, where its address is none.
    """
    unsubscribe_url = None
    if letterhead.unsubscriber is not None:
        unsubscribe_url = letterhead.unsubscriber.url(
            notice.tenant_id, notice.address, notice.category, digest=notice.address_digest
        )
    rendered = write(notice, folded, letterhead.app_url, unsubscribe_url)
    return Mail(
        message_id=f"{notice.id}@{letterhead.domain}",
        sender_name=letterhead.sender_name,
        sender=letterhead.sender,
        to=notice.address,
        subject=rendered.subject,
        text=rendered.text,
        html=rendered.html,
        at=now,
        references=_thread(notice, letterhead.domain),
        headers=_headers(notice, letterhead, unsubscribe_url),
    )


def write(notice: Notice, folded: Folded | None, app_url: str | None, unsubscribe_url: str | None) -> Rendered:
    """Return a notification as people read it. What cannot be filled is said plainly instead: nobody is not told."""
    words = words_of(notice.locale, notice.tenant_locale, notice.time_zone, notice.tenant_zone, notice.units)
    try:
        view, context = _context(notice, folded, words, app_url)
        return render(_template(notice.kind, folded), _complete(context, view, notice, words, unsubscribe_url))
    except (RenderError, KeyError) as error:
        _log.error("template_failed", kind=clip(notice.kind, 60), language=words.language, error=str(error)[:200])
        plain = View(clip(notice.message or notice.kind), words.t("alert.lead", tenant=clip(notice.tenant)))
        return render("alert", _complete({}, plain, notice, words, unsubscribe_url))


def _template(kind: str, folded: Folded | None) -> str:
    """Return the template; an alert may be called `summary` by whoever raised it, and is none."""
    return "alert" if folded is None and kind in FOLDING else OF_KIND.get(kind, "alert")


def _context(notice: Notice, folded: Folded | None, words: Words, app_url: str | None) -> tuple[View, dict[str, Any]]:
    if folded is None:
        view = view_of(notice, words, notice.tenant)
        return view, {"button": _button(notice, view, words, app_url)}
    total = sum(folded.counts.values())
    category = words.t(f"category.{notice.category}")
    title = words.t(f"{notice.kind}.title", count=words.number(total), category=category)
    groups, more = groups_of(folded, words, notice.tenant, app_url)
    button = {"url": f"{app_url}/alerts", "label": words.t("button.all")} if app_url else None
    return View(title, words.t(f"{notice.kind}.lead")), {"groups": groups, "more": more, "button": button}


def _complete(
    context: Mapping[str, Any], view: View, notice: Notice, words: Words, unsubscribe_url: str | None
) -> dict[str, Any]:
    tenant = clip(notice.tenant)
    reason = words.t("footer.subscribed", tenant=tenant, about=words.t(f"about.{notice.category}"))
    if notice.is_named:
        reason = words.t("footer.named", tenant=tenant)
    preview = " · ".join([view.lead, *(value for _, value in view.facts[1:])])
    return {"button": None, "groups": [], "more": None} | {
        **context,
        "view": view,
        "t": words.t,
        "lang": words.language,
        "tenant": tenant,
        "severity": notice.severity,
        "severity_label": words.t(f"severity.{notice.severity}"),
        "preview": clip(preview, 140),
        "footer": {"reason": reason, "unsubscribe_url": unsubscribe_url},
    }


def _button(notice: Notice, view: View, words: Words, app_url: str | None) -> dict[str, str] | None:
    url = link_to(notice.alert_id, view, app_url)
    if url is None:
        return None
    is_order = order_id(view) is not None and view.work_order_number
    label = words.t("button.work_order", number=view.work_order_number) if is_order else words.t("button.alert")
    return {"url": url, "label": label}


def _headers(notice: Notice, letterhead: Letterhead, unsubscribe_url: str | None) -> dict[str, str]:
    headers = {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}
    if notice.severity == "critical":
        headers["Importance"] = "high"
    ways = [f"<{unsubscribe_url}>"] if unsubscribe_url else []
    if letterhead.unsubscribe_to is not None:
        ways.append(f"<mailto:{letterhead.unsubscribe_to}?subject=unsubscribe%20{notice.category}>")
    if ways:
        headers["List-Unsubscribe"] = ", ".join(ways)
    if unsubscribe_url is not None and unsubscribe_url.startswith("https://"):
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return headers


def _thread(notice: Notice, domain: str) -> str | None:
    """Return what a reader threads by: all mails of one work order, or of one subject, answer the same message."""
    work_order_id = (notice.details or {}).get("work_order_id")
    about = f"work_order:{work_order_id}" if work_order_id else notice.subject
    if about is None:
        return None
    digest = hashlib.sha256(f"{notice.tenant_id}/{about}".encode("utf-8", "replace")).hexdigest()
    return f"thread.{digest[:32]}@{domain}"
