"""The race runs from end to end and says what it found; how fast anybody is says nothing here."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest


@pytest.mark.skipif(
    any(find_spec(peer) is None for peer in ("pgqueuer", "taskiq", "taskiq_redis")),
    reason="the peers are not installed: uv sync --group bench",
)
def test_a_quick_race_ends_in_one_line_of_ratios() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_ledger", "--quick", "--no-check"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    figures = json.loads(ended.stdout.splitlines()[-1])
    for name in ("jobs_per_s", "pgqueuer_per_s", "taskiq_per_s", "single_per_s", "plain_celery_per_s"):
        assert figures[name] > 0
    assert figures["ratio_to_best_peer"] == pytest.approx(
        figures["jobs_per_s"] / max(figures["pgqueuer_per_s"], figures["taskiq_per_s"]), abs=0.01
    )
    assert figures["ratio_to_plain_celery"] == pytest.approx(
        figures["single_per_s"] / figures["plain_celery_per_s"], abs=0.01
    )
