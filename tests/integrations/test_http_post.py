"""Forms and JSON sent to a provider: what travels, what is repeated, and who judges a refusal."""

import base64
import json
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qs

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from integrations.errors import CredentialsRejected, IntegrationError, PermanentError, RateLimited, TransientError
from integrations.http import HttpSession, HttpSettings, Refusal
from integrations.simulator.server import ServerThread
from tests.integrations.raw_server import answering, whole

ONCE = HttpSettings(connect_s=1.0, read_s=1.0, total_s=1.0, attempts=1, max_body_bytes=100_000)
THRICE = HttpSettings(connect_s=1.0, read_s=1.0, total_s=5.0, attempts=3, retry_window_s=3.0)
REFUSED = b'HTTP/1.1 501 No\r\nX-Reason: none\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{"type": "TIRED"}'


class Heard(NamedTuple):
    """What came."""

    headers: Headers
    body: bytes
    query: str


@pytest.fixture
def heard() -> Iterator[tuple[str, list[Heard]]]:
    """A server that hears all of what is sent, and its URL."""
    requests: list[Heard] = []

    async def hear(request: Request) -> Response:
        requests.append(Heard(request.headers, await request.body(), request.url.query))
        return JSONResponse({})

    with ServerThread(Starlette(routes=[Route("/data", hear, methods=["POST"])])) as server:
        yield f"{server.url}/data", requests


def test_a_form_travels_in_the_body_and_the_client_in_its_header(heard: tuple[str, list[Heard]]) -> None:
    url, requests = heard
    with HttpSession(ONCE) as session:
        session.post_form(url, form={"grant": "a&b c", "empty": ""}, basic=("me", "s3:cret"))

    assert requests[0].headers["content-type"] == "application/x-www-form-urlencoded"
    assert requests[0].headers["authorization"] == f"Basic {base64.b64encode(b'me:s3:cret').decode()}"
    assert parse_qs(requests[0].body.decode(), keep_blank_values=True) == {"grant": ["a&b c"], "empty": [""]}
    assert not requests[0].query


def test_json_travels_with_the_token_and_further_headers(heard: tuple[str, list[Heard]]) -> None:
    url, requests = heard
    with HttpSession(ONCE) as session:
        session.post_json(url, payload={"paths": ["/a"]}, bearer="token", headers={"X-Unit": "metric"})

    told = requests[0].headers
    assert (told["authorization"], told["x-unit"], told["content-type"]) == (
        "Bearer token",
        "metric",
        "application/json",
    )
    assert json.loads(requests[0].body) == {"paths": ["/a"]}


@pytest.mark.parametrize("basic", [("", "x"), ("me", ""), ("m:e", "x"), ("me", "line\nbreak"), ("me", "pass word")])
def test_a_client_that_no_header_can_carry_is_never_sent(basic: tuple[str, str]) -> None:
    with answering(whole(b"{}")) as server, HttpSession(ONCE) as session:
        with pytest.raises(CredentialsRejected):
            session.post_form(server.url, form={}, basic=basic)
        assert server.asked == []


def test_a_session_with_one_attempt_never_sends_a_form_twice() -> None:
    with answering() as server, HttpSession(ONCE) as session:
        with pytest.raises(TransientError):
            session.post_form(server.url, form={"token": "once"}, basic=("me", "x"))
        assert len(server.asked) == 1


def test_the_provider_judges_by_what_the_body_says() -> None:
    seen: list[Refusal] = []

    def judge(refusal: Refusal) -> IntegrationError | None:
        seen.append(refusal)
        return PermanentError("judged") if b"TIRED" in refusal.body else None

    with answering(REFUSED) as server, HttpSession(THRICE) as session:
        with pytest.raises(PermanentError, match=r"^judged$"):
            session.get_json(server.url, params={}, bearer="token", judge=judge)
        assert len(server.asked) == 1, "a 5xx that is for good is not repeated"
    assert (seen[0].status, seen[0].headers["x-reason"], seen[0].request) == (501, "none", "GET 127.0.0.1 /data")


def test_what_a_provider_does_not_judge_is_judged_by_its_status() -> None:
    with answering(REFUSED) as server, HttpSession(THRICE) as session:
        with pytest.raises(TransientError, match="status 501"):
            session.get_json(server.url, params={}, bearer="token", judge=lambda _: None)
        assert len(server.asked) == 3


def test_a_call_waits_for_its_turn_once_however_often_it_is_repeated() -> None:
    turns: list[int] = []
    with answering(REFUSED) as server, HttpSession(THRICE, lambda: turns.append(1)) as session:
        with pytest.raises(TransientError):
            session.get_json(server.url, params={}, bearer="token")
        assert (len(server.asked), len(turns)) == (3, 1)


def test_where_the_turn_is_far_off_nothing_is_asked() -> None:
    def far_off() -> None:
        raise RateLimited("used up", 30.0)

    with answering(whole(b"{}")) as server, HttpSession(ONCE, far_off) as session:
        with pytest.raises(RateLimited):
            session.get_json(server.url, params={}, bearer="token")
        assert server.asked == []
