"""What is read in a measurement: a tenant with so many finished scripts, each with a result of so many bytes."""

from __future__ import annotations

import json
import time
from random import Random

from defender_simulator import App, Result, Tenant
from defender_simulator.fleet import CLIENT_ID, CLIENT_SECRET, TENANT_ID, command, machine_action, result_body

_SCRIPT = "Get-Inventory.ps1"
_DAY = 86_400.0


def make_tenant(results: int, size: int) -> Tenant:
    """A tenant whose actions ended a day ago, one command each."""
    tenant = Tenant(TENANT_ID, [App(CLIENT_ID, CLIENT_SECRET)])
    start = time.time() - _DAY
    for number in range(results):
        created = start + number
        script = command(0, params={"ScriptName": _SCRIPT}, started=created + 5, ended=created + 15)
        action = machine_action(
            action_id=action_id(number), created=created, updated=created + 20, status="Succeeded", commands=[script]
        )
        tenant.actions.append(action)
        tenant.results[action_id(number), 0] = Result(result_body(_SCRIPT, 0, script_output(number, size)))
    return tenant


def expected_outputs(results: int, size: int) -> dict[str, str]:
    """What every client must have printed, by action."""
    return {action_id(number): script_output(number, size) for number in range(results)}


def action_id(number: int) -> str:
    return f"be9c4000-0000-4000-8000-{number:012d}"


def script_output(number: int, size: int) -> str:
    """CSV as a script prints it, about so many bytes long once it is inside a result."""
    random = Random(number)
    lines, length = ["name,version,installed\r\n"], 0
    while length < size - 150:
        version = ".".join(str(random.randrange(1000)) for _ in range(4))
        line = f"Contoso {random.randbytes(6).hex()} Agent,{version},2025-{random.randint(1, 12):02d}-01\r\n"
        lines.append(line)
        length += len(json.dumps(line)) - 2
    return "".join(lines)
