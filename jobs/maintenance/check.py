"""The morning of a tenant: meters, then triggers, then what is due; each its own transaction, each harmless twice."""

from datetime import datetime

from sqlalchemy import Connection

from db.queries.flagged import settle_flagged
from db.queries.maintenance import check_due as open_due
from db.queries.maintenance_triggers import expand_schedules
from db.queries.meters import take_readings
from db.queries.quarantine import tell_quarantined
from db.queries.reported import judge_reported
from db.queries.roll_forward import roll_forward
from jobs.outcomes import Counts, NextSlice
from jobs.run import Run


def read_meters(connection: Connection, now: datetime) -> Counts:
    """Judge what people reported, and take what devices say."""
    judged = judge_reported(connection, now)
    taken = take_readings(connection, now)
    return {
        "readings": judged.accepted + taken["readings"],
        "quarantined": judged.quarantined + taken["quarantined"],
    }


def tell_doubts(connection: Connection, now: datetime) -> Counts:
    """Tell of meters that nobody can believe, and resolve what was told of completions whose meter is known by now."""
    return tell_quarantined(connection, now) | settle_flagged(connection, now)


STEPS = (read_meters, tell_doubts, roll_forward, expand_schedules, open_due)
"""In this order: what is due goes by the meters, by what was just completed, and by the vehicles in use today."""


def check_due(run: Run) -> Counts | NextSlice:
    """Do each step of the check; where readings wait in masses, first judge them, a slice of them at a time."""
    with run.transaction() as connection:
        judged = judge_reported(connection, run.now)
    run.add({"readings": judged.accepted, "quarantined": judged.quarantined})
    if judged.is_more:
        return NextSlice({})
    for step in STEPS:
        with run.transaction() as connection:
            run.add(step(connection, run.now))
    return {}


def rehearse(connection: Connection, now: datetime) -> Counts:
    """Do all of it in one transaction, for who rolls it back; of readings that wait in masses, the first slice."""
    counts: Counts = {}
    for step in STEPS:
        for name, number in step(connection, now).items():
            counts[name] = counts.get(name, 0) + number
    return counts
