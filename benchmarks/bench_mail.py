"""Mails from their rows to their record beside a bare SMTP client: `python -m benchmarks.bench_mail`, JSON at the end.

Ours is one run of the delivery job: decide on every new notification, claim, read what it tells of, render subject,
text and HTML in four languages, write the MIME, send, and record outcome and attempt. Beside it, in the same run and
to the same server: the same bytes over one bare socket, command by command, by a client that knows nothing else.
"""

import argparse
import json
import os
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg

from benchmarks.servers import Servers, serve
from db.encryption import new_key
from jobs.embedded.process import free_port

BOUNDS = {"ratio_to_socket": 0.4}
SENDER = "fleet@jobs.example"
KINDS: dict[str, dict[str, Any]] = {
    "maintenance_due": {
        "schedule_name": "Oil change",
        "work_order_id": "0193f1a0-0000-7000-8000-000000000001",
        "work_order_number": "WO-000042",
        "reason": "Oil change: 15,020 of 15,000 km",
        "due_on": "2026-11-20",
        "predicted_on": "2026-11-24",
        "vendor_name": "Garage Lindner",
        "checklist": ["Change oil and filter", "Check the brake fluid"],
    },
    "offline": {"last_reported_at": "2026-11-20T06:10:00+00:00", "threshold_s": 1800},
    "fault_code": {"code": "P0217", "description": "Engine overheating"},
    "geofence_entry": {"geofence": "Depot North", "time": "2026-11-20T06:10:00+00:00"},
}
LOCALES = ("en", "de", "fr", "es")


def main() -> int:
    """Measure, print, and return 1 where a ratio is below its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-check", dest="check", action="store_false", help="succeed whatever the ratios")
    options = parser.parse_args()
    with serve() as servers, closing(Bench(servers, options.mails)) as bench:
        figures = bench.measure(options.rounds)
    missed = [name for name, bound in BOUNDS.items() if figures[name] < bound]
    for name in missed:
        print(f"{name} is {figures[name]}, below {BOUNDS[name]}")
    print(json.dumps({"benchmark": "mail", **figures, "at_least": BOUNDS}))
    return 1 if missed and options.check else 0


class Bench:
    """Four tenants, one a language, and a mail server in a process of its own."""

    def __init__(self, servers: Servers, mails: int) -> None:
        self.mails = mails
        self.port = free_port()
        os.environ.update(servers.settings())
        os.environ.update(
            FLEET_ENCRYPTION_KEYS=new_key(),
            FLEET_SMTP_URL=f"smtp://127.0.0.1:{self.port}",
            FLEET_MAIL_FROM=f"Fleet <{SENDER}>",
            FLEET_WEBHOOK_ORIGIN="https://hooks.example",
            FLEET_APP_URL="https://app.example",
            FLEET_SLICE_S="3600",
            FLEET_LOG_LEVEL="WARNING",
        )
        servers.start("inbox", "-m", "benchmarks.inbox", str(self.port))
        from db.migrate import upgrade
        from db.queries.definitions import write_definitions
        from jobs import process
        from jobs.job import definitions

        upgrade(servers.url("fleet_migrator"))
        with process.get_database().system_transaction() as connection:
            write_definitions(connection, definitions())
        self.admin = psycopg.connect(servers.postgres.admin_url_of("fleet"), autocommit=True)
        for locale in LOCALES:
            self.admin.execute(
                "INSERT INTO tenants (slug, name, locale, time_zone) VALUES (%s, %s, %s, 'Europe/Berlin')",
                [locale, f"Lindner {locale}", locale],
            )
        self.admin.execute("INSERT INTO vehicles (tenant_id, name) SELECT id, 'Van 12' FROM tenants")
        self._wait_for_inbox(servers)

    def measure(self, rounds: int) -> dict[str, Any]:
        """Take turns; what counts is the ratio of medians."""
        self.fill()
        contents = self.contents()
        self.deliver()  # warms everything
        rates: dict[str, list[float]] = {"delivery": [], "socket": []}
        turns: dict[str, Callable[[], float]] = {"delivery": self.deliver, "socket": lambda: self.bare(contents)}
        for number in range(rounds):
            for name, turn in turns.items():
                self.fill()
                seconds = turn()
                rates[name].append(self.mails / seconds)
                print(f"round {number + 1}: {name:8} {self.mails} mails {self.mails / seconds:7.0f}/s", flush=True)
        median = {name: statistics.median(each) for name, each in rates.items()}
        return {
            "mails": self.mails,
            "bytes_a_mail": round(statistics.mean(map(len, contents.values()))),
            "delivery_per_s": round(median["delivery"]),
            "socket_per_s": round(median["socket"]),
            "ratio_to_socket": round(median["delivery"] / median["socket"], 2),
        }

    def close(self) -> None:
        """Leave the servers, before they stop."""
        from jobs import process

        self.admin.close()
        process.close()

    def fill(self) -> None:
        """Open the same alerts anew, each naming an address of its own."""
        self.admin.execute("TRUNCATE notifications, notification_attempts, alerts CASCADE")
        self.admin.execute(
            "INSERT INTO alerts (tenant_id, kind, severity, vehicle_id, subject, message, details, opened_at,"
            "                    recipients)"
            " SELECT t.id, k.kind, 'medium', v.id, 'vehicle:' || g, 'Van 12', k.details, now(),"
            "        ARRAY['driver' || g || '@acme.example']"
            " FROM generate_series(1, %s) AS g"
            " JOIN (SELECT *, row_number() OVER (ORDER BY slug) - 1 AS place FROM tenants) t ON t.place = g %% 4"
            " JOIN (SELECT key AS kind, value AS details, row_number() OVER (ORDER BY key) - 1 AS place"
            "       FROM jsonb_each(%s)) k ON k.place = g / 4 %% 4"
            " JOIN vehicles v ON v.tenant_id = t.id",
            [self.mails, json.dumps(KINDS)],
        )
        self.admin.execute("VACUUM ANALYZE alerts, notifications")
        self.admin.execute("CHECKPOINT")

    def deliver(self) -> float:
        """Run one delivery from new notifications to recorded mails."""
        from jobs import execution, process
        from jobs.client import enqueue
        from jobs.job import load_jobs

        job = load_jobs()["notifications.deliver"]
        with process.get_database().system_transaction() as connection:
            run_id = enqueue(connection, job, {})
        started = time.perf_counter()
        execution.execute(job, [run_id])
        seconds = time.perf_counter() - started
        row = self.admin.execute("SELECT state, counts, error FROM job_runs WHERE id = %s", [run_id]).fetchone()
        recorded = self.admin.execute(
            "SELECT count(*) FROM notification_attempts WHERE outcome = 'accepted'"
        ).fetchone()
        if row is None or row[0] != "succeeded" or recorded != (self.mails,):
            raise RuntimeError(f"the delivery ended {row}, {recorded} recorded")
        return seconds

    def contents(self) -> dict[str, bytes]:
        """Write the same mails beforehand, by address: the bare client sends these bytes and does nothing else."""
        from db.queries import deliveries
        from integrations.mime import build
        from jobs import process
        from jobs.notifications.compose import compose
        from jobs.notifications.delivery import letterhead_of
        from jobs.notifications.planning import plan
        from jobs.settings import get_settings

        letterhead, now, token = letterhead_of(get_settings()), datetime.now(UTC), uuid4()
        assert letterhead is not None
        plan(process.get_database(), now)
        with process.get_database().system_transaction() as connection:
            notices, _ = deliveries.claim(connection, "email", token, now, batch=self.mails)
        if len(notices) != self.mails:
            raise RuntimeError(f"{len(notices)} of {self.mails} mails")
        contents = {notice.address: build(compose(notice, None, letterhead, now)) for notice in notices}
        self.fill()
        return contents

    def bare(self, contents: dict[str, bytes]) -> float:
        """Send the bytes over one socket, waiting for each answer as SMTP without extensions asks."""
        started = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = connection.makefile("rb")

            def say(command: bytes, expected: bytes) -> None:
                connection.sendall(command)
                while (line := answers.readline())[3:4] == b"-":
                    pass
                if not line.startswith(expected):
                    raise RuntimeError(f"{command[:40]!r} was answered {line!r}")

            answers.readline()
            say(b"EHLO bench\r\n", b"250")
            for address, content in contents.items():
                say(b"MAIL FROM:<%s>\r\n" % SENDER.encode(), b"250")
                say(b"RCPT TO:<%s>\r\n" % address.encode(), b"250")
                say(b"DATA\r\n", b"354")
                say(content + b".\r\n", b"250")
            say(b"QUIT\r\n", b"221")
        return time.perf_counter() - started

    def _wait_for_inbox(self, servers: Servers) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            servers.check()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError("the inbox did not start")


if __name__ == "__main__":
    raise SystemExit(main())
