"""Tenants, connections, devices and the simulator from the command line; no token is ever printed or an argument."""

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from db.encryption import Keyring, new_key
from integrations.simulator import Account, SimulatorThread
from tests.cli.conftest import COMMAND, Cli
from tests.factories import ENCRYPTION_KEY, make_connection, make_tenant

TOKEN = "samsara_api_hunter2"


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorThread]:
    with SimulatorThread(Account(TOKEN, 3)) as running:
        yield running


@pytest.fixture
def origin(simulator: SimulatorThread, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FLEET_PROVIDER_ORIGINS", simulator.url)
    return simulator.url


@pytest.fixture
def tenant_id(cli: Cli, admin: psycopg.Connection) -> UUID:
    return make_tenant(admin)


def value(admin: psycopg.Connection, statement: str, *values: Any) -> Any:
    row = admin.execute(statement, values).fetchone()
    return None if row is None else row[0]


class TestTenants:
    def test_are_changed_in_what_is_given(self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
        told = cli("tenants", "set", "acme", "--locale", "fr-CA", "--units", "miles", "--zone", "America/Toronto")
        assert told.out.strip() == "acme is changed"
        [changed] = cli("tenants", "--json").objects
        assert (changed["locale"], changed["units"], changed["time_zone"]) == ("fr_CA", "miles", "America/Toronto")
        assert changed["is_active"]

        cli("tenants", "set", "acme", "--units", "auto", "--inactive", "--name", " Acme Cargo ")
        [changed] = cli("tenants", "--json").objects
        assert (changed["locale"], changed["units"], changed["name"]) == ("fr_CA", None, "Acme Cargo")
        assert not changed["is_active"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "nothing to change"),
            (["--units", "furlongs"], "--units: expected km, miles or auto, got furlongs"),
            (["--zone", "Mars/Olympus"], "--zone: no such time zone: Mars/Olympus"),
            (["--locale", "tlh"], "--locale: expected one of de, en, es, fr"),
            (["--name", " "], "--name: is empty"),
        ],
    )
    def test_what_cannot_be_changes_nothing(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID, arguments: list[str], said: str
    ) -> None:
        before = cli("tenants", "--json").objects
        assert said in cli("tenants", "set", "acme", *arguments).line
        assert cli("tenants", "--json").objects == before

    def test_are_added_and_listed(self, cli: Cli, admin: psycopg.Connection) -> None:
        assert "no tenants" in cli("tenants").out
        added = cli("tenants", "add", "acme", "Acme Haulage", "--zone", "Europe/Berlin")

        [told] = cli("tenants", "--json").objects
        assert (told["id"], told["slug"], told["time_zone"]) == (added.out.strip(), "acme", "Europe/Berlin")
        assert "Acme Haulage" in cli("tenants").out

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["acme", "Again"], "there is a tenant of that slug already: acme"),
            (["Bad Slug", "x"], "not a slug: Bad Slug"),
            (["good", "x", "--zone", "Europe/Nowhere"], "no such time zone: Europe/Nowhere"),
            (["good", " "], "NAME: is empty"),
        ],
    )
    def test_what_cannot_be_one_is_refused(
        self, arguments: list[str], said: str, cli: Cli, admin: psycopg.Connection, tenant_id: UUID
    ) -> None:
        answer = cli("tenants", "add", *arguments)

        assert answer.status == 1
        assert said in answer.line
        assert value(admin, "SELECT count(*) FROM tenants") == 1


class TestAdd:
    def test_keeps_the_token_encrypted_for_its_row(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID, origin: str, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_text(f"{TOKEN}\n")

        answer = cli(
            *("connections", "add", "--tenant", "acme", "--provider", "samsara", "--name", "main"),
            *("--base-url", origin, "--token-file", tmp_path / "token", "--create-vehicles"),
        )

        assert (answer.status, answer.err) == (0, "")
        connection_id = UUID(answer.out.strip())
        stored = value(admin, "SELECT credentials_encrypted FROM connections WHERE id = %s", connection_id)
        assert TOKEN.encode() not in stored
        ring = Keyring.from_settings([ENCRYPTION_KEY])
        assert ring.decrypt_credentials(tenant_id, connection_id, stored) == {"token": TOKEN}
        assert value(admin, "SELECT settings FROM connections") == {"create_vehicles": True}
        [told] = cli("connections", "--json").objects
        assert (told["id"], told["status"], told["tenant"]) == (str(connection_id), "active", "acme")

    def test_takes_the_token_from_standard_input(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID, origin: str
    ) -> None:
        for name, more in (("one", ()), ("two", ("--token-file", "-"))):
            assert self._add(cli, origin, *more, name=name).status == 0
        assert value(admin, "SELECT count(*) FROM connections") == 2

    @pytest.mark.parametrize(
        ("changed", "token", "said"),
        [
            ({}, "samsara_api_wrong", "samsara refuses the token"),
            ({}, "", "the token is empty"),
            ({}, "two words", "not a token: expected one line of printable ASCII"),
            ({}, "two\nlines", "not a token: expected one line of printable ASCII"),
            ({}, "x" * 5000, "not a token: expected one line of printable ASCII"),
            ({"tenant": "acne"}, TOKEN, "no such tenant: acne"),
            ({"provider": "simsara"}, TOKEN, "no such provider: simsara: expected one of samsara"),
            ({"base_url": "http://169.254.169.254"}, TOKEN, "--base-url: neither samsara's own origin nor one of"),
            ({"name": " "}, TOKEN, "--name: is empty"),
            ({"token_file": "nowhere"}, TOKEN, "no such file or directory: nowhere"),
        ],
    )
    def test_refuses_what_would_not_work_and_adds_nothing(
        self,
        changed: dict[str, str],
        token: str,
        said: str,
        cli: Cli,
        admin: psycopg.Connection,
        tenant_id: UUID,
        origin: str,
    ) -> None:
        options = {"tenant": "acme", "provider": "samsara", "name": "main", "base_url": origin} | changed
        flags = [part for name, text in options.items() for part in (f"--{name.replace('_', '-')}", text)]

        answer = cli("connections", "add", *flags, stdin=token)

        assert answer.status == 1
        assert said in answer.line
        assert not token or token not in answer.line
        assert value(admin, "SELECT count(*) FROM connections") == 0

    def test_a_provider_that_is_away_is_told_from_a_wrong_token(
        self, cli: Cli, tenant_id: UUID, simulator: SimulatorThread, origin: str
    ) -> None:
        simulator.next("malformed", 50)
        answer = self._add(cli, origin)
        simulator.next("malformed", 0)

        assert "cannot check the token at samsara" in answer.line
        assert answer.line.endswith("try again, or --no-check")

    def test_a_name_is_taken_once(self, cli: Cli, tenant_id: UUID, origin: str) -> None:
        self._add(cli, origin, "--no-check")

        assert "acme has a samsara connection of that name already: main" in self._add(cli, origin, "--no-check").line

    def test_needs_a_key(self, cli: Cli, tenant_id: UUID, origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLEET_ENCRYPTION_KEYS", "")
        assert "FLEET_ENCRYPTION_KEYS: missing: `fleet-jobs keygen`" in self._add(cli, origin).line
        monkeypatch.setenv("FLEET_ENCRYPTION_KEYS", "hunter2")
        assert self._add(cli, origin).line == "fleet-jobs: key 1: expected base64 of 32 bytes (FLEET_ENCRYPTION_KEYS)"

    def _add(self, cli: Cli, origin: str, *more: object, name: str = "main") -> Any:
        required = ("--tenant", "acme", "--provider", "samsara", "--name", name, "--base-url", origin)
        return cli("connections", "add", *required, *more, stdin=TOKEN)


class TestConnections:
    def test_list_counts_what_came_and_what_did_not(self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
        connection_id = make_connection(admin, tenant_id, "http://127.0.0.1:1")
        for feed in ("gps", "fuel"):
            admin.execute(
                "INSERT INTO sync_cursors (connection_id, tenant_id, feed, pages, points) VALUES (%s, %s, %s, 2, 500)",
                [connection_id, tenant_id, feed],
            )
        reject(admin, tenant_id, connection_id, "time_missing", occurrences=7)
        unmatched(admin, tenant_id, connection_id, "d1")
        make_connection(admin, make_tenant(admin, "other"), "http://127.0.0.1:1")

        [told] = cli("connections", "--tenant", "acme", "--json").objects

        assert {name: told[name] for name in ("pages", "points", "rejected", "unmatched")} == {
            "pages": 4,
            "points": 1000,
            "rejected": 7,
            "unmatched": 1,
        }
        assert len(cli("connections").out.splitlines()) == 3

    def test_pause_and_resume_twice_are_harmless(self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID) -> None:
        connection_id = make_connection(admin, tenant_id, "http://127.0.0.1:1")

        assert cli("connections", "pause", connection_id, "--reason", "a test").out.endswith("paused\n")
        assert cli("connections", "pause", connection_id).out.endswith("paused already\n")
        assert value(admin, "SELECT status_reason FROM connections") == "a test"
        assert cli("connections", "resume", str(connection_id)[:13]).out.endswith("is active again\n")
        assert cli("connections", "resume", connection_id).out.endswith("was active already\n")
        assert "no such connection: 00000000" in cli("connections", "pause", "00000000").line

    def test_a_renewed_token_lets_a_cut_off_connection_be_read_again(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID, origin: str
    ) -> None:
        connection_id = make_connection(admin, tenant_id, origin, token="old")
        admin.execute("UPDATE connections SET status = 'reconnect', status_reason = 'rejected'")
        admin.execute(
            "INSERT INTO alerts (tenant_id, kind, severity, connection_id, subject, message, opened_at)"
            " VALUES (%s, 'connection_rejected', 'high', %s, %s, 'x', now())",
            [tenant_id, connection_id, f"connection:{connection_id}"],
        )

        assert "refuses the token" in cli("connections", "renew", connection_id, stdin="wrong").line
        assert value(admin, "SELECT status FROM connections") == "reconnect"
        assert cli("connections", "renew", connection_id, stdin=TOKEN).status == 0

        assert value(admin, "SELECT status FROM connections") == "active"
        assert value(admin, "SELECT resolved_at IS NOT NULL FROM alerts")
        stored = value(admin, "SELECT credentials_encrypted FROM connections")
        ring = Keyring.from_settings([ENCRYPTION_KEY])
        assert ring.decrypt_credentials(tenant_id, connection_id, stored) == {"token": TOKEN}

    def test_removing_forgets_the_token_and_cancels_what_waits(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID
    ) -> None:
        connection_id = make_connection(admin, tenant_id, "http://127.0.0.1:1")
        cli("run", "telematics.sync_connection", "--tenant", "acme", "--arg", f"connection_id={connection_id}")

        assert "give --yes" in cli("connections", "remove", connection_id).line
        assert cli("connections", "remove", connection_id, "--yes").status == 0

        assert value(admin, "SELECT credentials_encrypted FROM connections") == b""
        assert value(admin, "SELECT deleted_at IS NOT NULL FROM connections")
        assert value(admin, "SELECT state FROM job_runs") == "cancelled"
        assert cli("connections", "--json").objects == []
        assert "no such connection" in cli("connections", "remove", connection_id, "--yes").line

    def test_rekey_puts_every_token_under_the_first_key(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connection_id = make_connection(admin, tenant_id, "http://127.0.0.1:1", token=TOKEN)
        key = new_key()
        monkeypatch.setenv("FLEET_ENCRYPTION_KEYS", f"{key},{ENCRYPTION_KEY}")

        assert cli("connections", "rekey").out == "1 encrypted anew, 0 were already\n"
        assert cli("connections", "rekey").out == "0 encrypted anew, 1 were already\n"

        stored = value(admin, "SELECT credentials_encrypted FROM connections")
        ring = Keyring.from_settings([key])
        assert ring.decrypt_credentials(tenant_id, connection_id, stored) == {"token": TOKEN}

    def test_rekey_stores_each_token_by_itself_and_the_next_rekey_does_the_rest(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = sorted(make_connection(admin, tenant_id, "http://127.0.0.1:1") for _ in range(2))
        kept = "SELECT credentials_encrypted FROM connections WHERE id = %s"
        good = admin.execute(kept, [second]).fetchone()
        assert good is not None
        admin.execute("UPDATE connections SET credentials_encrypted = 'x' WHERE id = %s", [second])
        key = new_key()
        monkeypatch.setenv("FLEET_ENCRYPTION_KEYS", f"{key},{ENCRYPTION_KEY}")

        assert cli("connections", "rekey").status == 1

        row = admin.execute(kept, [first]).fetchone()
        assert row is not None
        assert Keyring.from_settings([key]).decrypt_credentials(tenant_id, first, row[0]) == {"token": "simulated"}
        admin.execute("UPDATE connections SET credentials_encrypted = %s WHERE id = %s", [good[0], second])
        assert cli("connections", "rekey").out == "1 encrypted anew, 1 were already\n"

    def test_rekey_without_the_old_key_changes_nothing(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_connection(admin, tenant_id, "http://127.0.0.1:1")
        before = value(admin, "SELECT credentials_encrypted FROM connections")
        monkeypatch.setenv("FLEET_ENCRYPTION_KEYS", new_key())

        assert "none of the 1 encryption keys" in cli("connections", "rekey").line
        assert value(admin, "SELECT credentials_encrypted FROM connections") == before

    def test_rejected_shows_the_newest_of_each_reason(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID
    ) -> None:
        connection_id = make_connection(admin, tenant_id, "http://127.0.0.1:1")
        assert cli("connections", "rejected", connection_id).out == "nothing was rejected\n"
        reject(admin, tenant_id, connection_id, "time_missing", payload="old", updated_at="2026-01-01")
        reject(admin, tenant_id, connection_id, "time_missing", payload='{"id": "\x1b[2J"}', occurrences=2)
        reject(admin, tenant_id, connection_id, "wrong_type", payload="x" * 500)

        told = {each["reason"]: each for each in cli("connections", "rejected", connection_id, "--json").objects}

        assert told["time_missing"]["payload"] == '{"id": "\x1b[2J"}'
        assert (told["time_missing"]["records"], told["time_missing"]["occurrences"]) == (2, 3)
        out = cli("connections", "rejected", connection_id).out
        assert "\\x1b[2J" in out and "\x1b" not in out
        assert "x" * 100 + "..." in out


class TestDevices:
    def test_match_creates_a_vehicle_of_what_the_provider_says(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID
    ) -> None:
        connection_id = make_connection(admin, tenant_id, "http://127.0.0.1:1")
        unmatched(admin, tenant_id, connection_id, "d1", name="Truck 1", vin="VIN1", points=12)
        [told] = cli("devices", "unmatched", "--tenant", "acme", "--json").objects
        assert (told["external_id"], told["points"]) == ("d1", 12)
        assert "Truck 1" in cli("devices", "unmatched").out

        answer = cli("devices", "match", connection_id, "d1", "--create")

        row = admin.execute("SELECT id, tenant_id, connection_id, external_id, name, vin FROM vehicles").fetchone()
        assert row == (UUID(answer.out.strip()), tenant_id, connection_id, "d1", "Truck 1", "VIN1")
        assert cli("devices", "unmatched").out == "every device has its vehicle\n"
        assert "no such unmatched device" in cli("devices", "match", connection_id, "d1", "--create").line

    def test_match_binds_a_vehicle_of_the_tenant_without_a_device(
        self, cli: Cli, admin: psycopg.Connection, tenant_id: UUID
    ) -> None:
        connection_id = make_connection(admin, tenant_id, "http://127.0.0.1:1")
        unmatched(admin, tenant_id, connection_id, "d1", vin="VIN1")
        unmatched(admin, tenant_id, connection_id, "d2")
        mine = vehicle(admin, tenant_id, vin="VIN1")
        theirs = vehicle(admin, make_tenant(admin, "other"))

        assert "the tenant has a vehicle with the VIN" in cli("devices", "match", connection_id, "d1", "--create").line
        assert "another tenant's" in cli("devices", "match", connection_id, "d1", "--vehicle", theirs).line
        assert "give either --vehicle ID or --create" in cli("devices", "match", connection_id, "d1").line
        assert value(admin, "SELECT count(*) FROM unmatched_devices") == 2
        assert cli("devices", "match", connection_id, "d1", "--vehicle", mine).out == f"{mine}\n"
        assert "has another device already" in cli("devices", "match", connection_id, "d2", "--vehicle", mine).line

        assert value(admin, "SELECT external_id FROM vehicles WHERE id = %s", mine) == "d1"
        assert value(admin, "SELECT external_id FROM unmatched_devices") == "d2"


def test_the_simulator_serves_its_accounts_until_interrupted(tmp_path: Path) -> None:
    arguments = ["simulate", "--port", "0", "--vehicles", "2", "--token", "one", "--token", "two"]
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--fault", "html=1"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": str(Path(sys.executable).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.search(r"at (http://127\.0\.0\.1:\d+): 2 vehicles, 2 accounts", first)
        assert found, first
        request = urllib.request.Request(f"{found[1]}/fleet/vehicles", headers={"Authorization": "Bearer two"})
        deadline = time.monotonic() + 10
        with urllib.request.urlopen(request, timeout=deadline - time.monotonic()) as answer:
            assert "html" in answer.headers["content-type"]
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert "Traceback" not in err


def vehicle(admin: psycopg.Connection, tenant_id: UUID, vin: str | None = None) -> UUID:
    found: UUID = value(
        admin, "INSERT INTO vehicles (tenant_id, name, vin) VALUES (%s, 'x', %s) RETURNING id", tenant_id, vin
    )
    return found


def unmatched(
    admin: psycopg.Connection,
    tenant_id: UUID,
    connection_id: UUID,
    device: str,
    *,
    name: str | None = None,
    vin: str | None = None,
    points: int = 0,
) -> None:
    admin.execute(
        "INSERT INTO unmatched_devices (connection_id, tenant_id, external_id, name, vin, points)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        [connection_id, tenant_id, device, name, vin, points],
    )


def reject(
    admin: psycopg.Connection,
    tenant_id: UUID,
    connection_id: UUID,
    reason: str,
    *,
    payload: str = "{}",
    occurrences: int = 1,
    updated_at: str = "now",
) -> None:
    admin.execute(
        "INSERT INTO rejected_records (tenant_id, connection_id, feed, reason, field, payload, fingerprint,"
        " occurrences, updated_at) VALUES (%s, %s, 'gps', %s, 'time', %s, %s, %s, %s)",
        [tenant_id, connection_id, reason, payload, uuid4().bytes, occurrences, updated_at],
    )
