"""The commands of README.md and of the pages that it begins with, run as they stand there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from defender_simulator import Simulator
from tests.conftest import CLIENT_SECRET, World, action_id
from tests.evidence import add_file
from tests.markdown import ROOT, commands_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Its commands make a project, from nothing to a schedule; those of the others are among them.
QUICK_START = commands_of("docs/quick-start.md")
pytestmark = pytest.mark.slow


def run(command: str, directory: Path, environment: Mapping[str, str], *, typed: str = "") -> str:
    words = shlex.split(command)
    if "=" in words[0]:  # it sets a variable, as shells do
        words = ["bash", "-c", command]
    found = shutil.which(words[0], path=environment["PATH"])
    assert found, words[0]
    done = subprocess.run(
        [found, *words[1:]],
        cwd=directory,
        env=environment,
        input=typed,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def simulator(world: World) -> Iterator[Simulator]:
    for number in range(1, 6):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        yield simulator


def test_from_an_empty_meltano_project_to_a_schedule(world: World, simulator: Simulator, tmp_path: Path) -> None:
    """Only what needs the world outside is replaced: our package by this checkout, Postgres by a JSON lines loader."""
    commands = [line for line in QUICK_START if line.startswith("meltano ")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MELTANO_", "TAP_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    run("meltano init project --no-usage-stats", tmp_path, environment)
    project = tmp_path / "project"
    definition = (ROOT / "plugin.yaml").read_text(encoding="utf-8")
    (project / "plugin.yaml").write_text(
        definition.replace("pip_url: tap-defender-lr", f"pip_url: -e {ROOT} -c {ROOT / 'requirements' / 'dev.txt'}")
    )
    assert set(commands_of("README.md") + commands_of("docs/set-up.md")) <= set(QUICK_START)
    settings = {f"TAP_DEFENDER_LR_{name.upper()}": value for name, value in simulator.settings().items()}
    settings["TAP_DEFENDER_LR_QUOTA_STORE"] = str(tmp_path / "quota.sqlite")
    del settings["TAP_DEFENDER_LR_CLIENT_SECRET"]  # comes from the command that reads it
    signed_in = {**environment, **settings, **simulator.environment(), "NO_PROXY": "localhost"}
    for command in commands:
        if command == "meltano add --plugin-type loader target-postgres":  # asks Meltano's Hub
            file = project / "meltano.yml"
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
            document["plugins"]["loaders"] = [
                {
                    "name": "target-postgres",
                    "namespace": "target_postgres",
                    "executable": "target-jsonl",
                    "pip_url": f"target-jsonl -c {ROOT / 'requirements' / 'target-jsonl.txt'}",
                }
            ]
            file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
            run("meltano install --plugin-type loader target-postgres", project, environment)
        elif " run " in command or " invoke " in command:
            run(command, project, signed_in)
        else:
            run(command, project, environment, typed=CLIENT_SECRET + "\n")
    assert CLIENT_SECRET not in (project / "meltano.yml").read_text(encoding="utf-8")
    rows = [file for file in project.rglob("live_response_results*.jsonl") if ".meltano" not in file.parts]
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in rows) == 5
    schedules = run("meltano schedule list", project, environment)
    assert "defender-hourly" in schedules

    def rows_of_files() -> list[tuple[str, str]]:
        texts = [file.read_text(encoding="utf-8") for file in project.rglob("live_response_results*.jsonl")]
        found = [json.loads(line) for text in texts for line in text.splitlines()]
        return sorted((r["file_name"], r["result_status"]) for r in found if r["command_type"] == "GetFile")

    # A file that was collected before anybody set `files_url`, and one after.
    set_it, run_it, bring_the_skipped = commands_of("docs/files.md")
    run("meltano config unset tap-defender-lr files_url", project, environment)
    add_file(world, 10, b"content", "C:\\early.log")
    run(run_it, project, signed_in)
    run(set_it.replace("/srv", str(tmp_path)), project, environment)
    add_file(world, 11, b"content", "C:\\late.log")
    run(run_it, project, signed_in)
    assert rows_of_files() == [("early.log", "skipped"), ("late.log", "fetched")]
    (project / "actions.json").write_text(json.dumps([{"id": action_id(10), "command_indexes": [0]}]))
    run(bring_the_skipped, project, signed_in)
    assert rows_of_files() == [("early.log", "fetched"), ("early.log", "skipped"), ("late.log", "fetched")]
    assert sorted(path.name for path in (tmp_path / "live-response-files").rglob("*.log")) == ["early.log", "late.log"]


def test_the_set_up_without_make(tmp_path: Path) -> None:
    commands = [line for line in QUICK_START if line.startswith(("python -m pip", "uv "))]
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    venv.create(tmp_path / "own", with_pip=True)
    scripts = tmp_path / "own" / ("Scripts" if os.name == "nt" else "bin")
    environment = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    environment["PATH"] = f"{scripts}{os.pathsep}{environment['PATH']}"
    for command in commands:
        # What the last two start is tested elsewhere; here it must only be found.
        shown = command.replace("scripts.demo", "scripts.demo --help").replace('-m "not slow" -n auto', "--version")
        printed = run(shown, checkout, environment)
    assert "pytest" in printed


def test_the_simulator_explains_itself() -> None:
    assert "python -m defender_simulator" in run(
        f"{shlex.quote(sys.executable)} -m defender_simulator --help", ROOT, {**os.environ}
    )
