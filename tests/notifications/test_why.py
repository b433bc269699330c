"""Why was I not told? The answer is what the planner itself would decide, in words."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db.queries.wishes import category_of, read_ways
from jobs.notifications.planning import WINDOW
from jobs.notifications.why import Answer, answer
from tests.notifications.conftest import Desk, Inbox
from tests.notifications.test_endpoints import Endpoint
from tests.notifications.test_planning import around_now

ANN = "ann@acme.example"


def ask(desk: Desk, kind: str = "offline", severity: str = "medium") -> list[Answer]:
    from jobs import process

    user_id = desk.value("SELECT id FROM users WHERE email = %s", ANN)
    with process.get_database().system_transaction() as connection:
        now = datetime.now(UTC)
        ways = read_ways(connection, desk.tenant_id, user_id, kind, now, window_s=WINDOW.total_seconds())
    return [answer(way, severity, now) for way in ways]


def unsubscribe(desk: Desk) -> None:
    desk.admin.execute(
        "INSERT INTO suppressed_addresses SELECT id, sha256(convert_to(id || ':' || %s, 'UTF8')), 'connectivity',"
        " 'unsubscribed' FROM tenants",
        [ANN],
    )


def leave(desk: Desk) -> None:
    desk.admin.execute("UPDATE users SET status = 'inactive'")


def lock(desk: Desk) -> None:
    desk.admin.execute("UPDATE users SET status = 'locked'")


def doubt(desk: Desk) -> None:
    desk.admin.execute("UPDATE users SET status = 'pending_verification'")


def close(desk: Desk) -> None:
    desk.admin.execute("UPDATE tenants SET is_active = false")


QUIET = dict(zip(("quiet_from", "quiet_to"), around_now(), strict=True))


@pytest.mark.parametrize(
    ("wishes", "then", "severity", "outcome", "said"),
    [
        ([], None, "medium", "not told", "neither the user nor the tenant has a preference for connectivity or all"),
        ([{}], None, "medium", "told", "the tenant's preference for all: from low on"),
        ([{"of_user": True, "category": "connectivity"}, {}], None, "low", "told", "the user's preference for connec"),
        ([{"enabled": False}], None, "critical", "not told", "it is turned off"),
        ([{"min_severity": "high"}], None, "medium", "not told", "it is only medium"),
        ([{}], unsubscribe, "critical", "not told", "the address has unsubscribed"),
        ([{}], leave, "critical", "not told", "the user has left"),
        ([{}], doubt, "critical", "not told", "the user is not verified yet"),
        ([{}], lock, "medium", "told", "the tenant's preference for all: from low on"),
        ([{}], close, "critical", "not told", "the tenant is not active"),
        ([QUIET], None, "high", "held", "quiet hours, "),
        ([QUIET], None, "critical", "told", "the tenant's preference for all"),
        ([{"digest": "hourly"}], None, "high", "held", "it comes with the hourly digest"),
        ([{"after_min": 30}], None, "high", "held", "only of what is still open after 30 min"),
    ],
)
def test_the_answer_is_what_becomes_of_a_real_alert(
    wishes: list[dict[str, Any]],
    then: Callable[[Desk], None] | None,
    severity: str,
    outcome: str,
    said: str,
    desk: Desk,
    inbox: Inbox,
) -> None:
    user_id = desk.user(ANN)
    for wish in wishes:
        given = dict(wish)
        desk.prefer(user_id if given.pop("of_user", False) else None, **given)
    if then is not None:
        then(desk)

    (told,) = ask(desk, severity=severity)
    desk.alert("offline", severity)
    desk.deliver()

    assert told.outcome == outcome
    assert said in "; ".join(told.why)
    assert len(inbox.mails) == (outcome == "told")
    waits = desk.value("SELECT next_attempt_at FROM notifications WHERE state = 'pending'")
    if outcome == "held":
        assert told.at is not None
        assert abs(told.at - waits) < timedelta(seconds=20)
    else:
        assert told.at is None


def test_a_storm_and_an_hour_that_is_full_are_named(told: Desk) -> None:
    told.alerts(30)
    told.deliver()
    (answered,) = ask(told)
    assert (answered.outcome, answered.why[0][:8]) == ("held", "a storm:")
    assert ask(told, "geofence_entry")[0].outcome == "told"

    told.alerts(80, "geofence_entry")
    told.admin.execute("UPDATE notifications SET state = 'sent', planned_at = now() - interval '30 minutes'")
    assert ask(told, "safety_event")[0].why[0].endswith("were told within an hour: what is not critical waits")


def test_a_way_that_is_closed_and_a_chat_that_is_off_are_named(told: Desk) -> None:
    user_id = told.value("SELECT id FROM users")
    told.prefer(user_id, channel="apprise")
    Endpoint(told, "json://127.0.0.1:1/", channel="apprise", name="phone", user_id=user_id)
    Endpoint(told, "json://127.0.0.1:2/", channel="apprise", name="tablet", user_id=user_id)
    told.admin.execute("UPDATE webhook_endpoints SET disabled_at = now() WHERE name = 'tablet'")
    told.admin.execute("INSERT INTO channel_outages (channel, reason) VALUES ('email', 'away')")

    mail, phone, tablet = ask(told)

    assert "the way is closed for all since" in mail.why[-1]
    assert (phone.way, phone.outcome) == ("apprise (phone)", "told")
    assert (tablet.outcome, tablet.why[0]) == ("not told", "the endpoint is disabled")


@pytest.mark.parametrize(
    ("kind", "category"),
    [
        ("offline", "connectivity"),
        ("offline_2", "other"),
        ("connection_silent", "connectivity"),
        ("connections", "other"),
        ("maintenance_due", "maintenance"),
        ("maintenances", "maintenance"),
        ("work_order_flagged", "maintenance"),
        ("workXorder", "other"),
        ("geofence_entry", "geofence"),
        ("safety_event", "safety"),
        ("fault_code", "vehicle_health"),
        ("low_fuel", "vehicle_health"),
        ("low_battery", "vehicle_health"),
        ("low_oil", "other"),
        ("", "other"),
    ],
)
def test_the_category_of_a_kind_is_the_databases_own(kind: str, category: str, desk: Desk) -> None:
    assert category_of(kind) == desk.value("SELECT alert_category(%s)", kind) == category
