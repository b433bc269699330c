"""Pairs of tokens are exchanged by one worker at a time, kept before they are used, and never silently lost."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from db.queries import renewals, telematics
from integrations.errors import CredentialsRejected, TransientError
from integrations.simulator.smartcar import SmartcarThread
from integrations.simulator.smartcar_fleet import SmartcarAccount
from tests.inprocess import Platform, platform_of
from tests.servers import Database
from tests.telematics.smartcar import RENEW, Owner, encrypted

NOW = datetime.now(UTC)
INTERRUPTED = "was interrupted after the provider may have answered"


@pytest.fixture
def platform(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    with platform_of(database, redis_url, monkeypatch) as running:
        yield running


@pytest.fixture
def simulator() -> Iterator[SmartcarThread]:
    with SmartcarThread(SmartcarAccount(vehicles=2)) as running:
        yield running


@pytest.fixture
def owner(platform: Platform, simulator: SmartcarThread) -> Owner:
    return Owner(platform, simulator)


def renew(owner: Owner) -> telematics.Account:
    """Renew as a worker does, from what is stored now."""
    from jobs import process
    from jobs.settings import get_settings
    from jobs.telematics import tokens

    return tokens.renew(process.get_database(), find(owner), get_settings())


def token_requests(owner: Owner) -> int:
    """Return how often the token endpoint was asked."""
    return owner.simulator.simulator.by_path["/oauth/token"]


def find(owner: Owner) -> telematics.Account:
    from jobs import process

    with process.get_database().tenant_transaction(owner.tenant_id) as connection:
        account = telematics.find_account(connection, owner.id)
    assert account is not None
    return account


def age_lease(owner: Owner, seconds: int = 26) -> None:
    """Let the lease that was left behind grow older than a renewal may take."""
    owner.platform.admin.execute(
        "UPDATE connections SET renewal_claimed_at = renewal_claimed_at - make_interval(secs => %s)", [seconds]
    )


def test_the_new_pair_is_stored_encrypted_with_its_end_before_it_is_used(owner: Owner) -> None:
    before = owner.stored()

    account = renew(owner)

    after = owner.stored()
    assert after["refresh_token"] != before["refresh_token"]
    assert after["access_token"] != before["access_token"]
    assert after["management_token"] == before["management_token"]
    assert account.credentials_encrypted == bytes(owner.value("credentials_encrypted"))
    assert after["access_token"].encode() not in account.credentials_encrypted
    assert owner.value("renewal_claim") is None
    ends_in = owner.value("renew_before") - datetime.now(UTC)
    assert timedelta(days=59, hours=23) < ends_in <= timedelta(days=60)


def test_no_transaction_spans_the_providers_answer(owner: Owner) -> None:
    """While the provider answers, the lease is committed and no session of ours holds anything."""
    seen: list[tuple[int, bool]] = []
    open_ones = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"

    def look() -> None:
        with psycopg.connect(owner.platform.urls.admin_url) as admin:
            others = admin.execute(f"{open_ones} AND pid <> pg_backend_pid()".encode()).fetchone()
            claimed = admin.execute("SELECT renewal_claim IS NOT NULL FROM connections").fetchone()
            assert others is not None and claimed is not None
            seen.append((others[0], claimed[0]))

    owner.simulator.simulator.on_token = look

    renew(owner)

    assert seen == [(0, True)]


def test_workers_at_once_ask_once_and_all_have_the_pair(owner: Owner) -> None:
    owner.simulator.simulator.token_delay_s = 0.4

    with ThreadPoolExecutor(6) as workers:
        accounts = list(workers.map(lambda _: renew(owner), range(6)))

    assert token_requests(owner) == 1
    assert {account.credentials_encrypted for account in accounts} == {bytes(owner.value("credentials_encrypted"))}


def test_two_syncs_of_two_workers_refresh_an_account_once(owner: Owner) -> None:
    owner.expire_access()
    owner.simulator.simulator.token_delay_s = 0.3
    runs = [owner.enqueue(), owner.enqueue(RENEW)]

    owner.keep(owner.stored() | {"refresh_expires_at": (NOW + timedelta(days=3)).isoformat()})
    with ThreadPoolExecutor(2) as workers:
        rows = list(workers.map(owner.platform.work, runs))

    assert [row["state"] for row in rows] == ["succeeded", "succeeded"]
    assert token_requests(owner) == 1


def test_processes_at_once_ask_once_too(owner: Owner) -> None:
    owner.simulator.simulator.token_delay_s = 1.5
    before = owner.stored()

    processes = [renewing(owner) for _ in range(3)]
    for process in processes:
        begin(process)

    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert token_requests(owner) == 1
    assert owner.stored() != before


def test_whoever_waits_too_long_is_snoozed_until_the_lease_is_over(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs import process
    from jobs.outcomes import Snooze
    from jobs.telematics import tokens

    monkeypatch.setattr(tokens, "_WATCH_S", 0.2)
    with process.get_database().tenant_transaction(owner.tenant_id) as connection:
        stored = find(owner).credentials_encrypted
        assert renewals.claim_renewal(connection, owner.id, stored, owner.id, lease_s=tokens.LEASE_S)

    with pytest.raises(Snooze) as snoozed:
        renew(owner)

    assert 20 < snoozed.value.delay_s < 26
    assert owner.renewals() == 0


def test_an_account_that_is_refused_is_marked_with_the_reason_and_its_owner_told_once(owner: Owner) -> None:
    owner.expire_access()
    owner.simulator.simulator.tokens.refreshes.clear()

    first, second = owner.sync(), owner.sync()

    assert (first["state"], first["error"]["type"]) == ("failed", "GrantRefused")
    assert second["counts"] == {"not_active": 1}
    assert owner.value("status") == "reconnect"
    assert "invalid_grant" in owner.value("status_reason")
    assert INTERRUPTED not in owner.value("status_reason")
    assert [is_over for _, is_over in owner.alerts()] == [False]
    for said in (owner.value("status_reason"), owner.alerts()[0][0], str(first["error"])):
        assert not any(secret in said for name, secret in owner.stored().items() if name.endswith(("token", "secret")))


def test_a_refused_client_is_no_matter_of_the_owners_consent(owner: Owner) -> None:
    owner.keep(owner.stored() | {"client_secret": "wrong"})

    with pytest.raises(CredentialsRejected, match="invalid_client"):
        renew(owner)

    assert owner.value("renewal_claim") is None, "nothing happened: the next may try at once"


def test_an_answer_that_was_lost_is_asked_for_again_at_once_within_the_grace(owner: Owner) -> None:
    owner.simulator.simulator.next("lost")

    renew(owner)

    assert token_requests(owner) == 2
    assert owner.stored()["refresh_token"] in owner.simulator.simulator.tokens.refreshes


def test_an_outage_loses_nothing_and_remembers_that_it_may_have_been_answered(owner: Owner) -> None:
    before = owner.stored()
    owner.simulator.simulator.next("lost", 2)

    with pytest.raises(TransientError):
        renew(owner)

    assert owner.stored() == before
    assert owner.value("renewal_claim") is not None
    age_lease(owner)
    renew(owner)
    assert owner.stored() != before
    assert owner.value("renewal_claim") is None


@pytest.mark.parametrize("fault", ["lost", "html_200"])
def test_where_the_grace_is_over_the_reason_says_that_an_answer_may_have_been_lost(owner: Owner, fault: str) -> None:
    owner.simulator.simulator.tokens.grace_ms = 0
    owner.simulator.simulator.next(fault)
    owner.expire_access()

    row = owner.sync()

    assert row["error"]["type"] == "GrantRefused"
    assert INTERRUPTED in owner.value("status_reason")


def test_an_answer_without_a_refresh_token_leaves_the_one_before_in_force(owner: Owner) -> None:
    tokens = owner.simulator.simulator.tokens
    given = tokens.pair

    def without(account: SmartcarAccount) -> dict[str, object]:
        return {name: value for name, value in given(account).items() if name != "refresh_token"}

    before = owner.stored()
    tokens.pair = without  # type: ignore[method-assign]
    renew(owner)

    after = owner.stored()
    assert after["access_token"] != before["access_token"]
    assert (after["refresh_token"], after["refresh_expires_at"]) == (
        before["refresh_token"],
        before["refresh_expires_at"],
    )


@pytest.mark.parametrize(
    "spoilt",
    [
        {"access_token": 7},
        {"access_token": ""},
        {"access_token": "two words"},
        {"access_token": "x" * 5000},
        {"expires_in": "soon"},
        {"expires_in": -1},
        {"refresh_token": "line\nbreak"},
    ],
)
def test_what_is_no_pair_replaces_nothing(owner: Owner, spoilt: dict[str, object]) -> None:
    tokens, before = owner.simulator.simulator.tokens, owner.stored()
    given = tokens.pair
    tokens.pair = lambda account: given(account) | spoilt  # type: ignore[method-assign]

    with pytest.raises(TransientError, match="no pair of tokens"):
        renew(owner)

    assert owner.stored() == before


def test_a_pair_that_comes_late_still_heals_the_account_it_belongs_to(owner: Owner) -> None:
    """A worker freezes with the answer in its hands; meanwhile another finds the token spent and marks the account."""
    frozen, thaw = threading.Event(), threading.Event()

    def freeze() -> None:
        owner.simulator.simulator.on_token = None
        frozen.set()
        assert thaw.wait(20)

    owner.simulator.simulator.on_token = freeze
    owner.simulator.simulator.tokens.grace_ms = 0
    owner.expire_access()
    with ThreadPoolExecutor(1) as workers:
        late = workers.submit(renew, owner)
        assert frozen.wait(10)
        age_lease(owner)
        row = owner.sync()
        marked, told = owner.value("status"), owner.alerts()
        thaw.set()
        late.result(20)

    assert (row["state"], marked) == ("failed", "reconnect")
    assert [(INTERRUPTED in message, is_over) for message, is_over in told] == [(True, False)]
    assert (owner.value("status"), owner.value("status_reason")) == ("active", None)
    assert [is_over for _, is_over in owner.alerts()] == [True]
    assert owner.sync()["state"] == "succeeded"


def test_a_late_pair_never_replaces_the_credentials_that_an_operator_has_given_meanwhile(owner: Owner) -> None:
    given = owner.simulator.simulator.credentials()
    owner.simulator.simulator.on_token = lambda: owner.keep(given)

    renew(owner)

    assert owner.stored() == given


def test_credentials_encrypted_anew_meanwhile_are_still_those_that_were_spent(owner: Owner) -> None:
    before = owner.stored()
    owner.simulator.simulator.on_token = lambda: owner.keep(before)  # the same, under another nonce

    renew(owner)

    assert owner.stored()["refresh_token"] != before["refresh_token"]
    assert owner.stored()["refresh_token"] in owner.simulator.simulator.tokens.refreshes


class TestEncryptedAnew:
    """The bytes of the credentials changed and the pair did not: an operator's command, which is nobody's renewal."""

    def test_before_the_claim_they_are_renewed_all_the_same(self, owner: Owner) -> None:
        from jobs import process
        from jobs.settings import get_settings
        from jobs.telematics import tokens

        account, before = find(owner), owner.stored()
        owner.keep(before | {"management_token": "another"})

        renewed = tokens.renew(process.get_database(), account, get_settings())

        assert owner.renewals() == 1
        assert renewed.credentials_encrypted == bytes(owner.value("credentials_encrypted"))
        assert owner.stored()["refresh_token"] != before["refresh_token"]
        assert owner.stored()["management_token"] == "another"

    def test_by_a_transaction_that_the_claim_waits_for_they_are_renewed_and_the_sync_goes_on(
        self, owner: Owner
    ) -> None:
        owner.expire_access()
        run = owner.enqueue()
        waiting = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%renewal_claim%'"
        with psycopg.connect(owner.platform.urls.admin_url) as other, ThreadPoolExecutor(1) as workers:
            anew = encrypted(owner, owner.stored())
            other.execute("UPDATE connections SET credentials_encrypted = %s WHERE id = %s", [anew, owner.id])
            working = workers.submit(owner.platform.work, run)
            wait_until(lambda: count(owner, f"SELECT count(*) {waiting}") == 1)
            other.commit()
            row = working.result(30)

        assert (row["state"], owner.value("status"), owner.alerts()) == ("succeeded", "active", [])
        assert owner.renewals() == 1

    def test_while_another_renews_them_whoever_waits_gets_the_next_pair(self, owner: Owner) -> None:
        before, begun = owner.stored(), threading.Event()

        def rekey() -> None:
            owner.keep(before)
            begun.set()
            time.sleep(0.5)

        owner.simulator.simulator.on_token = rekey
        with ThreadPoolExecutor(2) as workers:
            first = workers.submit(renew, owner)
            assert begun.wait(10)
            second = workers.submit(renew, owner)
            accounts = {each.result(20).credentials_encrypted for each in (first, second)}

        assert accounts == {bytes(owner.value("credentials_encrypted"))}
        assert owner.stored()["refresh_token"] != before["refresh_token"]
        assert token_requests(owner) == 1

    def test_while_the_provider_refuses_them_they_are_refused_and_marked(self, owner: Owner) -> None:
        tokens = owner.simulator.simulator.tokens
        owner.expire_access()
        tokens.refreshes.clear()
        ask = tokens.ask

        def rekey_and_ask(authorization: str, form: dict[str, str], *, is_application: bool) -> dict[str, object]:
            owner.keep(owner.stored())
            return ask(authorization, form, is_application=is_application)

        tokens.ask = rekey_and_ask  # type: ignore[method-assign]

        row = owner.sync()

        assert (row["state"], row["error"]["type"]) == ("failed", "GrantRefused")
        assert owner.value("status") == "reconnect"
        assert [is_over for _, is_over in owner.alerts()] == [False]

    def test_with_a_secret_more_the_new_pair_is_stored_beside_it(self, owner: Owner) -> None:
        before = owner.stored()
        owner.simulator.simulator.on_token = lambda: owner.keep(before | {"management_token": "another"})

        renew(owner)

        assert owner.stored()["refresh_token"] != before["refresh_token"]
        assert owner.stored()["management_token"] == "another"


@pytest.mark.parametrize("fault", ["application_rate", "suspended"])
def test_an_answer_that_was_lost_is_remembered_whatever_the_second_one_is(owner: Owner, fault: str) -> None:
    owner.simulator.simulator.next("lost")
    owner.simulator.simulator.next(fault)

    with pytest.raises(TransientError, match=INTERRUPTED):
        renew(owner)

    assert owner.renewals() == 1
    assert owner.value("renewal_claim") is not None
    owner.simulator.simulator.tokens.grace_ms = 0
    age_lease(owner)
    with pytest.raises(CredentialsRejected, match=INTERRUPTED):
        renew(owner)


def test_a_pair_is_offered_again_to_a_database_that_fails(owner: Owner) -> None:
    """The session that stores the pair is ended in the middle, as a failover does."""
    before, lock = owner.stored(), psycopg.connect(owner.platform.urls.admin_url)

    def hold() -> None:
        lock.execute("SELECT 1 FROM connections WHERE id = %s FOR UPDATE", [owner.id])

    owner.simulator.simulator.on_token = hold
    storing = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%kept AS%'"
    with lock, ThreadPoolExecutor(1) as workers:
        renewing = workers.submit(renew, owner)
        wait_until(lambda: count(owner, f"SELECT count(*) {storing}") == 1)
        assert count(owner, f"SELECT count(pg_terminate_backend(pid)) {storing}") == 1
        wait_until(lambda: count(owner, f"SELECT count(*) {storing}") == 1)
        lock.commit()
        account = renewing.result(20)

    assert owner.stored()["refresh_token"] != before["refresh_token"]
    assert account.credentials_encrypted == bytes(owner.value("credentials_encrypted"))
    assert token_requests(owner) == 1


def count(owner: Owner, statement: str) -> int:
    """Ask on a session of its own: the owner's is in use beside this thread."""
    with psycopg.connect(owner.platform.urls.admin_url, autocommit=True) as admin:
        row = admin.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestDaily:
    def test_pairs_near_their_end_are_exchanged_those_of_paused_connections_too(
        self, platform: Platform, simulator: SmartcarThread
    ) -> None:
        paused, fresh, waiting = (Owner(platform, simulator, slug) for slug in ("paused", "fresh", "waiting"))
        soon = {"refresh_expires_at": (NOW + timedelta(days=10)).isoformat()}
        for each in (paused, waiting):
            each.keep(each.stored() | soon)
        platform.admin.execute("UPDATE connections SET status = 'paused' WHERE id = %s", [paused.id])
        platform.admin.execute("UPDATE connections SET status = 'reconnect' WHERE id = %s", [waiting.id])
        before = {each.id: each.stored() for each in (paused, fresh, waiting)}

        row = platform.run("telematics.renew_tokens")
        runs = platform.admin.execute("SELECT id FROM job_runs WHERE job = %s", [RENEW]).fetchall()
        rows = [platform.work(run[0]) for run in runs]

        assert row["counts"] == {"enqueued": 1}
        assert [each["counts"] for each in rows] == [{"renewed": 1}]
        assert paused.stored() != before[paused.id]
        assert paused.value("status") == "paused"
        assert (fresh.stored(), waiting.stored()) == (before[fresh.id], before[waiting.id])

    def test_twice_is_harmless(self, owner: Owner) -> None:
        owner.keep(owner.stored() | {"refresh_expires_at": (NOW + timedelta(days=1)).isoformat()})

        first, second = (owner.platform.run("telematics.renew_tokens") for _ in range(2))
        run = owner.platform.value("SELECT id FROM job_runs WHERE job = %s", RENEW)
        owner.platform.work(run)
        again = owner.platform.run(RENEW, owner.tenant_id, connection_id=owner.id)

        assert (first["counts"], second["counts"]) == ({"enqueued": 1}, {"enqueued": 0})
        assert again["counts"] == {"not_renewed": 1}
        assert owner.renewals() == 1

    def test_one_account_that_fails_stops_no_other(self, platform: Platform, simulator: SmartcarThread) -> None:
        owners = [Owner(platform, simulator, slug) for slug in ("dead", "well")]
        for each in owners:
            each.keep(each.stored() | {"refresh_expires_at": (NOW + timedelta(days=1)).isoformat()})
        del simulator.simulator.tokens.refreshes[owners[0].stored()["refresh_token"]]

        platform.run("telematics.renew_tokens")
        runs = platform.admin.execute("SELECT id, tenant_id FROM job_runs WHERE job = %s", [RENEW]).fetchall()
        states = {run[1]: platform.work(run[0])["state"] for run in runs}

        assert states == {owners[0].tenant_id: "failed", owners[1].tenant_id: "succeeded"}
        assert [each.value("status") for each in owners] == ["reconnect", "active"]


@pytest.mark.kill
class TestKilled:
    """A worker is killed between the provider's answer and its own commit."""

    def test_within_the_grace_minute_the_next_one_heals_it(self, owner: Owner, database: Database) -> None:
        before = owner.stored()
        kill_between_answer_and_commit(owner, database)
        assert (owner.stored(), owner.renewals()) == (before, 1)
        assert owner.value("renewal_claim") is not None
        owner.expire_access()
        age_lease(owner)

        row = owner.sync()

        assert row["state"] == "succeeded"
        assert (owner.value("status"), owner.renewals()) == ("active", 2)
        assert owner.stored()["refresh_token"] in owner.simulator.simulator.tokens.refreshes
        assert owner.alerts() == []

    def test_while_its_lease_lasts_nobody_asks_and_then_the_run_goes_on(self, owner: Owner, database: Database) -> None:
        kill_between_answer_and_commit(owner, database)
        owner.expire_access()

        row = owner.sync()

        assert row["state"] == "pending"
        assert timedelta(seconds=10) < row["run_at"] - row["now"] < timedelta(seconds=26)
        assert row["attempt"] <= 1, "waiting costs no try"
        assert owner.renewals() == 1

    def test_after_the_grace_the_account_is_marked_with_what_happened(self, owner: Owner, database: Database) -> None:
        owner.simulator.simulator.tokens.grace_ms = 0
        kill_between_answer_and_commit(owner, database)
        began_at = owner.value("renewal_claimed_at").astimezone(UTC)
        owner.expire_access()
        age_lease(owner)

        row = owner.sync()

        assert (row["state"], row["error"]["type"]) == ("failed", "GrantRefused")
        assert owner.value("status") == "reconnect"
        at = (began_at - timedelta(seconds=26)).isoformat(timespec="seconds")
        assert f"a renewal at {at} {INTERRUPTED}" in owner.value("status_reason")
        assert [is_over for _, is_over in owner.alerts()] == [False]


def renewing(owner: Owner) -> subprocess.Popen[bytes]:
    """Start a process that has read the account and will renew it, with this one's settings."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.telematics.renew_once", str(owner.tenant_id), str(owner.id)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == b"ready\n"
    return process


def begin(process: subprocess.Popen[bytes]) -> None:
    """Let it renew now."""
    assert process.stdin is not None
    with process.stdin as told:
        told.write(b"now\n")


def kill_between_answer_and_commit(owner: Owner, database: Database) -> None:
    """Hold the connection's row from the moment the provider has made the pair, and kill who waits to store it."""
    lock = psycopg.connect(database.admin_url)

    def hold() -> None:
        owner.simulator.simulator.on_token = None
        lock.execute("SELECT 1 FROM connections WHERE id = %s FOR UPDATE", [owner.id])

    owner.simulator.simulator.on_token = hold
    child = renewing(owner)
    begin(child)
    try:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%kept AS%%'"
        deadline = time.monotonic() + 30
        while not owner.platform.value(waiting):
            assert child.poll() is None, "it ended before it came to its commit"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert owner.renewals() == 1, "the provider has answered"
        child.send_signal(signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
    finally:
        child.kill()
        lock.rollback()
        lock.close()
    deadline = time.monotonic() + 10
    while owner.platform.value(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%kept AS%%' AND pid <> pg_backend_pid()"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
