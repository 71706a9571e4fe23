"""What README.md and the pages state in numbers and names. Their commands are run in `test_readme_commands.py`."""

from __future__ import annotations

import re

import pytest

from defender_simulator import Rule, throttled
from tap_defender_lr.quota import HOUR, MINUTE, Rate, forecast
from tap_defender_lr.settings import SERVICE_CALLS_PER_HOUR, SERVICE_CALLS_PER_MINUTE
from tap_defender_lr.streams.reading import duration
from tests import markdown
from tests.markdown import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUOTA = (ROOT / "docs" / "quota.md").read_text(encoding="utf-8")
STREAMS = (ROOT / "docs" / "streams.md").read_text(encoding="utf-8")
RATES = [Rate(SERVICE_CALLS_PER_MINUTE, MINUTE), Rate(SERVICE_CALLS_PER_HOUR, HOUR)]


@pytest.mark.parametrize("row", re.findall(r"^\| ([\d,]+) \| ([^|]*(?:min|h|minute)) \|$", QUOTA, re.MULTILINE))
def test_the_table_of_times_is_what_the_quota_allows(row: tuple[str, str]) -> None:
    calls = int(row[0].replace(",", "")) + 1  # one list call comes first
    assert duration(forecast([], calls, 0.0, RATES)).removeprefix("about ") == row[1]


def test_the_table_of_times_was_found() -> None:
    assert len(re.findall(r"^\| [\d,]+ \| ", QUOTA, re.MULTILINE)) == 6


def test_every_result_status_is_explained() -> None:
    explained = re.findall(r"^\| `(\w+)` \| [A-Z]", STREAMS, re.MULTILINE)
    assert explained == ["fetched", "no_result", "not_run", "skipped", "unavailable", "unreadable", "failed"]


def test_the_tests_know_every_page_with_commands() -> None:
    uploads_to_a_tenant = ROOT / "docs" / "scripts" / "README.md"
    pages = {page for page in markdown.PAGES if markdown.commands_of(markdown.name(page))} - {uploads_to_a_tenant}
    assert len(pages) >= 5
    tests = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    assert [page for page in pages if page.name not in tests] == []


def test_the_test_command_is_the_one_of_ci() -> None:
    assert "\nmake test\n" in README
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) <= 120


def test_the_faults_of_the_simulator_are_written_as_they_work() -> None:
    rules = re.findall(r"`(Rule\([^`]*\))`", (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8"))
    assert len(rules) >= 10
    for rule in rules:
        assert isinstance(eval(rule, {"Rule": Rule, "throttled": throttled}), Rule)  # the text is our own
