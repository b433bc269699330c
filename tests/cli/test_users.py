"""Users from the command line: who can be told something, without their addresses in anything that is kept."""

from uuid import UUID

import psycopg
import pytest

from tests.cli.conftest import Cli
from tests.factories import make_tenant

ANN = ("--tenant", "acme", "--email", "Ann@acme.example")


@pytest.fixture
def tenant_id(cli: Cli, admin: psycopg.Connection) -> UUID:
    make_tenant(admin, "other")
    return make_tenant(admin)


def users(admin: psycopg.Connection, columns: str) -> list[tuple[object, ...]]:
    return admin.execute(f"SELECT {columns} FROM users ORDER BY email".encode()).fetchall()


def test_a_user_is_added_once_and_listed_without_the_address(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    assert "users add --tenant SLUG" in cli("users").out
    names = ("--first-name", "Ann", "--last-name", "van Dyck")
    answer = cli("users", "add", *ANN, *names, "--locale", "de-at", "--zone", "Europe/Vienna")
    assert answer.status == 0
    assert users(admin, "id::text, tenant_id, email, first_name, last_name, locale, time_zone, status") == [
        (
            *(answer.out.strip(), tenant_id, "Ann@acme.example", "Ann", "van Dyck"),
            *("de_AT", "Europe/Vienna", "active"),
        )
    ]
    again = cli("users", "add", "--tenant", "acme", "--email", "ann@ACME.example")
    assert (again.status, again.line) == (1, "fleet-jobs: --email: acme has a user of that address already")
    assert cli("users", "add", "--tenant", "other", "--email", "ann@acme.example").status == 0

    [told] = cli("users", "--tenant", "acme", "--json").objects
    assert (told["address"], told["locale"], told["told_by"]) == ("A...@acme.example", "de_AT", None)
    assert "A...@acme.example" in cli("users").out
    assert len(cli("users", "--json").objects) == 2
    assert len(cli("users", "--limit", "1", "--json").objects) == 1


def test_a_user_who_was_added_is_told_what_the_tenant_prefers(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    assert "notifications prefer --tenant acme" in cli("users", "add", *ANN).line
    cli("notifications", "prefer", "--tenant", "acme", "--severity", "low")
    assert cli("users", "add", "--tenant", "acme", "--email", "bob@acme.example").err == ""
    cli("notifications", "prefer", "--tenant", "acme", "--user", "bob@acme.example", "--severity", "high")
    assert [each["told_by"] for each in cli("users", "--json").objects] == ["tenant", "own"]
    assert cli("users", "disable", *ANN).status == 0

    admin.execute(
        "INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at)"
        " VALUES (%s, 'x', 'critical', 'x', 'x', now())",
        [tenant_id],
    )
    assert admin.execute("SELECT address FROM notifications").fetchall() == [("bob@acme.example",)]


def test_a_user_is_disabled_and_enabled_by_address_in_whatever_case(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    user_id = cli("users", "add", *ANN).out.strip()
    same = ("--tenant", "acme", "--email", "ann@acme.EXAMPLE")
    assert cli("users", "disable", *same).out == f"user {user_id} is disabled\n"
    assert cli("users", "disable", *same).out == f"user {user_id} was disabled already\n"
    assert users(admin, "status") == [("inactive",)]
    assert cli("users", "enable", *same).out == f"user {user_id} is active\n"
    assert users(admin, "status") == [("active",)]
    unknown = cli("users", "disable", "--tenant", "other", "--email", "ann@acme.example")
    assert unknown.line == "fleet-jobs: --email: other has no user of that address: `fleet-jobs users` lists them"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--email", "ann"), "--email: no mail can be sent to this address"),
        (("--email", "ann@acme.example\nBcc: b@c.example"), "--email: no mail can be sent to this address"),
        (("--email", "a" * 250 + "@acme.example"), "--email: no mail can be sent to this address"),
        (("--locale", "tlh"), "--locale: expected one of de, en, es, fr, or with a country"),
        (("--locale", "de_XX_nonsense_1"), "--locale: expected one of"),
        (("--locale", ""), "--locale: expected one of"),
        (("--zone", "Mars/Olympus"), "--zone: no such time zone"),
        (("--zone", "../../etc/passwd"), "--zone: no such time zone"),
        (("--first-name", "Ann\nBob"), "--first-name: expected one line"),
        (("--last-name", "x" * 101), "--last-name: expected one line of at most 100"),
        (("--tenant", "nobody"), "no such tenant: nobody"),
    ],
)
def test_what_cannot_be_is_refused_without_repeating_an_address(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, options: tuple[str, str], said: str
) -> None:
    answer = cli("users", "add", *ANN, *options)
    assert answer.status == 1
    assert said in answer.line
    assert "ann" not in answer.line.lower()
    assert users(admin, "id") == []
