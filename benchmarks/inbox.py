"""A mail server of its own process that accepts everything and keeps a count: `python -m benchmarks.inbox PORT`."""

import signal
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


class Sink:
    """Reads each mail whole, as any server must, and forgets it."""

    def __init__(self) -> None:
        self.mails = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.mails += 1
        return f"250 2.0.0 OK queued as {self.mails:08X}"


def main() -> int:
    """Serve until SIGTERM."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    controller = Controller(Sink(), hostname="127.0.0.1", port=int(sys.argv[1]))
    controller.start()
    stopping.wait()
    controller.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
