"""docs/meltano.md, command by command, and the project file of this repository, in the hands of a real Meltano."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from defender_simulator import App, Simulator, Tenant
from defender_simulator.fleet import make_tenant
from scripts import script_library
from tests.conftest import CLIENT_SECRET, World
from tests.meltano_project import ROOT, TAP, Database, Project, blocks, checkout, new_database, pinned

if TYPE_CHECKING:
    from collections.abc import Iterator

LOADER = "target-jsonl"
STREAMS = [
    *("installed_software", "live_response_results", "machine_actions"),
    *("script_output_errors", "script_output_snapshots"),
]
PAGE = blocks("docs/meltano.md")
STATE_ID = f"prod:{TAP}-to-target-postgres"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the page is written for a POSIX shell")]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return checkout(tmp_path / "project")


@pytest.fixture
def database() -> Database:
    return new_database()


@pytest.fixture
def simulator(world: World) -> Iterator[Simulator]:
    for number in range(1, 6):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        yield simulator


def calls(simulator: Simulator) -> list[str]:
    """The calls that count, since the log was last cleared."""
    return [call.endpoint for call in simulator.log if call.client_id]


def test_every_command_of_the_page_is_run_below() -> None:
    assert {heading: len(found) for heading, found in PAGE.items()} == {
        "Add it to a project": 3,
        "A first look, without a tenant": 2,
        "Look before you load": 3,
        "Environments": 1,
        "On a schedule": 1,
        "State that survives the machine": 1,
        "What a run says": 1,
        "Several tenants": 2,
    }


def test_it_is_added_with_labels_kinds_and_groups(tmp_path: Path) -> None:
    (tmp_path / "meltano.yml").write_text("send_anonymous_usage_stats: false\n")
    (tmp_path / "docs").mkdir()
    for file, constraints in (("plugin.yaml", "dev.txt"), ("docs/target-postgres.yaml", "target-postgres.txt")):
        definition = pinned(yaml.safe_load((ROOT / file).read_text(encoding="utf-8")), constraints)
        (tmp_path / file).write_text(yaml.safe_dump(definition, sort_keys=False), encoding="utf-8")
    project = Project(tmp_path, {"MELTANO_CLI_DISABLE_VERSION_CHECK": "1"})
    add_tap, list_settings, add_loader = PAGE["Add it to a project"]
    project.run(add_tap)
    (added,) = yaml.safe_load((tmp_path / "meltano.yml").read_text(encoding="utf-8"))["plugins"]["extractors"]
    assert added == yaml.safe_load((tmp_path / "plugin.yaml").read_text(encoding="utf-8"))
    listed = project.run(list_settings).stdout
    assert "client_secret (required by group 1) [env: TAP_DEFENDER_LR_CLIENT_SECRET]" in listed
    assert "Client secret: A client secret of the app registration" in listed
    project.run(add_loader, typed="postgresql+psycopg://user:hidden-word@host/db\n")
    assert "hidden-word" in (tmp_path / ".env").read_text(encoding="utf-8")
    assert "hidden-word" not in (tmp_path / "meltano.yml").read_text(encoding="utf-8")
    assert "hidden-word" not in project.meltano("config", "list", "target-postgres")


def test_a_first_look_with_the_environment_dev(project: Project) -> None:
    start, use = PAGE["A first look, without a tenant"]
    assert start.startswith("python -m defender_simulator ")
    # Any free ports: the usual ones may be taken on the machine that runs the tests.
    command = [sys.executable, *start.split()[1:], "--ports", "0", "0", "0"]
    with subprocess.Popen(command, cwd=project.directory, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            sign_in, api = re.findall(r"https://\S+", process.stdout.readline())[:2]
            assert any(line.startswith("Stop with") for line in process.stdout)
            places = {"TAP_DEFENDER_LR_LOGIN_URL": sign_in, "TAP_DEFENDER_LR_API_URL": api, "NO_PROXY": "localhost"}
            # What the first line installs is installed already.
            assert use.startswith("meltano install\n")
            project.run(use.removeprefix("meltano install\n"), env=places)
        finally:
            process.send_signal(signal.SIGTERM)
    assert len(project.rows("live_response_results")) > 50
    assert set(project.rows("machine_actions")[0]) > {"id", "tenant_id"}


def test_defaults_reach_the_tap(project: Project) -> None:
    (plugin,) = yaml.safe_load((project.directory / "meltano.yml").read_text(encoding="utf-8"))["plugins"]["extractors"]
    defaults = {entry["name"]: entry["value"] for entry in plugin["settings"] if "value" in entry}
    defaults |= {"max_run_minutes": 12, "quota_store": "*****"}
    assert json.loads(project.meltano("--environment=prod", "config", "print", TAP)) == defaults
    dev = json.loads(project.meltano("--environment=dev", "config", "print", TAP))
    assert dev["api_url"] == "https://localhost:9444"
    assert "max_run_minutes" not in dev


def test_looking_at_the_project_leaves_its_file_alone(tmp_path: Path) -> None:
    """Meltano writes a project's file anew, without our comments, when it misses something in it."""
    file = shutil.copy(ROOT / "meltano.yml", tmp_path)
    Project(tmp_path).run("meltano state list\nmeltano job list")
    assert Path(file).read_bytes() == (ROOT / "meltano.yml").read_bytes()


def test_a_typed_setting_from_the_environment(project: Project) -> None:
    env = {
        "TAP_DEFENDER_LR_ACTIONS": '[{"id": "988cc94e-7a8f-4b28-ab65-54970c5d5018"}]',
        "TAP_DEFENDER_LR_LOOKBACK_DAYS": "9",
    }
    printed = json.loads(project.meltano("config", "print", TAP, env=env))
    assert printed["actions"] == [{"id": "988cc94e-7a8f-4b28-ab65-54970c5d5018"}]
    assert printed["lookback_days"] == 9


def test_a_look_before_anything_is_loaded(project: Project, world: World, simulator: Simulator) -> None:
    does_it_work, what_is_there, less = PAGE["Look before you load"]
    project.use(simulator)
    assert "configuration is valid" in project.run(does_it_work).stdout
    catalog = what_is_there.splitlines()[0]
    discovered = json.loads(project.run(catalog).stdout)
    assert [stream["tap_stream_id"] for stream in discovered["streams"]] == ["live_response_results", "machine_actions"]
    assert "live_response_results.script_output" in project.run(what_is_there.splitlines()[1]).stdout
    project.run(less)
    project.meltano("run", TAP, LOADER)
    rows = project.rows("live_response_results")
    assert len(rows) == 5
    assert "script_output" in rows[0]
    assert "script_errors" not in rows[0]
    assert not (project.directory / "output" / "machine_actions.jsonl").exists()
    world.tenant.actions.clear()
    test, doctor = does_it_work.splitlines()
    assert "configuration is invalid" in project.run(test, code=1).stderr
    project.run(doctor)


def test_with_the_actions_alone_no_result_is_fetched(project: Project, simulator: Simulator) -> None:
    project.use(simulator)
    project.run(f"meltano select {TAP} machine_actions '*'\nmeltano select --rm {TAP} '*' '*'")
    project.meltano("run", TAP, LOADER)
    assert calls(simulator) == ["list"]
    assert len(project.rows("machine_actions")) == 5


def test_script_streams_are_selected_like_others(project: Project) -> None:
    project.edit(lambda document: document["plugins"]["extractors"][0].update(config=installed_software()))
    left_out = ("live_response_results", "script_output_errors")
    project.run("\n".join(f"meltano select --exclude {TAP} {stream} '*'" for stream in left_out))
    catalog = json.loads(project.meltano("invoke", "--dump", "catalog", TAP))
    assert {
        stream["tap_stream_id"]: entry["metadata"]["selected"]
        for stream in catalog["streams"]
        for entry in stream["metadata"]
        if entry["breadcrumb"] == []
    } == {stream: stream not in left_out for stream in STREAMS}


def installed_software() -> dict[str, Any]:
    return {"script_streams": [script_library.entry("installed-software")]}


def test_the_schedule_runs_the_job_and_a_second_run_finds_nothing_new(project: Project) -> None:
    list_jobs, list_schedules, start = PAGE["On a schedule"][0].splitlines()
    assert f"{TAP} {LOADER}" in project.run(list_jobs).stdout
    assert "*/15 * * * *" in project.run(list_schedules).stdout
    project.edit(lambda document: document["plugins"]["extractors"][0].update(config=installed_software()))
    tenant = make_tenant(devices=4, now=time.time() - 24 * 3600)
    live_response = [action for action in tenant.actions if action["type"] == "LiveResponse"]
    state_id = f"prod:{TAP}-to-{LOADER}"
    with Simulator(tenant) as simulator:
        project.use(simulator)
        project.run(start)
        actions, results = project.rows("machine_actions"), project.rows("live_response_results")
        assert sorted(row["id"] for row in actions) == sorted(action["id"] for action in live_response)
        assert {"fetched"} < {row["result_status"] for row in results}
        state = json.loads(project.meltano("state", "get", state_id))["singer_state"]["bookmarks"]
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
        project.meltano("--environment=prod", "run", "defender-results")
        assert calls(simulator) == ["list"]
    assert project.rows("machine_actions") == actions
    assert project.rows("live_response_results") == results
    assert project.rows("installed_software") == software
    assert json.loads(project.meltano("state", "get", state_id))["singer_state"]["bookmarks"] == state


@pytest.mark.parametrize("backend", ["PostgreSQL", "directory"])
def test_a_fresh_checkout_goes_on_from_the_state(
    backend: str, world: World, simulator: Simulator, database: Database, tmp_path: Path
) -> None:
    place = {
        "PostgreSQL": {"MELTANO_DATABASE_URI": database.sqlalchemy},
        "directory": {"MELTANO_STATE_BACKEND_URI": (tmp_path / "meltano-state").as_uri()},
    }[backend]

    def machine(name: str) -> Project:
        project = checkout(tmp_path / name)
        project.environment |= place
        project.use(simulator)
        project.load_into(database)
        return project

    machine("first").run(PAGE["Environments"][0])
    assert calls(simulator).count("link") == 5
    world.add(6)
    simulator.clear_log()
    second = machine("second")
    second.run(PAGE["Environments"][0])
    assert calls(simulator) == ["list", "link"]
    assert database.count("live_response_results") == 6
    listed = second.run(PAGE["State that survives the machine"][0]).stdout
    assert STATE_ID in listed
    state = json.loads(listed.splitlines()[-1])
    assert state["singer_state"]["bookmarks"]["live_response_results"]["replication_key_value"]
    assert not [secret for secret in simulator.secrets() if secret in listed]


def test_what_a_run_says(project: Project, simulator: Simulator, database: Database) -> None:
    project.use(simulator)
    project.load_into(database)
    said = project.run("meltano run tap-defender-lr target-postgres")
    text = said.stdout + said.stderr
    for words in (
        "Plan: 5 results to read; 5 calls for download links, less than a minute at 100 calls a minute",
        "metric_name=record_count metric_value=5",
        "Done with live_response_results: 5 fetched.",
        "6 calls spent; ",
        "1,494 this hour.",
        "Run completed",
    ):
        assert words in text

    (project.directory / "quota.sqlite").unlink()
    command = PAGE["What a run says"][0].replace("meltano run", "meltano --log-level=debug run --full-refresh")
    said = project.run(command, env={"TAP_DEFENDER_LR_LOGLEVEL": "DEBUG"})
    lines = [json.loads(line) for line in said.stderr.splitlines() if line.startswith("{")]
    tap = [line for line in lines if line.get("string_id") == TAP]
    assert {line["level"] for line in tap} == {"info", "debug"}
    assert any(line["event"].startswith("Plan: 5 results to read") for line in tap)
    counts = {
        line["metric_info"]["tags"]["stream"]: line["metric_info"]["value"]
        for line in tap
        if line.get("metric_info", {}).get("metric") == "record_count"
    }
    assert counts == {"live_response_results": 5, "machine_actions": 5}
    assert len({line["run_id"] for line in lines if "run_id" in line}) == 1
    (end,) = [line for line in lines if line["event"] == "Run completed"]
    assert end["status"] == "success"
    assert end["duration_seconds"] > 0
    everything = text + said.stdout + said.stderr
    assert len(simulator.secrets()) > 5
    assert not [secret for secret in simulator.secrets() if secret in everything]


def test_tenants_side_by_side(project: Project, database: Database) -> None:
    add, run_them = PAGE["Several tenants"]
    project.run(add)
    project.load_into(database)
    project.environment["MELTANO_ENVIRONMENT"] = "prod"
    contoso, fabrikam = (
        World(),
        World(Tenant("5e1f0c8d-3e4b-4a63-9a52-7c1a2f9e0d5b", [App("other-app", "Other.Secret")])),
    )
    for number in range(1, 9):
        contoso.add(number)
    for number in range(101, 104):
        fabrikam.add(number)
    for world in (contoso, fabrikam):
        world.tenant.apps[0] = App(
            f"4b8d5c2a-6e1f-4f3b-8a7d-{world.tenant.tenant_id[:12].replace('-', '0')}", CLIENT_SECRET
        )
    with Simulator(contoso.tenant) as first, Simulator(fabrikam.tenant) as second:
        bundle = project.directory / "both.pem"
        with bundle.open("w", encoding="utf-8") as file:
            for name, simulator in (("CONTOSO", first), ("FABRIKAM", second)):
                project.use(simulator, f"TAP_DEFENDER_LR__{name}")
                file.write(Path(simulator.ca_file).read_text(encoding="utf-8"))
        project.environment |= {"REQUESTS_CA_BUNDLE": str(bundle), "SSL_CERT_FILE": str(bundle)}
        project.run(run_them)
        assert (calls(first).count("link"), calls(second).count("link")) == (8, 3)
        arrived = {
            schema: set(database.query(f"select machine_action_id from {schema}.live_response_results"))
            for schema in ("contoso", "fabrikam")
        }
        assert {schema: len(ids) for schema, ids in arrived.items()} == {"contoso": 8, "fabrikam": 3}
        listed = project.run("meltano state list").stdout
        assert {line for line in listed.splitlines() if line.startswith("prod:")} == {
            f"prod:{TAP}--{name}-to-target-postgres" for name in ("contoso", "fabrikam")
        }
        for simulator in (first, second):
            simulator.clear_log()
        project.run(run_them)
        assert calls(first) == calls(second) == ["list"]
    with contextlib.closing(sqlite3.connect(project.directory / "quota.sqlite")) as ledger:
        spent = dict(ledger.execute("select account, count(*) from tap_defender_lr_calls group by account").fetchall())
    # The two lists and the results of each.
    assert sorted(spent.values()) == [5, 10]
