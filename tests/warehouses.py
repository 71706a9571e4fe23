"""Two days of a fleet, and the real loaders that bring them into warehouses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defender_simulator import Result, Simulator
from defender_simulator.fleet import command, dirt_id, machine_action, make_tenant, next_day, result_body
from tests.conftest import NOON, Cli
from tests.library_pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from defender_simulator import Tenant

ODD_SCRIPTS = ("Get-Übersicht.ps1", "Get-InstalledSoftware.ps1")
ROOT = Path(__file__).parents[1]
UNLIMITED: dict[str, Any] = {"calls_per_minute": 10_000, "calls_per_hour": 10_000}


class Fleet:
    """What the tap brought on two days, and what the devices had printed last."""

    def __init__(self, folder: Path) -> None:
        self.tenant = make_tenant(devices=30, now=NOON)
        self.tenant.results[dirt_id("plain_text_body"), 0] = Result(b"The agent has no result.\r\n")
        self.days: list[str] = []
        self.files = folder / "files"
        state = None
        with Simulator(self.tenant, **UNLIMITED) as simulator:
            entries = [page.entry for page in PAGES]
            cli = Cli(folder, simulator, script_streams=entries, files_url=str(self.files), **UNLIMITED)
            for day in (1, 2):
                if day == 2:
                    next_day(self.tenant, devices=30, now=NOON + 24 * 3600)
                    add_odd_devices(self.tenant, now=NOON + 24 * 3600)
                run = cli.run(state=state)
                assert run.code == 0, run.stderr
                state = run.states[-1]
                self.days.append(run.stdout)

    def messages(self) -> Iterator[dict[str, Any]]:
        for day in self.days:
            yield from map(json.loads, day.splitlines())


def add_odd_devices(tenant: Tenant, now: float) -> None:
    """Devices as the fleet has none: two that never answered, and some that contradict themselves."""
    review, software = ODD_SCRIPTS
    two = [command(index, "RunScript", "Created", {"ScriptName": name}) for index, name in enumerate(ODD_SCRIPTS)]
    never = [command(0, "RunScript", "Created", {"ScriptName": software})]

    def ended(status: str, at: float) -> list[dict[str, Any]]:
        return [command(0, "RunScript", status, {"ScriptName": review}, started=at - 2, ended=at - 1)]

    rows: list[tuple[str, str, float, float, list[dict[str, Any]], bytes | None]] = [
        ("silent-a", "Pending", now - 7200, now - 7200, two, None),
        ("silent-b", "TimeOut", now - 3 * 86_400 - 60, now - 50, never, None),
        ("silent-b", "Cancelled", now - 90, now - 40, never, None),
        ("started", "InProgress", now - 80, now - 70, two[:1], None),
        ("lost", "Succeeded", now - 80, now - 65, ended("Completed", now - 65), None),
        ("broken", "Failed", now - 80, now - 60, ended("Failed", now - 60), result_body(review, 0, "")),
    ]
    for name, age, exit_code, output in (
        ("csv", 900, 0, "a,1\nb,2\nc,3\n"),
        ("csv", 800, 0, "a,2\nb,2\nd,4\n"),
        ("csv", 700, 3, "Error 17 in line 4\n"),
        ("broken", 900, 0, "a,1\n"),
        ("broken", 800, 0, "a,2\n"),
    ):
        printed = result_body(review, exit_code, output)
        rows.append((name, "Succeeded", now - age - 9, now - age, ended("Completed", now - age), printed))
    for number, (name, status, created, updated, commands, body) in enumerate(rows):
        action_id = f"{number:08x}-2222-4222-8333-{number:012x}"
        tenant.actions.append(
            machine_action(
                action_id=action_id,
                status=status,
                created=created,
                updated=updated,
                commands=commands,
                machine_id=name.encode().hex().ljust(40, "0"),
                computer_dns_name=f"{name}.corp.contoso.example",
            )
        )
        if body is not None:
            tenant.results[action_id, 0] = Result(body)


def told(value: Any) -> str:
    """A value as text; what is a decimal in one database may be a float in the other."""
    return str(float(value)) if isinstance(value, (int, float, Decimal)) else str(value)


def install_loader(folder: Path, name: str) -> Path:
    """A loader of `requirements/` in an environment of its own."""
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    constraints = ROOT / "requirements" / f"{name}.txt"
    python = folder / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", constraints], check=True
    )
    return folder / "bin" / name


def load(loader: Path, config: Path, settings: dict[str, Any], days: list[str]) -> None:
    config.write_text(json.dumps(settings))
    for day in days:
        done = subprocess.run(
            [loader, "--config", config],
            input=day,
            text=True,
            capture_output=True,
            check=False,
            env={**os.environ, "PGTZ": "UTC"},  # as the page on loaders says
        )
        assert done.returncode == 0, done.stderr[-3000:]
