"""The contract of a provider, on bad days: what fails as a whole, and what costs one record only."""

from collections.abc import Callable

import pytest

from integrations.errors import CredentialsRejected, IntegrationError, RateLimited, TransientError
from integrations.telematics import TelematicsProvider
from tests.integrations.conformance.adapter import TOKEN, Adapter
from tests.integrations.conformance.reading import by_id, read_pages, records

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
        ("truncated", TransientError),
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
    assert type(caught.value) is kind
    assert TOKEN not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    read()


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
    assert not any(value in f"{account} {account!r}" for value in adapter.credentials().values())


def test_a_missing_credential_is_for_the_owner_to_mend(adapter: Adapter) -> None:
    with pytest.raises(CredentialsRejected), adapter.opened({}) as account:
        account.list_devices(None)


def test_a_record_whose_type_has_changed_is_set_aside_and_every_good_one_beside_it_is_kept(
    adapter: Adapter, account: TelematicsProvider
) -> None:
    good = by_id(records(read_pages(account, adapter.main_feed)))
    adapter.next("wrong_type")
    pages = read_pages(account, adapter.main_feed)

    assert by_id(records(pages)) == good
    aside = [each for page in pages for each in page.rejected]
    assert {each.reason for each in aside} == {"wrong_type"}
    assert all(each.field and 0 < len(each.payload.encode()) <= LONGEST_PAYLOAD for each in aside)
    assert all("\0" not in each.payload and TOKEN not in each.payload for each in aside)


def test_a_record_of_another_accounts_device_is_never_told_as_ours(
    adapter: Adapter, account: TelematicsProvider
) -> None:
    if not adapter.knows_its_devices:
        pytest.skip("the provider's feeds bring all of an account: what is not ours shows when devices are matched")
    good = by_id(records(read_pages(account, adapter.main_feed)))
    adapter.next("foreign_device")
    pages = read_pages(account, adapter.main_feed)

    assert by_id(records(pages)) == good
    assert [each.reason for page in pages for each in page.rejected] == ["foreign_device"]
