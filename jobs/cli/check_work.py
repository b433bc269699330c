"""The doctor's look at the work: limits, workers, beat, what waits, and whether every token can be read."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from db.encryption import EncryptionError
from db.queries import connections, health, schedule
from jobs.cli.checks import Check, fail, ok, warn
from jobs.cli.connections import get_keyring
from jobs.cli.output import span
from jobs.cli.schedule import read_timetable
from jobs.job import Job
from jobs.limits import check_limits
from jobs.settings import Settings, SettingsError
from jobs.timetable import next_tick

OLDEST_WARN_S, OLDEST_FAIL_S = 60.0, 900.0
TICK_LATE = timedelta(seconds=60)


def check_order(jobs: dict[str, Job], settings: Settings) -> Check:
    """Every limit is in order with the others."""
    if problems := check_limits(jobs, settings):
        return fail("limits", "; ".join(problems), "change the job's limits, or the settings")
    return ok("limits", "every job is stopped before it is killed, and killed before it is delivered again")


def check_timetable(jobs: dict[str, Job]) -> Check:
    """The timetable names jobs that there are, and its overrides name entries that there are."""
    try:
        entries = read_timetable()
    except SettingsError as error:
        return fail("timetable", str(error), "correct FLEET_SCHEDULE_EVERY")
    if unknown := [entry.job for entry in entries if entry.job not in jobs]:
        return fail("timetable", f"names no job: {', '.join(unknown)}", "correct beat_schedule.py")
    return ok("timetable", f"{len(entries)} entries")


def check_workers(connection: Connection, settings: Settings) -> Check:
    """Somebody works."""
    alive = health.list_live_workers(connection, settings.rescue_after_s)
    if alive:
        return ok("workers", ", ".join(alive))
    found = "none has given a sign of life" if health.find_oldest_due(connection) else "none is alive, none is needed"
    return warn("workers", found, "start one: celery -A jobs.app worker")


def check_waiting(connection: Connection) -> Check:
    """What is due does not wait for long."""
    oldest = health.find_oldest_due(connection)
    if oldest is None:
        return ok("oldest due run", "nothing waits")
    found = f"{oldest.job} waits for {span(max(oldest.age_s, 0))}"
    fix = "start a relay (`fleet-jobs relay`), or more workers"
    if oldest.age_s > OLDEST_FAIL_S:
        return fail("oldest due run", found, fix)
    return warn("oldest due run", found, fix) if oldest.age_s > OLDEST_WARN_S else ok("oldest due run", found)


def check_beat(connection: Connection) -> Check:
    """Every tick that has passed was written."""
    try:
        entries = {entry.job: entry for entry in read_timetable()}
    except SettingsError:
        return warn("beat", "not known: the timetable is wrong", "correct FLEET_SCHEDULE_EVERY")
    now, fix = schedule.read_clock(connection), "start it: celery -A jobs.app beat"
    known = schedule.read_ticks(connection)
    if not known:
        return warn("beat", "has never ticked here", fix)
    zones = {*schedule.list_zones(connection)}
    late: list[tuple[datetime, str]] = []
    for (job, zone), last in known.items():
        entry = entries.get(job)
        if entry is None or (entry.zone == "tenant" and zone not in zones):
            continue
        due = next_tick(entry, ZoneInfo(zone), last)
        if due + TICK_LATE < now:
            late.append((due, job))
    if late:
        due, job = min(late)
        return warn("beat", f"{job} should have ticked {span((now - due).total_seconds())} ago", fix)
    return ok("beat", "every tick that has passed was written")


def check_maintenance(connection: Connection) -> Iterator[Check]:
    """No meter reading and no completed work order waits for a person."""
    readings, orders = health.count_for_people(connection)
    if readings:
        fix = "fleet-jobs maintenance meters --quarantined"
        yield warn("meter readings", f"{readings} were set aside and wait for a person", fix)
    else:
        yield ok("meter readings", "none waits for a person")
    if orders:
        fix = "fleet-jobs alerts --kind work_order_flagged"
        yield warn("completed work orders", f"{orders} are flagged: their schedules may count wrongly", fix)
    else:
        yield ok("completed work orders", "none is flagged")


def check_keys(connection: Connection, settings: Settings) -> Check:
    """Every connection's token can be decrypted."""
    name, stored = "encryption keys", connections.list_stored(connection)
    if not settings.encryption_keys:
        fix = "FLEET_ENCRYPTION_KEYS: `fleet-jobs keygen` makes a key"
        if stored:
            return fail(name, f"none, and {len(stored)} connections need one", "set FLEET_ENCRYPTION_KEYS to theirs")
        return warn(name, "none", fix)
    try:
        keyring = get_keyring()
    except EncryptionError as error:
        return fail(name, str(error), "correct FLEET_ENCRYPTION_KEYS")
    unreadable, old = [], 0
    for each in stored:
        try:
            keyring.decrypt_credentials(each.tenant_id, each.id, each.credentials_encrypted)
        except (EncryptionError, ValueError):
            unreadable.append(str(each.id))
        else:
            old += not keyring.is_current(each.credentials_encrypted)
    if unreadable:
        shown = ", ".join(unreadable[:3]) + (" ..." if len(unreadable) > 3 else "")
        found = f"{len(unreadable)} of {len(stored)} connections cannot be decrypted: {shown}"
        return fail(name, found, "add the key that they were encrypted with, or `fleet-jobs connections renew ID`")
    if old:
        return warn(name, f"{old} of {len(stored)} connections are under an old key", "fleet-jobs connections rekey")
    return ok(name, f"{len(stored)} connections can be decrypted")
