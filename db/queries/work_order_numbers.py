"""The counter of a tenant's work orders, which is the mutex of its maintenance. Transactions of one tenant."""

from datetime import date, datetime

from sqlalchemy import Connection, text

# Of what no statement passes over nobody waits for long: shorter than `deadlock_timeout`, so that the run is taken back
# and tried again, rather than the transaction of another application.
_LONGEST_WAIT = "500ms"
# Who holds the counter sees every order that was opened before, so that no number is spent on one that exists. Of how
# many rows a WITH yields the planner has no idea, and nests loops over thousands: where an index is to be asked row by
# row, a statement says so (LATERAL, LIMIT).
_HOLD = text(
    """
    INSERT INTO work_order_counters AS c (tenant_id) VALUES (app_tenant_id())
    ON CONFLICT (tenant_id) DO UPDATE SET last_number = c.last_number
    RETURNING (SELECT CAST(CAST(:now AS timestamptz) AT TIME ZONE time_zone AS date)
               FROM tenants WHERE id = app_tenant_id()),
              set_config('jit', 'off', true), set_config('work_mem', '64MB', true),
              set_config('enable_nestloop', 'off', true), set_config('lock_timeout', :longest_wait, true)
    """
).bindparams(longest_wait=_LONGEST_WAIT)


_TODAY = text(
    """
    SELECT CAST(CAST(:now AS timestamptz) AT TIME ZONE time_zone AS date) FROM tenants WHERE id = app_tenant_id()
    """
)


def read_today(connection: Connection, now: datetime) -> date:
    """Return the day that it is for the tenant."""
    today: date = connection.execute(_TODAY, {"now": now}).scalar_one()
    return today


def hold(connection: Connection, now: datetime) -> date:
    """Let nobody else number, open or roll forward the tenant's work orders until the transaction ends.

    From then on it waits half a second for a lock, and no longer.

    Returns:
        The day that it is for the tenant.
    """
    today: date = connection.execute(_HOLD, {"now": now}).one()[0]
    return today


def not_locked(vehicle_ids: str) -> str:
    """Return SQL for those vehicles of `vehicle_ids`, a SELECT, that nobody has locked FOR UPDATE.

    A row that refers to one waits for who has; none locks these until the transaction ends.
    """
    return f"SELECT id FROM vehicles WHERE id = ANY(ARRAY({vehicle_ids})) FOR KEY SHARE SKIP LOCKED"
