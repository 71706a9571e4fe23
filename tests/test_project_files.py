"""Workflows, hooks and the files that people expect at a project: valid, pinned, and true to the project."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tap_defender_lr import __version__
from tests.markdown import ROOT, commands_of

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCHEMAS = [
    *((file, "github-workflows") for file in WORKFLOWS),
    (ROOT / ".github" / "dependabot.yml", "dependabot"),
    (ROOT / "meltano.yml", "meltano"),
]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def load(file: Path) -> dict[str, Any]:
    # This loader makes texts only, so that the key `on` stays one.
    document = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    assert isinstance(document, dict)
    return document


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.parametrize(("file", "schema"), SCHEMAS, ids=lambda value: getattr(value, "name", value))
def test_files_of_services_fit_their_schema(file: Path, schema: str) -> None:
    """With the schemas that check-jsonschema brings along, so that nothing is fetched."""
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
class TestWorkflows:
    def test_actions_are_pinned_by_commit_and_say_their_version(self, file: Path) -> None:
        used = re.findall(r"uses: (.+)", file.read_text(encoding="utf-8"))
        assert used
        for action in used:
            assert re.fullmatch(
                r"[\w.-]+/[\w.-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+|\./\.github/workflows/\w+\.yml", action
            )
            assert not action.startswith("./") or (ROOT / action).is_file()

    def test_no_job_may_do_more_than_it_needs(self, file: Path) -> None:
        workflow = load(file)
        assert workflow["permissions"] in ({}, {"contents": "read"})
        for job in workflow["jobs"].values():
            assert job.get("permissions", {}) in ({}, {"contents": "read"}, {"id-token": "write"})
            assert "uses" in job or int(job["timeout-minutes"]) <= 60
        checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
        assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)
        assert "secrets." not in file.read_text(encoding="utf-8")

    def test_what_is_run_exists(self, file: Path) -> None:
        for step in steps(load(file)):
            command = step.get("run", "")
            if command.startswith("make "):
                assert command.removeprefix("make ") in TARGETS
            elif command.startswith(("uv ", "python ")):
                assert command in commands_of("docs/quick-start.md")


def test_continuous_integration_runs_all_tests_on_every_python_that_is_supported() -> None:
    workflow = load(ROOT / ".github" / "workflows" / "test.yml")
    supported = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python-version"] == supported
    run = {step["run"] for step in steps(workflow) if "run" in step}
    assert set(re.findall(r"^make .+$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)) <= run


def test_updates_of_dependencies_cool_down() -> None:
    updates = load(ROOT / ".github" / "dependabot.yml")["updates"]
    assert [update["package-ecosystem"] for update in updates] == ["uv", "github-actions"]
    assert all(int(update["cooldown"]["default-days"]) >= 7 for update in updates)


def test_hooks_use_the_pinned_tools() -> None:
    config = load(ROOT / ".pre-commit-config.yaml")
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    for hook in config["repos"][0]["hooks"]:
        folder, _, tool = hook["entry"].split()[0].rpartition("/")
        assert folder == ".venv/bin"
        assert shutil.which(tool, path=Path(sys.executable).parent), tool
    checked = [re.compile(hook["files"]) for hook in config["repos"][0]["hooks"] if hook["id"].startswith("check-")]
    for file, _ in SCHEMAS:
        assert any(pattern.search(file.relative_to(ROOT).as_posix()) for pattern in checked), file


def test_the_changelog_knows_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(__version__)} \((unreleased|\d{{4}}-\d\d-\d\d)\)$", changelog, re.MULTILINE)


def test_every_make_target_of_contributing_exists() -> None:
    named = re.findall(r"`make ([a-z-]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) >= 8
    assert set(named) <= TARGETS
