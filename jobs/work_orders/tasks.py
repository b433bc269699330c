"""The doorways of work orders."""

from datetime import date
from uuid import UUID

from db.queries import roll_forward as completions
from db.queries import work_orders
from db.queries.work_orders import Report
from jobs.job import job
from jobs.outcomes import Counts, NextSlice
from jobs.run import Run
from jobs.work_orders import report


@job("work_orders.roll_forward", unique_by=())
def roll_forward(run: Run) -> Counts | NextSlice:
    """Record what was completed, and let its schedules count from the completion.

    Twice is harmless: an order is marked in the transaction that rolls it.
    """
    with run.transaction() as connection:
        counts = completions.roll_forward(connection, run.now)
    return NextSlice(counts) if counts.get("completed") == completions.BATCH else counts


@job("work_orders.open_corrective", unique_by=())
def open_corrective(run: Run) -> Counts | NextSlice:
    """Open a work order for every grave fault code, grave anomaly and failed inspection of a tenant, and tell of it.

    Twice is harmless: what was reported has one order.
    """
    with run.transaction() as connection:
        counts = {"resolved": work_orders.settle_opened(connection, run.now)}
    with run.transaction() as connection:
        counts["opened"] = work_orders.open_corrective(connection, run.now)
    return NextSlice(counts) if counts["opened"] == work_orders.MOST else counts


@job("work_orders.create", is_public=True, batch=100)
def create(
    run: Run,
    vehicle_id: UUID,
    source: str,
    source_id: str,
    title: str,
    description: str | None = None,
    priority: str = "medium",
    facility_id: UUID | None = None,
    vendor_id: UUID | None = None,
    due_on: date | None = None,
) -> Counts:
    """Open a corrective work order for what another application reports of a vehicle, and tell of it.

    Twice is harmless: a report, known by vehicle, source and source_id, has one order.
    """
    given = Report(vehicle_id, source, source_id, title, description, priority, facility_id, vendor_id, due_on)
    with run.transaction() as connection:
        return report.open_order(connection, given, run.now)
