"""What an operator asks: what became of this one, and would that user be told."""

import pytest

from tests.cli.conftest import Answer, Cli
from tests.notifications.conftest import Desk, Inbox


@pytest.fixture
def cli(told: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(capsys, monkeypatch)


def test_a_notification_is_shown_with_its_attempts_and_without_its_address(told: Desk, inbox: Inbox, cli: Cli) -> None:
    inbox.answers["ann@acme.example"] = "450 4.2.2 ann@acme.example is full"
    alert_id = told.alert("offline", "high", message="Van 12 is silent")
    told.deliver()
    notification_id = told.value("SELECT id FROM notifications")

    shown = cli("notifications", "show", str(notification_id)[:13]).out
    (told_of,) = cli("notifications", "show", notification_id, "--json").objects

    for words in ("a...@acme.example", "Van 12 is silent", str(alert_id), "deferred", "450", "next try"):
        assert words in shown
    assert "ann@" not in shown + str(told_of)
    assert told_of["notification"]["state"] == "ready"
    assert [(each["outcome"], each["code"]) for each in told_of["attempts"]] == [("deferred", 450)]
    assert "no such notification" in cli("notifications", "show", "00000000").line


def test_why_says_what_holds_and_what_would_become_of_it(told: Desk, cli: Cli) -> None:
    def ask(*more: str) -> str:
        return cli("notifications", "why", "--tenant", "acme", "--user", "Ann@acme.example", *more).out

    assert ask() == "email: told\n  what holds is the tenant's preference for all: from low on\n"
    told.prefer(told.value("SELECT id FROM users"), category="maintenance", min_severity="high")
    assert ask("--kind", "maintenance_due") == (
        "email: not told\n  it is only medium\n  what holds is the user's preference for maintenance: from high on\n"
    )
    told.admin.execute("UPDATE notification_preferences SET after_min = 30")
    assert ask("--severity", "high").startswith("email: held until 20")
    (answered,) = cli(*("notifications", "why", "--tenant", "acme", "--user", "ann@acme.example", "--json")).objects
    assert (answered["way"], answered["outcome"]) == ("email", "held")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--tenant", "nobody", "--user", "ann@acme.example"), "no such tenant: nobody"),
        (("--tenant", "acme", "--user", "bob@acme.example"), "acme has no user of that address"),
        (("--tenant", "acme", "--user", "ann@acme.example", "--severity", "huge"), "--severity: no such one: huge"),
    ],
)
def test_a_question_about_nobody_is_answered_in_a_line(given: tuple[str, ...], said: str, cli: Cli) -> None:
    assert said in cli("notifications", "why", *given).line


# Apprise loads a plugin that asks for `imghdr`, and has its own where Python no longer does.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_a_users_chat_that_no_preference_asks_for_is_added_and_warned_of(told: Desk, cli: Cli) -> None:
    def add(name: str, *more: str) -> Answer:
        address = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/"
        added = cli("notifications", "endpoints", "add-chat", "--tenant", "acme", "--name", name, *more, stdin=address)
        assert added.status == 0
        assert len(added.out.splitlines()) == 1, "the id, and nothing else"
        return added

    ann = ("--user", "ann@acme.example")
    bob = told.user("bob@acme.example")
    told.prefer(bob, channel="apprise")
    told.prefer(channel="apprise", category="safety", enabled=False)

    assert add("ops").err == ""
    assert "prefer --tenant acme --user EMAIL --channel apprise" in add("ann", *ann).line
    assert add("bob", "--user", "bob@acme.example").err == ""
    cli("notifications", "prefer", "--tenant", "acme", *ann, "--channel", "apprise")
    assert add("ann 2", *ann).err == ""
