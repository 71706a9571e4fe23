"""What README.md states in numbers and names. Its commands are run in `test_readme_commands.py`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from defender_simulator import Rule, throttled
from tap_defender_lr.quota import HOUR, MINUTE, Rate, forecast
from tap_defender_lr.settings import SERVICE_CALLS_PER_HOUR, SERVICE_CALLS_PER_MINUTE
from tap_defender_lr.streams.reading import duration

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RATES = [Rate(SERVICE_CALLS_PER_MINUTE, MINUTE), Rate(SERVICE_CALLS_PER_HOUR, HOUR)]


@pytest.mark.parametrize("row", re.findall(r"^\| ([\d,]+) \| ([^|]*(?:min|h|minute)) \|$", README, re.MULTILINE))
def test_the_table_of_times_is_what_the_quota_allows(row: tuple[str, str]) -> None:
    calls = int(row[0].replace(",", "")) + 1  # one list call comes first
    assert duration(forecast([], calls, 0.0, RATES)).removeprefix("about ") == row[1]


def test_the_table_of_times_was_found() -> None:
    assert len(re.findall(r"^\| [\d,]+ \| ", README, re.MULTILINE)) == 6


def test_every_result_status_is_explained() -> None:
    explained = re.findall(r"^\| `(\w+)` \| [A-Z]", README, re.MULTILINE)
    assert explained == ["fetched", "no_result", "not_run", "skipped", "unavailable", "unreadable", "failed"]


def test_the_test_command_is_the_one_of_ci() -> None:
    assert "\nmake test\n" in README
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    "file", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda file: file.name
)
def test_links_to_files_lead_somewhere(file: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", file.read_text(encoding="utf-8")):
        assert (file.parent / link).exists(), link


def test_the_faults_of_the_simulator_are_written_as_they_work() -> None:
    rules = re.findall(r"`(Rule\([^`]*\))`", (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8"))
    assert len(rules) >= 10
    for rule in rules:
        assert isinstance(eval(rule, {"Rule": Rule, "throttled": throttled}), Rule)  # the text is our own
