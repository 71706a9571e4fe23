"""The project file of this repository in the hands of a real Meltano."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from rich.console import Console

from defender_simulator import Simulator
from defender_simulator.fleet import make_tenant
from scripts.demo import Demo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TAP, LOADER = "tap-defender-lr", "target-jsonl"
STREAMS = [
    *("installed_software", "live_response_results", "machine_actions"),
    *("script_output_errors", "script_output_snapshots"),
]
STATE_ID = f"prod:{TAP}-to-{LOADER}"
pytestmark = pytest.mark.slow


class Project:
    """A Meltano project in which tap and loader are installed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def meltano(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MELTANO_", "TAP_"))}
        environment |= {"TAP_DEFENDER_LR_QUOTA_STORE": str(self.directory / "quota.sqlite"), **(env or {})}
        run = subprocess.run(
            [sys.executable, "-m", "meltano.cli", *arguments],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def rows(self, stream: str) -> list[dict[str, Any]]:
        text = (self.directory / "output" / f"{stream}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    directory = tmp_path_factory.mktemp("project")
    Demo(directory, Console(quiet=True)).install()
    return Project(directory)


def test_defaults_reach_the_tap(project: Project) -> None:
    (plugin,) = yaml.safe_load((project.directory / "meltano.yml").read_text(encoding="utf-8"))["plugins"]["extractors"]
    defaults = {entry["name"]: entry["value"] for entry in plugin["settings"] if "value" in entry}
    printed = json.loads(project.meltano("--environment=dev", "config", "print", TAP))
    streams = plugin["config"]["script_streams"]
    assert printed == {**defaults, "quota_store": str(project.directory / "quota.sqlite"), "script_streams": streams}
    printed = json.loads(project.meltano("--environment=prod", "config", "print", TAP))
    assert printed["max_run_minutes"] == 12


def test_a_typed_setting_from_the_environment(project: Project) -> None:
    env = {
        "TAP_DEFENDER_LR_ACTIONS": '[{"id": "988cc94e-7a8f-4b28-ab65-54970c5d5018"}]',
        "TAP_DEFENDER_LR_LOOKBACK_DAYS": "9",
    }
    printed = json.loads(project.meltano("config", "print", TAP, env=env))
    assert printed["actions"] == [{"id": "988cc94e-7a8f-4b28-ab65-54970c5d5018"}]
    assert printed["lookback_days"] == 9


def test_discovery_needs_no_sign_in(project: Project) -> None:
    catalog = json.loads(project.meltano("invoke", TAP, "--discover"))
    assert [stream["tap_stream_id"] for stream in catalog["streams"]] == STREAMS


def test_the_job_runs_and_a_second_run_finds_nothing_new(project: Project) -> None:
    tenant = make_tenant(devices=4, now=time.time() - 24 * 3600)
    live_response = [action for action in tenant.actions if action["type"] == "LiveResponse"]
    run = ("--environment=prod", "run", "--no-install", "defender-results")
    with Simulator(tenant) as simulator:
        env = {f"TAP_DEFENDER_LR_{name.upper()}": value for name, value in simulator.settings().items()}
        env |= {"REQUESTS_CA_BUNDLE": simulator.ca_file, "NO_PROXY": "localhost", "no_proxy": "localhost"}
        project.meltano(*run, env=env)
        actions, results = project.rows("machine_actions"), project.rows("live_response_results")
        assert sorted(row["id"] for row in actions) == sorted(action["id"] for action in live_response)
        assert {"fetched"} < {row["result_status"] for row in results}
        state = json.loads(project.meltano("state", "get", STATE_ID))["singer_state"]["bookmarks"]
        newest = max(row["last_update_date_time_utc"] for row in actions)
        assert {name: bookmark.get("replication_key_value") for name, bookmark in state.items()} == {
            "installed_software": newest,
            "live_response_results": newest,
            "machine_actions": newest,
            "script_output_errors": None,
            "script_output_snapshots": None,
        }
        software = project.rows("installed_software")
        assert {row["machine_action_id"] for row in software} < {row["machine_action_id"] for row in results}

        simulator.clear_log()
        project.meltano(*run, env=env)
        assert [call.endpoint for call in simulator.log if call.client_id] == ["list"]
    assert project.rows("machine_actions") == actions
    assert project.rows("live_response_results") == results
    assert project.rows("installed_software") == software
    assert json.loads(project.meltano("state", "get", STATE_ID))["singer_state"]["bookmarks"] == state


def test_script_streams_are_selected_like_others(project: Project) -> None:
    left_out = ("live_response_results", "script_output_errors")
    for stream in left_out:
        project.meltano("select", "--exclude", TAP, stream, "*")
    try:
        catalog = json.loads(project.meltano("invoke", "--dump", "catalog", TAP))
    finally:
        for stream in left_out:
            project.meltano("select", "--rm", "--exclude", TAP, stream, "*")
    assert {
        stream["tap_stream_id"]: entry["metadata"]["selected"]
        for stream in catalog["streams"]
        for entry in stream["metadata"]
        if entry["breadcrumb"] == []
    } == {stream: stream not in left_out for stream in STREAMS}


def test_the_schedule_starts_the_job(project: Project) -> None:
    (schedule,) = json.loads(project.meltano("schedule", "list", "--format=json"))["schedules"]["job"]
    assert schedule["job"] == {"name": "defender-results", "tasks": [f"{TAP} {LOADER}"]}
    assert schedule["cron_interval"] == "*/15 * * * *"
