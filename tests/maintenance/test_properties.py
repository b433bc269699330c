"""What holds for any schedule, any completion and any zone."""

import calendar
import itertools
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from db.queries.maintenance_triggers import months_until, periods_until
from db.queries.roll_forward import roll_forward
from jobs.timetable import Daily
from tests.maintenance.garage import MORNING, Garage

IN_ONE_DATABASE = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
DAYS = st.dates(date(2000, 1, 1), date(2022, 12, 31))
_number = itertools.count(1)


def _add_months(base: date, months: int) -> date:
    year, month = divmod(base.year * 12 + base.month - 1 + months, 12)
    return date(year, month + 1, min(base.day, calendar.monthrange(year, month + 1)[1]))


@IN_ONE_DATABASE
@given(base=DAYS, months=st.integers(1, 60), periods=st.integers(1, 40))
def test_a_month_ends_where_the_calendar_ends_it(garage: Garage, base: date, months: int, periods: int) -> None:
    due = garage.rows("SELECT (%s::date + make_interval(months => %s * %s))::date AS due", base, periods, months)
    assert due == [{"due": _add_months(base, periods * months)}]


@IN_ONE_DATABASE
@given(
    base=DAYS, months=st.integers(1, 60), periods=st.integers(0, 20), days=st.integers(-40, 40), beyond=st.booleans()
)
@example(base=date(2020, 1, 31), months=1, periods=1, days=0, beyond=True)
@example(base=date(2020, 1, 31), months=1, periods=1, days=0, beyond=False)
def test_the_next_line_of_a_grid_of_months_is_the_first_that_is_not_behind(
    garage: Garage, base: date, months: int, periods: int, days: int, beyond: bool
) -> None:
    day = _add_months(base, months * periods) + timedelta(days=days)
    statement = months_until("CAST(:base AS date)", "CAST(:months AS integer)", "CAST(:day AS date)", beyond=beyond)
    with garage.transaction() as connection:
        found = connection.execute(text(f"SELECT {statement}"), {"base": base, "months": months, "day": day}).scalar()
    lines = (n for n in itertools.count(1) if _add_months(base, n * months) + timedelta(days=not beyond) > day)
    assert found == next(lines)


@IN_ONE_DATABASE
@given(base=st.integers(-50_000, 500_000), interval=st.integers(1, 50_000), value=st.integers(0, 900_000))
def test_the_next_line_of_a_grid_of_kilometres_is_the_first_beyond(
    garage: Garage, base: int, interval: int, value: int
) -> None:
    statement = periods_until(
        "CAST(:base AS float8)", "CAST(:interval AS float8)", "CAST(:value AS float8)", beyond=True
    )
    given = {"base": base, "interval": interval, "value": value}
    with garage.transaction() as connection:
        found = connection.execute(text(f"SELECT {statement}"), given).scalar()
    assert found == max(1, (value - base) // interval + 1)


@st.composite
def schedules(draw: st.DrawFn) -> dict[str, Any]:
    """A schedule that the database takes, with any mix of intervals."""
    intervals: dict[str, Any] = {
        "interval_days": st.integers(1, 400),
        "interval_months": st.integers(1, 24),
        "interval_distance": st.floats(1, 100_000),
        "interval_engine_hours": st.floats(1, 5_000),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(intervals)), min_size=1))
    return {name: draw(intervals[name]) for name in chosen} | {
        "anchor": draw(st.sampled_from(["completion", "schedule"])),
        "distance_unit": draw(st.sampled_from(["km", "mi"])),
        "start_on": draw(st.dates(date(2020, 1, 1), date(2023, 3, 1))),
        "start_km": draw(st.one_of(st.none(), st.floats(0, 100_000))),
        "tolerance_days": draw(st.integers(0, 60)),
        "tolerance_km": draw(st.floats(0, 5_000)),
    }


COMPLETIONS = st.lists(
    st.tuples(
        st.integers(-500, 500), st.one_of(st.none(), st.floats(0, 200_000)), st.one_of(st.none(), st.floats(0, 9_000))
    ),
    min_size=1,
    max_size=4,
)


@settings(IN_ONE_DATABASE, max_examples=40)
@given(schedule=schedules(), completions=COMPLETIONS)
def test_rolling_forward_never_moves_back(
    garage: Garage, schedule: dict[str, Any], completions: list[tuple[int, float | None, float | None]]
) -> None:
    van = garage.vehicle(f"Van {next(_number)}")
    garage.now = MORNING
    garage.drive(van, 100_000, 4_000)
    schedule_id = garage.schedule(van, **schedule)
    garage.check()
    before = garage.trigger(schedule_id)
    for days, km, hours in completions:
        garage.complete(
            _open_order(garage, van, schedule_id),
            at=MORNING + timedelta(days=days),
            completion_odometer_km=km,
            completion_engine_hours=hours,
        )
        garage.do(roll_forward, garage.now)
        after = garage.trigger(schedule_id)
        assert after["cycle"] == before["cycle"] + 1
        for name in ("next_due_date", "next_due_km", "next_due_engine_hours", "base_on", "base_km"):
            if before[name] is not None and after[name] is not None:
                assert after[name] >= before[name], name
        assert (after["next_due_date"] is None) == (before["next_due_date"] is None)
        before = after


def _open_order(garage: Garage, vehicle_id: UUID, schedule_id: UUID) -> UUID:
    """The order that the check has opened, or one that a person opens before anything is due."""
    for order in garage.rows("SELECT id FROM work_orders WHERE schedule_id = %s AND status = 'open'", schedule_id):
        return UUID(str(order["id"]))
    given = {"vehicle_id": vehicle_id, "schedule_id": schedule_id, "created_at": MORNING}
    return garage.insert("work_orders", type="preventive", title="early", **given)


@IN_ONE_DATABASE
@given(miles=st.decimals(1, 1_000_000, places=2))
def test_miles_become_kilometres_and_miles_again(garage: Garage, miles: Decimal) -> None:
    schedule = garage.schedule(vehicle_type="van", interval_distance=float(miles), distance_unit="mi")
    [row] = garage.rows(
        "SELECT interval_km, round(CAST(interval_km / 1.609344 AS numeric), 2) AS again"
        " FROM maintenance_schedules WHERE id = %s",
        schedule,
    )
    assert row["again"] == miles
    assert row["interval_km"] == pytest.approx(float(miles) * 1.609344, rel=1e-12)


@given(
    zone=st.sampled_from(sorted(available_timezones())).map(ZoneInfo),
    start=st.integers(0, 30 * 365 * 24).map(lambda hours: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(hours=hours)),
)
def test_every_day_of_every_zone_has_one_morning_and_it_is_six_there(zone: ZoneInfo, start: datetime) -> None:
    ticks = Daily(time(6, 0)).ticks(zone, start, start + timedelta(days=40))
    mornings = [tick.astimezone(zone) for tick in ticks]
    assert {morning.time() for morning in mornings} == {time(6, 0)}, "no zone's clocks skip six in the morning"
    days = [morning.date() for morning in mornings]
    assert days == sorted(set(days))
    first, last = start.astimezone(zone).date(), (start + timedelta(days=40)).astimezone(zone).date()
    missing = {first + timedelta(days=n) for n in range((last - first).days + 1)} - set(days) - {first, last}
    assert len(missing) <= (zone.key in SKIPPED_A_DAY), missing


SKIPPED_A_DAY = {"Pacific/Apia", "Pacific/Fakaofo"}
"""Samoa and Tokelau went over the date line at the end of 2011, and had no 30 December."""
