"""Where the links to unsubscribe lead: GET shows a page and does nothing, POST does it, with no login.

Mail programs post by themselves (RFC 8058), and scanners of mail follow every link: hence the difference.
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from db.engine import Database
from db.queries import suppressions
from jobs.notifications.render import environment
from jobs.notifications.unsubscribe import PATH, Unsubscriber
from jobs.notifications.words import words_of

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


def routes(database: Database, unsubscriber: Unsubscriber) -> list[Route]:
    """Return the routes, to be mounted where the internet comes in. They write as one tenant's role."""
    return [Route(f"{PATH}/{{category}}/{{token}}", _unsubscribe(database, unsubscriber), methods=["GET", "POST"])]


def _unsubscribe(database: Database, unsubscriber: Unsubscriber) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        """A plain function: Starlette runs it in a thread. What is posted is not read."""
        category = request.path_params["category"]
        wish = unsubscriber.read(category, request.path_params["token"])
        if wish is None:
            return _page(request, "invalid", None, 404)
        if request.method != "POST":
            return _page(request, "question", category, 200)
        with database.tenant_transaction(wish.tenant_id) as connection:
            suppressions.suppress(connection, wish.tenant_id, wish.address_digest, category, "unsubscribed")
        return _page(request, "done", category, 200)

    return answer


def _page(request: Request, state: str, category: str | None, status: int) -> Response:
    asked = request.headers.get("accept-language", "")[:100]
    names = [part.partition(";")[0].strip() for part in asked.split(",")[:5]]
    words = words_of(*(names + [""] * 2)[:2])
    said = {} if category is None else {"about": words.t(f"about.{category}")}
    html = (
        environment()
        .get_template("unsubscribe.html")
        .render(
            lang=words.language,
            title=words.t("unsubscribe.title"),
            text=words.t(f"unsubscribe.{state}", **said),
            confirm=words.t("unsubscribe.confirm") if state == "question" else None,
        )
    )
    return HTMLResponse(html, status, _HEADERS)
