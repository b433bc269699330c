"""The benchmark runs from end to end and says what it found; how fast that is says nothing here."""

import json
import subprocess
import sys

import pytest


def test_a_small_check_ends_in_one_line_of_ratios() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_maintenance", "--vehicles", "100", "--rounds", "1", "--no-check"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert (figures["schedules"], figures["due"]) == (1000, 50)
    assert figures["ratio_to_select"] == pytest.approx(figures["select_ms"] / figures["check_ms"], rel=0.3, abs=0.02)
