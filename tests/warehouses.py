"""Two days of a fleet, and the real loaders that bring them into warehouses."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defender_simulator import Result, Simulator
from defender_simulator.fleet import command, dirt_id, machine_action, make_tenant, next_day
from tests.conftest import NOON, Cli
from tests.library_pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from defender_simulator import Tenant

SILENT_SCRIPTS = ("Get-Übersicht.ps1", "Get-InstalledSoftware.ps1")
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
                    add_silent_devices(self.tenant, now=NOON + 24 * 3600)
                run = cli.run(state=state)
                assert run.code == 0, run.stderr
                state = run.states[-1]
                self.days.append(run.stdout)

    def messages(self) -> Iterator[dict[str, Any]]:
        for day in self.days:
            yield from map(json.loads, day.splitlines())


def add_silent_devices(tenant: Tenant, now: float) -> None:
    """Two devices that were asked and have never answered, one of them for two scripts at once."""
    scripts = [
        command(index, "RunScript", "Created", {"ScriptName": name}) for index, name in enumerate(SILENT_SCRIPTS)
    ]
    for number, (machine, status, created, updated, commands) in enumerate(
        (
            ("a1" * 20, "Pending", now - 7200, now - 7200, scripts),
            ("b2" * 20, "TimeOut", now - 3 * 86_400 - 60, now - 50, scripts[1:]),
            ("b2" * 20, "Cancelled", now - 90, now - 40, scripts[1:]),
        )
    ):
        tenant.actions.append(
            machine_action(
                action_id=f"{number:08x}-2222-4222-8333-{number:012x}",
                status=status,
                created=created,
                updated=updated,
                commands=commands,
                machine_id=machine,
                computer_dns_name=f"silent-{machine[:2]}.corp.contoso.example",
            )
        )


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
        done = subprocess.run([loader, "--config", config], input=day, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
