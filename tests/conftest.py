"""Fixtures of all tests: the real command line as a subprocess, and small tenants made by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from defender_simulator import App, Result, Tenant
from defender_simulator.fleet import command, machine_action, result_body
from tests.s3 import S3, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from defender_simulator import Simulator

# Examples are drawn while other tests load the machine: how long that takes says nothing.
hypothesis.settings.register_profile(
    "calm", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("calm")

# Helpers that assert: a failure there shows the values, too.
pytest.register_assert_rewrite("tests.tap_process", "tests.script_library.shells", "tests.simulator.sign_in.apps")

TENANT_ID = "7c1a2f9e-0d5b-4a63-9a52-1f0c8d3e4b5a"
CLIENT_ID = "4b8d5c2a-6e1f-4f3b-8a7d-2c9e0b1a3d4f"
CLIENT_SECRET = "make-believe~Secret.For_Tests-0123456789"
NOON = 1_790_000_000.0
"""A moment well in the past, so that no action counts as fresh."""


def action_id(number: int) -> str:
    return f"{number:08x}-1111-4222-8333-{number:012x}"


@dataclass
class World:
    """A tenant that grows by hand."""

    tenant: Tenant = field(default_factory=lambda: Tenant(TENANT_ID, [App(CLIENT_ID, CLIENT_SECRET)]))

    def add(
        self,
        number: int,
        *,
        status: str = "Succeeded",
        updated: float | None = None,
        created: float | None = None,
        body: bytes | None = b"",
        commands: list[dict[str, Any]] | None = None,
        **properties: Any,
    ) -> dict[str, Any]:
        """One action with one RunScript command and, unless `body` is None, its result."""
        updated = NOON + number if updated is None else updated
        created = updated - 60 if created is None else created
        final = status not in {"Pending", "InProgress"}
        if commands is None:
            state = "Completed" if final else "Created"
            started, ended = (created + 1, updated - 1) if final else (None, None)
            commands = [command(0, "RunScript", state, {"ScriptName": "Get-State.ps1"}, started=started, ended=ended)]
        action = machine_action(
            action_id=action_id(number),
            status=status,
            created=created,
            updated=updated,
            commands=commands,
            machine_id=f"{number:040x}",
            computer_dns_name=f"host-{number}.corp.example",
        )
        action.update(properties)
        self.tenant.actions.append(action)
        if body is not None and final:
            for entry in commands:
                self.give_result(
                    number, entry["index"], body or result_body("Get-State.ps1", 0, f"state of {number}\n")
                )
        return action

    def give_result(self, number: int, index: int, body: bytes, **headers: str) -> None:
        self.tenant.results[action_id(number), index] = Result(
            body, {k.replace("_", "-"): v for k, v in headers.items()}
        )

    def finish(self, number: int, *, status: str = "Succeeded", updated: float | None = None) -> None:
        """A waiting action ends; without `updated` the service does not move its last update."""
        old = next(entry for entry in self.tenant.actions if entry["id"] == action_id(number))
        self.tenant.actions.remove(old)
        new = self.add(number, status=status, updated=NOON + number if updated is None else updated)
        new["creationDateTimeUtc"] = old["creationDateTimeUtc"]
        if updated is None:
            new["lastUpdateDateTimeUtc"] = old["lastUpdateDateTimeUtc"]


@dataclass(frozen=True)
class Run:
    """What a run of the command line printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.split("\n") if line]

    def records(self, stream: str = "live_response_results") -> list[dict[str, Any]]:
        return [m["record"] for m in self.messages if m["type"] == "RECORD" and m["stream"] == stream]

    @property
    def states(self) -> list[dict[str, Any]]:
        return [message["value"] for message in self.messages if message["type"] == "STATE"]

    def bookmark(self, stream: str = "live_response_results") -> dict[str, Any]:
        found: dict[str, Any] = self.states[-1]["bookmarks"][stream]
        return found


class Cli:
    """The installed command, with settings for one simulator."""

    def __init__(self, folder: Path, simulator: Simulator, **settings: Any) -> None:
        self.folder = folder
        self.simulator = simulator
        self.settings = {**simulator.settings(), "quota_store": str(folder / "quota.sqlite"), **settings}
        self.environment = {**os.environ, **simulator.environment()}

    def command(self, *arguments: str, state: dict[str, Any] | None = None, **settings: Any) -> list[str]:
        config = self.folder / "config.json"
        config.write_text(json.dumps({**self.settings, **settings}))
        command = [sys.executable, "-m", "tap_defender_lr", "--config", str(config), *arguments]
        if state is not None:
            state_file = self.folder / "state.json"
            state_file.write_text(json.dumps(state))
            command += ["--state", str(state_file)]
        return command

    def run(self, *arguments: str, state: dict[str, Any] | None = None, **settings: Any) -> Run:
        done = subprocess.run(
            self.command(*arguments, state=state, **settings),
            env=self.environment,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_cli(tmp_path: Path) -> Callable[..., Cli]:
    return lambda simulator, **settings: Cli(tmp_path, simulator, **settings)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests gets into them."""
    for name in list(os.environ):
        if name.startswith(("TAP_DEFENDER_LR_", "SINGER_SDK_", "LOGLEVEL")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    with serve() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A real S3 server, and an environment that leads there."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server
