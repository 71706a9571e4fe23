"""The benchmark of planning runs, and plans what there is. Never how fast: that is for a quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="peak memory is measured with `resource`"),
]
ROOT = Path(__file__).parents[1]


def test_a_long_listing_is_planned_and_state_stays_small() -> None:
    command = [sys.executable, "-m", "benchmarks.planning", "--quick"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("as it should be") == 10
    assert "first run, 10,000 actions listed: peak MB" in done.stdout


def test_memory_of_who_measures_is_not_counted() -> None:
    command = [sys.executable, "-m", "benchmarks.planning_process", "10", "first"]
    large = f"import subprocess; ballast = b'1' * 500_000_000; subprocess.run({command!r}, check=True)"
    done = subprocess.run([sys.executable, "-c", large], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    assert 20_000_000 < json.loads(done.stdout)["peak_bytes"] < 400_000_000
