"""Notifications from the command line: what was told, how it looks, who wishes what, and where webhooks go."""

from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from db.encryption import Keyring, new_key
from jobs.notifications.endpoints import secret_context
from tests.cli.conftest import Cli
from tests.factories import ENCRYPTION_KEY, make_tenant
from tests.notifications.conftest import Inbox


@pytest.fixture
def tenant_id(cli: Cli, admin: psycopg.Connection) -> UUID:
    return make_tenant(admin)


def told(admin: psycopg.Connection, tenant_id: UUID) -> UUID:
    """Open an alert that names two addresses, of which one has failed; return that notification."""
    admin.execute(
        "INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at, recipients)"
        " VALUES (%s, 'geofence_entry', 'low', 'vehicle:1', 'x', now(), '{gate@acme.example,boss@acme.example}')",
        [tenant_id],
    )
    row = admin.execute(
        "UPDATE notifications SET state = 'failed', reason = 'given up', attempts = 10, finished_at = now()"
        " WHERE address LIKE 'gate%' RETURNING id"
    ).fetchone()
    assert row is not None
    found: UUID = row[0]
    return found


def test_the_list_shows_what_became_of_each_and_no_address(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    assert cli("notifications").out == "no notifications\n"
    told(admin, tenant_id)
    make_tenant(admin, "other")

    shown = cli("notifications").out
    assert "g...@acme.example" in shown
    assert "gate@" not in shown
    objects = cli("notifications", "--json", "--state", "failed").objects
    assert [(each["state"], each["reason"], each["attempts"]) for each in objects] == [("failed", "given up", 10)]
    assert cli("notifications", "--tenant", "other").out == "no notifications\n"
    assert "no such one: gone" in cli("notifications", "--state", "gone").line


def test_what_failed_is_sent_again_when_somebody_says_so(cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
    failed = told(admin, tenant_id)

    assert cli("notifications", "retry", failed).out == f"notification {failed} is sent again\n"
    assert cli("notifications", "retry", failed).line.endswith("has neither failed nor expired")
    assert admin.execute("SELECT state, attempts FROM notifications WHERE id = %s", [failed]).fetchone() == ("ready", 0)


def test_the_list_says_what_each_is_about_and_narrows_by_address_and_kind(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    admin.execute(
        "WITH van AS (INSERT INTO vehicles (tenant_id, name) VALUES (%s, 'Van 12') RETURNING id, tenant_id)"
        " INSERT INTO alerts (tenant_id, vehicle_id, kind, severity, subject, message, opened_at, recipients)"
        " SELECT tenant_id, id, k, 'low', 'vehicle:' || id, 'x', now(), '{ann@acme.example,anna@acme.example}'"
        " FROM van, unnest(ARRAY['offline', 'low_fuel']) AS k",
        [tenant_id],
    )
    (alert_id,) = admin.execute("SELECT id FROM alerts WHERE kind = 'low_fuel'").fetchone() or (None,)

    (one,) = cli("notifications", "--json", "--to", "Anna@acme.example", "--kind", "low_fuel").objects
    assert (one["about"], one["alert_id"]) == ("Van 12", str(alert_id))
    assert len(cli("notifications", "--json", "--to", "ann@acme.example").objects) == 2
    assert len(cli("notifications", "--json", "--kind", "offline").objects) == 2
    assert cli("notifications", "--to", "%").out == "no notifications\n"
    table = cli("notifications").out
    assert "Van 12" in table
    assert str(alert_id)[:13] in table


def test_nothing_that_was_smuggled_behind_an_address_is_shown(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    told(admin, tenant_id)
    admin.execute("UPDATE notifications SET address = E'xaver@y.example\\nBcc: a@b.example' WHERE address LIKE 'gate%'")
    admin.execute("UPDATE notifications SET address = 'no address at all' WHERE address LIKE 'boss%'")

    assert {each["to"] for each in cli("notifications", "--json").objects} == {"x...@y.example", "n..."}


@pytest.mark.parametrize("locale", ["en", "de", "fr-CA"])
def test_a_preview_is_three_files_that_a_person_can_look_at(cli: Cli, tmp_path: Path, locale: str) -> None:
    done = cli("notifications", "preview", "maintenance_due", "--locale", locale, "--out", tmp_path / "looks")

    assert done.status == 0
    files = sorted((tmp_path / "looks").iterdir())
    assert [path.suffix for path in files] == [".eml", ".html", ".txt"]
    mail = BytesParser(policy=default).parsebytes(files[0].read_bytes())
    assert mail["Subject"] == done.out.splitlines()[0]
    assert "WO-000042" in files[1].read_text()
    assert "15.020 von 15.000 km" in files[2].read_text() or locale != "de"


@pytest.mark.parametrize("locale", ["xx", "pt", "../../x", ""])
def test_a_mail_in_a_language_that_there_is_none_in_is_refused(cli: Cli, tmp_path: Path, locale: str) -> None:
    for command in (("preview", "test", "--out", tmp_path / "looks"), ("send-test", "--to", "ann@acme.example")):
        refused = cli("notifications", *command, "--locale", locale)
        assert "--locale: expected one of de, en, es, fr" in refused.line
    assert not (tmp_path / "looks").exists()


def test_a_preview_has_all_that_a_mail_has(cli: Cli, tmp_path: Path) -> None:
    cli("notifications", "preview", "offline", "--out", tmp_path)
    assert "https://hooks.example.com/unsubscribe/connectivity/" in (tmp_path / "offline.en.txt").read_text()
    mail = BytesParser(policy=default).parsebytes((tmp_path / "offline.en.eml").read_bytes())
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_a_preview_of_nothing_names_what_there_is(cli: Cli) -> None:
    assert "expected one of offline" in cli("notifications", "preview", "nothing").line
    kinds = [each["kind"] for each in cli("notifications", "templates", "--json").objects]
    assert "maintenance_due" in kinds
    assert "languages: de, en, es, fr" in cli("notifications", "templates").out


def test_a_test_mail_says_what_the_server_answered(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "FLEET_SMTP_URL: missing" in cli("notifications", "send-test", "--to", "ann@acme.example").line
    inbox = Inbox()
    monkeypatch.setenv("FLEET_SMTP_URL", inbox.url)
    monkeypatch.setenv("FLEET_MAIL_FROM", "Fleet <fleet@jobs.example>")
    assert "cannot be reached" in cli("notifications", "send-test", "--to", "ann@acme.example").line
    inbox.start()
    try:
        done = cli("notifications", "send-test", "--to", "ann@acme.example", "--locale", "fr")
        assert done.out.startswith("the mail server has taken it as 4Abc123: <")
        assert str(inbox.mails[0].parsed["Subject"]) == "Les messages de Fleet Jobs arrivent"
        text = inbox.mails[0].part("plain")
        assert "(UTC)" in text
        assert "envoyé par Fleet, qui a indiqué votre adresse" in text
        cli("notifications", "send-test", "--to", "ann@acme.example", "--zone", "Asia/Kathmandu")
        assert "(Asia/Kathmandu)" in inbox.mails[1].part("plain")
        inbox.answers["bob@acme.example"] = "550 5.1.1 unknown"
        assert "does not take it: 550" in cli("notifications", "send-test", "--to", "bob@acme.example").line
        assert cli("notifications", "send-test", "--to", "a\nb@x").line.startswith("fleet-jobs: --to: not an address")
        assert "--to: not an address" in cli("notifications", "send-test", "--to", "nobody").line
        assert (
            "--zone: no such time zone" in cli("notifications", "send-test", "--to", "a@x.example", "--zone", "x").line
        )
    finally:
        inbox.stop()


def test_how_a_tenant_and_a_user_are_told(cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
    assert "nobody is told" in cli("notifications", "preferences").out
    admin.execute("INSERT INTO users (tenant_id, email) VALUES (%s, 'ann@acme.example')", [tenant_id])

    cli("notifications", "prefer", "--tenant", "acme", "--severity", "high")
    cli("notifications", "prefer", "--tenant", "acme", "--quiet", "22:00-06:00")
    cli(
        *("notifications", "prefer", "--tenant", "acme", "--user", "ANN@acme.example", "--category", "maintenance"),
        *("--digest", "daily", "--digest-at", "06:30", "--after-min", "0"),
    )
    cli("notifications", "prefer", "--tenant", "acme", "--category", "geofence", "--off")

    rows = cli("notifications", "preferences", "--json").objects
    assert [
        (row["user"], row["category"], row["enabled"], row["min_severity"], row["quiet"], row["digest"]) for row in rows
    ] == [
        (None, "all", True, "high", "22:00-06:00", "none"),
        (None, "geofence", False, "low", None, "none"),
        ("a...@acme.example", "maintenance", True, "low", None, "daily 06:30"),
    ]
    cli("notifications", "prefer", "--tenant", "acme", "--quiet", "none")
    assert cli("notifications", "preferences", "--json").objects[0]["quiet"] is None


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--quiet", "22-6"), "--quiet: not a time of day: 22: expected HH:MM"),
        (("--quiet", "22:00-22:00"), "--quiet: begins and ends at once"),
        (("--quiet", "24:00-06:00"), "not a time of day: 24:00"),
        (("--digest", "weekly"), "--digest: no such one: weekly"),
        (("--category", "weather"), "--category: no such one: weather"),
        (("--severity", "grave"), "--severity: no such one: grave"),
        (("--user", "nobody@x.example"), "acme has no user of that address"),
        (("--after-min", "-1"), "after-min"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(cli: Cli, tenant_id: UUID, arguments: tuple[str, ...], problem: str) -> None:
    done = cli("notifications", "prefer", "--tenant", "acme", *arguments)
    assert done.status in (1, 2)
    assert problem in done.line


def test_an_address_is_sent_to_again(cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
    admin.execute(
        "INSERT INTO suppressed_addresses (tenant_id, address_digest, reason)"
        " SELECT id, sha256(convert_to(id || ':ann@acme.example', 'UTF8')), 'hard_bounce' FROM tenants"
    )

    allowed = cli("notifications", "allow", "--tenant", "acme", "Ann@acme.example")

    assert allowed.out == "it is sent to again\n"
    assert cli("notifications", "allow", "--tenant", "acme", "ann@acme.example").out == "nothing kept us from it\n"


def test_who_is_sent_nothing_is_counted_and_found_by_address(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    other = make_tenant(admin, "other")
    assert cli("notifications", "suppressed").out == "every address is sent to\n"
    for tenant, address, category, reason in (
        (tenant_id, "ann@acme.example", "geofence", "unsubscribed"),
        (tenant_id, "bob@acme.example", "geofence", "unsubscribed"),
        (tenant_id, "gone@acme.example", "all", "hard_bounce"),
        (other, "ann@acme.example", "all", "complaint"),
    ):
        admin.execute(
            "INSERT INTO suppressed_addresses (tenant_id, address_digest, category, reason)"
            " VALUES (%s, sha256(convert_to(%s || ':' || lower(%s), 'UTF8')), %s, %s)",
            [tenant, str(tenant), address, category, reason],
        )

    def counted(*arguments: str) -> list[tuple[str, str, str, int]]:
        rows = cli("notifications", "suppressed", "--json", *arguments).objects
        return [(row["tenant"], row["category"], row["reason"], row["addresses"]) for row in rows]

    assert counted("--tenant", "acme") == [("acme", "all", "hard_bounce", 1), ("acme", "geofence", "unsubscribed", 2)]
    assert counted("ANN@acme.example") == [("acme", "geofence", "unsubscribed", 1), ("other", "all", "complaint", 1)]
    assert cli("notifications", "suppressed", "eve@acme.example").out == "nothing keeps us from sending to it\n"
    assert "ann@" not in cli("notifications", "suppressed").out
    cli("notifications", "allow", "--tenant", "acme", "ann@acme.example")
    assert counted("--tenant", "acme", "ann@acme.example") == []


def test_an_address_whose_letters_only_the_database_makes_small_is_allowed_again(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID
) -> None:
    admin.execute(
        "INSERT INTO suppressed_addresses (tenant_id, address_digest, reason)"
        " SELECT id, sha256(convert_to(id || ':' || lower('x@\u0130stanbul.example'), 'UTF8')), 'hard_bounce'"
        " FROM tenants"
    )
    assert cli("notifications", "suppressed", "x@\u0130stanbul.example", "--json").objects[0]["addresses"] == 1
    assert cli("notifications", "allow", "--tenant", "acme", "x@\u0130stanbul.example").out == "it is sent to again\n"


class TestEndpoints:
    def test_a_webhook_from_its_first_secret_to_its_removal(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID
    ) -> None:
        assert cli("notifications", "endpoints").out.startswith("no endpoints")
        add = ("notifications", "endpoints", "add-webhook", "--tenant", "acme", "--name", "erp")
        done = cli(*add, "--url", "https://erp.example/hook", "--event", "maintenance", "--severity", "medium")
        endpoint_id, secret = done.out.split()
        assert secret.startswith("whsec_")
        assert "already: erp" in cli(*add, "--url", "https://erp.example/hook").line

        (row,) = cli("notifications", "endpoints", "--json").objects
        assert (row["id"], row["events"], row["min_severity"]) == (endpoint_id, ["maintenance"], "medium")
        assert secret not in str(row)
        rotated = cli("notifications", "endpoints", "rotate", endpoint_id[:8]).out.strip()
        assert rotated.startswith("whsec_")
        assert rotated != secret

        admin.execute("UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'it answered 410 Gone'")
        assert " off " in cli("notifications", "endpoints").out
        assert "is on again" in cli("notifications", "endpoints", "enable", endpoint_id).out
        assert "was on already" in cli("notifications", "endpoints", "enable", endpoint_id).out
        assert "give --yes" in cli("notifications", "endpoints", "remove", endpoint_id).line
        cli("notifications", "endpoints", "remove", endpoint_id, "--yes")
        assert cli("notifications", "endpoints").out.startswith("no endpoints")
        assert admin.execute("SELECT secret_encrypted FROM webhook_endpoints").fetchone() == (b"",)

    @pytest.mark.parametrize(
        "url", ["http://erp.example/", "https://127.0.0.1/", "https://10.0.0.1/", "https://u:hunter2@erp.example/", "x"]
    )
    def test_no_webhook_is_added_that_would_never_be_called(self, cli: Cli, tenant_id: UUID, url: str) -> None:
        refused = cli("notifications", "endpoints", "add-webhook", "--tenant", "acme", "--name", "x", "--url", url)
        assert refused.status == 1
        assert "hunter2" not in refused.line

    def test_a_chat_is_added_by_its_address_which_is_never_an_argument(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID
    ) -> None:
        add = ("notifications", "endpoints", "add-chat", "--tenant", "acme", "--name", "ops")
        assert "not the address of a service" in cli(*add, stdin="https://hunter2.example").line
        assert "hunter2" not in cli(*add, stdin="mailto://hunter2@x.example").line

    def test_after_rekey_the_old_key_may_go(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add = ("notifications", "endpoints", "add-webhook", "--tenant", "acme", "--name", "erp")
        endpoint_id, _ = cli(*add, "--url", "https://erp.example/hook").out.split()
        secret = cli("notifications", "endpoints", "rotate", endpoint_id).out.strip()
        new = new_key()
        monkeypatch.setenv("FLEET_ENCRYPTION_KEYS", f"{new},{ENCRYPTION_KEY}")

        assert cli("notifications", "endpoints", "rekey").out == "1 encrypted anew, 0 were already\n"
        assert cli("notifications", "endpoints", "rekey").out == "0 encrypted anew, 1 were already\n"

        row = admin.execute("SELECT secret_encrypted, previous_secret_encrypted FROM webhook_endpoints").fetchone()
        assert row is not None
        ring, bound = Keyring.from_settings([new]), secret_context(tenant_id, UUID(endpoint_id))
        assert ring.decrypt(row[0], associated=bound).decode() == secret
        assert ring.decrypt(row[1], associated=bound).decode().startswith("whsec_")

    def test_a_slip_in_an_event_is_refused(self, cli: Cli, tenant_id: UUID) -> None:
        add = ("notifications", "endpoints", "add-webhook", "--tenant", "acme", "--name", "x", "--url")
        refused = cli(*add, "https://erp.example/", "--event", "geofence entry")
        assert refused.line.endswith("neither a kind of alert nor a category: geofence entry")

    def test_an_event_that_nobody_raises_is_added_and_warned_of(self, cli: Cli, tenant_id: UUID) -> None:
        add = ("notifications", "endpoints", "add-webhook", "--tenant", "acme", "--url", "https://erp.example/")
        slip = cli(*add, "--name", "a", "--event", "maintenence")
        assert slip.status == 0
        assert slip.err.endswith("did you mean maintenance\n")
        assert "door_open: no category" in cli(*add, "--name", "b", "--event", "door_open").err
        assert cli(*add, "--name", "c", "--event", "maintenance", "--event", "work_order_opened").err == ""

    # Apprise loads a plugin that asks for `imghdr`, and has its own where Python no longer does.
    @pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
    def test_a_users_own_chat_is_told_by_their_preferences(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID
    ) -> None:
        admin.execute("INSERT INTO users (tenant_id, email) VALUES (%s, 'ann@acme.example')", [tenant_id])
        add = ("notifications", "endpoints", "add-chat", "--tenant", "acme", "--name", "ann")
        address = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops"
        assert "--user: acme has no user" in cli(*add, "--user", "eve@acme.example", stdin=address).line
        assert "--user: their preferences" in cli(*add, "--user", "ann@acme.example", "--event", "safety").line

        added = cli(*add, "--user", "Ann@acme.example", stdin=address)

        (row,) = cli("notifications", "endpoints", "--json").objects
        assert (row["id"], row["channel"], row["user"]) == (added.out.strip(), "apprise", "a...@acme.example")
        assert "as preferred" in cli("notifications", "endpoints").out
        cli("notifications", "prefer", "--tenant", "acme", "--user", "ann@acme.example", "--channel", "apprise")
        admin.execute(
            "INSERT INTO alerts (tenant_id, kind, severity, subject, message, opened_at)"
            " VALUES (%s, 'offline', 'low', 'vehicle:1', 'x', now())",
            [tenant_id],
        )
        assert [each["to"] for each in cli("notifications", "--json").objects] == ["ann"]
