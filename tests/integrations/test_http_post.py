"""Forms and JSON sent to a provider: what travels, what is repeated, and who judges a refusal."""

import base64
import json
from urllib.parse import parse_qs

import pytest

from integrations.errors import CredentialsRejected, IntegrationError, PermanentError, RateLimited, TransientError
from integrations.http import HttpSession, HttpSettings, Refusal
from tests.integrations.raw_server import answering, whole

ONCE = HttpSettings(connect_s=1.0, read_s=1.0, total_s=1.0, attempts=1, max_body_bytes=100_000)
THRICE = HttpSettings(connect_s=1.0, read_s=1.0, total_s=5.0, attempts=3, retry_window_s=3.0)
REFUSED = b'HTTP/1.1 501 No\r\nX-Reason: none\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{"type": "TIRED"}'


def test_a_form_travels_in_the_body_and_the_client_in_its_header() -> None:
    with answering(whole(b"{}")) as server, HttpSession(ONCE) as session:
        session.post_form(server.url, form={"grant": "a&b c", "empty": ""}, basic=("me", "s3:cret"))

    head, _, body = server.asked[0].decode().partition("\r\n\r\n")
    assert head.startswith("POST /data HTTP/1.1")
    assert "application/x-www-form-urlencoded" in head
    assert base64.b64encode(b"me:s3:cret").decode() in head
    assert parse_qs(body, keep_blank_values=True) == {"grant": ["a&b c"], "empty": [""]}


def test_json_travels_with_the_token_and_further_headers() -> None:
    with answering(whole(b"[]")) as server, HttpSession(ONCE) as session:
        session.post_json(server.url, payload={"paths": ["/a"]}, bearer="token", headers={"X-Unit": "metric"})

    head, _, body = server.asked[0].decode().partition("\r\n\r\n")
    assert "Authorization: Bearer token" in head and "X-Unit: metric" in head
    assert "Content-Type: application/json" in head
    assert json.loads(body) == {"paths": ["/a"]}


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
