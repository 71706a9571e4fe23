"""The report: its numbers, and how a real browser shows it, hostile texts included."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from scripts import report
from scripts.report_charts import reason, shown
from scripts.report_facts import Facts
from tap_defender_lr.streams.live_response_results import LiveResponseResultsStream
from tap_defender_lr.streams.machine_actions import MachineActionsStream

if TYPE_CHECKING:
    from pathlib import Path


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = (
    "</script><script>document.title='owned'</script><img src='https://elsewhere.example/' "
    "onerror=\"document.title='owned'\"><a href='https://elsewhere.example/'>&lt;b&gt;\u202e"
)
LINK = "<a href='https://elsewhere.example/'>x</a>"
"""A script of that name: charts know links."""


def result(number: int, **values: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(LiveResponseResultsStream.schema["properties"]),
        "machine_action_id": f"action-{number:03}",
        "command_index": 0,
        "machine_id": f"device-{number % 4}",
        "computer_dns_name": f"host-{number % 4}.corp.example",
        "action_status": "Succeeded",
        "creation_date_time_utc": f"2026-03-{number:02}T12:00:00.0000000Z",
        "last_update_date_time_utc": f"2026-03-{number:02}T12:05:00.0000000Z",
        "command_end_time": f"2026-03-{number:02}T12:04:00.0000000Z",
        "command_type": "RunScript",
        "script_name": "Get-State.ps1",
        "result_status": "fetched",
        "exit_code": 0,
        **values,
    }


def action(number: int, status: str, script: str, machine: int) -> dict[str, Any]:
    return {
        **dict.fromkeys(MachineActionsStream.schema["properties"]),
        "id": f"open-{number:03}",
        "status": status,
        "machine_id": f"device-{machine}",
        "computer_dns_name": f"host-{machine}.corp.example",
        "requestor": HOSTILE,
        "creation_date_time_utc": f"2026-03-{number:02}T12:00:00.0000000Z",
        "last_update_date_time_utc": f"2026-03-{number:02}T12:00:01.0000000Z",
        "commands": [{"index": 0, "command": {"params": [{"key": "ScriptName", "value": script}]}}],
    }


RESULTS = [
    result(1),
    result(2, script_errors="Access is denied.\r\n", exit_code=5, action_status="Failed"),
    result(3, result_status="unavailable", exit_code=None, command_errors=["The session broke."]),
    result(4, computer_dns_name=f"{HOSTILE}.corp.example"),
    result(5, exit_code=1, script_errors="it worked a day later"),
    result(9),
    result(6, script_name=LINK, exit_code=1, script_errors=HOSTILE, computer_dns_name=HOSTILE),
    result(7, script_name=LINK, result_status="unreadable", exit_code=None, result_error=HOSTILE),
    result(8, script_name=None, command_type="GetFile", exit_code=None, file_name=HOSTILE, file_sha256=HOSTILE)
    | {"file_size": 1_500_000},
]
ACTIONS = [action(10, "Pending", LINK, machine=3), action(11, "Pending", "Get-State.ps1", machine=7)]


def write(folder: Path, **streams: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    for stream, rows in streams.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{stream}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """What target-jsonl writes; the first result came twice."""
    return write(tmp_path / 'it\'s "output"', live_response_results=[RESULTS[0], *RESULTS], machine_actions=ACTIONS)


_BAR = re.compile(r"M([-\d.]+),([-\d.]+)V([-\d.]+)H([-\d.]+)V")


@dataclass
class Document(HTMLParser):
    """A page as the browser has it in the end.

    Attributes:
        marks: Bars that are drawn, by the chart.
    """

    tags: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)
    title: str = ""
    _path: list[str] = field(default_factory=list)
    _chart: str = ""
    _in_point: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    @classmethod
    def of(cls, text: str) -> Document:
        document = cls()
        document.feed(text)
        return document

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert not any(name.startswith("on") for name in attributes), attributes
        self.tags[tag] += 1
        self._path.append(tag)
        if tag == "div" and attributes.get("id") in {"coverage", "time", "failures"}:
            self._chart = str(attributes["id"])
        if self._in_point and (bar := _BAR.match(attributes.get("d") or "")):
            left, top, bottom, right = map(float, bar.groups())
            self.marks[self._chart] += left != right and top != bottom
        self._in_point = attributes.get("class") == "point"

    @override
    def handle_data(self, data: str) -> None:
        if self._path and self._path[-1] == "title" and not self.title:
            self.title = data
        elif self._path and self._path[-1] not in {"script", "style"}:
            self.texts.append(data.strip())

    @property
    def numbers(self) -> dict[str, str]:
        """The headline numbers, by what they count."""
        at = {what: place for place, what in enumerate(self.texts)}
        return {what: self.texts[at[what] - 1] for what in HEADLINE}


HEADLINE = {
    "devices asked": "5",
    "script results": "6",
    "coverage: newest runs that are ok": "29 %",
    "newest runs that failed": "2",
    "devices still to answer": "2",
    "devices never answered": "1",
}
"""What the rows above come to. Of seven pairs of device and script two are ok; one device was never heard of."""


class TestFacts:
    def test_the_numbers(self, output: Path) -> None:
        facts = Facts.of(output)
        states = ("ok", "failed", "no_result", "waiting")
        assert {row["script"]: [row[state] for state in states] for row in facts.coverage} == {
            "Get-State.ps1": [2, 1, 1, 1],
            LINK: [0, 1, 0, 1],
        }
        assert (facts.devices, facts.results, facts.asked) == (5, 6, 7)
        assert [row["machine_id"] for row in facts.silent] == ["device-7"]
        assert [(row["file_name"], row["file_size"]) for row in facts.files] == [(HOSTILE, 1_500_000)]
        assert (str(facts.first), str(facts.last)) == ("2026-03-01 12:00:00", "2026-03-11 12:00:01")

    @pytest.mark.parametrize("stream", ["live_response_results", "machine_actions"])
    def test_one_of_the_two_streams_is_enough(self, tmp_path: Path, stream: str) -> None:
        rows = {"live_response_results": RESULTS, "machine_actions": ACTIONS}[stream]
        assert report.main([str(write(tmp_path / "output", **{stream: rows})), str(tmp_path / "report.html")]) == 0
        assert "Get-State.ps1" in (tmp_path / "report.html").read_text(encoding="utf-8")

    def test_no_rows_yet(self, tmp_path: Path) -> None:
        output = write(tmp_path / "output", live_response_results=[])
        assert report.main([str(output), str(tmp_path / "report.html")]) == 0
        assert "There are no results yet." in (tmp_path / "report.html").read_text(encoding="utf-8")

    def test_no_files_is_an_error(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert report.main([str(tmp_path), str(tmp_path / "report.html")]) == 1
        assert capsys.readouterr().err == (
            f"There is no live_response_results.jsonl or machine_actions.jsonl in {tmp_path}.\n"
        )
        assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\r\n  line\tof \x1b[31mtext\x00", "one line of [31mtext"),
        ("from right to left: \u202egnp.exe", "from right to left: gnp.exe"),
        ("x" * 11, "x" * 9 + "…"),
        (None, "None"),
    ],
)
def test_shown_is_one_line_that_steers_nothing(text: str | None, expected: str) -> None:
    assert shown(text, 10 if text and text.startswith("xx") else 200) == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"state": "failed", "exit_code": 5, "reason": "UnauthorizedAccess"}, "exit code 5: UnauthorizedAccess"),
        ({"state": "no_result", "reason": "not_run", "action_status": "Cancelled"}, "not run (Cancelled)"),
        ({"state": "no_result", "reason": "unavailable: gone", "action_status": "Failed"}, "unavailable: gone"),
    ],
)
def test_a_reason_in_words(row: dict[str, Any], expected: str) -> None:
    assert reason(row) == expected


@dataclass(frozen=True)
class Visit:
    """What a browser made of a page.

    Attributes:
        console: What it wrote to its console.
        asked_for: URLs that it wanted from elsewhere, without its own errands.
    """

    document: Document
    console: list[str]
    asked_for: set[str]


_OWN_ERRANDS = re.compile(r"https?://([\w-]+\.)*(google|googleapis|gstatic|gvt1|gvt2)\.com/")


def visit(page: Path, folder: Path, *, width: int = 1280) -> Visit:
    """Open a file in a browser that reaches nothing."""
    if BROWSER is None:
        pytest.skip("there is no Chromium on this machine")
    log = folder / f"{page.stem}-{width}-net.json"
    done = subprocess.run(
        [
            BROWSER,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / f'profile-{page.stem}-{width}'}"),
            *(f"--log-net-log={log}", f"--window-size={width},900", "--virtual-time-budget=10000", "--dump-dom"),
            page.as_uri(),
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    urls = set(re.findall(r'"url":"(https?:[^"]*)"', log.read_text(encoding="utf-8", errors="replace")))
    return Visit(
        Document.of(done.stdout),
        [line for line in done.stderr.splitlines() if "CONSOLE" in line],
        {url for url in urls if not _OWN_ERRANDS.match(url)},
    )


@pytest.mark.slow
class TestInTheBrowser:
    @pytest.mark.parametrize("width", [1280, 500])
    def test_it_shows_all_and_runs_nothing_hostile(self, output: Path, tmp_path: Path, width: int) -> None:
        page = tmp_path / "report.html"
        assert report.main([str(output), str(page)]) == 0
        seen = visit(page, tmp_path, width=width)
        assert seen.console == []
        assert seen.asked_for == set()
        assert seen.document.title == report.TITLE
        # The bundle of Plotly, the data of the charts, and what draws them.
        assert seen.document.tags["script"] == 3
        assert not {"img", "a", "iframe", "object", "embed", "form"} & seen.document.tags.keys()
        assert seen.document.marks == {"coverage": 6, "time": 8, "failures": 5}
        assert seen.document.numbers == HEADLINE
        for text in (HOSTILE[:40], LINK):
            assert sum(text in each for each in seen.document.texts) >= 3, "it is shown as what it is"

    def test_without_escaping_and_policy_it_would_be_told(self, tmp_path: Path) -> None:
        """Or the test above proves nothing."""
        page = tmp_path / "hostile.html"
        page.write_text("<!doctype html><title>page</title>" + HOSTILE + "<script>console.error('oh')</script>")
        with pytest.raises(AssertionError, match="onerror"):
            visit(page, tmp_path)
        page.write_text(page.read_text().replace("onerror", "alt"))
        seen = visit(page, tmp_path)
        assert seen.document.title == "owned"
        assert seen.document.tags["img"] == 1
        assert seen.asked_for == {"https://elsewhere.example/"}
        assert any("oh" in line for line in seen.console)

    def test_the_policy_alone_stops_a_script(self, output: Path, tmp_path: Path) -> None:
        """Should something ever be put into the page without escaping."""
        page = tmp_path / "report.html"
        report.write(output, page)
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace("<main>", "<main><script>document.title='owned'</script>"), encoding="utf-8")
        seen = visit(page, tmp_path)
        assert seen.document.title == report.TITLE
        assert any("Content Security Policy" in line for line in seen.console)
