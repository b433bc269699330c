"""The decision on a group by itself: what always holds, and hours of a storm in a moment."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from db.queries.notifications import Group
from jobs.notifications.planning import CRITICAL_WAIT, MOST_ALONE, MOST_AN_HOUR, WINDOW, decide

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
QUIET = Group(
    ids=[UUID(int=1)],
    tenant_id=UUID(int=2),
    channel="email",
    address="ann@acme.example",
    user_id=UUID(int=3),
    endpoint_id=None,
    is_named=False,
    category="geofence",
    severity="medium",
    is_critical=False,
    is_due_digest=False,
    quiet_from=None,
    quiet_to=None,
    digest="none",
    digest_at=time(7),
    user_zone="Europe/Berlin",
    tenant_zone="UTC",
    lately=0,
    summarised_at=None,
    last_hour=0,
)

GROUPS = st.builds(
    Group,
    ids=st.lists(st.uuids(), min_size=1, max_size=40, unique=True),
    tenant_id=st.uuids(),
    channel=st.sampled_from(["email", "apprise"]),
    address=st.just("ann@acme.example"),
    user_id=st.none() | st.uuids(),
    endpoint_id=st.none(),
    is_named=st.booleans(),
    category=st.sampled_from(["geofence", "safety", "all"]),
    severity=st.sampled_from(["low", "medium", "high"]),
    is_critical=st.booleans(),
    is_due_digest=st.booleans(),
    quiet_from=st.none() | st.times(),
    quiet_to=st.times(),
    digest=st.sampled_from(["none", "hourly", "daily"]),
    digest_at=st.times(),
    user_zone=st.sampled_from([None, "Europe/Berlin", "Mars/Olympus", "Asia/Kathmandu"]),
    tenant_zone=st.sampled_from(["UTC", "America/New_York"]),
    lately=st.integers(0, 100),
    summarised_at=st.none() | st.integers(0, 600).map(lambda ago: NOW - timedelta(seconds=ago)),
    last_hour=st.integers(0, 200),
    has_waited=st.booleans(),
)


@given(GROUPS)
def test_what_always_holds(group: Group) -> None:
    decision = decide(group, NOW)

    assert (decision.until is not None) is (decision.action == "hold")
    assert (decision.folded is not None) is (decision.action == "fold")
    if decision.action == "hold":
        assert decision.until is not None
        assert NOW < decision.until <= NOW + timedelta(days=2, hours=2)
    if decision.action == "fold":
        assert len(group.ids) > 1, "of one alone no summary is made"
    if group.is_critical:
        assert decision.bundle is None
        assert decision.until is None or decision.until <= NOW + CRITICAL_WAIT
        if len(group.ids) == 1 and group.lately < MOST_ALONE:
            assert decision.action == "ready"
    if group.is_due_digest and decision.action == "hold":
        assert decision.bundle == "digest", "what waits for a digest goes on waiting for it"


def storm(arrivals: dict[int, int], seconds: int, *, is_critical: bool = False) -> tuple[list[int], dict[UUID, int]]:
    """Plan every ten seconds. Return when messages left, and how long each alert waited."""
    waiting: dict[UUID, int] = {}
    due: dict[UUID, int] = {}
    sent: list[int] = []
    alone: list[int] = []
    summaries: list[int] = []
    waited: dict[UUID, int] = {}
    for second in range(0, seconds, 10):
        for _ in range(arrivals.get(second, 0)):
            alert = uuid4()
            waiting[alert] = due[alert] = second
        ids = [alert for alert in waiting if due[alert] <= second]
        if not ids:
            continue
        window = WINDOW.total_seconds()
        lately = [each for each in summaries if each > second - window]
        group = replace(
            QUIET,
            ids=ids,
            is_critical=is_critical,
            lately=sum(each > second - window for each in alone),
            summarised_at=NOW + timedelta(seconds=lately[-1]) if lately else None,
            last_hour=sum(each > second - 3600 for each in sent),
            has_waited=is_critical and any(due[alert] > waiting[alert] for alert in ids),
        )
        decision = decide(group, NOW + timedelta(seconds=second))
        if decision.action == "hold":
            assert decision.until is not None
            due |= dict.fromkeys(ids, int((decision.until - NOW).total_seconds()))
            continue
        messages = len(ids) if decision.action == "ready" else 1
        sent += [second] * messages
        (alone if decision.action == "ready" else summaries).extend([second] * messages)
        for alert in ids:
            waited[alert] = second - waiting.pop(alert)
    return sent, waited


@given(st.dictionaries(st.integers(0, 359).map(lambda tick: tick * 10), st.integers(1, 60), max_size=80))
def test_in_a_storm_nobody_is_flooded_and_nothing_is_forgotten(arrivals: dict[int, int]) -> None:
    sent, waited = storm(arrivals, 6 * 3600)

    assert len(waited) == sum(arrivals.values()), "each is told, alone or with others"
    for second in sent:
        in_window = sum(second - WINDOW.total_seconds() < each <= second for each in sent)
        assert in_window <= MOST_ALONE + 2
        assert sum(second - 3600 < each <= second for each in sent) <= MOST_AN_HOUR + MOST_ALONE
    assert max(waited.values(), default=0) <= 3600


@given(st.dictionaries(st.integers(0, 359).map(lambda tick: tick * 10), st.integers(1, 60), max_size=80))
def test_critical_ones_never_wait_for_more_than_minutes(arrivals: dict[int, int]) -> None:
    _, waited = storm(arrivals, 2 * 3600, is_critical=True)

    assert len(waited) == sum(arrivals.values())
    assert max(waited.values(), default=0) <= CRITICAL_WAIT.total_seconds() + 10


def test_a_steady_trickle_is_told_in_few_messages() -> None:
    sent, waited = storm(dict.fromkeys(range(0, 3600, 10), 1), 3 * 3600)

    assert len(waited) == 360
    assert len(sent) <= 18, "the first ten, then one every ten minutes"


def test_critical_ones_that_come_one_by_one_become_a_message_every_two_minutes() -> None:
    sent, waited = storm(dict.fromkeys(range(0, 3600, 10), 1), 2 * 3600, is_critical=True)

    assert len(waited) == 360
    assert max(waited.values()) <= CRITICAL_WAIT.total_seconds()
    assert len(sent) <= 6 * MOST_ALONE + 3600 // CRITICAL_WAIT.total_seconds()
