"""The status that a work order has, for who gives it another. Any tenant's."""

from uuid import UUID

from sqlalchemy import Connection, text

_READ = text("SELECT reference, status FROM work_orders WHERE id = :id FOR NO KEY UPDATE")


def hold_order(connection: Connection, order_id: UUID) -> tuple[str, str]:
    """Return number and status of a work order, which nobody changes until the transaction ends."""
    reference, status = connection.execute(_READ, {"id": order_id}).one()
    return reference, status
