"""One row that no statement can turn into text keeps nobody else from being told, by no way."""

from collections.abc import Iterator

import psycopg
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
    other = Desk(told.platform, "other")
    other.prefer()
    other.user("bob@other.example")
    return other


@pytest.mark.parametrize("bomb", BOMBS, ids=["gigabyte", "zeros", "name"])
def test_nobody_can_write_it(bomb: str, told: Desk, bob: Desk, inbox: Inbox) -> None:
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.ProgramLimitExceeded)):
        told.alerts(1, "custom", details=bomb)
    bob.alert("fault_code", "high")

    assert told.deliver()["sent"] == 1
    assert inbox.to == ["bob@other.example"]


def test_a_message_of_four_megabytes_is_refused_by_name(told: Desk) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="ck_alerts_message_size"):
        told.alert("custom", message="x" * 4_000_000)


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
