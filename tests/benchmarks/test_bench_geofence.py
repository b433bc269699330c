"""The race of fences runs from end to end and says what it found; how fast anybody is says nothing here."""

import json
import subprocess
import sys

import pytest


def test_a_quick_race_ends_in_one_line_of_ratios() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_geofence", "--points", "500", "--fences", "40", "--no-check"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert figures["pairs"] > 0
    assert figures["ratio_to_loop"] == pytest.approx(figures["vectorised_per_s"] / figures["loop_per_s"], abs=0.1)
    assert figures["at_least"] == {"ratio_to_loop": 10.0}
