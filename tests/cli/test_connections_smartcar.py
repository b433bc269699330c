"""Accounts whose credentials are more than a token: given in a file, exchanged, checked, and renewed by hand."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import psycopg
import pytest

from db.encryption import Keyring
from integrations.simulator.smartcar import SmartcarThread
from integrations.simulator.smartcar_fleet import SmartcarAccount
from tests.cli.conftest import Answer, Cli
from tests.factories import ENCRYPTION_KEY, make_tenant

# What asks without an echo asks the controlling terminal, which a new session has yet to take.
AT_A_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from jobs.cli.main import main; main()"
ACCOUNT = SmartcarAccount(client_secret="hunter2", vehicles=3)


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmartcarThread]:
    with SmartcarThread(ACCOUNT) as running:
        monkeypatch.setenv("FLEET_PROVIDER_ORIGINS", running.url)
        yield running


@pytest.fixture
def tenant_id(cli: Cli, admin: psycopg.Connection) -> UUID:
    return make_tenant(admin)


def consent(**changes: str) -> dict[str, str]:
    """Return what an operator has after the owner's consent."""
    given = {"client_id": ACCOUNT.client_id, "client_secret": ACCOUNT.client_secret, "code": ACCOUNT.code}
    return given | {"redirect_uri": ACCOUNT.redirect_uri} | changes


def add(cli: Cli, origin: str, given: object, *more: str, name: str = "main") -> Answer:
    file = Path("credentials.json")
    file.write_text(given if isinstance(given, str) else json.dumps(given))
    required = ("--tenant", "acme", "--provider", "smartcar", "--name", name, "--base-url", origin)
    return cli("connections", "add", *required, "--credentials-file", file, *more)


def stored(admin: psycopg.Connection, tenant_id: UUID) -> dict[str, str]:
    row = admin.execute("SELECT id, credentials_encrypted FROM connections").fetchone()
    assert row is not None
    return Keyring.from_settings([ENCRYPTION_KEY]).decrypt_credentials(tenant_id, row[0], row[1])


def value(admin: psycopg.Connection, statement: str, *values: Any) -> Any:
    row = admin.execute(statement, values).fetchone()
    return None if row is None else row[0]


def test_a_code_becomes_a_pair_that_is_kept_encrypted_and_the_code_is_not(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    answer = add(cli, simulator.url, consent(management_token="push-secret"))

    assert (answer.status, answer.err) == (0, "")
    assert UUID(answer.out.strip())
    kept = stored(admin, tenant_id)
    assert set(kept) == {
        *("client_id", "client_secret", "management_token"),
        *("access_token", "access_expires_at", "refresh_token", "refresh_expires_at"),
    }
    assert kept["refresh_token"] in simulator.simulator.tokens.refreshes
    ends_in = value(admin, "SELECT renew_before FROM connections") - datetime.now(UTC)
    assert timedelta(days=59) < ends_in <= timedelta(days=60)


def test_the_credentials_may_come_from_standard_input(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    required = ("--tenant", "acme", "--provider", "smartcar", "--name", "main", "--base-url", simulator.url)
    answer = cli("connections", "add", *required, "--credentials-file", "-", stdin=json.dumps(consent()))

    assert answer.status == 0
    assert stored(admin, tenant_id)["client_id"] == ACCOUNT.client_id


def test_at_a_terminal_each_credential_is_asked_for_and_no_secret_is_echoed(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    required = ("--tenant", "acme", "--provider", "smartcar", "--name", "main", "--base-url", simulator.url)
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, "connections", "add", *required],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    os.close(theirs)
    said = ""
    for prompt, typed in (
        ("Client id", "client_id"),
        ("Client secret", "client_secret"),
        ("Redirect uri", "redirect_uri"),
        ("Code", "code"),
    ):
        while f"{prompt}: " not in said:
            said += os.read(ours, 4096).decode()
        os.write(ours, f"{consent()[typed]}\n".encode())
    with contextlib.suppress(OSError):
        while more := os.read(ours, 4096):
            said += more.decode()
    os.close(ours)

    assert process.wait(20) == 0, said
    assert consent()["redirect_uri"] in said
    assert ACCOUNT.client_secret not in said and ACCOUNT.code not in said
    assert stored(admin, tenant_id)["client_id"] == ACCOUNT.client_id


def test_a_pair_that_somebody_has_already_is_taken_as_it_is(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    given = simulator.simulator.credentials()

    assert add(cli, simulator.url, given).status == 0

    assert stored(admin, tenant_id) == given
    assert not simulator.simulator.tokens.granted


def test_an_applications_own_token_needs_no_code_but_the_owners_id(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    given = {name: consent()[name] for name in ("client_id", "client_secret")} | {"user_id": ACCOUNT.user_id}

    assert add(cli, simulator.url, given).status == 0

    assert simulator.simulator.tokens.granted == {"client_credentials": 1}
    assert "refresh_token" not in stored(admin, tenant_id)
    assert value(admin, "SELECT renew_before FROM connections") is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (consent(code="spent"), "smartcar refuses the credentials: POST 127.0.0.1 /oauth/token: invalid_grant"),
        (
            consent(client_secret="wrong"),
            "smartcar refuses the credentials: POST 127.0.0.1 /oauth/token: invalid_client",
        ),
        ({"client_id": "a", "client_secret": "b"}, "a credential is missing: the refresh token of a pair"),
        (consent(password="x"), "--credentials-file: no such credential: password: expected access_expires_at"),
        (consent(code=""), "the code is empty"),
        (consent(code="two words"), "not a code: expected one line of printable ASCII"),
        (consent(client_secret="x" * 5000), "not a client secret: expected one line"),
        (consent() | {"code": 7}, "the code is empty"),
        ([], "--credentials-file: expected a JSON object of texts"),
        ("{", "--credentials-file: expected a JSON object of texts"),
        ("[" * 100_000, "--credentials-file: expected a JSON object of texts"),
        (json.dumps({"code": "x" * 70_000}), "--credentials-file: expected a JSON object of texts"),
    ],
)
def test_refuses_what_would_not_work_adds_nothing_and_repeats_no_secret(
    given: Any, said: str, cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    answer = add(cli, simulator.url, given)

    assert answer.status == 1
    assert said in answer.line
    assert ACCOUNT.client_secret not in answer.err
    assert value(admin, "SELECT count(*) FROM connections") == 0


def test_a_name_that_is_taken_spends_no_code(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    add(cli, simulator.url, simulator.simulator.credentials())

    assert "acme has a smartcar connection of that name already: main" in add(cli, simulator.url, consent()).line
    assert not simulator.simulator.tokens.granted


def test_a_pair_for_which_a_code_was_spent_is_kept_where_the_list_of_vehicles_fails(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    simulator.simulator.next("server", 10, path="/v3/connections")

    answer = add(cli, simulator.url, consent())

    assert answer.status == 0
    assert "kept, and not checked: cannot check the credentials at smartcar" in answer.err
    assert value(admin, "SELECT count(*) FROM connections") == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "give --credentials-file FILE with client_id, client_secret, redirect_uri, code: there is nobody to ask"),
        (("--token-file", "-"), "--token-file: smartcar has more than a token: --credentials-file"),
        (("--token-file", "-", "--credentials-file", "-"), "give either --token-file or --credentials-file"),
    ],
)
def test_says_what_is_asked_for(
    more: tuple[str, ...], said: str, cli: Cli, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    required = ("--tenant", "acme", "--provider", "smartcar", "--name", "main", "--base-url", simulator.url)

    assert said in cli("connections", "add", *required, *more).line


def test_a_provider_that_everybody_hosts_needs_a_base_url(cli: Cli, tenant_id: UUID) -> None:
    answer = cli("connections", "add", "--tenant", "acme", "--provider", "traccar", "--name", "main", stdin="token")

    assert "--base-url: missing: everybody hosts traccar themselves" in answer.line


def test_a_new_consent_lets_a_cut_off_account_be_read_again_and_keeps_what_is_not_given(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    connection_id = add(cli, simulator.url, simulator.simulator.credentials()).out.strip()
    before = stored(admin, tenant_id)
    admin.execute(
        "UPDATE connections SET status = 'reconnect', renewal_claim = gen_random_uuid(), renewal_claimed_at = now()"
    )
    Path("again.json").write_text(json.dumps({"code": ACCOUNT.code, "redirect_uri": ACCOUNT.redirect_uri}))

    answer = cli("connections", "renew", connection_id, "--credentials-file", "again.json")

    assert answer.status == 0, answer.err
    after = stored(admin, tenant_id)
    assert (after["client_secret"], after["management_token"]) == (before["client_secret"], before["management_token"])
    assert after["refresh_token"] != before["refresh_token"]
    assert admin.execute("SELECT status, renewal_claim FROM connections").fetchone() == ("active", None)


def test_a_new_consent_wins_over_whatever_was_stored_meanwhile_and_keeps_what_stands_beside_it(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    connection_id = add(cli, simulator.url, simulator.simulator.credentials()).out.strip()
    before = stored(admin, tenant_id)
    renewed = simulator.simulator.credentials() | {"management_token": "set meanwhile", "client_secret": "old"}
    ring = Keyring.from_settings([ENCRYPTION_KEY])

    def meanwhile() -> None:  # a sync that renews, `webhooks secret`, `connections rekey`
        with psycopg.connect(admin.info.dsn, password=admin.info.password, autocommit=True) as other:
            anew = ring.encrypt_credentials(tenant_id, UUID(connection_id), renewed)
            other.execute("UPDATE connections SET credentials_encrypted = %s", [anew])

    simulator.simulator.on_token = meanwhile
    Path("again.json").write_text(json.dumps({"code": ACCOUNT.code, "redirect_uri": ACCOUNT.redirect_uri}))

    answer = cli("connections", "renew", connection_id, "--credentials-file", "again.json")

    assert answer.status == 0, answer.err
    after = stored(admin, tenant_id)
    assert after["refresh_token"] not in (before["refresh_token"], renewed["refresh_token"])
    assert after["refresh_token"] in simulator.simulator.tokens.refreshes
    assert (after["management_token"], after["client_secret"]) == ("set meanwhile", ACCOUNT.client_secret)
    assert simulator.simulator.tokens.granted == {"authorization_code": 1}


def test_a_token_for_which_nothing_was_spent_yields_to_what_was_stored_meanwhile(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection_id = add(cli, simulator.url, simulator.simulator.credentials()).out.strip()
    theirs = simulator.simulator.credentials()
    given = json.dumps(simulator.simulator.credentials())
    ring = Keyring.from_settings([ENCRYPTION_KEY])

    class Typing(io.StringIO):
        def read(self, size: int | None = -1) -> str:
            anew = ring.encrypt_credentials(tenant_id, UUID(connection_id), theirs)
            admin.execute("UPDATE connections SET credentials_encrypted = %s", [anew])
            return super().read(size)

    monkeypatch.setattr(io, "StringIO", Typing)
    answer = cli("connections", "renew", connection_id, "--credentials-file", "-", stdin=given)

    assert "somebody else has just replaced the token" in answer.line
    assert stored(admin, tenant_id) == theirs


def test_the_consent_is_asked_for_at_smartcars_own_page(cli: Cli) -> None:
    url = cli("connections", "authorize-url", "--client-id", "abc", "--redirect-uri", "https://x.example/y?z=1").out

    parts = urlsplit(url.strip())
    asked = parse_qs(parts.query)
    assert (parts.scheme, parts.netloc, parts.path) == ("https", "connect.smartcar.com", "/oauth/authorize")
    assert (asked["response_type"], asked["redirect_uri"]) == (["code"], ["https://x.example/y?z=1"])
    assert "read_odometer" in asked["scope"][0].split()


def test_a_setting_is_changed_removed_and_refused(
    cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    connection_id = add(cli, simulator.url, simulator.simulator.credentials(), "--create-vehicles").out.strip()

    admin.execute(
        "INSERT INTO sync_cursors (connection_id, tenant_id, feed, cursor, completed_at)"
        " VALUES (%s, %s, 'devices', 'seen', now())",
        [connection_id, tenant_id],
    )

    assert cli("connections", "set", connection_id, "api=v2").status == 0
    assert admin.execute("SELECT cursor, completed_at FROM sync_cursors").fetchone() == (None, None)
    assert cli("connections", "set", connection_id, "poll_every_s=3600").status == 0
    kept = {"create_vehicles": True, "api": "v2", "poll_every_s": 3600}
    assert value(admin, "SELECT settings FROM connections") == kept
    assert "settings: api: expected v3 or v2" in cli("connections", "set", connection_id, "api=v4").line
    assert "poll_every_s: expected a whole number" in cli("connections", "set", connection_id, "poll_every_s=1").line
    assert value(admin, "SELECT settings FROM connections") == kept
    assert cli("connections", "set", connection_id, "api=").status == 0
    assert value(admin, "SELECT settings FROM connections") == {"create_vehicles": True, "poll_every_s": 3600}


@pytest.mark.parametrize(
    "setting", ["bucket_size=abc", "bucket_size=0", "bucket_per_min=NaN", 'bucket_per_min="2"', "requests_per_s=true"]
)
def test_a_pace_that_cannot_be_is_refused_by_name(
    setting: str, cli: Cli, admin: psycopg.Connection, tenant_id: UUID, simulator: SmartcarThread
) -> None:
    connection_id = add(cli, simulator.url, simulator.simulator.credentials()).out.strip()

    answer = cli("connections", "set", connection_id, setting)

    assert answer.status == 1
    assert f"settings: {setting.partition('=')[0]}: expected a" in answer.line
    assert value(admin, "SELECT settings FROM connections") == {}
    assert cli("connections", "set", connection_id, "bucket_per_min=0.5").status == 0
