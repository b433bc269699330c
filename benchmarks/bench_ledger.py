"""The ledger beside other queues: `python -m benchmarks.bench_ledger`, which ends in one line of JSON.

Every contender has two worker processes on the same PostgreSQL and Valkey, does nothing, and is timed from the first
enqueue to the end of the last piece of work. They take turns, so that a busy machine is busy for all of them; what
counts is the ratio of medians.

pgqueuer runs twice: as it documents and measures itself (10 jobs at a time), and tuned to what serves no-op jobs best
(1,000), beside a job of ours that travels by the thousand too.
"""

import argparse
import json
import statistics
import sys

from benchmarks.contenders import Contender, PgQueuer, PlainCelery, Platform, Taskiq
from benchmarks.servers import Servers, serve

BOUNDS = {"ratio_to_best_peer": 2.0, "ratio_to_plain_celery": 0.6}
CONFIGURATION = {
    "ours": "platform.ping, 100 runs a message",
    "pgqueuer": "batch_size 10, its default and that of its own benchmark, psycopg, all tables logged",
    "taskiq": "ListQueueBroker, its default of 100 tasks at a time",
    "thousand": "ours and pgqueuer, 1,000 at a time",
    "single": "ours, one run a message; plain Celery acknowledges late and keeps no result; both with events",
}
SPAN = "from the first enqueue until the last piece of work is done and known to be"


def main() -> int:
    """Race, print, and return 1 where a ratio is below its bound."""
    options = _options()
    with serve() as servers:
        rates = _race(_contenders(servers), quick=options.quick, rounds=options.rounds)
    figures = _figures(rates)
    missed = [name for name, bound in BOUNDS.items() if figures[name] < bound]
    for name in missed:
        print(f"{name} is {figures[name]}, below {BOUNDS[name]}")
    print(
        json.dumps({"benchmark": "ledger", **figures, "at_least": BOUNDS, "span": SPAN, "configuration": CONFIGURATION})
    )
    return 1 if missed and options.check else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a round of little work: does it run at all?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-check", dest="check", action="store_false", help="succeed whatever the ratios")
    return parser.parse_args()


def _contenders(servers: Servers) -> dict[Contender, int]:
    """Start everybody; return with each how much work makes a race of some seconds."""
    print("starting servers and workers", flush=True)
    Platform.start(servers)
    return {
        Platform("ours", servers, "platform.ping"): 30_000,
        PgQueuer("pgqueuer", servers, "peer", 10): 10_000,
        Taskiq(servers): 10_000,
        Platform("ours_thousand", servers, "bench.ping_many"): 60_000,
        PgQueuer("pgqueuer_thousand", servers, "peer_thousand", 1000): 40_000,
        Platform("ours_single", servers, "bench.ping_one"): 2_000,
        PlainCelery(servers): 2_000,
    }


def _race(contenders: dict[Contender, int], *, quick: bool, rounds: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for contender, work in contenders.items():
        contender.race(work // 20)
        print(f"{contender.name}: warm", flush=True)
    for number in range(1 if quick else rounds):
        for contender, work in contenders.items():
            amount = work // 20 if quick else work
            contender.settle()
            rate = amount / contender.race(amount)
            rates[contender.name].append(rate)
            print(f"round {number + 1}: {contender.name:17} {amount:6} {rate:9.0f}/s", flush=True)
    return rates


def _figures(rates: dict[str, list[float]]) -> dict[str, float]:
    median = {name: statistics.median(each) for name, each in rates.items()}
    return {
        "jobs_per_s": round(median["ours"]),
        "pgqueuer_per_s": round(median["pgqueuer"]),
        "taskiq_per_s": round(median["taskiq"]),
        "ratio_to_best_peer": round(median["ours"] / max(median["pgqueuer"], median["taskiq"]), 2),
        "thousand_per_s": round(median["ours_thousand"]),
        "pgqueuer_thousand_per_s": round(median["pgqueuer_thousand"]),
        "ratio_to_pgqueuer_thousand": round(median["ours_thousand"] / median["pgqueuer_thousand"], 2),
        "single_per_s": round(median["ours_single"]),
        "plain_celery_per_s": round(median["plain_celery"]),
        "ratio_to_plain_celery": round(median["ours_single"] / median["plain_celery"], 2),
    }


if __name__ == "__main__":
    sys.exit(main())
