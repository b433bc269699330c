"""`fleet-jobs webhooks url|secret|deliveries`: what an operator does once for each connection."""

from pathlib import Path
from uuid import uuid4

import pytest

from db import engine
from db.queries import webhooks as queries
from tests.cli.conftest import Cli
from tests.factories import make_connection, make_tenant
from tests.inprocess import Platform
from tests.webhooks.conftest import RING, Hook, receiving
from tests.webhooks.schemes import Samsara, Smartcar

ORIGIN = "https://hooks.example.com"


@pytest.fixture
def cli(platform: Platform, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """The command, beside no `.env`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEET_WEBHOOK_ORIGIN", ORIGIN)
    return Cli(capsys, monkeypatch)


@pytest.fixture
def samsara(platform: Platform) -> Hook:
    """A connection at Samsara whose secret nobody has told us; no receiver."""
    hook = Hook(platform.admin, ORIGIN, Samsara())
    forget_secret(platform, hook)
    return hook


def forget_secret(platform: Platform, hook: Hook) -> None:
    stored = RING.encrypt_credentials(hook.tenant_id, hook.id, {"token": "simulated"})
    platform.admin.execute("UPDATE connections SET credentials_encrypted = %s WHERE id = %s", [stored, hook.id])


def credentials(platform: Platform, hook: Hook) -> dict[str, str]:
    """Return what is stored of a connection."""
    stored = platform.value("SELECT credentials_encrypted FROM connections WHERE id = %s", hook.id)
    return RING.decrypt_credentials(hook.tenant_id, hook.id, stored)


def test_the_url_is_what_the_provider_is_told(cli: Cli, samsara: Hook) -> None:
    answer = cli("webhooks", "url", str(samsara.id)[:13])
    assert (answer.status, answer.out) == (0, f"{samsara.address}\n")


def test_a_secret_is_stored_beside_the_token_and_verifies_at_once(cli: Cli, samsara: Hook, platform: Platform) -> None:
    answer = cli("webhooks", "secret", samsara.id, stdin=samsara.scheme.secret + "\n")

    assert (answer.status, answer.out, answer.err) == (0, f"{samsara.address}\n", "")
    assert credentials(platform, samsara) == {
        "token": "simulated",
        samsara.scheme.secret_name: samsara.scheme.secret,
    }
    with receiving(platform.urls.worker_url) as url:
        samsara.url = url
        assert samsara.post(samsara.scheme.event()).status_code == 200


def test_a_secret_may_come_from_a_file_and_replaces_the_one_before(
    cli: Cli, samsara: Hook, platform: Platform, tmp_path: Path
) -> None:
    for secret in ("b25l", "dHdv"):
        (tmp_path / "secret").write_text(f"{secret}\n")
        assert cli("webhooks", "secret", samsara.id, "--secret-file", tmp_path / "secret").status == 0
    assert credentials(platform, samsara)[samsara.scheme.secret_name] == "dHdv"


@pytest.mark.parametrize("secret", ["", "\n", "two words", "x" * 4097, "é", "two\nlines"])
def test_what_is_no_secret_changes_nothing(cli: Cli, samsara: Hook, platform: Platform, secret: str) -> None:
    answer = cli("webhooks", "secret", samsara.id, stdin=secret)
    assert answer.status == 1
    assert "not a secret" in answer.line
    assert credentials(platform, samsara) == {"token": "simulated"}


def test_a_binary_file_is_no_secret_and_is_not_shown(cli: Cli, samsara: Hook, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"hunter2\xff")
    answer = cli("webhooks", "secret", samsara.id, "--secret-file", tmp_path / "secret")
    assert answer.status == 1
    assert "hunter2" not in answer.line


def test_a_renewal_that_has_asked_the_provider_is_not_overtaken(cli: Cli, samsara: Hook, platform: Platform) -> None:
    platform.admin.execute(
        "UPDATE connections SET renewal_claim = gen_random_uuid(), renewal_claimed_at = now() WHERE id = %s",
        [samsara.id],
    )
    answer = cli("webhooks", "secret", samsara.id, stdin="b25l")
    assert answer.status == 1
    assert "being replaced right now: try again" in answer.line
    assert credentials(platform, samsara) == {"token": "simulated"}


def test_credentials_that_changed_meanwhile_are_not_overwritten(samsara: Hook, platform: Platform) -> None:
    database = engine.Database(platform.urls.worker_url, platform.urls.system_url)
    with database.system_transaction() as connection:
        assert not queries.set_secret(connection, samsara.id, b"what was there before", b"what would be lost")
    database.close()
    assert credentials(platform, samsara) == {"token": "simulated"}


@pytest.mark.parametrize("command", ["url", "secret"])
def test_without_an_origin_there_is_no_url_and_nothing_is_stored(
    cli: Cli, samsara: Hook, platform: Platform, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("FLEET_WEBHOOK_ORIGIN")
    answer = cli("webhooks", command, samsara.id, stdin="b25l")
    assert answer.status == 1
    assert answer.line.startswith("fleet-jobs: FLEET_WEBHOOK_ORIGIN: missing")
    assert credentials(platform, samsara) == {"token": "simulated"}


@pytest.mark.parametrize(
    "origin", ["hooks.example.com", "https://hooks.example.com/path", "https://u:p@h", "ftp://h", "https://h?x"]
)
def test_an_origin_is_an_origin(cli: Cli, samsara: Hook, monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    monkeypatch.setenv("FLEET_WEBHOOK_ORIGIN", origin)
    answer = cli("webhooks", "url", samsara.id)
    assert answer.status == 2
    assert "FLEET_WEBHOOK_ORIGIN" in answer.line


@pytest.mark.parametrize("command", ["url", "secret"])
def test_a_provider_that_does_not_push_has_no_url(cli: Cli, platform: Platform, command: str) -> None:
    tenant_id = make_tenant(platform.admin)
    connection_id = make_connection(platform.admin, tenant_id, "https://traccar.example.com", provider="traccar")
    answer = cli("webhooks", command, connection_id, stdin="b25l")
    assert answer.status == 1
    assert "traccar has no webhooks" in answer.line


@pytest.mark.parametrize("command", ["url", "secret", "deliveries"])
def test_no_such_connection_is_one_line(cli: Cli, command: str) -> None:
    answer = cli("webhooks", command, uuid4(), stdin="b25l")
    assert answer.status == 1
    assert "no such connection" in answer.line


def test_the_deliveries_are_listed_the_newest_first(cli: Cli, platform: Platform) -> None:
    with receiving(platform.urls.worker_url) as url:
        hook = Hook(platform.admin, url, Smartcar())
        for event_id in ("first", "second", "second"):
            hook.post(hook.scheme.event(event_id))
    platform.work(hook.runs()[0])

    told = cli("webhooks", "deliveries", hook.id, "--json").objects

    assert [(each["event_id"], each["repeats"], each["read_at"] is None) for each in told] == [
        ("second", 1, True),
        ("first", 0, False),
    ]
    assert told[0]["kind"] == "vehicle_state"
    assert told[0]["payload_bytes"] > 0
    lines = cli("webhooks", "deliveries", hook.id, "--limit", "1").out.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[:2] == ["second", "vehicle_state"]
    assert "not yet" in lines[1]


def test_no_deliveries_are_said_to_be_none(cli: Cli, samsara: Hook) -> None:
    assert cli("webhooks", "deliveries", samsara.id).out == "nothing was pushed in the last week\n"
    assert cli("webhooks", "deliveries", samsara.id, "--json").out == ""
