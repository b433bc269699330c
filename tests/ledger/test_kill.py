"""Everything is killed while the platform works: each run ends once, each effect happens once."""

import json
import os
import statistics
import sys
from collections import Counter
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from tests.ledger.chaos import Application, Chaos
from tests.ledger.ledger import Ledger
from tests.ledger.processes import FAST, processes, wait_until
from tests.servers import PrivateServers

SHORT = {"child": 12, "worker": 5, "relay": 5, "beat": 2, "flushall": 4, "valkey": 1, "postgres": 1, "freeze": 2}
LONG = {"child": 26, "worker": 10, "relay": 10, "beat": 6, "flushall": 10, "valkey": 4, "postgres": 2, "freeze": 4}
SLOW = """
    SELECT extract(epoch FROM created_at)::float8 AS created, rescues
    FROM job_runs WHERE job <> 'test.tick' AND finished_at - created_at > INTERVAL '3 s'
"""
SLOWEST = """
    SELECT job, round(extract(epoch FROM finished_at - created_at), 1)::float8 AS s, rescues, publishes, attempt
    FROM job_runs WHERE job <> 'test.tick' ORDER BY finished_at - created_at DESC LIMIT 6
"""
LOST = """
    SELECT id FROM unnest(%s::uuid[]) AS promised (id)
    WHERE NOT EXISTS (SELECT FROM job_runs r WHERE r.id = promised.id)
"""
WRONG_EFFECTS = """
    SELECT r.id, r.job, r.args, count(e.run_id) AS effects, count(DISTINCT e.place) AS places
    FROM job_runs r LEFT JOIN effects e ON e.run_id = r.id
    WHERE r.job <> 'test.keyed'
    GROUP BY r.id
    HAVING count(e.run_id) <> coalesce((r.args ->> 'of')::integer, 1) OR count(e.run_id) <> count(DISTINCT e.place)
"""
WRONG_KEYED = """
    SELECT r.id FROM job_runs r LEFT JOIN keyed_effects e ON e.run_id = r.id
    WHERE r.job = 'test.keyed' AND e.run_id IS NULL
"""
TICKS = """
    SELECT count(*) AS ticks, count(DISTINCT nominal_at) AS instants,
           extract(epoch FROM max(nominal_at) - min(nominal_at))::integer + 1 AS seconds
    FROM job_runs WHERE job = 'test.tick'
"""
SECONDS = """
    SELECT extract(epoch FROM finished_at - created_at)::float8 AS s FROM job_runs WHERE job <> 'test.tick' ORDER BY 1
"""


def _survive(
    servers: PrivateServers, directory: Path, settings: dict[str, str], faults: dict[str, int], over_s: float
) -> dict[str, Any]:
    seed = int(os.environ.get("FLEET_TEST_SEED", "20261120"))
    with processes(servers.database, servers.redis_url, directory, settings) as started:
        started.define()
        ledger = Ledger(servers.database)
        ledger.make_tables()
        ledger.keep_promises()
        chaos = Chaos(servers, started, float(settings.get("FLEET_RESCUE_AFTER_S", "8")) + 2, seed)
        chaos.start()
        warm = ledger.tenant()
        ledger.wait(ledger.enqueue("test.effect", tenant_id=warm))
        application = Application(ledger, [ledger.tenant() for _ in range(4)], 0.25, seed)
        application.start()
        chaos.rage([kind for kind, times in faults.items() for _ in range(times)], over_s)
        application.stop()
        chaos.heal()
        ledger.reconnect()
        started.signal("beat-1", SIGTERM)
        started.signal("beat-2", SIGTERM)
        ticks = _check(ledger, application)
        took = [row["s"] for row in ledger.admin.execute(SECONDS)]
        slowest = ledger.admin.execute(SLOWEST).fetchall()
        slow = Counter(
            (next((kind for at, kind in reversed(chaos.told) if at < row["created"] + 0.5), "none"), row["rescues"])
            for row in ledger.admin.execute(SLOW)
        )
        ledger.close()
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {
        "runs": len(took),
        "ticks": ticks,
        "faults": sum(chaos.done.values()),
        "by_kind": dict(chaos.done),
        "p50_s": round(cuts[49], 2),
        "p99_s": round(cuts[98], 2),
        "worst_s": round(took[-1], 2),
        "slow": {f"{kind}, {rescues} rescues": times for (kind, rescues), times in slow.most_common()},
        "slowest": slowest,
        "seed": seed,
    }


def _check(ledger: Ledger, application: Application) -> int:
    unfinished = "SELECT count(*) AS n FROM job_runs WHERE state IN ('pending', 'running')"
    wait_until(lambda: ledger.one(unfinished)["n"] == 0, 60, what="every run to end")
    states = ledger.admin.execute("SELECT state, count(*) AS n FROM job_runs GROUP BY state").fetchall()
    dead = ledger.admin.execute("SELECT * FROM job_runs WHERE state <> 'succeeded' LIMIT 5").fetchall()
    assert [row["state"] for row in states] == ["succeeded"], (states, dead)
    assert ledger.admin.execute(LOST, [list(application.promised)]).fetchall() == []
    many = ledger.one("SELECT count(*) AS n FROM job_runs WHERE job = 'test.batched'")["n"]
    assert many >= application.promised_many
    assert ledger.admin.execute(WRONG_EFFECTS).fetchall() == []
    assert ledger.admin.execute(WRONG_KEYED).fetchall() == []
    ticks = ledger.one(TICKS)
    assert ticks["ticks"] == ticks["instants"] == ticks["seconds"]
    return int(ticks["ticks"])


@pytest.mark.kill
def test_every_run_ends_once_and_leaves_its_effect_once_whatever_is_killed(
    private_servers: PrivateServers, tmp_path: Path, record_property: Any
) -> None:
    figures = _survive(private_servers, tmp_path, FAST, SHORT, 25)
    sys.stdout.write(json.dumps(figures) + "\n")
    record_property("figures", figures)
    assert figures["runs"] >= 600
    assert figures["ticks"] >= 20
    assert figures["worst_s"] < 40


@pytest.mark.kill
@pytest.mark.soak
@pytest.mark.timeout(400)
def test_recovery_with_the_products_settings_takes_seconds(
    private_servers: PrivateServers, tmp_path: Path, record_property: Any
) -> None:
    figures = _survive(private_servers, tmp_path, {}, LONG, 95)
    sys.stdout.write(json.dumps(figures) + "\n")
    record_property("figures", figures)
    assert figures["faults"] >= 66
    assert figures["worst_s"] < 60
