"""Another Python application: enqueues in a transaction of a tenant, and prints what came of it."""

import sys
from datetime import date
from uuid import UUID

from sqlalchemy import create_engine, text

from jobs.client import enqueue, enqueue_many
from jobs.job import JOBS
from jobs.outcomes import InvalidArguments
from tests.ledger.app import app

TYPES = {
    "a_uuid": UUID(int=7),
    "a_string": "Straße",
    "an_integer": 1,
    "a_number": 0.5,
    "a_boolean": True,
    "a_date": date(2026, 3, 29),
    "a_datetime": "2026-03-29T02:30:00+00:00",
}


def main(url: str, tenant_id: str) -> None:
    """Enqueue one and many and roll one back."""
    assert app
    with create_engine(url).connect() as connection:
        tenant = text("SELECT set_config('app.tenant_id', :tenant_id, true)")
        with connection.begin():
            connection.execute(tenant, {"tenant_id": tenant_id})
            kept = enqueue(connection, JOBS["test.types"], TYPES, requested_by="a Python application")
            added = enqueue_many(connection, JOBS["test.effect"], [{"work_ms": n} for n in range(5)])
        with connection.begin() as transaction:
            connection.execute(tenant, {"tenant_id": tenant_id})
            undone = enqueue(connection, JOBS["test.effect"])
            transaction.rollback()
        try:
            enqueue(connection, JOBS["test.slices"], {"of": "many"})
        except InvalidArguments as error:
            refused = str(error)
        sys.stdout.write(f"{kept}\n{added}\n{undone}\n{refused}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
