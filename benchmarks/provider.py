"""A simulated provider whose pages are ready before anybody asks.

`python -m benchmarks.provider PORT VEHICLES MINUTES`
"""

import sys
from datetime import UTC, datetime, timedelta

from integrations.simulator import serve
from integrations.simulator.fleet import Account

TOKEN = "benchmark"
NEVER_S = 1e9


def main() -> None:
    """Serve a fleet that drove for some minutes, a fix every five seconds, and then stopped; nothing else happened."""
    port, vehicles, minutes = (int(word) for word in sys.argv[1:4])
    end = datetime.now(UTC)
    begin = end - timedelta(minutes=minutes)
    account = Account(TOKEN, vehicles, window_points=10, start=begin, end=end, fault_share=0.0, events_every_s=NEVER_S)
    serve("127.0.0.1", port, accounts=[account], prerender=True, page_bytes=1 << 30)


if __name__ == "__main__":
    main()
