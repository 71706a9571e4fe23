"""The demo as a user runs it: a subprocess, with everything real but the service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from scripts import demo, demo_tables

if TYPE_CHECKING:
    from pathlib import Path

OPEN = ("Pending", "InProgress")
pytestmark = pytest.mark.slow


def play(directory: Path, *arguments: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "scripts.demo", "--directory", str(directory), *arguments],
        cwd=demo.ROOT,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUTF8": "1", "MELTANO_ENVIRONMENT": "not-ours"},
        capture_output=True,
        encoding="utf-8",
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    return run.stdout


def expected_keys(story: demo.Story, day: int) -> set[tuple[str, int]]:
    """A row for every command of every final action."""
    return {
        (action["id"], command["index"])
        for action in story.tenant(day).actions
        if action["type"] == "LiveResponse" and action["status"] not in OPEN
        for command in action["commands"] or ()
    }


def test_two_days_and_a_reset(tmp_path: Path) -> None:
    directory = tmp_path / "a demo"  # with a space: Meltano splits what it installs as a shell would
    first = play(directory)
    story = demo.Story.load(directory / "story.json")
    day_1 = expected_keys(story, 1)
    assert "Meltano installed tap-defender-lr and target-jsonl in" in first
    assert "Day 1 of 7" in first
    assert demo_tables.keys(directory / "output") == day_1
    assert f"New in this run: {len(day_1)} results" in first
    assert "for 1 list call and" in first

    second = play(directory)
    day_2 = expected_keys(story, 2)
    assert "Meltano installed" not in second
    assert "Day 2 of 7" in second
    assert demo_tables.keys(directory / "output") == day_2
    assert f"New in this run: {len(day_2 - day_1)} results" in second
    assert "for 1 list call and" in second
    rows = (directory / "output" / "live_response_results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == len(day_2), "no result came twice"

    assert "2 files collected from devices" in first
    stored = [path for path in (directory / "files").rglob("*") if path.is_file()]
    assert [path.name for path in stored] == ["Security.evtx"] * 2

    assert "report.html, for your browser" in first
    report = (directory / "report.html").read_text(encoding="utf-8")
    assert "<h1>Contoso: what the fleet answered to Live Response</h1>" in report
    assert f"<b>{demo.DEVICES}</b><span>devices asked</span>" in report

    assert "0 have gone" in first
    (gone,) = re.findall(r"([\d,]+) have gone: removed, or updated", second)
    assert gone != "0"
    assert "The table installed_software" in second

    anew = play(directory, "--reset")
    assert "Meltano installed" not in anew
    assert "Day 1 of 7" in anew
    assert f"New in this run: {len(day_1)} results" in anew


def test_a_failed_step_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def install(self: demo.Demo) -> None:
        """Nothing is installed, so the run cannot start."""
        (self.directory / "meltano.yml").write_text(self._project(), encoding="utf-8")

    monkeypatch.setattr(demo.Demo, "install", install)
    monkeypatch.setattr(demo, "Console", lambda: Console(width=200))
    assert demo.main(["--directory", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "`meltano run --no-install tap-defender-lr target-jsonl` failed with exit code 1. The end of" in shown
    assert (tmp_path / "meltano.log").read_text(encoding="utf-8").splitlines()[-1] in shown
    assert json.loads((tmp_path / "story.json").read_text(encoding="utf-8"))["days"] == 0
