"""The contract of a provider, on bad days: what fails as a whole, and what costs one record only."""

from collections.abc import Callable, Iterable

import pytest

from integrations.errors import CredentialsRejected, IntegrationError, RateLimited, TransientError
from integrations.telematics import Page, TelematicsProvider
from tests.integrations.conformance.adapter import Adapter
from tests.integrations.conformance.reading import Id, Record, by_id, read_pages, records
from tests.integrations.raw_server import answering, whole

LONGEST_PAYLOAD = 4096

READS: dict[str, Callable[[TelematicsProvider, str], object]] = {
    "devices": lambda account, _: account.list_devices(None),
    "snapshot": lambda account, feed: feed in account.snapshots and account.read_snapshot(feed, None),
    "feed": lambda account, feed: account.read_feed(feed, None),
}


@pytest.fixture(params=READS)
def read(request: pytest.FixtureRequest, adapter: Adapter, account: TelematicsProvider) -> Callable[[], object]:
    if request.param == "snapshot" and adapter.main_feed not in account.snapshots:
        pytest.skip("the feed begins without a snapshot")
    return lambda: READS[request.param](account, adapter.main_feed)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("html", TransientError),
        ("server_error", TransientError),
        ("refused_token", CredentialsRejected),
        ("rate_limit", RateLimited),
    ],
)
def test_a_bad_answer_says_what_to_do_next_and_is_over_with_it(
    adapter: Adapter, read: Callable[[], object], fault: str, kind: type[IntegrationError]
) -> None:
    adapter.next(fault, retry_after_s=7.5)
    with pytest.raises(kind) as caught:
        read()
    assert not _credentials_in(f"{caught.value} {caught.value!r} {caught.value.__cause__!r}", adapter)
    read()


@pytest.mark.parametrize(
    "body", [b'{"data":[{"name":"Anna', b'[{"id":28,"name":"Anna', b'{"data":[{"id":"Anna"}}', b"{", b"[]]"]
)
def test_an_answer_that_breaks_off_or_is_malformed_may_work_later(adapter: Adapter, body: bytes) -> None:
    with answering(whole(body)) as server, adapter.opened(base_url=server.origin) as account:
        for read in READS.values():
            if read is READS["snapshot"] and adapter.main_feed not in account.snapshots:
                continue
            with pytest.raises(TransientError) as caught:
                read(account, adapter.main_feed)
            assert "Anna" not in str(caught.value)


def test_a_rate_limit_says_how_long_to_wait(adapter: Adapter, read: Callable[[], object]) -> None:
    adapter.next("rate_limit", retry_after_s=7.5)
    with pytest.raises(RateLimited) as caught:
        read()
    assert caught.value.retry_after_s == 7.5


def test_a_token_that_nobody_knows_cuts_the_account_off(adapter: Adapter) -> None:
    wrong = {name: f"not-{value}" for name, value in adapter.credentials().items()}
    with adapter.opened(wrong) as account:
        for read in READS.values():
            if read is READS["snapshot"] and adapter.main_feed not in account.snapshots:
                continue
            with pytest.raises(CredentialsRejected) as caught:
                read(account, adapter.main_feed)
            assert not any(value in str(caught.value) for value in wrong.values())


def test_no_credential_shows_in_what_is_logged_of_it(adapter: Adapter, account: TelematicsProvider) -> None:
    assert not _credentials_in(f"{account} {account!r}", adapter)


def _credentials_in(text: str, adapter: Adapter) -> list[str]:
    return [name for name, value in adapter.credentials().items() if value in text]


def test_a_missing_credential_is_for_the_owner_to_mend(adapter: Adapter) -> None:
    with pytest.raises(CredentialsRejected), adapter.opened({}) as account:
        account.list_devices(None)


def test_a_record_whose_type_has_changed_is_set_aside_and_every_good_one_beside_it_is_kept(
    adapter: Adapter, account: TelematicsProvider
) -> None:
    good = by_id(records(read_pages(account, adapter.main_feed)))
    adapter.next("wrong_type")
    pages = read_pages(account, adapter.main_feed)

    assert len(_lost(good, pages)) == (0 if adapter.adds_bad_records else 1)
    aside = [each for page in pages for each in page.rejected]
    assert {each.reason for each in aside} == {"wrong_type"}
    assert all(each.field and 0 < len(each.payload.encode()) <= LONGEST_PAYLOAD for each in aside)
    assert all("\0" not in each.payload and not _credentials_in(each.payload, adapter) for each in aside)


def test_a_record_of_another_accounts_device_is_never_told_as_ours(
    adapter: Adapter, account: TelematicsProvider
) -> None:
    if not adapter.knows_its_devices:
        pytest.skip("the provider's feeds bring all of an account: what is not ours shows when devices are matched")
    good = by_id(records(read_pages(account, adapter.main_feed)))
    adapter.next("foreign_device")
    pages = read_pages(account, adapter.main_feed)

    assert len({device for _, device in _lost(good, pages)}) == (0 if adapter.adds_bad_records else 1)
    assert [each.reason for page in pages for each in page.rejected] == ["foreign_device"]


def _lost(good: dict[Id, Record], pages: Iterable[Page]) -> set[tuple[Id, str]]:
    """Return which records are missing or say less than before, and of which device; none may be new."""
    found = by_id(records(pages))
    assert found.keys() <= good.keys()
    return {(key, record.device_id) for key, record in good.items() if found.get(key) != record}
