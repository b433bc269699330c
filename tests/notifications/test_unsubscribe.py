"""One click unsubscribes, a scanner that follows the link does not; and nobody unsubscribes another."""

import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from jobs.notifications.unsubscribe import Unsubscriber, address_digest
from jobs.notifications.web import routes
from tests.factories import ENCRYPTION_KEY
from tests.notifications.conftest import Desk, Inbox
from tests.notifications.hook import serving

KEYS = [ENCRYPTION_KEY.encode()]


@pytest.fixture
def origin(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The routes behind a real server, and the origin that mails name."""
    from jobs import process
    from jobs.settings import get_settings

    app = Starlette(routes=routes(process.get_database(), Unsubscriber(KEYS, "")))
    with serving(app) as url:
        monkeypatch.setenv("FLEET_WEBHOOK_ORIGIN", url)
        get_settings.cache_clear()
        yield url


def link_of(inbox: Inbox) -> str:
    found = re.search(r"<(http[^>]+)>", str(inbox.mails[-1].parsed["List-Unsubscribe"]))
    assert found is not None
    return found[1]


def test_following_the_link_changes_nothing_and_posting_to_it_unsubscribes_from_that_category(
    desk: Desk, inbox: Inbox, origin: str
) -> None:
    desk.prefer()
    desk.user("ANN@acme.example")
    desk.alert("geofence_entry")
    desk.deliver()
    link = link_of(inbox)
    assert "ann" not in link.lower()

    seen = requests.get(link, timeout=5, headers={"Accept-Language": "de-CH,de;q=0.9"})
    assert seen.status_code == 200
    assert "Geofences" in seen.text
    assert '<form method="post">' in seen.text
    assert requests.head(link, timeout=5).status_code == 200
    assert desk.value("SELECT count(*) FROM suppressed_addresses") == 0

    for _ in range(2):
        done = requests.post(link, data="List-Unsubscribe=One-Click", timeout=5)
        assert done.status_code == 200
        assert "You will get no more mails about geofences." in done.text
    assert desk.value("SELECT category || reason FROM suppressed_addresses") == "geofenceunsubscribed"
    desk.alert("geofence_entry")
    desk.alert("geofence_entry", recipients=["ann@ACME.example"])
    desk.alert("offline")
    desk.deliver()

    assert len(inbox.mails) == 2
    assert desk.states() == {"sent": 2, "suppressed": 2}


@pytest.mark.parametrize("address", ["info@İstanbul.example", "info@ÄRZTE.example"])
def test_whose_small_letters_only_the_database_knows_is_unsubscribed_by_the_link_too(
    address: str, desk: Desk, inbox: Inbox, origin: str
) -> None:
    desk.alert("geofence_entry", recipients=[address])
    desk.deliver()

    requests.post(link_of(inbox), data="List-Unsubscribe=One-Click", timeout=5)
    desk.alert("geofence_entry", recipients=[address])
    desk.deliver()

    assert len(inbox.mails) == 1
    assert desk.states() == {"sent": 1, "suppressed": 1}


def test_a_link_that_we_have_not_made_does_nothing(desk: Desk, origin: str) -> None:
    mine = Unsubscriber(KEYS, origin).url(desk.tenant_id, "ann@acme.example", "geofence")
    forged = Unsubscriber([b"another key"], origin).url(desk.tenant_id, "ann@acme.example", "geofence")
    for link in (forged, mine[:-4], mine + "AAAA", mine.replace("/geofence/", "/safety/"), mine[:-6] + "AAAAAA"):
        for method in ("GET", "POST"):
            assert requests.request(method, link, timeout=5).status_code == 404, link
    assert requests.put(mine, timeout=5).status_code == 405
    assert desk.value("SELECT count(*) FROM suppressed_addresses") == 0


def test_a_link_of_a_tenant_that_is_gone_is_answered_all_the_same(desk: Desk, origin: str) -> None:
    link = Unsubscriber(KEYS, origin).url(uuid4(), "ann@acme.example", "safety")
    assert requests.post(link, timeout=5).status_code == 200
    assert desk.value("SELECT count(*) FROM suppressed_addresses") == 0


def test_a_link_outlives_its_key_as_long_as_the_key_is_in_the_ring() -> None:
    old, tenant_id = Unsubscriber([b"old"], ""), uuid4()
    category, token = old.url(tenant_id, "a@x.example", "all").split("/")[-2:]
    wish = Unsubscriber([b"new", b"old"], "").read(category, token)
    assert wish is not None
    assert (wish.tenant_id, wish.address_digest) == (tenant_id, address_digest(tenant_id, "A@x.example"))
    assert Unsubscriber([b"new"], "").read(category, token) is None


@given(st.text(max_size=100), st.text(max_size=200))
def test_no_token_makes_it_fail(category: str, token: str) -> None:
    assert Unsubscriber([b"k"], "").read(category, token) is None


def test_the_digest_is_the_databases_own(desk: Desk) -> None:
    address = "ÄNN@Acme.example"
    told = desk.value("SELECT sha256(convert_to(%s || ':' || lower(%s), 'UTF8'))", str(desk.tenant_id), address)
    assert told == address_digest(desk.tenant_id, address)
