"""Credentials that run out are exchanged for the next ones, by one worker an account, and kept before they are used.

The provider spends a refresh token by its use: from the moment it answers until our commit, the only copy of the next
pair is in one worker's memory. So: a short lease in a transaction of its own, one request with a hard deadline and no
transaction around it, then one commit that replaces the pair if it is still the one that was spent. A worker killed in
between leaves its lease behind. The next one takes it over while the provider's grace minute lasts, in which the spent
token still works; only where it does not is the owner needed, and told why.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.encryption import Keyring
from db.engine import Database
from db.queries import renewals, telematics
from db.queries.renewals import Held, Lease
from db.queries.telematics import Account
from integrations.errors import CredentialsRejected, GrantRefused, IntegrationError, PermanentError, TransientError
from integrations.http import HttpSession, HttpSettings
from integrations.registry import check_origin, find_provider, where
from jobs.client import enqueue_many
from jobs.job import Job
from jobs.outcomes import Counts, Snooze
from jobs.run import Run
from jobs.settings import Settings, get_settings

_log = structlog.get_logger()

LEASE_S = 25.0
"""How long a renewal may take: two requests of ten seconds. Well below Smartcar's minute of grace."""
_REQUEST = HttpSettings(connect_s=3.05, read_s=9.0, total_s=10.0, attempts=1, max_body_bytes=64 * 1024)
_WATCH_S = 3.0
_LOOK_EVERY_S = 0.1
_KEEP_TRYING_S = 15.0
"""How long a pair that only we have is offered to a database that does not take it."""
_PAIR = ("access_token", "access_expires_at", "refresh_token", "refresh_expires_at")
_BEFORE_ACCESS_ENDS = timedelta(minutes=2)
BEFORE_CREDENTIALS_END = timedelta(days=15)
"""How long before a pair's end the daily job exchanges it: two weeks of failing days cost nothing."""


def get_keyring(settings: Settings) -> Keyring:
    """Return the keys of this deployment."""
    return Keyring.from_settings([key.get_secret_value() for key in settings.encryption_keys])


def open_credentials(account: Account, settings: Settings) -> dict[str, str]:
    """Return the credentials of an account. Raises: EncryptionError."""
    return get_keyring(settings).decrypt_credentials(account.tenant_id, account.id, account.credentials_encrypted)


def is_renewed_by(provider: str) -> bool:
    """Tell whether a provider's credentials run out and are exchanged."""
    return find_provider(provider).renew is not None


def runs_out(provider: str, credentials: dict[str, str], now: datetime) -> bool:
    """Tell whether the access ends before a slice would."""
    if not is_renewed_by(provider):
        return False
    ends_at = _instant(credentials.get("access_expires_at"))
    return not credentials.get("access_token") or ends_at is None or ends_at <= now + _BEFORE_ACCESS_ENDS


def renew(database: Database, account: Account, settings: Settings) -> Account:
    """Return the account with the credentials that follow; got here, or by whoever was faster.

    Twice at once is harmless: one asks the provider, the other waits for what it stores.

    Raises:
        Snooze: somebody else is at it, and not done soon.
        TransientError: it may or may not have happened at the provider; asked again, it heals within the grace minute.
        CredentialsRejected: only the owner helps; with the reason, and that a renewal was interrupted where one was.
        PermanentError: the connection was removed, or its base URL is not allowed.
    """
    url = _where(account, settings)
    credentials = open_credentials(account, settings)
    while (lease := _claim(database, account)) is None:
        account, before = _wait(database, account), credentials
        credentials = open_credentials(account, settings)
        if not _is_same_pair(credentials, before):
            return account
    try:
        new = _ask(account, credentials, url)
    except TransientError:
        raise  # perhaps it was answered: the lease stays behind, and says so
    except IntegrationError as error:
        _release(database, account, lease)
        if not isinstance(error, GrantRefused):
            raise
        late = _read(database, account)
        if not _is_same_pair(open_credentials(late, settings), credentials):
            return late  # an interrupted one has come back with its pair
        raise GrantRefused(f"{error}{_unheard(lease.interrupted_at)}") from None
    return _keep(database, account, credentials, new, settings)


def renew_or_cut_off(run: Run, account: Account, settings: Settings) -> Account:
    """Renew; where only the owner helps, mark the connection and tell its owner once.

    Raises:
        as `renew`.
    """
    try:
        return renew(run.database, account, settings)
    except CredentialsRejected as error:
        stored = _read(run.database, account)
        if _is_same_pair(open_credentials(stored, settings), open_credentials(account, settings)):
            account = stored  # perhaps encrypted anew meanwhile, and refused all the same
        with run.transaction() as connection:
            telematics.cut_off(connection, account, str(error), run.now)
        raise


def renew_connection(run: Run, connection_id: UUID) -> Counts:
    """Exchange a connection's credentials, unless that has happened since the run was enqueued.

    Raises:
        as `renew`.
    """
    with run.transaction() as connection:
        account = telematics.find_account(connection, connection_id)
    settings = get_settings()
    if account is None or account.status == "reconnect" or not is_renewed_by(account.provider):
        return {"not_renewed": 1}
    ends_at = renew_before(open_credentials(account, settings))
    if ends_at is None or ends_at > run.now + BEFORE_CREDENTIALS_END:
        return {"not_renewed": 1}
    renew_or_cut_off(run, account, settings)
    return {"renewed": 1}


def enqueue_due(connection: Connection, job: Job, now: datetime) -> int:
    """Enqueue a renewal for each connection whose credentials end for good within the margin. Returns how many."""
    due = renewals.list_due(connection, now + BEFORE_CREDENTIALS_END)
    return sum(
        enqueue_many(connection, job, [{"connection_id": each} for each in connections], tenant_id=tenant_id)
        for tenant_id, connections in due.items()
    )


def renew_before(credentials: dict[str, str]) -> datetime | None:
    """Return when only the owner can help any more; None where that is not known, or never."""
    return _instant(credentials.get("refresh_expires_at"))


def _claim(database: Database, account: Account) -> Lease | None:
    with database.tenant_transaction(account.tenant_id) as connection:
        return renewals.claim_renewal(connection, account.id, account.credentials_encrypted, uuid4(), lease_s=LEASE_S)


def _release(database: Database, account: Account, lease: Lease) -> None:
    with database.tenant_transaction(account.tenant_id) as connection:
        renewals.release_renewal(connection, account.id, lease)


def _wait(database: Database, account: Account) -> Account:
    """Return what has been stored since; that is the next pair, or the same one encrypted anew."""
    until = time.monotonic() + _WATCH_S
    while True:
        held = _look(database, account)
        if held.credentials_encrypted != account.credentials_encrypted:
            return replace(account, credentials_encrypted=held.credentials_encrypted)
        if held.lease_left_s <= 0 or time.monotonic() >= until:
            raise Snooze(held.lease_left_s + 0.2, "somebody else is renewing the credentials of this connection")
        time.sleep(_LOOK_EVERY_S)


def _where(account: Account, settings: Settings) -> str:
    if account.base_url is not None:
        check_origin(account.provider, account.base_url, settings.provider_origins)
    return where(account.provider, account.base_url)


def _ask(account: Account, credentials: dict[str, str], url: str) -> dict[str, str]:
    """Ask the provider; once more at once where the answer was lost, while its grace minute lasts.

    Whatever else than a pair or a refusal of the grant the second answer is, the first may have brought a pair.
    """
    renewing = find_provider(account.provider).renew
    if renewing is None:
        raise PermanentError(f"{account.provider}: has no credentials to renew")
    with HttpSession(_REQUEST) as http:
        asked_at = datetime.now(UTC)
        try:
            return dict(renewing(http, credentials, url))
        except TransientError as error:
            _log.warning("renewal_unclear", connection=str(account.id), error=str(error))
        try:
            return dict(renewing(http, credentials, url))
        except GrantRefused as error:
            raise GrantRefused(f"{error}{_unheard(asked_at)}") from None
        except IntegrationError as error:
            raise TransientError(f"{error}{_unheard(asked_at)}") from None


def _keep(
    database: Database, account: Account, spent: dict[str, str], new: dict[str, str], settings: Settings
) -> Account:
    """Store a pair, and only then let it be used; one that somebody has overtaken is forgotten for theirs.

    Credentials whose pair is the same are still those that were spent: encrypted anew (`connections rekey`), or with
    another secret beside it. A database that fails is asked again: nobody else has this pair.

    Raises:
        DBAPIError, PoolTimeout: the database has failed for too long.
    """
    pair = {name: new[name] for name in _PAIR if name in new}
    until = time.monotonic() + _KEEP_TRYING_S
    while True:
        try:
            kept = _replace(database, account, pair, settings)
            if kept is not None:
                return kept
            account = _read(database, account)
        except (DBAPIError, PoolTimeout) as error:
            if time.monotonic() >= until:
                raise
            _log.warning("pair_not_kept_yet", connection=str(account.id), error=type(error).__name__)
            time.sleep(_LOOK_EVERY_S)
            continue
        if not _is_same_pair(open_credentials(account, settings), spent):
            return account


def _replace(database: Database, account: Account, pair: dict[str, str], settings: Settings) -> Account | None:
    """Put a pair in place of the account's; None where others are stored by now."""
    new = open_credentials(account, settings) | pair
    encrypted = get_keyring(settings).encrypt_credentials(account.tenant_id, account.id, new)
    stored, now = account.credentials_encrypted, datetime.now(UTC)
    with database.tenant_transaction(account.tenant_id) as connection:
        is_kept = renewals.keep_credentials(connection, account.id, stored, encrypted, renew_before(new), now)
    return replace(account, credentials_encrypted=encrypted) if is_kept else None


def _look(database: Database, account: Account) -> Held:
    with database.tenant_transaction(account.tenant_id) as connection:
        held = renewals.read_held(connection, account.id, lease_s=LEASE_S)
    if held is None:
        raise PermanentError("the connection was removed")
    return held


def _read(database: Database, account: Account) -> Account:
    return replace(account, credentials_encrypted=_look(database, account).credentials_encrypted)


def _is_same_pair(one: dict[str, str], other: dict[str, str]) -> bool:
    return all(one.get(name) == other.get(name) for name in ("access_token", "refresh_token"))


def _unheard(began_at: datetime | None) -> str:
    """Say what may have become of the pair, where a renewal began and its answer was never heard."""
    if began_at is None:
        return ""
    at = began_at.astimezone(UTC).isoformat(timespec="seconds")
    return f"; a renewal at {at} was interrupted after the provider may have answered"


def _instant(told: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(told) if told else None
    except ValueError:
        return None
    return at if at is None or at.tzinfo is not None else None
