"""One row that no statement can turn into text keeps nobody else from being told, by no way."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from db.queries import folded
from tests.notifications.conftest import Desk, Inbox
from tests.notifications.hook import Hook, listening
from tests.notifications.test_endpoints import Endpoint

GIGABYTE = '{"a": [' + ",".join(["1e131071"] * 8_300) + "]}"
ZEROS = '{"a": [' + ",".join(["0e-16383"] * 80_000) + "]}"
ONE_NAME = '{"vehicle_name": [' + ",".join(["1e131071"] * 8_300) + "]}"
BOMBS = [GIGABYTE, ZEROS, ONE_NAME]


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening() as opened:
        yield opened


@pytest.fixture
def bob(told: Desk) -> Desk:
    """Somebody else, who is told of everything."""
    told.unbound()
    other = Desk(told.platform, "other")
    other.prefer()
    other.user("bob@other.example")
    return other


@pytest.mark.parametrize("bomb", BOMBS, ids=["gigabyte", "zeros", "name"])
def test_the_others_have_their_mails_and_it_is_told_without_its_details(
    bomb: str, told: Desk, bob: Desk, inbox: Inbox
) -> None:
    told.alerts(1, "custom", details=bomb)
    bob.alert("fault_code", "high")

    assert told.deliver()["sent"] == 2

    assert set(inbox.to) == {"ann@acme.example", "bob@other.example"}


@pytest.mark.parametrize("bomb", BOMBS, ids=["gigabyte", "zeros", "name"])
def test_folded_into_a_summary_it_is_one_of_its_lines(bomb: str, told: Desk, bob: Desk, inbox: Inbox) -> None:
    told.alerts(12)
    told.alerts(1, details=bomb)
    bob.alert()

    assert told.deliver()["sent"] == 2

    assert set(inbox.to) == {"ann@acme.example", "bob@other.example"}


def test_the_others_webhooks_are_called(told: Desk, bob: Desk, hook: Hook) -> None:
    Endpoint(told, hook.url)
    endpoint = Endpoint(bob, hook.url)
    told.alerts(1, details=GIGABYTE)
    bob.alert("fault_code", "high")

    assert endpoint.call() == {"sent": 2}


def test_numbers_as_people_write_them_are_read(told: Desk, hook: Hook) -> None:
    endpoint = Endpoint(told, hook.url)
    details = {"a": [0, -1.5, 1e15, 12345678901234567890, 1e-7], "b": {"c": 48.137154}}
    told.alert("custom", details=details)

    endpoint.call()

    assert endpoint.payloads(hook)[0]["data"]["details"] == details


def test_a_summary_that_the_database_refuses_to_read_fails_alone(
    told: Desk, bob: Desk, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.alerts(12)
    bob.alert()
    monkeypatch.setattr(folded, "_FOLDED", text("SELECT repeat('x', 1 << 30), :id, :most"))  # 54000

    counts = told.deliver()

    assert (counts["sent"], counts["failed"]) == (1, 1)
    assert inbox.to == ["bob@other.example"]
    assert told.value("SELECT reason FROM notifications WHERE state = 'failed'") == (
        "it cannot be written: OperationalError"
    )
