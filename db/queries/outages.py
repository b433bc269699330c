"""Ways out that are closed for all: since when, and why."""

from sqlalchemy import Connection, text

_BEGIN = text(
    """
    INSERT INTO channel_outages AS o (channel, reason) VALUES (:channel, :reason)
    ON CONFLICT (channel) DO UPDATE SET tries = o.tries + 1, reason = excluded.reason
    RETURNING xmax = 0
    """
)
_IS_CLOSED = text("SELECT EXISTS (SELECT FROM channel_outages WHERE channel = :channel)")
_END = text(
    "DELETE FROM channel_outages WHERE channel = :channel RETURNING extract(epoch FROM now() - began_at), tries"
)


def begin(connection: Connection, channel: str, reason: str) -> bool:
    """Note that a channel is closed. True: it was open until now."""
    return bool(connection.execute(_BEGIN, {"channel": channel, "reason": reason}).scalar_one())


def end(connection: Connection, channel: str) -> tuple[float, int] | None:
    """Note that a channel is open. Returns how many seconds and tries it was not; None where it was open before."""
    row = connection.execute(_END, {"channel": channel}).first()
    return None if row is None else (float(row[0]), int(row[1]))


def is_closed(connection: Connection, channel: str) -> bool:
    """Tell whether a channel is known to be closed."""
    return bool(connection.execute(_IS_CLOSED, {"channel": channel}).scalar_one())
